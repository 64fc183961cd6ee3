//! The work of one connection does not make the others wait: attacks 54 and 71.

use std::cell::{Cell, RefCell};
use std::io::{self, Read, Write};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};
use frameloop::engine::{SimulatedConnection, Simulation, Stream};
use frameloop::protocol::DeflateParameters;
use frameloop::{CloseCode, Handler, Message, Peer, Router, Settings, WebSocket};

use crate::client::{Client, PATIENCE, close_frame, frame, reply, request};
use crate::report::{Kind, figure};
use crate::server::TestServer;

/// The most bytes that one turn inflates or deflates.
const TURN: usize = 64 << 10;
const MIB: usize = 1 << 20;

const PARAMETERS: DeflateParameters = DeflateParameters {
    server_no_context_takeover: true,
    client_no_context_takeover: false,
    server_max_window_bits: 15,
    client_max_window_bits: 15,
};

fn deflate(text: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len() + 1_024);
    Compress::new(Compression::best(), false)
        .compress_vec(text, &mut bytes, FlushCompress::Sync)
        .unwrap();
    assert!(bytes.ends_with(b"\x00\x00\xFF\xFF"));
    bytes.truncate(bytes.len() - 4);
    bytes
}

/// A compressed message of zeros, about a thousandth of their size.
fn zeros(length: usize) -> Vec<u8> {
    frame(0xC2, &deflate(&vec![0; length]))
}

/// The text of the only frame in `bytes`, a long compressed message.
fn inflate(bytes: &[u8]) -> Vec<u8> {
    let (header, payload) = bytes.split_at(10);
    assert_eq!(header[..2], [0xC2, 127]);
    let length = u64::from_be_bytes(header[2..].try_into().unwrap());
    assert_eq!(length, payload.len() as u64);
    let mut text = Vec::with_capacity(2 * MIB);
    Decompress::new(false)
        .decompress_vec(payload, &mut text, FlushDecompress::Sync)
        .unwrap();
    text
}

/// A message of 1 MiB that compresses to about half of its size.
fn half_noise() -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(71);
    (0..MIB).map(|_| random.u8(..16)).collect()
}

/// The number of compressed messages in these frames, which are all shorter than 126 bytes.
fn count_compressed(mut frames: &[u8]) -> usize {
    let mut count = 0;
    while let [0xC2, length @ ..126, rest @ ..] = frames {
        frames = &rest[usize::from(*length)..];
        count += 1;
    }
    assert!(frames.is_empty(), "{frames:02X?}");
    count
}

/// A connection to a simulated server, seen from the client.
#[derive(Clone, Default)]
struct Wire(Rc<RefCell<Sides>>);

#[derive(Default)]
struct Sides {
    sent: Vec<u8>,
    is_finished: bool,
    received: Vec<u8>,
    has_ended: bool,
}

impl Read for Wire {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut sides = self.0.borrow_mut();
        if sides.sent.is_empty() && !sides.is_finished {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let length = sides.sent.len().min(buffer.len());
        buffer[..length].copy_from_slice(&sides.sent[..length]);
        sides.sent.drain(..length);
        Ok(length)
    }
}

impl Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.borrow_mut().received.extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Stream for Wire {
    fn shutdown_write(&mut self) -> io::Result<()> {
        self.0.borrow_mut().has_ended = true;
        Ok(())
    }
}

/// One worker and its clients.
struct Worker(Simulation<Wire>);

impl Worker {
    fn new() -> Worker {
        Worker(Simulation::new(&Settings::default()))
    }

    /// Opens an echo connection that has negotiated compression.
    fn open(&mut self) -> (Wire, SimulatedConnection) {
        let echo = |socket: &mut WebSocket<'_>, message: Message<'_>| {
            if message.is_data() {
                socket.send(message);
            }
        };
        let wire = Wire::default();
        let connection = self.0.open(wire.clone(), echo, Some(&PARAMETERS));
        (wire, connection)
    }

    fn send(&mut self, to: &(Wire, SimulatedConnection), bytes: &[u8]) {
        to.0.0.borrow_mut().sent.extend(bytes);
        self.0.ready(to.1);
    }

