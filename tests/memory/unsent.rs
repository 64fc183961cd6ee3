//! All unsent data of all clients shares one budget.

use std::io::Read;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;

use frameloop::engine::{Deadlines, SlowConsumer};

use super::*;

const MIB: usize = 1 << 20;
const BUDGET: usize = 64 * MIB;

/// The number of data messages that handlers have received. Unfinished messages have a different
/// budget.
static HANDLED: AtomicUsize = AtomicUsize::new(0);

fn wait_until_handled(messages: usize) {
    let began = Instant::now();
    while HANDLED.load(Ordering::SeqCst) < messages {
        assert!(began.elapsed() < PATIENCE, "a message was not handled");
        thread::sleep(Duration::from_millis(1));
    }
}

/// The most heap that is in use during its lifetime, beyond the heap at its start.
struct Peak {
    stop: Arc<AtomicBool>,
    most: Arc<AtomicUsize>,
    before: usize,
    watch: Option<JoinHandle<()>>,
}

impl Peak {
    fn watch() -> Peak {
        let (stop, most) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let watch = {
            let (stop, most) = (Arc::clone(&stop), Arc::clone(&most));
            thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    most.fetch_max(heap(), Ordering::Relaxed);
                    thread::sleep(Duration::from_micros(200));
                }
            })
        };
        Peak {
            stop,
            most,
            before: heap(),
            watch: Some(watch),
        }
    }

    fn end(mut self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        self.watch.take().unwrap().join().unwrap();
        let most = self.most.load(Ordering::Relaxed);
        most.saturating_sub(self.before)
    }
}

fn server(ends: &Sender<Disconnect>) -> TestServer {
    struct Member(Option<frameloop::rooms::Membership>, Sender<Disconnect>);
    impl Handler for Member {
        fn message(&mut self, _: &mut WebSocket<'_>, message: Message<'_>) {
            if let Some(room) = &self.0 {
                room.publish(message);
                HANDLED.fetch_add(usize::from(message.is_data()), Ordering::SeqCst);
            }
        }

        fn closed(&mut self, why: &Disconnect) {
            let _ = self.1.send(*why);
        }
    }
    struct Echo(Sender<Disconnect>);
    impl Handler for Echo {
        fn message(&mut self, socket: &mut WebSocket<'_>, message: Message<'_>) {
            if message.is_data() {
                socket.send(message);
                HANDLED.fetch_add(1, Ordering::SeqCst);
            }
        }

        fn closed(&mut self, why: &Disconnect) {
            let _ = self.0.send(*why);
        }
    }
    struct Join(frameloop::Rooms, String, Member);
    impl Handler for Join {
        fn open(&mut self, socket: &mut WebSocket<'_>) {
            self.2.0 = self.0.join(&self.1, &socket.peer()).ok();
        }

        fn message(&mut self, socket: &mut WebSocket<'_>, message: Message<'_>) {
            self.2.message(socket, message);
        }

        fn closed(&mut self, why: &Disconnect) {
            self.2.closed(why);
        }
    }
    let rooms = frameloop::Rooms::default();
    let (members, echoes) = (Mutex::new(ends.clone()), Mutex::new(ends.clone()));
    let router = Router::new()
        .websocket("/room/{name}", move |request| {
            let member = Member(None, members.lock().unwrap().clone());
            Join(rooms.clone(), request.param("name").into(), member)
        })
        .websocket("/echo", move |_| Echo(echoes.lock().unwrap().clone()));
    TestServer::serving(router, |server| {
        server.with_workers(2).with_settings(Settings {
            max_unsent_size: BUDGET,
            slow_consumer: SlowConsumer {
                max_bytes: 32 * MIB,
                max_messages: 1_024,
            },
            // The server still reads from a member that does not read its own messages.
            high_water_mark: usize::MAX,
            deadlines: Deadlines {
                ping_interval: Duration::ZERO,
                ..Deadlines::default()
            },
            ..Settings::default()
        })
    })
}

/// The number of connections so far that ended in each way.
fn endings(ends: &mpsc::Receiver<Disconnect>) -> [usize; 3] {
    let mut counts = [0; 3];
    for why in ends.try_iter() {
        counts[match why {
            Disconnect::SlowConsumer => 0,
            Disconnect::TooMuchUnsent => 1,
            _ => 2,
        }] += 1;
    }
    counts
}

