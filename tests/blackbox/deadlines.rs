//! Deadlines. Each test shortens the deadline that it covers.

use std::io::{ErrorKind, Read, Write};
use std::sync::Mutex;
use std::sync::mpsc::{self, Sender};
use std::thread;
use std::time::{Duration, Instant};

use frameloop::engine::Deadlines;
use frameloop::{Disconnect, Handler, Message, Router, Settings, WebSocket};

use crate::client::{Client, PATIENCE, close_frame, frame};
use crate::report::{Kind, figure};
use crate::server::TestServer;

fn server(change: impl FnOnce(&mut Deadlines)) -> TestServer {
    let mut settings = Settings::default();
    change(&mut settings.deadlines);
    TestServer::with(|server| server.with_settings(settings))
}

#[track_caller]
fn took(began: Instant, at_least: Duration) {
    let took = began.elapsed();
    assert!(
        took >= at_least.mul_f64(0.8),
        "after {took:?}, not {at_least:?}"
    );
    assert!(
        took < at_least * 2 + Duration::from_secs(1),
        "after {took:?}, not {at_least:?}"
    );
}

#[test]
fn a4_c43_silence_is_pinged_and_an_unanswered_ping_closes_with_1008() {
    let interval = Duration::from_millis(400);
    let server = server(|deadlines| {
        deadlines.ping_interval = interval;
        deadlines.ping_timeout = interval;
    });
    let mut client = Client::open(&server, "/echo");
    let began = Instant::now();
    client.receives(b"\x89\x00");
    took(began, interval);
    client.receives(b"\x88\x0E\x03\xF0ping timeout");
    took(began, interval * 2);
    figure(
        Kind::Attack,
        33,
        "a silent client, ping interval and timeout 400 ms: Close",
        "1008 at 0.8 s",
        format_args!("1008 at {:.2?}", began.elapsed()),
    );
    client.ends();
}

#[test]
fn a4_a_client_that_answers_pings_or_sends_data_stays_connected() {
    let interval = Duration::from_millis(100);
    let server = server(|deadlines| {
        deadlines.ping_interval = interval;
        deadlines.ping_timeout = interval;
    });
    let mut client = Client::open(&server, "/echo");
    for _ in 0..6 {
        client.receives(b"\x89\x00");
        client.send(&frame(0x8A, b""));
    }
    // A byte of a message, too, counts as a sign of life.
    let message = frame(0x81, b"slow but alive");
    for byte in message.chunks(1) {
        client.send(byte);
        thread::park_timeout(interval / 3);
    }
    let mut received = client.receive();
    while received.0 == 0x89 {
        received = client.receive();
    }
    assert_eq!(received, (0x81, b"slow but alive".to_vec()));
}

#[test]
fn attack_7_a_message_must_end_in_time() {
    let limit = Duration::from_millis(400);
    for start in [frame(0x01, b"a"), frame(0x81, b"cut off")[..9].to_vec()] {
        let server = server(|deadlines| deadlines.message = limit);
        let mut client = Client::open(&server, "/echo");
        let began = Instant::now();
        client.send(&start);
        client.closes_with(1008);
        took(began, limit);
    }
}

#[test]
fn attack_7_fragments_do_not_extend_the_message_deadline_and_each_message_has_its_own() {
    let limit = Duration::from_millis(500);
    let server = server(|deadlines| deadlines.message = limit);
    let mut client = Client::open(&server, "/echo");
    let mut writer = client.stream.try_clone().unwrap();
    let began = Instant::now();
    client.send(&frame(0x01, b"a"));
    let trickle = thread::spawn(move || {
        while std::io::Write::write_all(&mut writer, &frame(0x00, b"b")).is_ok()
            && began.elapsed() < limit * 4
        {
            thread::park_timeout(limit / 10);
        }
    });
    let (first, payload) = client.receive();
    assert_eq!((first, &payload[..2]), (0x88, &b"\x03\xF0"[..]));
    figure(
        Kind::Attack,
        7,
        "an unfinished message, timeout 500 ms: Close",
        "1008 at 0.5 s",
        format_args!("1008 at {:.2?}", began.elapsed()),
    );
    took(began, limit);
    drop(client);
    trickle.join().unwrap();

    let mut client = Client::open(&server, "/echo");
    for _ in 0..10 {
        client.send(&frame(0x01, b"a"));
        thread::park_timeout(limit / 5);
        client.send(&frame(0x80, b"b"));
        client.receives_text("ab");
    }
    // The same where each segment ends one message and begins the next.
    client.send(&frame(0x01, b"a"));
    for _ in 0..10 {
        thread::park_timeout(limit / 5);
        client.send(&[frame(0x80, b"b"), frame(0x01, b"a")].concat());
        client.receives_text("ab");
    }
}