    fn finish(&mut self, to: &(Wire, SimulatedConnection)) {
        to.0.0.borrow_mut().is_finished = true;
        self.0.ready(to.1);
    }
}

impl Wire {
    fn received(&self) -> Vec<u8> {
        std::mem::take(&mut self.0.borrow_mut().received)
    }
}

#[test]
fn attack_71_inflation_of_a_large_message_takes_turns_with_other_connections() {
    const ATTACKERS: usize = 20;
    let mut worker = Worker::new();
    let innocent = worker.open();
    let attackers: Vec<_> = (0..ATTACKERS).map(|_| worker.open()).collect();
    let bomb = zeros(16 * MIB);
    for attacker in &attackers {
        worker.send(attacker, &bomb);
    }
    let (mut turns, mut echoes) = (0, 0);
    while worker.0.turn() {
        turns += 1;
        worker.send(&innocent, &frame(0x81, b"hi"));
        assert_eq!(innocent.0.received(), b"\x81\x02hi", "in turn {turns}");
        echoes += 1;
    }
    for attacker in &attackers {
        assert!(attacker.0.received() == reply(0x82, &vec![0; 16 * MIB]));
    }
    // Each turn of the worker gives one attacker a turn.
    let least = ATTACKERS * (16 * MIB / TURN - 1);
    assert!(turns >= least, "{turns} turns");
    figure(
        Kind::Attack,
        71,
        "20 compressed messages of 16 MiB of zeros to one worker: echoes to another client meanwhile",
        format_args!(">= {least}, one per 64 KiB inflated"),
        echoes,
    );
}

/// Bytes compressed for a client count towards its turn, as do the bytes that it sends.
#[test]
fn attack_71_replies_are_deflated_in_turns() {
    const ATTACKERS: usize = 20;
    const SIZE: usize = 8 << 10;
    const MESSAGES: usize = 128; // 1 MiB, one turn of uncompressed messages
    let mut worker = Worker::new();
    let innocent = worker.open();
    let attackers: Vec<_> = (0..ATTACKERS).map(|_| worker.open()).collect();
    for attacker in &attackers {
        worker.send(attacker, &frame(0x82, &[7; SIZE]).repeat(MESSAGES));
    }
    let mut received: Vec<_> = attackers
        .iter()
        .map(|attacker| count_compressed(&attacker.0.received()))
        .collect();
    let mut most = received.iter().max().unwrap() * SIZE;
    let mut turns = 0;
    while worker.0.turn() {
        turns += 1;
        for (attacker, received) in attackers.iter().zip(&mut received) {
            let answers = count_compressed(&attacker.0.received());
            most = most.max(answers * SIZE);
            *received += answers;
        }
        worker.send(&innocent, &frame(0x81, b"hi"));
        assert_eq!(innocent.0.received(), b"\x81\x02hi", "in turn {turns}");
    }
    for (attacker, received) in attackers.iter().zip(received) {
        assert_eq!(
            received + count_compressed(&attacker.0.received()),
            MESSAGES
        );
    }
    assert!(most <= TURN + SIZE, "{most} bytes in one turn");
    figure(
        Kind::Attack,
        71,
        "20 clients whose replies of 8 KiB are compressed, 20 MiB in all: bytes deflated in a client's turn at most",
        "<= 72 KiB, and another client is served after each",
        format_args!("{most} bytes, {turns} turns"),
    );
}

/// The compression of a long reply stops in mid-message and continues in the next turn. The message
/// after it waits, and arrives after it.
#[test]
fn attack_71_a_long_reply_is_deflated_in_steps() {
    let mut worker = Worker::new();
    let innocent = worker.open();
    let attacker = worker.open();
    let message = half_noise();
    let last = frame(0x81, b"last");
    worker.send(&attacker, &[frame(0x82, &message), last].concat());
    let mut turns = 0;
    while worker.0.turn() {
        turns += 1;
        worker.send(&innocent, &frame(0x81, b"hi"));
        assert_eq!(innocent.0.received(), b"\x81\x02hi", "in turn {turns}");
    }
    let received = attacker.0.received();
    let (long, last) = received.split_at(received.len() - 6);
    assert!(inflate(long) == message);
    assert_eq!(last, b"\x81\x04last");
    let least = MIB / TURN - 1;
    assert!(turns >= least, "{turns} turns");
    figure(
        Kind::Attack,
        71,
        "a reply of 1 MiB that is compressed: turns of another client meanwhile",
        format_args!(">= {least}, one per 64 KiB deflated"),
        turns,
    );
}

