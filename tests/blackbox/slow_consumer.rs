//! Clients that take less than they are sent: bounded, told so, and nobody else's trouble.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use frameloop::engine::{Deadlines, SlowConsumer, Unanswered};
use frameloop::{CloseCode, Disconnect, Handler, Message, Peer, Router, Settings, WebSocket};

use crate::client::{Client, PATIENCE, close_frame, frame, reply};
use crate::report::{Kind, figure};
use crate::server::TestServer;

/// Sends until the server takes no more, and says how many bytes it took.
fn send_until_blocked(client: &Client, bytes: &[u8]) -> usize {
    const MOST: usize = 256 << 20;
    let mut stream = &client.stream;
    stream
        .set_write_timeout(Some(Duration::from_millis(300)))
        .unwrap();
    let mut taken = 0;
    loop {
        match stream.write(&bytes[taken % bytes.len()..]) {
            Ok(more) => taken += more,
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) => panic!("{error} after {taken}"),
        }
        assert!(taken < MOST, "{taken} bytes were taken");
    }
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    taken
}

/// Attack 8: while its Pongs are not taken, nothing more is read from a client; then it goes on,
/// and not one Pong is missing.
#[test]
fn attack_8_whoever_does_not_take_its_pongs_is_not_read_from() {
    let server = TestServer::with(|server| server.with_workers(1));
    let mut client = Client::open(&server, "/echo");
    let ping = frame(0x89, &[b'p'; 125]);
    let taken = send_until_blocked(&client, &ping);
    println!("attack 8: {taken} bytes were taken, sockets' buffers included");
    assert!(taken < 64 << 20);
    let mut other = Client::open(&server, "/echo");
    other.send_text("hi");
    other.receives_text("hi");

    let mut writer = client.stream.try_clone().unwrap();
    let rest = ping[taken % ping.len()..].to_vec();
    let writer = thread::spawn(move || writer.write_all(&rest).unwrap());
    for _ in 0..taken.div_ceil(ping.len()) {
        client.receives(&reply(0x8A, &[b'p'; 125]));
    }
    writer.join().unwrap();
}

/// Attack 32: a client that reads little is not a client that reads nothing.
#[test]
fn attack_32_whoever_takes_something_now_and_then_is_not_cut() {
    const PARTS: usize = 40;
    let stall = Duration::from_millis(400);
    let server = TestServer::with(|server| {
        server.with_settings(Settings {
            deadlines: Deadlines {
                write_stall: stall,
                ..Deadlines::default()
            },
            ..Settings::default()
        })
    });
    let mut client = Client::open(&server, "/echo");
    // Else the client's kernel, too, would wait for a good part of a large buffer to be free.
    rustix::net::sockopt::set_socket_recv_buffer_size(&client.stream, 64 << 10).unwrap();
    // More than all sockets' buffers hold.
    client.send(&frame(0x82, &vec![9; 16 << 20]));
    client.receives(b"\x82\x7F\0\0\0\0\x01\0\0\0");
    let mut bytes = vec![0; 50_000];
    let began = Instant::now();
    for part in 0..PARTS {
        thread::park_timeout(stall / 8);
        client
            .stream
            .read_exact(&mut bytes)
            .unwrap_or_else(|error| panic!("{error} after {part} parts"));
    }
    assert!(began.elapsed() > stall * 3);
    let mut rest = vec![0; (16 << 20) - PARTS * bytes.len()];
    client.stream.read_exact(&mut rest).unwrap();
    assert!(rest.iter().all(|byte| *byte == 9));
}