#[test]
fn a5_the_idle_timeout_counts_data_messages_and_not_pings() {
    let limit = Duration::from_millis(400);
    let server = server(|deadlines| deadlines.idle = Some(limit));
    let mut client = Client::open(&server, "/echo");
    for _ in 0..4 {
        thread::park_timeout(limit / 2);
        client.send_text("x");
        client.receives_text("x");
    }
    let mut writer = client.stream.try_clone().unwrap();
    let began = Instant::now();
    let pings = thread::spawn(move || {
        while std::io::Write::write_all(&mut writer, &frame(0x89, b"")).is_ok()
            && began.elapsed() < limit * 4
        {
            thread::park_timeout(limit / 10);
        }
    });
    loop {
        let (first, payload) = client.receive();
        if first == 0x88 {
            assert_eq!(payload[..2], 1008_u16.to_be_bytes());
            break;
        }
        assert_eq!(first, 0x8A);
    }
    took(began, limit);
    drop(client);
    pings.join().unwrap();
}

#[test]
fn c32_c37_an_unanswered_close_ends_the_connection_with_fin() {
    let limit = Duration::from_millis(400);
    let server = server(|deadlines| deadlines.close = limit);
    let mut client = Client::open(&server, "/ws/chat/lobby/");
    client.send_text("not JSON");
    client.receives(b"\x88\x02\x03\xF3");
    let began = Instant::now();
    client.ends();
    took(began, limit);
}

#[test]
fn a_deadline_of_zero_is_disabled() {
    let server = server(|deadlines| {
        deadlines.ping_interval = Duration::ZERO;
        deadlines.message = Duration::ZERO;
        deadlines.linger = Duration::from_millis(50);
    });
    let mut client = Client::open(&server, "/echo");
    client.send(&frame(0x01, b"a"));
    assert!(client.is_silent_for(Duration::from_millis(400)));
    client.send(&frame(0x80, b"b"));
    client.receives_text("ab");
    client.send(&close_frame(1000, b""));
    client.receives(b"\x88\x02\x03\xE8");
    client.ends();
}

/// Zero switches the other deadlines off. A linger of zero must not mean to read forever.
#[test]
fn a_linger_of_zero_drops_the_connection_at_once() {
    struct Tells(Sender<Disconnect>);
    impl Handler for Tells {
        fn message(&mut self, _: &mut WebSocket<'_>, _: Message<'_>) {}

        fn closed(&mut self, why: &Disconnect) {
            self.0.send(*why).unwrap();
        }
    }
    let (sender, ends) = mpsc::channel();
    let sender = Mutex::new(sender);
    let router = Router::new().websocket("/", move |_| Tells(sender.lock().unwrap().clone()));
    let mut settings = Settings::default();
    settings.deadlines.linger = Duration::ZERO;
    let server = TestServer::serving(router, |server| server.with_settings(settings));
    let mut client = Client::open(&server, "/");
    client.send(&close_frame(1000, b""));
    client.receives(b"\x88\x02\x03\xE8");
    // The client has sent no FIN, yet the connection has ended.
    let why = ends.recv_timeout(PATIENCE).unwrap();
    assert_eq!(why.to_string(), "closed by peer");
}

/// A client that requests pages and does not read them is closed after the write stall. A client
/// that reads a few bytes at a time makes less progress than the required 16 KiB in a write stall.
#[test]
fn attack_79_a_client_that_trickles_reads_of_a_response_is_cut() {
    let limit = Duration::from_millis(1_000);
    let server = server(|deadlines| {
        deadlines.write_stall = limit;
        deadlines.linger = limit / 10;
    });
    let mut client = Client::connect(&server);
    rustix::net::sockopt::set_socket_recv_buffer_size(&client.stream, 4 << 10).unwrap();
    // More than the kernel buffers hold.
    let page = b"GET /socket.io/socket.io.js HTTP/1.1\r\nHost: localhost\r\n\r\n";
    client.stream.write_all(&page.repeat(300)).unwrap();
    let began = Instant::now();
    let mut taken = 0;
    let error = loop {
        // A client can still read what its own kernel holds after the end: one segment of loopback.
        assert!(taken < 256 << 10, "{taken} bytes");
        thread::park_timeout(limit / 40);
        match client.stream.read(&mut [0; 256]) {
            Ok(0) => break ErrorKind::UnexpectedEof,
            Ok(bytes) => taken += bytes,
            Err(error) => break error.kind(),
        }
    };
    let took = began.elapsed();
    figure(
        Kind::Attack,
        79,
        "256 bytes of HTTP responses read 40 times in the write stall of 1 s",
        "cut",
        format_args!("{error:?} after {took:.1?} and {taken} bytes"),
    );
}

#[test]
fn attack_32_a_client_that_reads_no_response_is_cut_after_the_write_stall() {
    let limit = Duration::from_millis(300);
    let server = server(|deadlines| {
        deadlines.write_stall = limit;
        deadlines.linger = limit / 10;
    });
    let mut client = Client::connect(&server);
    let requests = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(1_000);
    let began = Instant::now();
    let error = loop {
        // The server reads requests until its responses are stuck. Then it stops reading, and later
        // it resets the connection.
        if let Err(error) = client.stream.write_all(&requests) {
            break error;
        }
    };
    let took = began.elapsed();
    figure(
        Kind::Attack,
        32,
        "HTTP pages requested and never read, write stall 300 ms",
        "reset",
        format_args!("{:?} after {took:.1?}", error.kind()),
    );
    assert!(
        matches!(
            error.kind(),
            ErrorKind::ConnectionReset | ErrorKind::BrokenPipe
        ),
        "{error}"
    );
}
