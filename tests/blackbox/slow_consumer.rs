//! Clients that read more slowly than the server sends: limited, told the reason, and harmless to
//! others.

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

/// Sends until the server stops reading. Returns the number of bytes sent.
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
        assert!(taken < MOST, "{taken} bytes were sent");
    }
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    taken
}

/// Attack 8: the server stops reading from a client that does not read its Pongs. It continues when
/// the client does, and no Pong is missing.
#[test]
fn attack_8_the_server_stops_reading_from_a_client_that_does_not_read_its_pongs() {
    let server = TestServer::with(|server| server.with_workers(1));
    let mut client = Client::open(&server, "/echo");
    let ping = frame(0x89, &[b'p'; 125]);
    let taken = send_until_blocked(&client, &ping);
    println!("attack 8: {taken} bytes were sent, socket buffers included");
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

/// Attack 32: the write timeout does not apply to a client that reads a little now and then.
#[test]
fn attack_32_a_client_that_reads_now_and_then_is_not_cut() {
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
    // With a large buffer, the client's kernel would report new space only in large steps.
    rustix::net::sockopt::set_socket_recv_buffer_size(&client.stream, 64 << 10).unwrap();
    // More than all socket buffers hold.
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

/// Attack 30: some members do not read, many do.
#[test]
fn attack_30_members_that_do_not_read_do_not_affect_others() {
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
        // Messages that they did not read in time were dropped: a sequence without a gap, then the
        // end.
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
        assert!(
            number < MESSAGES,
            "a member that does not read received every message"
        );
    }
    figure(
        Kind::Attack,
        30,
        "400 messages of 32 KiB to 10 members that read and 5 that do not: lost by the readers; closed",
        "0; 5",
        "0; 5",
    );
}

/// Messages are limited in number, too: many small ones cost more memory than their bytes.
#[test]
fn c42_the_number_of_queued_messages_is_limited() {
    struct Floods(Sender<Disconnect>);
    impl Handler for Floods {
        fn message(&mut self, socket: &mut WebSocket<'_>, _: Message<'_>) {
            let peer = socket.peer();
            // The first message fills the socket, so the following ones wait.
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
        let router = Router::new()
            .websocket("/", move |_| Floods(sender.lock().unwrap().clone()))
            .websocket("/silent", |_| |_: &mut WebSocket<'_>, _: Message<'_>| {});
        let server = TestServer::serving(router, |server| {
            server.with_workers(1).with_settings(Settings {
                slow_consumer: SlowConsumer {
                    max_bytes: usize::MAX,
                    max_messages,
                },
                ..Settings::default()
            })
        });
        let mut client = Client::open(&server, "/");
        let receive_buffer = rustix::net::sockopt::set_socket_recv_buffer_size;
        receive_buffer(&client.stream, 64 << 10).unwrap();
        let mut other = Client::open(&server, "/silent");
        client.send_text("go");
        // All is delivered before the client reads: the worker delivers between two answers.
        client.stream.peek(&mut [0]).unwrap();
        for _ in 0..64 {
            other.send(&frame(0x89, b""));
            other.receives(b"\x8A\x00");
        }
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

/// A server that floods each client, and the reason why each connection ended.
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

/// C42: the server keeps the rest of the current frame and the Close for a slow consumer that
/// resumes reading long after the linger.
#[test]
fn c42_a_slow_consumer_that_resumes_reading_receives_its_close() {
    let linger = Duration::from_millis(100);
    let (server, ends) = flooding(Deadlines {
        linger,
        ..Deadlines::default()
    });
    let mut client = Client::open(&server, "/");
    // A large receive buffer could hold the whole flood.
    rustix::net::sockopt::set_socket_recv_buffer_size(&client.stream, 64 << 10).unwrap();
    client.send_text("go");
    // The whole flood is encoded before its first byte arrives.
    client.stream.peek(&mut [0]).unwrap();
    // Data that the client sends meanwhile stays unread and does not cost it the Close.
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
        "a slow consumer that resumes reading after 8 times the linger: whole messages, then the Close",
        "some, 1008",
        format_args!("{messages}, 1008"),
    );
}

/// C42: a slow consumer that reads nothing until the write timeout is reset, so that the kernel
/// frees its buffers, too.
#[test]
fn c42_a_slow_consumer_that_reads_nothing_is_reset_at_the_write_timeout() {
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

/// C40: messages that wait for a member are dropped when it closes, and its Close is answered.
#[test]
fn c40_messages_queued_for_a_member_that_closes_are_dropped() {
    const MESSAGES: usize = 300;
    let server = TestServer::with(|server| {
        // With one worker, a message queues for all members before the publisher gets its copy.
        server.with_workers(1).with_settings(Settings {
            slow_consumer: SlowConsumer {
                max_bytes: usize::MAX,
                max_messages: usize::MAX,
            },
            // The server still reads from a member that is this far behind.
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
    // The server reads the publisher's Ping after the Close. Only now does the member read.
    publisher.send(&frame(0x89, b""));
    publisher.receives(b"\x8A\0");
    let mut received = 0;
    loop {
        // Messages in kernel buffers arrive; without the drop all 300 would.
        let (first, payload) = leaver.receive();
        if first == 0x88 {
            assert_eq!(payload, b"\x03\xE8bye");
            break;
        }
        assert_eq!((first, payload.len()), (0x82, 60_000));
        received += 1;
    }
    leaver.ends();
    println!("C40: {received} of {MESSAGES} messages arrived before the answer");
    assert!(received < MESSAGES, "no message was dropped");
    publisher.send_text("still here");
    publisher.receives_text("still here");
}

/// Reads `bytes` after every `pause`, until the stream ends or `patience` is over. Returns the time
/// that this took.
fn drip(mut stream: &TcpStream, bytes: usize, pause: Duration, patience: Duration) -> Duration {
    let mut scratch = vec![0; bytes];
    let began = Instant::now();
    while began.elapsed() < patience && stream.read_exact(&mut scratch).is_ok() {
        thread::park_timeout(pause);
    }
    began.elapsed()
}

/// A connection with a receive buffer so small that the server notices every read.
fn open_narrow(server: &TestServer, path: &str) -> Client {
    let client = Client::open(server, path);
    rustix::net::sockopt::set_socket_recv_buffer_size(&client.stream, 8 << 10).unwrap();
    client
}

/// A deadline that ends a connection also holds while the client reads slowly.
#[test]
fn a_client_that_reads_slowly_does_not_extend_the_close_or_write_timeout() {
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

/// Under back-pressure a worker does not read its sockets. No client may time out because of that.
#[test]
fn no_client_times_out_while_the_server_does_not_read() {
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
    // The second connection belongs to the other worker.
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