/// Reads messages of this size until the connection ends. Returns their number.
fn read_on(mut client: Client, size: usize) -> JoinHandle<usize> {
    thread::spawn(move || {
        let mut frame = vec![0; size + 10];
        let mut count = 0;
        while client.stream.read_exact(&mut frame).is_ok() {
            assert_eq!(frame[0], 0x82, "{count}");
            count += 1;
        }
        count
    })
}

/// Attack 58: messages that inflate greatly wait for a hundred members that do not read.
#[test]
fn attack_58_messages_queued_for_all_members_share_a_budget() {
    const PAIRS: usize = 100;
    const MESSAGES: usize = 20;
    let _alone = alone();
    let (sender, ends) = mpsc::channel();
    let server = server(&sender);
    let mut codec = flate2::Compress::new(flate2::Compression::best(), false);
    let mut bomb = Vec::with_capacity(64 << 10);
    codec
        .compress_vec(&vec![0; 16 * MIB], &mut bomb, flate2::FlushCompress::Sync)
        .unwrap();
    bomb.truncate(bomb.len() - 4);
    let bomb = frame(0xC2, &bomb);
    let reader = Client::open(&server, "/room/innocent");
    let mut innocent = Client::open(&server, "/room/innocent");
    let reading = read_on(reader, MIB);
    let pairs: Vec<_> = (0..PAIRS)
        .map(|number| {
            let path = format!("/room/{number}");
            (
                Client::open(&server, &path),
                open_compressing_at(&server, &path),
            )
        })
        .collect();
    settle(&server);
    let (peak, before) = (Peak::watch(), heap());
    for (number, (_, publisher)) in pairs.iter().enumerate() {
        let handled = HANDLED.load(Ordering::SeqCst);
        (&publisher.stream).write_all(&bomb).unwrap();
        wait_until_handled(handled + 1);
        if number % (PAIRS / MESSAGES) == 0 {
            innocent.send(&frame(0x82, &vec![7; MIB]));
            assert_eq!(innocent.receive().1.len(), MIB);
        }
    }
    settle(&server);
    let (peak, held) = (peak.end(), least_heap(&server).saturating_sub(before));
    let [closed, others, failed] = endings(&ends);
    drop(server);
    let received = reading.join().unwrap();
    figure(
        Kind::Attack,
        58,
        "for each of 100 members that do not read, 16 KiB are published that inflate to 16 MiB, \
         --max-unsent-size 64MiB: heap at the end and at most; closed; lost by a member that reads",
        "<= 96 MiB, 160 MiB; 1008 for as many as necessary; 0",
        format_args!(
            "{} MiB, {} MiB; {closed}; {}",
            held / MIB,
            peak / MIB,
            MESSAGES - received
        ),
    );
    assert_eq!((others, received), (0, MESSAGES), "{failed}");
    assert!(closed >= PAIRS - BUDGET / (15 * MIB) - 1, "{closed}");
    assert!(held <= BUDGET + 32 * MIB, "{held}");
    // Each worker holds an arriving message, at twice its size while the buffer grows, and a
    // departing one.
    assert!(peak <= BUDGET + 2 * 48 * MIB, "{peak}");
}

/// Attack 58: echoes count towards the budget, and the largest consumers are closed with 1013.
#[test]
fn attack_58_unsent_echoes_of_all_clients_share_a_budget() {
    const CLIENTS: usize = 40;
    let _alone = alone();
    let (sender, ends) = mpsc::channel();
    let server = server(&sender);
    let mut clients: Vec<_> = (0..CLIENTS)
        .map(|_| Client::open(&server, "/echo"))
        .collect();
    settle(&server);
    let _ = endings(&ends);
    let message = frame(0x82, &vec![7; 8 * MIB]);
    let peak = Peak::watch();
    for client in &mut clients {
        let handled = HANDLED.load(Ordering::SeqCst);
        client.stream.write_all(&message).unwrap();
        wait_until_handled(handled + 1);
    }
    settle(&server);
    let peak = peak.end();
    let [others, closed, _] = endings(&ends);
    figure(
        Kind::Attack,
        58,
        "40 clients that send 8 MiB to an echo and read nothing, --max-unsent-size 64MiB: most heap; \
         closed",
        "<= 96 MiB; 1013 for as many as necessary",
        format_args!("{} MiB; {closed}", peak / MIB),
    );
    assert_eq!(others, 0);
    assert!(closed >= CLIENTS / 2, "{closed}");
    assert!(peak <= BUDGET + 32 * MIB, "{peak}");
}

