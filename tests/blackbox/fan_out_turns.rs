//! Published messages are delivered in turns, and their publisher is paused meanwhile: attacks 54
//! and 70.

use std::cell::{Cell, RefCell};
use std::io::{self, Read, Write};
use std::rc::Rc;
use std::time::{Duration, Instant};

use frameloop::engine::{SimulatedConnection, Simulation, Stream};
use frameloop::rooms::Membership;
use frameloop::{Handler, Message, Peer, Rooms, Settings, WebSocket};

use crate::client::{frame, reply};
use crate::report::{Kind, figure};

const MIB: usize = 1 << 20;

/// The most members that one turn delivers to.
const TURN: usize = 128;

/// A socket: the unread input from its client, the space for output, and the output so far.
#[derive(Clone, Default)]
struct Socket(Rc<Sides>);

#[derive(Default)]
struct Sides {
    sent: RefCell<Vec<u8>>,
    room: Cell<usize>,
    taken: RefCell<Vec<u8>>,
}

impl Read for Socket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut sent = self.0.sent.borrow_mut();
        let length = sent.len().min(buffer.len());
        if length == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        buffer[..length].copy_from_slice(&sent[..length]);
        sent.drain(..length);
        Ok(length)
    }
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let length = bytes.len().min(self.0.room.get());
        if length == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.0.room.set(self.0.room.get() - length);
        self.0.taken.borrow_mut().extend(&bytes[..length]);
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Stream for Socket {
    fn shutdown_write(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Publishes each message to a room.
struct Publishes {
    rooms: Rooms,
    is_member: bool,
    membership: Option<Membership>,
}

impl Handler for Publishes {
    fn open(&mut self, socket: &mut WebSocket<'_>) {
        if self.is_member {
            self.membership = Some(self.rooms.join("room", &socket.peer()).unwrap());
        }
    }

    fn message(&mut self, _: &mut WebSocket<'_>, message: Message<'_>) {
        self.rooms.publish("room", message);
    }
}

/// One worker with a room.
struct Worker {
    simulation: Simulation<Socket>,
    rooms: Rooms,
}

type Client = (Socket, SimulatedConnection);

impl Worker {
    fn new() -> Worker {
        Worker {
            simulation: Simulation::new(&Settings::default()),
            rooms: Rooms::default(),
        }
    }

    /// A client whose socket accepts this many bytes.
    fn open(&mut self, is_member: bool, room: usize) -> Client {
        let socket = Socket::default();
        socket.0.room.set(room);
        let handler = Publishes {
            rooms: self.rooms.clone(),
            is_member,
            membership: None,
        };
        let connection = self.simulation.open(socket.clone(), handler, None);
        (socket, connection)
    }

    fn send(&mut self, from: &Client, bytes: &[u8]) {
        from.0.0.sent.borrow_mut().extend(bytes);
        self.simulation.ready(from.1);
    }

    /// Lets the socket of a client accept this many more bytes.
    fn take(&mut self, client: &Client, bytes: usize) {
        client.0.0.room.set(bytes);
        self.simulation.ready(client.1);
    }
}

impl Socket {
    fn taken(&self) -> usize {
        self.0.taken.borrow().len()
    }

    fn unread(&self) -> usize {
        self.0.sent.borrow().len()
    }
}

#[test]
fn attack_54_a_message_to_a_large_room_is_delivered_in_turns() {
    const MEMBERS: usize = 1_000;
    let mut worker = Worker::new();
    let members: Vec<Client> = (0..MEMBERS).map(|_| worker.open(true, MIB)).collect();
    let publisher = worker.open(false, MIB);
    worker.send(&publisher, &frame(0x81, b"first"));
    let count = || members.iter().filter(|member| member.0.taken() > 0).count();
    let (mut turns, mut most) = (0, 0);
    loop {
        let before = count();
        worker.simulation.turn();
        turns += 1;
        most = most.max(count() - before);
        if count() == MEMBERS {
            break;
        }
        if turns == 1 {
            worker.send(&publisher, &frame(0x81, b"second"));
        }
        assert!(
            publisher.0.unread() > 0,
            "the server reads from the publisher meanwhile"
        );
    }
    figure(
        Kind::Attack,
        54,
        format_args!(
            "a message to {MEMBERS} members of one worker: most deliveries between two polls of the sockets"
        ),
        format_args!("<= {TURN}"),
        most,
    );
    assert!(most <= TURN, "{most} in a turn");
    worker.simulation.run();
    let both = [reply(0x81, b"first"), reply(0x81, b"second")].concat();
    for member in &members {
        assert_eq!(*member.0.0.taken.borrow(), both);
    }
}

#[test]
fn attack_54_messages_to_many_connections_are_delivered_in_turns() {
    const CLIENTS: usize = 1_000;
    struct Tells(Rc<RefCell<Vec<Peer>>>);
    impl Handler for Tells {
        fn open(&mut self, socket: &mut WebSocket<'_>) {
            self.0.borrow_mut().push(socket.peer());
        }

        fn message(&mut self, _: &mut WebSocket<'_>, _: Message<'_>) {}
    }
    let mut simulation = Simulation::new(&Settings::default());
    let peers = Rc::new(RefCell::new(Vec::new()));
    let sockets: Vec<Socket> = (0..CLIENTS)
        .map(|_| {
            let socket = Socket::default();
            socket.0.room.set(MIB);
            simulation.open(socket.clone(), Tells(Rc::clone(&peers)), None);
            socket
        })
        .collect();
    peers
        .borrow()
        .iter()
        .for_each(|peer| peer.send(Message::Text("hello")));
    let mut before = 0;
    while before < CLIENTS {
        simulation.turn();
        let count = sockets.iter().filter(|socket| socket.taken() > 0).count();
        assert!(count > before && count - before <= TURN, "{before} {count}");
        before = count;
    }
}

/// The least time of a tick with members that do not read, each with a backlog of this many
/// deliveries.
fn tick_with_blocked_members(deliveries: usize) -> Duration {
    const MEMBERS: usize = 300;
    let settings = Settings {
        max_unsent_size: 64 << 20,
        ..Settings::default()
    };
    let mut worker = Worker {
        simulation: Simulation::new(&settings),
        rooms: Rooms::default(),
    };
    for _ in 0..MEMBERS {
        worker.open(true, 0);
    }
    for _ in 0..deliveries {
        worker.rooms.publish("room", Message::Binary(&[0; 100]));
        worker.simulation.run();
    }
    let tick = |worker: &mut Worker| {
        let began = Instant::now();
        worker.simulation.advance(Duration::from_millis(100));
        began.elapsed()
    };
    (0..5).map(|_| tick(&mut worker)).min().unwrap()
}

#[test]
fn attack_58_a_tick_does_not_walk_through_the_backlogs() {
    // 1,000 deliveries occupy more than a sixteenth of the budget, so each member is compared with
    // that.
    let [short, long] = [1, 1_000].map(tick_with_blocked_members);
    figure(
        Kind::Attack,
        58,
        "a tick with 300 members that do not read, 1,000 deliveries each, compared with one delivery",
        "< 5 times as long",
        format_args!("{:.1} times", long.as_secs_f64() / short.as_secs_f64()),
    );
    assert!(long < short * 5, "{long:?}, {short:?}");
}

/// A message of `size` bytes: `number`, and then zeros.
fn message(number: usize, size: usize) -> Vec<u8> {
    let mut payload = vec![0; size];
    payload[..8].copy_from_slice(&number.to_be_bytes());
    payload
}

/// Ten members read 5 MiB a second, in a part every 50 ms, while each publisher sends messages of
/// these sizes at full rate. Returns the number of members that lose a message, and the number of
/// parts.
fn losses(publishers: usize, sizes: &[usize]) -> (usize, usize) {
    const MEMBERS: usize = 10;
    let mut worker = Worker::new();
    let members: Vec<Client> = (0..MEMBERS).map(|_| worker.open(true, 0)).collect();
    let publishers: Vec<Client> = (0..publishers).map(|_| worker.open(false, 0)).collect();
    let messages = sizes
        .iter()
        .enumerate()
        .map(|(number, size)| message(number, *size));
    let (sent, expected): (Vec<Vec<u8>>, Vec<Vec<u8>>) = messages
        .map(|message| (frame(0x82, &message), reply(0x82, &message)))
        .unzip();
    for publisher in &publishers {
        worker.send(publisher, &sent.concat());
    }
    let expected = expected.concat();
    let bytes = expected.len() * publishers.len();
    let mut steps = 0;
    while members.iter().any(|member| member.0.taken() < bytes) && steps < 1_000 {
        steps += 1;
        worker.simulation.run();
        for member in &members {
            worker.take(member, MIB / 4);
        }
        if steps % 2 == 0 {
            worker.simulation.advance(Duration::from_millis(100));
        }
    }
    let first = members[0].0.0.taken.borrow();
    let lost = members.iter().filter(|member| {
        let taken = member.0.0.taken.borrow();
        taken.len() != bytes || *taken != *first || (publishers.len() == 1 && *taken != expected)
    });
    (lost.count(), steps)
}

#[test]
fn attack_70_messages_at_full_rate_close_no_member_that_reads() {
    let prefix: Vec<usize> = (0..3)
        .flat_map(|_| [[20_000; 40].as_slice(), &[MIB - 16]].concat())
        .collect();
    for (publishers, sizes, what) in [
        (1, [MIB - 16; 20].as_slice(), "20 messages of 1 MiB"),
        (1, &[60_000; 400], "400 messages of 60,000 bytes"),
        (1, &[1_000; 10_000], "10,000 messages of 1,000 bytes"),
        (
            1,
            &prefix,
            "three times 40 messages of 20,000 bytes and one of 1 MiB",
        ),
        (
            8,
            &[MIB - 16; 4],
            "4 messages of 1 MiB from each of 8 clients",
        ),
        (
            20,
            &[60_000; 20],
            "20 messages of 60,000 bytes from each of 20 clients",
        ),
    ] {
        let (lost, steps) = losses(publishers, sizes);
        figure(
            Kind::Attack,
            70,
            format_args!("{what} at full rate to 10 members that read 5 MiB/s: members lost"),
            "0",
            lost,
        );
        assert_eq!(lost, 0, "{what}");
        // Only the members determine the pause.
        let parts = publishers * sizes.iter().sum::<usize>() / (MIB / 4);
        assert!(
            steps <= parts + 8,
            "{what}: {steps} parts instead of {parts}"
        );
    }
}

#[test]
fn attack_70_a_member_that_does_not_read_delays_its_room_by_a_second() {
    const TICK: Duration = Duration::from_millis(100);
    for (messages, size, most) in [(20, MIB - 16, 15), (400, 60_000, 15), (5_000, 200, 6)] {
        let mut worker = Worker::new();
        let stalled = worker.open(true, 0);
        let reader = worker.open(true, usize::MAX);
        let publisher = worker.open(false, 0);
        let sent: Vec<u8> = (0..messages)
            .flat_map(|number| frame(0x82, &message(number, size)))
            .collect();
        worker.send(&publisher, &sent);
        let expected = messages * reply(0x82, &message(0, size)).len();
        let mut ticks = 0;
        while reader.0.taken() < expected && ticks < 100 {
            worker.simulation.advance(TICK);
            ticks += 1;
        }
        figure(
            Kind::Attack,
            70,
            format_args!(
                "{messages} messages of {size} bytes with a member that does not read: delay of the room"
            ),
            format_args!("<= {:.1?}", TICK * most),
            format_args!("{:.1?}", TICK * ticks),
        );
        assert_eq!(reader.0.taken(), expected);
        assert!(ticks <= most, "{ticks} ticks");
        assert_eq!(stalled.0.taken(), 0);
        worker.take(&stalled, usize::MAX);
        worker.simulation.run();
        let close = reply(0x88, b"\x03\xF0slow consumer");
        assert!(stalled.0.0.taken.borrow().ends_with(&close));
    }
}