/// Attack 30: several who do not read, and many who do.
#[test]
fn attack_30_those_who_do_not_read_cost_the_others_nothing() {
    const MESSAGES: usize = 400;
    let server = TestServer::with(|server| server);
    let slow: Vec<_> = (0..5)
        .map(|_| Client::open(&server, "/broadcast/many"))
        .collect();
    let readers: Vec<_> = (0..10)
        .map(|_| Client::open(&server, "/broadcast/many"))
        .collect();
    let mut publisher = Client::open(&server, "/broadcast/many");
    let message = |number: usize| {
        let mut payload = vec![b'.'; 32 << 10];
        payload[..8].copy_from_slice(format!("{number:08}").as_bytes());
        payload
    };
    let reading: Vec<_> = readers
        .into_iter()
        .map(|mut reader| {
            thread::spawn(move || {
                for number in 0..MESSAGES {
                    assert_eq!(reader.receive(), (0x82, message(number)), "{number}");
                }
            })
        })
        .collect();
    for number in 0..MESSAGES {
        publisher.send(&frame(0x82, &message(number)));
        assert_eq!(publisher.receive(), (0x82, message(number)));
    }
    reading
        .into_iter()
        .for_each(|thread| thread.join().unwrap());
    for mut client in slow {
        // What they did not take in time was dropped: a run without a gap, then the end.
        let mut number = 0;
        let mut header = [0; 4];
        while client.stream.read_exact(&mut header).is_ok() && header[0] == 0x82 {
            let mut payload = vec![0; 32 << 10];
            if client.stream.read_exact(&mut payload).is_err() {
                break;
            }
            assert_eq!(payload, message(number));
            number += 1;
        }
        assert!(number < MESSAGES, "nothing was ever too slow");
    }
    figure(
        Kind::Attack,
        30,
        "400 messages of 32 KiB to 10 readers and 5 who do not read: lost by the readers; closed",
        "0; 5",
        "0; 5",
    );
}

/// The bound is on messages, too: many small ones cost more than their bytes.
#[test]
fn c42_the_number_of_messages_that_wait_is_bounded() {
    struct Floods(Sender<Disconnect>);
    impl Handler for Floods {
        fn message(&mut self, socket: &mut WebSocket<'_>, _: Message<'_>) {
            let peer = socket.peer();
            // The first fills the socket; what follows waits.
            peer.send(Message::Binary(&vec![0; 16 << 20]));
            for _ in 0..1_024 {
                peer.send(Message::Binary(b"x"));
            }
        }

        fn closed(&mut self, why: &Disconnect) {
            self.0.send(*why).unwrap();
        }
    }
    for (max_messages, expected) in [(1_024, "slow consumer"), (1_025, "")] {
        let (sender, ends) = mpsc::channel();
        let sender = Mutex::new(sender);
        let router = Router::new().websocket("/", move |_| Floods(sender.lock().unwrap().clone()));
        let server = TestServer::serving(router, |server| {
            server.with_settings(Settings {
                slow_consumer: SlowConsumer {
                    max_bytes: usize::MAX,
                    max_messages,
                },
                ..Settings::default()
            })
        });
        let mut client = Client::open(&server, "/");
        client.send_text("go");
        let (_, first) = client.receive();
        assert_eq!(first.len(), 16 << 20);
        if expected.is_empty() {
            for _ in 0..1_024 {
                client.receives(b"\x82\x01x");
            }
            client.send(&close_frame(1000, b""));
            client.receives(b"\x88\x02\x03\xE8");
            client.ends();
            let why = ends.recv_timeout(PATIENCE).unwrap();
            assert_eq!(why.to_string(), "closed by peer");
        } else {
            client.receives(&reply(0x88, &[b"\x03\xF0", expected.as_bytes()].concat()));
            client.ends();
            let why = ends.recv_timeout(PATIENCE).unwrap();
            let codes = (why.code_sent(), why.code_received());
            assert_eq!((why.to_string().as_str(), codes), (expected, (1008, 1006)));
        }
    }
}

/// A server that floods each client, and what each ended with.
fn flooding(deadlines: Deadlines) -> (TestServer, mpsc::Receiver<Disconnect>) {
    struct Floods(Sender<Disconnect>);
    impl Handler for Floods {
        fn message(&mut self, socket: &mut WebSocket<'_>, _: Message<'_>) {
            for _ in 0..1_000 {
                socket.peer().send(Message::Binary(&[0; 60_000]));
            }
        }

        fn closed(&mut self, why: &Disconnect) {
            self.0.send(*why).unwrap();
        }
    }
    let (sender, ends) = mpsc::channel();
    let sender = Mutex::new(sender);
    let router = Router::new().websocket("/", move |_| Floods(sender.lock().unwrap().clone()));
    let server = TestServer::serving(router, |server| {
        server.with_settings(Settings {
            deadlines,
            ..Settings::default()
        })
    });
    (server, ends)
}