/// A long reply does not wait for its compression if half of the unsent budget is taken: otherwise
/// clients that read could be closed for it.
#[test]
fn long_replies_are_sent_plain_if_the_unsent_budget_has_no_room() {
    let settings = Settings {
        max_unsent_size: 2 * MIB - 2,
        ..Settings::default()
    };
    let mut worker = Worker(Simulation::new(&settings));
    let message = half_noise();
    for length in [MIB, MIB - 100] {
        let client = worker.open();
        worker.send(&client, &frame(0x82, &message[..length]));
        while worker.0.turn() {}
        let first = client.0.received()[0];
        assert_eq!(first, if length == MIB { 0x82 } else { 0xC2 });
    }
}

/// The compression of a long publication stops in mid-message, too. Later messages wait for it.
#[test]
fn attack_71_a_long_publication_is_deflated_in_steps() {
    let mut worker = Worker::new();
    let innocent = worker.open();
    let peer = Rc::new(RefCell::new(None));
    let wire = Wire::default();
    let member = Member(Rc::clone(&peer));
    worker.0.open(wire.clone(), member, Some(&PARAMETERS));
    let peer = peer.take().unwrap();
    let message = half_noise();
    peer.send(Message::Binary(&message));
    peer.send(Message::Text("last"));
    let mut turns = 0;
    while worker.0.turn() {
        turns += 1;
        worker.send(&innocent, &frame(0x81, b"hi"));
        assert_eq!(innocent.0.received(), b"\x81\x02hi", "in turn {turns}");
    }
    let received = wire.received();
    let (long, last) = received.split_at(received.len() - 6);
    assert!(inflate(long) == message);
    assert_eq!(last, b"\x81\x04last");
    let least = MIB / TURN - 2; // the publisher has compressed the first step
    assert!(turns >= least, "{turns} turns");
    figure(
        Kind::Attack,
        71,
        "a publication of 1 MiB that is compressed: turns of another client meanwhile",
        format_args!(">= {least}, one per 64 KiB deflated"),
        turns,
    );
}

/// Bytes compressed for the members of a room count towards the publisher's turn. The messages are
/// small: with large ones the mailbox would end the turn first.
#[test]
fn attack_71_publications_are_deflated_in_turns() {
    const PUBLISHERS: usize = 12;
    const SIZE: usize = 4 << 10;
    const MESSAGES: usize = 512;
    let mut worker = Worker::new();
    let innocent = worker.open();
    let peer = Rc::new(RefCell::new(None));
    let member = Member(Rc::clone(&peer));
    worker.0.open(Wire::default(), member, Some(&PARAMETERS));
    let peer = peer.take().unwrap();
    let published = Rc::new(Cell::new(0));
    let publishers: Vec<_> = (0..PUBLISHERS)
        .map(|_| {
            let (published, peer, wire) = (Rc::clone(&published), peer.clone(), Wire::default());
            let publish = move |_: &mut WebSocket<'_>, message: Message<'_>| {
                published.set(published.get() + SIZE);
                peer.send(message);
            };
            let connection = worker.0.open(wire.clone(), publish, None);
            (wire, connection)
        })
        .collect();
    let mut most = 0;
    for publisher in &publishers {
        let before = published.get();
        worker.send(publisher, &frame(0x82, &[7; SIZE]).repeat(MESSAGES));
        most = most.max(published.get() - before);
    }
    assert!(most <= 2 * TURN, "{most} bytes in a publisher's turn");
    let mut turns = 0;
    loop {
        let before = published.get();
        let more = worker.0.turn();
        turns += 1;
        most = most.max(published.get() - before);
        worker.send(&innocent, &frame(0x81, b"hi"));
        assert_eq!(innocent.0.received(), b"\x81\x02hi", "in turn {turns}");
        if !more {
            break;
        }
    }
    assert_eq!(published.get(), PUBLISHERS * MESSAGES * SIZE);
    assert!(most <= 2 * PUBLISHERS * TURN, "{most} bytes in one turn");
    figure(
        Kind::Attack,
        71,
        "12 publishers of 2 MiB each in 4 KiB messages: bytes deflated in the worker's turn at most",
        "<= 128 KiB for each publisher, and another client is served after each",
        format_args!("{most} bytes, {turns} turns"),
    );
}

