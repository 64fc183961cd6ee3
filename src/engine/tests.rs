//! The number of system calls of a connection: each call of its stream counts as one.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::VecDeque;
use std::io::{self, IoSlice, Read, Write};
use std::mem;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::connection::Connection;
use super::connections::{Connections, Readiness};
use super::deadlines::Clock;
use super::delivery::{Delivery, Encoded, Leeway};
use super::driver::{ConnectionDriver, Context, Progress};
use super::slab::{ConnectionKey, Slab};
use super::socket::Stream;
use super::stats::EndpointIndex;
use super::turn::Turn;
use super::{Bounds, Handler, Peer, Settings, Simulation, SlowConsumerPolicy, WebSocket};
use crate::protocol::mask::apply_masking_key;
use crate::protocol::{FrameHeader, Message, OpCode};

/// A socket that holds input from a client, accepts all output unless it is full, and counts its
/// calls.
#[derive(Default)]
struct Counted {
    is_full: bool,
    held: VecDeque<u8>,
    taken: Vec<u8>,
    reads: usize,
    writes: usize,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.reads += 1;
        match self.held.is_empty() {
            true => Err(io::ErrorKind::WouldBlock.into()),
            false => self.held.read(buffer),
        }
    }
}

impl Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(bytes)])
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.writes += 1;
        if self.is_full {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        slices.iter().for_each(|slice| self.taken.extend(&**slice));
        Ok(slices.iter().map(|slice| slice.len()).sum())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Counted {
    /// Returns the numbers of reads and writes since the last call.
    fn calls(&mut self) -> (usize, usize) {
        self.taken.clear();
        (mem::take(&mut self.reads), mem::take(&mut self.writes))
    }
}

impl Stream for Counted {
    fn shutdown_write(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A connection with an echo handler, and its socket.
struct Driven {
    key: ConnectionKey,
    connection: Box<dyn ConnectionDriver<Counted>>,
    socket: Counted,
    context: Context,
}

impl Driven {
    fn open() -> Driven {
        let settings = Settings::default();
        let clock = Clock::new(&settings.deadlines);
        let (bounds, wake) = (Bounds::new(&settings), Box::new(|| {}));
        let echo = |socket: &mut WebSocket<'_>, message: Message<'_>| socket.send(message);
        let mut driven = Driven {
            key: Slab::default().insert(()),
            connection: Box::new(Connection::new(echo, &settings, None)),
            socket: Counted::default(),
            context: Context::new(&settings, clock.tick(), &bounds, wake, Arc::new(())),
        };
        let Driven {
            key,
            connection,
            socket,
            context,
            ..
        } = &mut driven;
        let progress = connection.open(*key, b"101", &mut [], socket, context);
        assert_eq!(progress, Progress::Idle);
        assert_eq!(driven.calls(), (0, 1));
        driven
    }

    /// Drives the connection once, then again while it reports more input.
    fn drive(&mut self) {
        let mut progress = Progress::MoreToRead;
        while progress == Progress::MoreToRead {
            self.context.begin_turn(Turn::SHARE);
            let Driven { key, socket, .. } = self;
            progress = self.connection.drive(*key, socket, &mut self.context);
        }
    }

    /// Returns the numbers of reads and writes since the last call.
    fn calls(&mut self) -> (usize, usize) {
        self.socket.calls()
    }
}

/// `count` masked binary messages of `size` bytes.
fn frames(count: usize, size: usize) -> Vec<u8> {
    const KEY: [u8; 4] = [0x37, 0xFA, 0x21, 0x3D];
    let header = FrameHeader {
        rsv1: false,
        fin: true,
        opcode: OpCode::Binary,
        masking_key: Some(KEY),
        payload_length: size as u64,
    };
    let mut payload = vec![7; size];
    apply_masking_key(&mut payload, KEY, 0);
    [header.encode().as_ref(), &payload].concat().repeat(count)
}

#[test]
fn an_event_costs_one_read_and_one_write() {
    for (count, size) in [
        (1, 0),
        (1, 20),
        (16, 20),
        (16, 1 << 10),
        (1, 16 << 10),
        (1, 100_000),
        (1_000, 100),
    ] {
        let mut driven = Driven::open();
        for _ in 0..3 {
            driven.socket.held.extend(frames(count, size));
            driven.drive();
            let echoed = driven.socket.taken.len();
            assert!(echoed > count * size, "{count} of {size}: {echoed}");
            assert_eq!(driven.calls(), (1, 1), "{count} messages of {size} bytes");
        }
    }
}

#[test]
fn a_large_message_is_read_into_its_place_and_written_at_once() {
    let mut driven = Driven::open();
    // The message's buffer at most doubles with each read. For the second message the buffer is
    // already large enough: one read starts the message, one completes it, and one finds the
    // socket empty.
    for reads in [5, 3, 3] {
        driven.socket.held.extend(frames(1, 1 << 20));
        driven.drive();
        assert_eq!(driven.socket.taken.len(), 10 + (1 << 20));
        assert_eq!(driven.calls(), (reads, 1));
    }
}

#[test]
fn bytes_that_a_socket_does_not_accept_are_charged_to_the_turn() {
    let mut driven = Driven::open();
    driven.socket.is_full = true;
    // The first turn reads 1 MiB. The second reads the rest and keeps the answer.
    driven.socket.held.extend(frames(1, 3 << 19));
    for is_kept in [false, true] {
        let Driven {
            key,
            connection,
            socket,
            context,
        } = &mut driven;
        context.begin_turn(Turn::SHARE);
        connection.drive(*key, socket, context);
        assert!(context.turn.is_over());
        assert_eq!(connection.backlog_bytes() > 0, is_kept);
    }
}

#[test]
fn fan_out_costs_a_member_one_write() {
    let mut driven = Driven::open();
    let burst = frames(16, 100);
    let shared_frame = OnceCell::new();
    let delivery = Delivery {
        plain: Encoded::new(&burst, &shared_frame),
        compressed: None,
        messages: 16,
        policy: SlowConsumerPolicy::Close,
        leeway: Leeway::Awaited,
    };
    let progress = driven
        .connection
        .deliver(&delivery, &mut driven.socket, &mut driven.context);
    assert_eq!(progress, Progress::Idle);
    assert_eq!(driven.socket.taken, burst);
    assert_eq!(driven.calls(), (0, 1));
}

/// Sends every message back, and is busy until the flag is cleared.
struct Busy(Rc<Cell<bool>>, Rc<RefCell<Option<Peer>>>);

impl Handler for Busy {
    fn open(&mut self, socket: &mut WebSocket<'_>) {
        *self.1.borrow_mut() = Some(socket.peer());
    }

    fn message(&mut self, socket: &mut WebSocket<'_>, message: Message<'_>) {
        socket.send(message);
    }

    fn is_busy(&self) -> bool {
        self.0.get()
    }
}

#[test]
fn a_busy_handler_gets_the_next_message_when_it_is_resumed() {
    let (busy, peer) = (Rc::new(Cell::new(true)), Rc::default());
    let mut simulation = Simulation::new(&Settings::default());
    let handler = Busy(Rc::clone(&busy), Rc::clone(&peer));
    let connection = simulation.open(Counted::default(), handler, None);
    let echoed = |simulation: &mut Simulation<Counted>| {
        simulation.run();
        let stream = simulation.stream(connection).unwrap();
        stream.taken.len() / 22
    };
    let held = frames(3, 20);
    simulation.stream(connection).unwrap().held.extend(held);
    simulation.ready(connection);
    assert_eq!(echoed(&mut simulation), 1);
    // The handler stays busy despite more input and an hour of time.
    let held = frames(1, 20);
    simulation.stream(connection).unwrap().held.extend(held);
    simulation.ready(connection);
    simulation.advance(Duration::from_secs(3_600));
    assert_eq!(echoed(&mut simulation), 1);
    let peer = peer.borrow_mut().take().unwrap();
    peer.resume();
    assert_eq!(echoed(&mut simulation), 1);
    busy.set(false);
    peer.resume();
    assert_eq!(echoed(&mut simulation), 4);
}

#[test]
fn a_connection_is_queued_once_for_its_turn() {
    let mut simulation = Simulation::new(&Settings::default());
    let peer = Rc::default();
    let [woken, other] = [&peer, &Rc::default()].map(|peer| {
        let socket = Counted {
            held: frames(500_000, 0).into(),
            ..Counted::default()
        };
        simulation.open(socket, Busy(Rc::default(), Rc::clone(peer)), None)
    });
    for connection in [woken, other] {
        simulation.ready(connection);
    }
    // A connection that waits for its turn is woken as well.
    peer.borrow_mut().take().unwrap().resume();
    simulation.turn();
    let mut reads = |connection| simulation.stream(connection).unwrap().calls().0;
    let before = [woken, other].map(&mut reads);
    assert_eq!(before, [3, 1]);
    for _ in 0..12 {
        simulation.turn();
    }
    let mut reads = |connection| simulation.stream(connection).unwrap().calls().0;
    assert_eq!([woken, other].map(&mut reads), [6, 6]);
}

#[test]
fn a_heavy_connection_gets_its_turn_beside_many_light_ones() {
    /// With 60,000 bytes each they cost more than a turn together.
    const LIGHT: usize = 20;
    const READABLE: Readiness = Readiness {
        is_readable: true,
        has_hung_up: false,
    };
    let settings = Settings::default();
    let clock = Clock::new(&settings.deadlines);
    let (bounds, wake) = (Bounds::new(&settings), Box::new(|| {}));
    let context = Context::new(&settings, clock.tick(), &bounds, wake, Arc::new(()));
    let mut connections = Connections::new(context);
    let mut open = |held: Vec<u8>| {
        let echo = |socket: &mut WebSocket<'_>, message: Message<'_>| socket.send(message);
        let connection = Box::new(Connection::new(echo, &settings, None));
        let socket = Counted {
            held: held.into(),
            ..Counted::default()
        };
        let endpoint = EndpointIndex::default();
        connections.adopt(socket, connection, endpoint, &[], &mut [])
    };
    let heavy = open(frames(1, 4 << 20));
    let light: Vec<_> = (0..LIGHT).map(|_| open(Vec::new())).collect();
    assert!(connections.begin_turn());
    connections.drive_at(heavy.index, READABLE);
    assert!(connections.is_crowded());
    let input = frames(1, 60_000);
    for _ in 0..3 {
        assert!(connections.begin_turn());
        connections.stream(heavy).unwrap().calls();
        for key in &light {
            connections.stream(*key).unwrap().held.extend(&input);
            connections.drive_at(key.index, READABLE);
        }
        assert!(connections.is_crowded());
        connections.drive_ready();
        assert!(connections.stream(heavy).unwrap().calls().0 > 0);
        // The light ones that are left, in another turn.
        assert!(connections.begin_turn());
        connections.drive_fresh();
    }
}

#[test]
fn one_event_may_send_16_mib_and_one_message_more() {
    const PAYLOAD: usize = (1 << 20) - 10; // with the header 1 MiB
    let close = [&b"\x88\x17\x03\xF3"[..], b"too much sent at once"].concat();
    for (count, is_closed) in [(17, false), (18, true)] {
        let mut simulation = Simulation::new(&Settings::default());
        let handler = move |socket: &mut WebSocket<'_>, _: Message<'_>| {
            let payload = vec![7; PAYLOAD];
            (0..count).for_each(|_| socket.send(Message::Binary(&payload)));
        };
        let socket = Counted {
            is_full: true,
            held: frames(1, 20).into(),
            ..Counted::default()
        };
        let connection = simulation.open(socket, handler, None);
        simulation.ready(connection);
        simulation.stream(connection).unwrap().is_full = false;
        simulation.ready(connection);
        simulation.run();
        let taken = &simulation.stream(connection).unwrap().taken;
        let expected = if is_closed { close.len() } else { count << 20 };
        assert_eq!((taken.len(), *taken == close), (expected, is_closed));
    }
}

#[test]
fn work_that_is_left_outside_a_turn_wakes_the_worker() {
    struct Floods;
    impl Handler for Floods {
        fn open(&mut self, socket: &mut WebSocket<'_>) {
            // Several turns' worth.
            (0..1_000).for_each(|_| socket.peer().send(Message::Text("hello")));
        }

        fn message(&mut self, _: &mut WebSocket<'_>, _: Message<'_>) {}
    }
    let settings = Settings::default();
    let clock = Clock::new(&settings.deadlines);
    let (bounds, wakes) = (Bounds::new(&settings), Arc::new(AtomicUsize::new(0)));
    let counted = Arc::clone(&wakes);
    let wake = Box::new(move || {
        counted.fetch_add(1, Ordering::Relaxed);
    });
    let context = Context::new(&settings, clock.tick(), &bounds, wake, Arc::new(()));
    let mut connections = Connections::new(context);
    let connection = Box::new(Connection::new(Floods, &settings, None));
    let (socket, endpoint) = (Counted::default(), EndpointIndex::default());
    connections.adopt(socket, connection, endpoint, &[], &mut []);
    assert_eq!(wakes.load(Ordering::Relaxed), 1);
    connections.sweep(1);
    assert_eq!(wakes.load(Ordering::Relaxed), 2);
}