/// C42: the rest of the frame under way and the Close are kept for a slow consumer that reads on
/// later than any linger.
#[test]
fn c42_a_slow_consumer_that_reads_on_later_gets_its_close() {
    let linger = Duration::from_millis(100);
    let (server, ends) = flooding(Deadlines {
        linger,
        ..Deadlines::default()
    });
    let mut client = Client::open(&server, "/");
    // A kernel may be set to keep all of the flood for the client.
    rustix::net::sockopt::set_socket_recv_buffer_size(&client.stream, 64 << 10).unwrap();
    client.send_text("go");
    // The flood is encoded before the first of it goes out.
    client.stream.peek(&mut [0]).unwrap();
    // What the client goes on sending is not read, and does not cost it the Close.
    thread::sleep(linger * 8);
    client.send(&frame(0x82, &[7; 60_000]));
    let mut messages = 0;
    let last = loop {
        match client.receive() {
            (0x88, payload) => break payload,
            (first, payload) => assert_eq!((first, payload.len()), (0x82, 60_000)),
        }
        messages += 1;
    };
    assert_eq!(last, b"\x03\xF0slow consumer");
    client.ends();
    let why = ends.recv_timeout(PATIENCE).unwrap();
    assert_eq!((why.code_sent(), why.code_received()), (1008, 1006));
    figure(
        Kind::Attack,
        30,
        "a slow consumer that reads on after 8 times the linger: whole messages, then the Close",
        "some, 1008",
        format_args!("{messages}, 1008"),
    );
}