/// Bytes that are read directly into a large message count towards the turn, too.
#[test]
fn attack_71_a_large_plain_message_takes_turns_too() {
    const SIZE: usize = 16 * MIB;
    let mut worker = Worker::new();
    let innocent = worker.open();
    let attacker = worker.open();
    worker.send(&attacker, &frame(0x82, &vec![7; SIZE]));
    let mut turns = 0;
    while worker.0.turn() {
        turns += 1;
        worker.send(&innocent, &frame(0x81, b"hi"));
        assert_eq!(innocent.0.received(), b"\x81\x02hi", "in turn {turns}");
    }
    assert!(attacker.0.received() == reply(0x82, &vec![7; SIZE]));
    assert!(turns >= SIZE / MIB / 2, "{turns} turns");
}

/// Control frames and fragments count towards the turn by their number, not only by their bytes.
#[test]
fn attack_71_small_frames_of_every_kind_take_turns() {
    /// Ten reads.
    const COUNT: usize = 200_000;
    const LEAST: usize = 6;
    for (what, row, frames) in [
        ("Pings", 8, frame(0x89, b"").repeat(COUNT)),
        ("Pongs", 10, frame(0x8A, b"").repeat(COUNT)),
        (
            "fragments of one byte",
            5,
            [frame(0x01, b"a"), frame(0x00, b"a").repeat(COUNT)].concat(),
        ),
    ] {
        let mut worker = Worker::new();
        let innocent = worker.open();
        let attacker = worker.open();
        worker.send(&attacker, &frames);
        let mut turns = 0;
        while worker.0.turn() {
            turns += 1;
            worker.send(&innocent, &frame(0x81, b"hi"));
            assert_eq!(innocent.0.received(), b"\x81\x02hi", "in turn {turns}");
        }
        // Charged by their bytes alone, they would take one or two.
        assert!(turns >= LEAST, "{COUNT} {what}: {turns} turns");
        figure(
            Kind::Attack,
            row,
            format_args!(
                "{COUNT} {what} in the socket of one client: turns of the others meanwhile"
            ),
            format_args!(">= {LEAST}, one for each read"),
            turns,
        );
    }
}

/// A compressed message that inflates to nothing still costs the setup of its inflation.
#[test]
fn attack_71_many_small_compressed_messages_take_turns_too() {
    let mut worker = Worker::new();
    let attacker = worker.open();
    let small = frame(0xC2, b"\x02\x00"); // one empty block
    worker.send(&attacker, &small.repeat(10_000));
    let mut turns = 0;
    while worker.0.turn() {
        turns += 1;
    }
    assert_eq!(attacker.0.received(), b"\x82\x00".repeat(10_000));
    assert!(turns >= 70, "{turns} turns for 10,000 messages");
}

/// A worker delivers its mailbox in turns.
#[test]
fn attack_54_deliveries_to_a_member_take_turns_with_other_connections() {
    const FRAMES: usize = 64;
    const FRAME: usize = 64 << 10;
    let mut worker = Worker::new();
    let innocent = worker.open();
    let peer = Rc::new(RefCell::new(None));
    let member = Member(Rc::clone(&peer));
    let wire = Wire::default();
    worker.0.open(wire.clone(), member, None);
    let peer = peer.take().unwrap();
    for _ in 0..FRAMES {
        peer.send(Message::Binary(&[7; FRAME]));
    }
    let (mut turns, mut delivered, mut most) = (0, 0, 0);
    loop {
        let more = worker.0.turn();
        let received = wire.received().len();
        delivered += received;
        most = most.max(received);
        turns += 1;
        worker.send(&innocent, &frame(0x81, b"hi"));
        assert_eq!(innocent.0.received(), b"\x81\x02hi", "in turn {turns}");
        if !more {
            break;
        }
    }
    assert_eq!(delivered, FRAMES * reply(0x82, &[7; FRAME]).len());
    assert!(most <= 1 << 20, "{most} bytes in one turn");
    figure(
        Kind::Attack,
        54,
        "4 MiB sent to one member at once: most bytes delivered in one turn",
        "<= 1 MiB",
        format_args!("{most} bytes, {turns} turns"),
    );
}