/// A frame that waits for many members is stored and counted once, so no member is closed for it.
#[test]
fn a_frame_queued_for_many_members_counts_once() {
    const MEMBERS: usize = 50;
    let _alone = alone();
    let (sender, ends) = mpsc::channel();
    let server = server(&sender);
    let mut members: Vec<_> = (0..MEMBERS)
        .map(|_| Client::open(&server, "/room/one"))
        .collect();
    settle(&server);
    let _ = endings(&ends);
    let before = heap();
    for size in [10_000, 8 * MIB] {
        // A publisher of large messages is held back, so each of these has one of its own.
        for publisher in 0..(16 * MIB).div_ceil(size).min(900) {
            members[publisher % MEMBERS].send(&frame(0x82, &vec![7; size]));
        }
    }
    settle(&server);
    let kept = heap().saturating_sub(before);
    figure(
        Kind::Attack,
        58,
        "24 MiB published to 50 members that do not read: heap; closed",
        "<= 40 MiB; 0",
        format_args!("{} MiB; 0", kept / MIB),
    );
    assert!(kept <= 40 * MIB, "{kept}");
    for mut member in members {
        for size in [10_000, 8 * MIB] {
            for _ in 0..(16 * MIB).div_ceil(size).min(900) {
                assert_eq!(member.receive().1.len(), size);
            }
        }
    }
    assert_eq!(endings(&ends)[..2], [0, 0]);
}

/// One call of a handler may send a limited amount. Answers to many messages of one read are not
/// limited by this: the next message waits until the client has read enough.
#[test]
fn attack_58_the_bytes_that_a_handler_call_sends_are_limited() {
    const REPLY: usize = 256 << 10;
    const REQUESTS: usize = 400;
    let _alone = alone();
    let (sender, ends) = mpsc::channel();
    let sender = Mutex::new(sender);
    struct Answers(Sender<Disconnect>);
    impl Handler for Answers {
        fn message(&mut self, socket: &mut WebSocket<'_>, message: Message<'_>) {
            let count = match message {
                Message::Text("much") => REQUESTS,
                Message::Text(_) => 1,
                _ => 0,
            };
            for _ in 0..count {
                socket.send(Message::Binary(&[7; REPLY]));
            }
        }

        fn closed(&mut self, why: &Disconnect) {
            let _ = self.0.send(*why);
        }
    }
    let router = Router::new()
        .websocket("/answers", move |_| Answers(sender.lock().unwrap().clone()))
        .websocket("/echo", |_| {
            |socket: &mut WebSocket<'_>, message: Message<'_>| socket.send(message)
        });
    let server = TestServer::serving(router, |server| server.with_workers(1));
    settle(&server);
    let peak = Peak::watch();
    let mut patient = Client::open(&server, "/answers");
    patient.send(&frame(0x81, b"one").repeat(REQUESTS));
    let mut greedy = Client::open(&server, "/answers");
    greedy.send_text("much");
    settle(&server);
    let peak = peak.end();
    for number in 0..REQUESTS {
        assert_eq!(patient.receive().1.len(), REPLY, "{number}");
    }
    let close = loop {
        match greedy.receive() {
            (0x88, payload) => break payload,
            (first, payload) => assert_eq!((first, payload.len()), (0x82, REPLY)),
        }
    };
    assert_eq!(close, b"\x03\xF3too much sent at once");
    assert_eq!(ends.recv_timeout(PATIENCE), Ok(Disconnect::TooMuchSent));
    figure(
        Kind::Attack,
        58,
        "a handler that sends 100 MiB in one call; 400 requests in one read, answered with 256 KiB \
         each; clients that do not read: most heap; Close",
        "<= 20 MiB; 1011, none",
        format_args!("{} MiB; 1011, none", peak / MIB),
    );
    assert!(peak <= 20 * MIB, "{peak}");
}