/// C42: a slow consumer that takes nothing until the write timeout is reset, so that the kernel
/// keeps nothing for it either.
#[test]
fn c42_a_slow_consumer_that_takes_nothing_is_reset_at_the_write_timeout() {
    let (server, ends) = flooding(Deadlines {
        write_stall: Duration::from_millis(300),
        ..Deadlines::default()
    });
    let mut client = Client::open(&server, "/");
    rustix::net::sockopt::set_socket_recv_buffer_size(&client.stream, 64 << 10).unwrap();
    client.send_text("go");
    assert_eq!(ends.recv_timeout(PATIENCE), Ok(Disconnect::SlowConsumer));
    let error = client.stream.read_to_end(&mut Vec::new()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

/// C40: what waits for a member that closes is dropped, and its Close answered.
#[test]
fn c40_what_waits_for_a_member_that_closes_is_dropped() {
    const MESSAGES: usize = 300;
    let server = TestServer::with(|server| {
        // One worker: a member that has its own copy knows that the other's waits, too.
        server.with_workers(1).with_settings(Settings {
            slow_consumer: SlowConsumer {
                max_bytes: usize::MAX,
                max_messages: usize::MAX,
            },
            // A member that is this far behind is still read from.
            high_water_mark: usize::MAX,
            ..Settings::default()
        })
    });
    let mut leaver = Client::open(&server, "/broadcast");
    let mut publisher = Client::open(&server, "/broadcast");
    let message = frame(0x82, &[7; 60_000]);
    for _ in 0..MESSAGES {
        publisher.send(&message);
        publisher.receives(&reply(0x82, &[7; 60_000]));
    }
    leaver.send(&close_frame(1000, b"bye"));
    // The Close has been read when the publisher's Ping has: only now does it take anything.
    publisher.send(&frame(0x89, b""));
    publisher.receives(b"\x8A\0");
    let mut received = 0;
    loop {
        // What the kernel has comes; without the drop all 300 would.
        let (first, payload) = leaver.receive();
        if first == 0x88 {
            assert_eq!(payload, b"\x03\xE8bye");
            break;
        }
        assert_eq!((first, payload.len()), (0x82, 60_000));
        received += 1;
    }
    leaver.ends();
    println!("C40: {received} of {MESSAGES} messages came before the answer");
    assert!(received < MESSAGES, "nothing was dropped");
    publisher.send_text("still here");
    publisher.receives_text("still here");
}

/// Takes `bytes` of the stream every `pause`, until it ends or `patience` is over: says how long
/// it went on.
fn drip(mut stream: &TcpStream, bytes: usize, pause: Duration, patience: Duration) -> Duration {
    let mut scratch = vec![0; bytes];
    let began = Instant::now();
    while began.elapsed() < patience && stream.read_exact(&mut scratch).is_ok() {
        thread::park_timeout(pause);
    }
    began.elapsed()
}

/// A connection whose buffer is so small that its server notices each byte that it takes.
fn open_narrow(server: &TestServer, path: &str) -> Client {
    let client = Client::open(server, path);
    rustix::net::sockopt::set_socket_recv_buffer_size(&client.stream, 8 << 10).unwrap();
    client
}

/// What ends a connection has its time, whether or not the client goes on taking what waits.
#[test]
fn whoever_takes_little_outlives_neither_the_close_nor_the_write_timeout() {
    struct Ends(Sender<Disconnect>);
    impl Handler for Ends {
        fn message(&mut self, socket: &mut WebSocket<'_>, message: Message<'_>) {
            match message {
                Message::Text("close") => {
                    socket.send(Message::Binary(&vec![0; 16 << 20]));
                    socket.close(CloseCode::Normal, "");
                }
                Message::Text(_) => (0..3).for_each(|_| {
                    socket.peer().send(Message::Binary(&vec![0; 16 << 20]));
                }),
                _ => {}
            }
        }

        fn closed(&mut self, why: &Disconnect) {
            self.0.send(*why).unwrap();
        }
    }
    let limit = Duration::from_millis(200);
    for (message, expected) in [
        (
            "close",
            Disconnect::Unanswered(Some(CloseCode::Normal), Unanswered::TimedOut),
        ),
        ("flood", Disconnect::SlowConsumer),
    ] {
        let (sender, ends) = mpsc::channel();
        let sender = Mutex::new(sender);
        let router = Router::new().websocket("/", move |_| Ends(sender.lock().unwrap().clone()));
        let server = TestServer::serving(router, |server| {
            server.with_settings(Settings {
                deadlines: Deadlines {
                    close: limit,
                    linger: limit,
                    write_stall: limit,
                    ..Deadlines::default()
                },
                ..Settings::default()
            })
        });
        let mut client = open_narrow(&server, "/");
        client.send_text(message);
        let took = drip(&client.stream, 32 << 10, limit / 10, limit * 60);
        assert!(took < limit * 50, "{message}: still there after {took:?}");
        assert_eq!(ends.recv_timeout(PATIENCE), Ok(expected), "{message}");
    }
}

/// While more waits for the workers than they may take in, sockets are not read; nobody is found
/// silent for that.
#[test]
fn nobody_is_cut_for_a_silence_while_the_server_does_not_listen() {
    struct Blocks(Arc<Mutex<mpsc::Receiver<()>>>, Sender<Peer>);
    impl Handler for Blocks {
        fn open(&mut self, socket: &mut WebSocket<'_>) {
            self.1.send(socket.peer()).unwrap();
        }

        fn message(&mut self, socket: &mut WebSocket<'_>, message: Message<'_>) {
            match message {
                Message::Text("block") => self.0.lock().unwrap().recv().unwrap(),
                message if message.is_data() => socket.send(message),
                _ => {}
            }
        }
    }
    let interval = Duration::from_millis(400);
    let (release, released) = mpsc::channel();
    let released = Arc::new(Mutex::new(released));
    let (sender, peers) = mpsc::channel();
    let sender = Mutex::new(sender);
    let router = Router::new().websocket("/", move |_| {
        Blocks(Arc::clone(&released), sender.lock().unwrap().clone())
    });
    let server = TestServer::serving(router, |server| {
        server.with_workers(2).with_settings(Settings {
            deadlines: Deadlines {
                ping_interval: interval,
                ping_timeout: interval,
                ..Deadlines::default()
            },
            ..Settings::default()
        })
    });
    // The second connection is on the other worker.
    let mut blocker = Client::open(&server, "/");
    let blocked = peers.recv().unwrap();
    let mut client = Client::open(&server, "/");
    let writer = client.stream.try_clone().unwrap();
    let (stop, stopped) = mpsc::channel::<()>();
    let talk = thread::spawn(move || {
        while stopped.recv_timeout(interval / 16) == Err(mpsc::RecvTimeoutError::Timeout) {
            (&writer).write_all(&frame(0x8A, b"")).unwrap();
        }
    });
    blocker.send_text("block");
    for _ in 0..65 {
        blocked.send(Message::Binary(&[0; 1 << 20]));
    }
    thread::park_timeout(interval * 3);
    release.send(()).unwrap();
    thread::park_timeout(interval / 4);
    stop.send(()).unwrap();
    talk.join().unwrap();
    client.send_text("still here");
    let mut received = client.receive();
    while received.0 == 0x89 {
        received = client.receive();
    }
    assert_eq!(received, (0x81, b"still here".to_vec()));
}