/// A member whose peer the test can use.
struct Member(Rc<RefCell<Option<Peer>>>);

impl Handler for Member {
    fn open(&mut self, socket: &mut WebSocket<'_>) {
        self.0.replace(Some(socket.peer()));
    }

    fn message(&mut self, _: &mut WebSocket<'_>, _: Message<'_>) {}
}

#[test]
fn a_connection_that_ends_during_inflation_loses_and_reorders_nothing() {
    let text = b"a text that is said again and again ".repeat(7_000); // 252 kB, 4 turns
    let input = [
        frame(0x81, b"before"),
        frame(0x41, &deflate(&text)[..400]),
        frame(0x89, b"ping"),
        frame(0x80, &deflate(&text)[400..]),
        frame(0x81, b"after"),
    ]
    .concat();
    let answers = [
        reply(0x81, b"before"),
        reply(0x8A, b"ping"),
        reply(0x81, &text),
        reply(0x81, b"after"),
    ];
    let close = close_frame(1000, b"bye");
    for turns in 0..15 {
        let begin = |more: &[u8]| {
            let mut worker = Worker::new();
            let client = worker.open();
            worker.send(&client, &[&input, more].concat());
            for _ in 0..turns {
                worker.0.turn();
            }
            (worker, client)
        };
        // The text is echoed compressed.
        let plain = |received: Vec<u8>| {
            let compressed = received.iter().position(|byte| *byte == 0xC1);
            compressed.map(|at| (received[..at].to_vec(), received[at..].to_vec()))
        };
        let is_whole = |received: Vec<u8>, end: &[u8]| {
            let Some((head, tail)) = plain(received) else {
                return false;
            };
            let rest = [&answers[3][..], end].concat();
            head == [&answers[0][..], &answers[1]].concat() && tail.ends_with(&rest)
        };
        // A Close follows the message.
        let (mut worker, client) = begin(&close);
        worker.0.run();
        assert!(is_whole(client.0.received(), b"\x88\x05\x03\xE8bye"));
        assert!(client.0.0.borrow().has_ended);
        // FIN arrives while the message is being inflated.
        let (mut worker, client) = begin(b"");
        worker.finish(&client);
        worker.0.run();
        assert!(is_whole(client.0.received(), b""), "FIN after {turns}");
        assert!(worker.0.stream(client.1).is_none());
        // Time passes.
        let (mut worker, client) = begin(b"");
        worker.0.advance(Duration::from_millis(200));
        assert!(is_whole(client.0.received(), b""), "time after {turns}");
        // The server shuts down: echoes that are not sent by then are dropped, and the client's
        // Close, which comes after the message, is read.
        let (mut worker, client) = begin(&close);
        worker.0.close_all(CloseCode::Away);
        worker.0.run();
        let received = client.0.received();
        let ended =
            received.ends_with(b"\x88\x02\x03\xE9") || is_whole(received, b"\x88\x05\x03\xE8bye");
        assert!(
            ended && client.0.0.borrow().has_ended,
            "shutdown after {turns}"
        );
    }
}

/// Echoes each message and notes whether it is a heavy one. In the message `wait` the worker stands
/// still until the test releases it, so that the messages to other connections wait together.
#[derive(Clone)]
struct Notes {
    handled: mpsc::Sender<bool>,
    goes_on: Arc<Barrier>,
}

impl Handler for Notes {
    fn message(&mut self, socket: &mut WebSocket<'_>, message: Message<'_>) {
        match message {
            Message::Text("wait") => {
                self.goes_on.wait();
                self.goes_on.wait();
            }
            _ if message.is_data() => {
                let is_heavy = matches!(message, Message::Binary(_));
                self.handled.send(is_heavy).unwrap();
                socket.send(message);
            }
            _ => {}
        }
    }
}

/// While a client's message of 8 bytes is at the socket, so are compressed messages of 40 kB of
/// many others, each of which costs more than a turn. The small one comes last.
#[test]
fn attack_71_a_light_client_is_served_before_heavy_ones() {
    const ATTACKERS: usize = 100;
    const SIZE: usize = 40_000;
    let (sender, handled) = mpsc::channel();
    let goes_on = Arc::new(Barrier::new(2));
    let notes = Notes {
        handled: sender,
        goes_on: Arc::clone(&goes_on),
    };
    let router = Router::new().websocket("/", move |_| notes.clone());
    let server = TestServer::plainly_serving(router, |server| server.with_workers(1));
    let mut random = fastrand::Rng::with_seed(71);
    let noise: Vec<u8> = (0..SIZE).map(|_| random.u8(..)).collect();
    let heavy = frame(0xC2, &deflate(&noise));
    let mut blocker = Client::open(&server, "/");
    let mut innocent = Client::open(&server, "/");
    let mut attackers: Vec<_> = (0..ATTACKERS)
        .map(|_| open_compressing(&server, "/"))
        .collect();
    for (what, bound) in [("that are new", ATTACKERS / 4), ("known as heavy", 2)] {
        blocker.send_text("wait");
        goes_on.wait();
        for attacker in &mut attackers {
            attacker.send(&heavy);
        }
        innocent.send_text("innocent");
        goes_on.wait();
        innocent.receives_text("innocent");
        let before = handled.iter().take_while(|is_heavy| *is_heavy).count();
        for attacker in &mut attackers {
            attacker.receive();
        }
        let after = handled.try_iter().count();
        assert_eq!(before + after, ATTACKERS);
        assert!(before <= bound, "{before} messages {what}");
        figure(
            Kind::Attack,
            71,
            format_args!(
                "{ATTACKERS} clients {what} send 40 kB compressed, then another 8 bytes: messages handled before"
            ),
            format_args!("<= {bound}"),
            before,
        );
    }
}

/// Row 71 with real clients: the server answers another client between inflation steps.
#[test]
fn attack_71_an_innocent_client_is_served_while_others_inflate() {
    const ATTACKERS: usize = 20;
    let server = TestServer::with(|server| server.with_workers(1));
    let bomb = zeros(16 * MIB);
    let is_over = AtomicBool::new(false);
    let (server, bomb) = (&server, &bomb);
    let (innocent, took) = thread::scope(|scope| {
        let attackers: Vec<_> = (0..ATTACKERS)
            .map(|_| {
                scope.spawn(move || {
                    let mut client = open_compressing(server, "/echo");
                    // The messages are inflated in turns, so all echoes come at the end.
                    client.stream.set_read_timeout(Some(PATIENCE * 6)).unwrap();
                    client.send(bomb);
                    let (first, payload) = client.receive();
                    assert_eq!((first, payload.len()), (0x82, 16 * MIB));
                })
            })
            .collect();
        let innocent = scope.spawn(|| {
            let mut client = Client::open(server, "/echo");
            let mut times = Vec::new();
            while !is_over.load(Ordering::Relaxed) {
                let began = Instant::now();
                client.send_text("hi");
                client.receives_text("hi");
                times.push(began.elapsed());
            }
            times
        });
        let began = Instant::now();
        attackers
            .into_iter()
            .for_each(|attacker| attacker.join().unwrap());
        let took = began.elapsed();
        is_over.store(true, Ordering::Relaxed);
        (innocent.join().unwrap(), took)
    });
    let mut times = innocent;
    times.sort_unstable();
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
    figure(
        Kind::Attack,
        71,
        "20 clients send 16 MiB of zeros, compressed: echoes to another client meanwhile",
        format_args!("> {}", 3 * ATTACKERS),
        format_args!(
            "{} in {took:.1?}, p50 {:.1?}, p99 {:.1?}",
            times.len(),
            at(0.5),
            at(0.99)
        ),
    );
    assert!(times.len() > 3 * ATTACKERS, "{} echoes", times.len());
}

fn open_compressing(server: &TestServer, path: &str) -> Client {
    let mut client = Client::connect(server);
    let offer = "Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n";
    let request = request(path);
    client.send([request.trim_end(), "\r\n", offer].concat().as_bytes());
    assert!(client.receive_head().contains("permessage-deflate"));
    client
}
