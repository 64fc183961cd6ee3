//! What clients can make the server keep: bytes of heap, counted in a process of its own. The
//! clients are in that process, too, but keep next to nothing.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[cfg(feature = "socketio")]
#[path = "memory/socketio.rs"]
mod socketio;
#[path = "support/mod.rs"]
mod support;
#[path = "memory/unsent.rs"]
mod unsent;

use std::alloc::System;
use std::io::{ErrorKind, Write};
use std::net::Shutdown;
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use frameloop::engine::Settings;
use frameloop::{Disconnect, Handler, Message, Peer, Router, WebSocket};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

use client::{Client, PATIENCE, close_frame, frame, reply, request};
use report::{Kind, figure};
use server::TestServer;
use support::*;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Bytes of heap in use.
fn heap() -> usize {
    let stats = ALLOCATOR.stats();
    stats
        .bytes_allocated
        .saturating_sub(stats.bytes_deallocated)
}

/// The count is the process's: one test at a time.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Waits until the server has read what was sent to it before, on whichever worker.
fn settle(server: &TestServer) {
    for _ in 0..4 {
        let mut client = Client::open(server, "/echo");
        client.send_text("read?");
        client.receives_text("read?");
    }
}

/// The least heap of a second's readings: the last to go may still be on their way, and a buffer
/// that is kept to spare is given back by a tick.
fn least_heap(server: &TestServer) -> usize {
    let began = Instant::now();
    let mut least = usize::MAX;
    while began.elapsed() < Duration::from_secs(1) {
        settle(server);
        least = least.min(heap());
    }
    least
}

/// Sends until the server takes no more, or has taken `most`: how many bytes it took.
fn send_until_blocked(client: &Client, bytes: &[u8], most: usize) -> usize {
    let mut stream = &client.stream;
    let patience = Duration::from_millis(300);
    stream.set_write_timeout(Some(patience)).unwrap();
    let mut taken = 0;
    while taken < most {
        match stream.write(&bytes[taken % bytes.len()..]) {
            Ok(more) => taken += more,
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) => panic!("{error} after {taken}"),
        }
    }
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    taken
}

#[test]
fn attack_2_declared_lengths_reserve_nothing() {
    const CLIENTS: usize = 1_000;
    let _alone = alone();
    let server = TestServer::with(|server| server);
    let mut clients: Vec<Client> = (0..CLIENTS)
        .map(|_| Client::open(&server, "/echo"))
        .collect();
    settle(&server);
    let before = heap();
    for client in &mut clients {
        client.send(b"\x82\xFF\0\0\0\0\x01\0\0\0\0\0\0\0");
    }
    settle(&server);
    let grown = heap().saturating_sub(before);
    figure(
        Kind::Attack,
        2,
        "1,000 clients claim 16 MiB each and stop: heap",
        "< 16 MiB",
        format_args!("{} KiB", grown >> 10),
    );
    assert!(grown < 16 << 20, "{grown} bytes");
}

#[test]
fn attack_3_fragments_cost_at_most_twice_the_limit() {
    let _alone = alone();
    let server = TestServer::with(|server| server.with_workers(1));
    let mut client = Client::open(&server, "/echo");
    settle(&server);
    let before = heap();
    let fragment = frame(0x00, &vec![7; 1 << 20]);
    let before_fragment = heap() - before;
    client.send(&frame(0x02, b""));
    for _ in 0..16 {
        client.send(&fragment);
    }
    settle(&server);
    let held = heap() - before - before_fragment;
    client.send(&frame(0x00, b"x"));
    client.closes_with(1009);
    figure(
        Kind::Attack,
        3,
        "fragments of 1 MiB up to the limit of 16 MiB, then 1 byte: heap; Close",
        "<= 32 MiB; 1009",
        format_args!("{:.1} MiB; 1009", held as f64 / f64::from(1 << 20)),
    );
    assert!(held <= 32 << 20, "{held} bytes");
}

/// Large buffers of earlier messages lie ready: small fragments must not be lent them.
#[test]
fn attack_5_tiny_fragments_cost_twice_their_payload() {
    const CLIENTS: usize = 20;
    const FRAGMENTS: usize = 131_000;
    let _alone = alone();
    let server = TestServer::with(|server| server.with_workers(1));
    let large = frame(0x82, &vec![7; 1 << 20]);
    let mut earlier: Vec<Client> = (0..CLIENTS)
        .map(|_| Client::open(&server, "/echo"))
        .collect();
    let (all_but_last, last) = large.split_at(large.len() - 1);
    // All at once, so that each has a buffer of its own.
    let echo_large = |clients: &mut [Client]| {
        for client in &mut *clients {
            client.send(all_but_last);
        }
        settle(&server);
        for client in clients {
            client.send(last);
            client.receives(&reply(0x82, &vec![7; 1 << 20]));
        }
    };
    let empty = heap();
    echo_large(&mut earlier);
    let mut clients: Vec<Client> = (0..CLIENTS)
        .map(|_| Client::open(&server, "/echo"))
        .collect();
    let fragments = frame(0x00, b"a").repeat(FRAGMENTS);
    settle(&server);
    let before = heap();
    for client in &mut clients {
        client.send(&frame(0x01, b"a"));
    }
    settle(&server);
    // What had been lent to them would have to be made anew for these.
    echo_large(&mut earlier);
    let large_buffers = CLIENTS << 20;
    let small = heap().saturating_sub(empty + large_buffers);
    for client in &mut clients {
        client.send(&fragments);
    }
    settle(&server);
    let grown = heap().saturating_sub(before) as f64 / (CLIENTS * FRAGMENTS) as f64;
    figure(
        Kind::Attack,
        5,
        "131,000 fragments of 1 byte, 20 clients: heap per byte of payload, beyond the pool's",
        "<= 2.0",
        format_args!("{grown:.2}"),
    );
    figure(
        Kind::Attack,
        5,
        "1 fragment of 1 byte where large buffers lie ready, 20 clients: heap",
        "< 256 KiB each",
        format_args!("{} bytes each", small / CLIENTS),
    );
    assert!(grown <= 2.0, "{grown} bytes per byte");
    assert!(small < CLIENTS * (256 << 10), "{small} bytes");
}

/// Attachments are waited for within the limit of a message, however many are announced.
#[test]
fn attack_47_attachments_that_never_all_come_are_bounded_together() {
    const CLIENTS: usize = 20;
    const LIMIT: usize = 1_000_000; // maxPayload
    let _alone = alone();
    let server = TestServer::with(|server| server.with_workers(1));
    let mut clients: Vec<Client> = (0..CLIENTS)
        .map(|_| {
            let mut client = Client::open(&server, "/socket.io/?EIO=4&transport=websocket");
            client.send_text("40");
            while !client.receive().1.starts_with(b"40") {}
            client
        })
        .collect();
    settle(&server);
    let before = heap();
    let placeholder = r#"{"_placeholder":true,"num":0}"#;
    for client in &mut clients {
        client.send_text(&format!(r#"4510-["echo",{placeholder}]"#));
        for _ in 0..9 {
            client.send(&frame(0x82, &vec![7; LIMIT / 10]));
        }
    }
    settle(&server);
    let grown = heap().saturating_sub(before);
    // One byte more than the limit.
    for client in &mut clients {
        client.send(&frame(0x82, &vec![7; LIMIT / 10 + 1]));
        let mut rest = Vec::new();
        let _ = std::io::Read::read_to_end(&mut client.stream, &mut rest);
        assert!(
            !rest.windows(4).any(|bytes| bytes == b"echo"),
            "it was taken"
        );
    }
    figure(
        Kind::Attack,
        47,
        "10 attachments announced, 9 of 100,000 bytes sent, 20 sessions: heap of each; with 100,001 more",
        "<= 2 MB; the session ends",
        format_args!("{} KiB; the session ends", grown / CLIENTS / 1_024),
    );
    assert!(grown / CLIENTS <= 2 * LIMIT, "{grown} bytes");
}

/// What waits for clients that read nothing is kept once for all of them.
#[test]
fn broadcasts_that_many_do_not_take_are_kept_once() {
    const CLIENTS: usize = 20;
    const MESSAGES: usize = 100;
    const SIZE: usize = 200_000;
    let _alone = alone();
    let server = TestServer::with(|server| server.with_workers(2));
    let join = |_| {
        let mut client = Client::open(&server, "/socket.io/?EIO=4&transport=websocket");
        client.send_text("40");
        while !client.receive().1.starts_with(b"42") {}
        client
    };
    let _stalled: Vec<Client> = (0..CLIENTS).map(join).collect();
    let mut talker = join(CLIENTS);
    let text = "x".repeat(SIZE);
    let before = heap();
    for _ in 0..MESSAGES {
        talker.send_text(&format!(r#"42["message","{text}"]"#));
        while talker.receive().1.len() < SIZE {}
    }
    let grown = heap().saturating_sub(before);
    figure(
        Kind::Attack,
        48,
        "Socket.IO: 20 of 21 clients read none of 100 broadcasts of 200,000 bytes: heap",
        "<= 60 MB",
        format_args!("{} KiB", grown >> 10),
    );
    assert!(grown <= 3 * MESSAGES * SIZE, "{grown} bytes");
}

#[test]
fn attacks_8_and_31_whoever_reads_nothing_costs_next_to_nothing() {
    let _alone = alone();
    let server = TestServer::with(|server| server.with_workers(1));
    for (row, what, sent, bound) in [
        (
            8,
            "pings without reading",
            frame(0x89, &[b'p'; 125]),
            1 << 20,
        ),
        (
            31,
            "messages of 60,000 bytes without reading",
            frame(0x82, &[7; 60_000]),
            188 << 10,
        ),
    ] {
        let client = Client::open(&server, "/echo");
        settle(&server);
        let before = heap();
        let taken = send_until_blocked(&client, &sent, 256 << 20);
        settle(&server);
        let grown = heap().saturating_sub(before);
        figure(
            Kind::Attack,
            row,
            format_args!("{what}: heap"),
            format_args!("< {} KiB", bound >> 10),
            format_args!(
                "{} KiB, {} MiB taken, sockets' buffers included",
                grown >> 10,
                taken >> 20
            ),
        );
        assert!(grown < bound, "{what}: {grown} bytes");
        assert!(taken < 64 << 20, "{what}: {taken} bytes were taken");
    }
}

#[test]
fn attack_10_pongs_leave_nothing() {
    const PONGS: usize = 200_000;
    let _alone = alone();
    let server = TestServer::with(|server| server.with_workers(1));
    let mut client = Client::open(&server, "/echo");
    let pongs = frame(0x8A, &[b'p'; 125]).repeat(1_000);
    // What the first ones make is made once.
    client.send(&pongs);
    settle(&server);
    let before = heap();
    for _ in 0..PONGS / 1_000 {
        client.send(&pongs);
    }
    client.send_text("read?");
    client.receives_text("read?");
    let grown = heap().saturating_sub(before);
    figure(
        Kind::Attack,
        10,
        "200,000 pongs that nobody asked for: heap",
        "< 4 KiB",
        format_args!("{grown} bytes"),
    );
    assert!(grown < 4 << 10, "{grown} bytes");
}

#[test]
fn attacks_22_and_26_requests_leave_nothing() {
    let _alone = alone();
    let server = TestServer::with(|server| server.with_workers(1));
    settle(&server);
    let before = heap();
    let mut client = Client::connect(&server);
    client.send(
        client::request("/echo")
            .replace("\r\n\r\n", "\r\nContent-Length: 1000000000\r\n\r\n")
            .as_bytes(),
    );
    let head = client.receive_head();
    let grown = heap().saturating_sub(before);
    figure(
        Kind::Attack,
        22,
        "a handshake that announces a body of 1 GB: answer; heap",
        "400; < 64 KiB",
        format_args!("{}; {} KiB", &head[9..12], grown >> 10),
    );
    assert!(head.starts_with("HTTP/1.1 400 "), "{head}");
    assert!(grown < 64 << 10, "{grown} bytes");

    const REQUESTS: usize = 10_000;
    let page = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let sent = page.repeat(100);
    let mut client = Client::connect(&server);
    client.send(page.as_bytes());
    let answer = client.receive_head();
    client.receives(b"ok");
    let writer = client.stream.try_clone().unwrap();
    let before = heap();
    let writer = thread::spawn(move || {
        let mut writer = &writer;
        for _ in 0..REQUESTS / 100 {
            writer.write_all(sent.as_bytes()).unwrap();
        }
        writer
            .write_all(client::request("/echo").as_bytes())
            .unwrap();
    });
    let mut most = 0;
    for _ in 0..REQUESTS {
        let head = client.receive_head();
        assert_eq!(head.lines().next(), answer.lines().next());
        client.receives(b"ok");
        most = most.max(heap().saturating_sub(before));
    }
    assert!(client.receive_head().starts_with("HTTP/1.1 101 "));
    writer.join().unwrap();
    figure(
        Kind::Attack,
        26,
        "10,000 requests before the handshake, answered in order: heap at most",
        "< 128 KiB",
        format_args!("{} KiB", most >> 10),
    );
    assert!(most < 128 << 10, "{most} bytes");
}

#[test]
fn attack_55_rooms_go_with_their_members() {
    const ROOMS: usize = 3_000;
    let _alone = alone();
    let server = TestServer::with(|server| server.with_workers(1));
    let join =
        |number: usize| Client::open(&server, &format!("/broadcast/{number}{}", "x".repeat(240)));
    drop((0..ROOMS).map(join).collect::<Vec<_>>());
    settle(&server);
    thread::park_timeout(Duration::from_millis(100));
    let before = heap();
    let members: Vec<_> = (0..ROOMS).map(join).collect();
    let during = heap().saturating_sub(before);
    drop(members);
    let began = Instant::now();
    while heap().saturating_sub(before) > 64 << 10 && began.elapsed() < PATIENCE {
        thread::park_timeout(Duration::from_millis(5));
    }
    let after = heap().saturating_sub(before);
    figure(
        Kind::Attack,
        55,
        "3,000 rooms with names of 244 bytes, then left: heap during; after",
        "after < 64 KiB",
        format_args!("{} KiB; {} KiB", during >> 10, after >> 10),
    );
    assert!(after < 64 << 10, "{after} bytes");
    let mut client = Client::connect(&server);
    client.send(client::request(&format!("/broadcast/{}", "x".repeat(256))).as_bytes());
    assert!(client.receive_head().starts_with("HTTP/1.1 404 "));
}

/// Messages and commands that a task sends while the worker is busy are bounded, and their memory
/// comes back; what is sent to a server that has stopped is not kept.
#[test]
fn what_tasks_send_is_bounded_however_busy_the_worker() {
    let _alone = alone();
    struct Blocks(Arc<Mutex<mpsc::Receiver<()>>>, Sender<Peer>);
    impl Handler for Blocks {
        fn open(&mut self, socket: &mut WebSocket<'_>) {
            self.1.send(socket.peer()).unwrap();
        }

        fn message(&mut self, _: &mut WebSocket<'_>, message: Message<'_>) {
            if message == Message::Text("block") {
                self.0.lock().unwrap().recv().unwrap();
            }
        }
    }
    let (release, released) = mpsc::channel();
    let released = Arc::new(Mutex::new(released));
    let (sender, peers) = mpsc::channel();
    let sender = Mutex::new(sender);
    let router = Router::new().websocket("/", move |_| {
        Blocks(Arc::clone(&released), sender.lock().unwrap().clone())
    });
    let server = TestServer::serving(router, |server| server.with_workers(1));
    // Dropped before the server, which else waits for its handler when an assertion fails.
    let release = release;
    let mut flooded = Client::open(&server, "/");
    let peer = peers.recv().unwrap();
    let mut blocker = Client::open(&server, "/");
    let other = peers.recv().unwrap();
    blocker.send_text("block");
    let before = heap();
    // 1 GiB, and then as many commands as would take more without it.
    for _ in 0..1_024 {
        peer.send(Message::Binary(&[0; 1 << 20]));
    }
    for _ in 0..1_000_000 {
        peer.send(Message::Text(""));
    }
    let kept = heap().saturating_sub(before) >> 20;
    figure(
        Kind::Attack,
        30,
        "1 GiB and 1,000,000 empty messages sent by a task to a busy worker",
        "< 300 MiB kept",
        format_args!("{kept} MiB"),
    );
    assert!(kept < 300, "{kept} MiB");
    release.send(()).unwrap();
    let last = loop {
        match flooded.receive() {
            (0x88, payload) => break payload,
            (first, payload) => assert_eq!((first, payload.len()), (0x82, 1 << 20)),
        }
    };
    assert_eq!(last, b"\x03\xF0slow consumer");
    other.send(Message::Text("still here"));
    blocker.receives_text("still here");
    // The memory of the burst is given back by and by.
    let began = Instant::now();
    while heap().saturating_sub(before) > 64 << 20 {
        assert!(began.elapsed() < PATIENCE, "{} bytes", heap() - before);
        thread::park_timeout(Duration::from_millis(20));
    }
    server.shutdown.cut();
    server.stopped().unwrap();
    for _ in 0..1_024 {
        other.send(Message::Binary(&[0; 1 << 20]));
    }
    let kept = heap().saturating_sub(before) >> 20;
    assert!(kept < 64, "{kept} MiB are kept for a server that is gone");
}

/// A client that has gone has left nothing behind, however it came and went: what grows by a byte a
/// connection is a leak, which no page of memory shows for hours.
#[test]
fn connections_leave_nothing_behind() {
    const CONNECTIONS: usize = 3_000;
    let _alone = alone();
    let server = TestServer::with(|server| server.with_workers(2));
    let churn = || {
        for number in 0..CONNECTIONS {
            let path = ["/echo", "/broadcast/churn", "/ws/chat/churn/", "/ws/1"][number % 4];
            let mut client = Client::connect(&server);
            match number % 5 {
                0 => client.send(b"GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"),
                1 => client.send(
                    request(path)
                        .replace("Version: 13", "Version: 7")
                        .as_bytes(),
                ),
                2 => client.send(b"GET"),
                _ => {
                    client.send(request(path).as_bytes());
                    client.receive_head();
                    client.send_text("{}");
                }
            }
            // Those that were refused may find nobody any more.
            let _ = match number % 3 {
                0 => client.stream.write_all(&close_frame(1000, b"")),
                1 => client.stream.shutdown(Shutdown::Write),
                _ => Ok(()),
            };
        }
        settle(&server);
    };
    churn();
    let before = least_heap(&server);
    churn();
    let grown = least_heap(&server).saturating_sub(before);
    figure(
        Kind::Soak,
        4,
        "3,000 connections that came and went: heap they left",
        "< 1 byte each",
        format_args!("{grown} bytes"),
    );
    assert!(grown < CONNECTIONS, "{grown} bytes");
}

/// Sizes that pass through every kind of buffer, compared by bytes after some have gone before.
#[test]
fn echoes_leave_nothing_behind() {
    const MESSAGES: usize = 1_000;
    let _alone = alone();
    let server = TestServer::with(|server| server.with_workers(1));
    let mut client = Client::open(&server, "/echo");
    let mut echo = || {
        for number in 0..MESSAGES {
            let payload = vec![b'a' + (number % 26) as u8; number * 7_919 % 200_000];
            client.send(&frame(0x82, &payload));
            client.receives(&reply(0x82, &payload));
        }
        least_heap(&server)
    };
    echo();
    let before = echo();
    let grown = echo().saturating_sub(before);
    figure(
        Kind::Soak,
        2,
        "1,000 echoes of up to 200,000 bytes and more: heap they left",
        "< 1 byte each",
        format_args!("{grown} bytes"),
    );
    assert!(grown < MESSAGES, "{grown} bytes");
}

/// Fault 13: unfinished messages have a budget together. Who comes too late for it is told to come
/// again; the others finish theirs, and what they give back is there for the next.
#[test]
fn unfinished_messages_keep_to_their_budget_together() {
    const BUDGET: usize = 4 << 20;
    let _alone = alone();
    let server = TestServer::with(|server| {
        server.with_workers(2).with_settings(Settings {
            max_unfinished_size: BUDGET,
            ..Settings::default()
        })
    });
    settle(&server);
    let before = heap();
    let message = frame(0x82, &[7; 300_000]);
    let (begun, rest) = message.split_at(message.len() - 1);
    let mut holders: Vec<Client> = (0..=BUDGET / 300_000)
        .map(|_| Client::open(&server, "/echo"))
        .collect();
    for client in &mut holders {
        client.send(begun);
        let patience = Some(Duration::from_millis(10));
        client.stream.set_read_timeout(patience).unwrap();
    }
    let deadline = Instant::now() + PATIENCE;
    let refused = loop {
        assert!(Instant::now() < deadline, "nobody was refused");
        let is_refused = |client: &Client| client.stream.peek(&mut [0]).is_ok();
        if let Some(position) = holders.iter().position(is_refused) {
            break holders.swap_remove(position);
        }
    };
    for client in holders.iter().chain([&refused]) {
        client.stream.set_read_timeout(Some(PATIENCE)).unwrap();
    }
    let held = heap().saturating_sub(before);
    figure(
        Kind::Fault,
        13,
        "clients that begin messages and stop: heap of all of them together",
        "<= 4 MiB and what a connection is; 1013 to clients that come too late",
        format_args!("{} KiB, {} begun; 1013", held >> 10, holders.len()),
    );
    assert!(held <= BUDGET + (256 << 10), "{held} bytes");
    { refused }.closes_with(1013);
    for client in &mut holders {
        client.send(rest);
        client.receives(&reply(0x82, &[7; 300_000]));
    }
    let mut next = Client::open(&server, "/echo");
    next.send(&message);
    next.receives(&reply(0x82, &[7; 300_000]));
}

/// Attack 13: what inflates to the limit and a byte more, in one frame and in 1,000 fragments,
/// from a hundred clients at once. Each is held one byte of input before it is refused.
#[test]
fn attack_13_bombs_cost_their_limit_and_little_more() {
    const CLIENTS: usize = 100;
    const LIMIT: usize = 4 << 20;
    let _alone = alone();
    let server = TestServer::with(|server| {
        server.with_workers(2).with_settings(Settings {
            limits: frameloop::protocol::SizeLimits {
                max_message_size: LIMIT,
                max_frame_size: LIMIT,
            },
            max_unfinished_size: usize::MAX,
            ..Settings::default()
        })
    });
    let mut codec = flate2::Compress::new(flate2::Compression::best(), false);
    let mut bomb = Vec::with_capacity(64 << 10);
    let text = vec![b'x'; LIMIT + 1];
    codec
        .compress_vec(&text, &mut bomb, flate2::FlushCompress::Sync)
        .unwrap();
    drop(text);
    let size = bomb.len() / 1_000; // 1,000 fragments or some more
    let mut fragments: Vec<Vec<u8>> = bomb.chunks(size).map(|piece| frame(0x00, piece)).collect();
    fragments[0][0] = 0x42;
    fragments.last_mut().unwrap()[0] = 0x80;
    for (what, bytes) in [
        ("in one frame", frame(0xC2, &bomb)),
        ("in 1,000 fragments", fragments.concat()),
    ] {
        // The last bytes of a flush are those of an empty block: all text has come before them.
        let (held, rest) = bytes.split_at(bytes.len() - 12);
        let mut clients: Vec<Client> = (0..CLIENTS).map(|_| open_compressing(&server)).collect();
        settle(&server);
        let before = (heap(), resident());
        for client in &mut clients {
            client.send(held);
        }
        // They are inflated turn by turn.
        let began = Instant::now();
        while heap().saturating_sub(before.0) < CLIENTS * LIMIT / 20 * 19
            && began.elapsed() < PATIENCE
        {
            settle(&server);
        }
        let grown = (heap() - before.0, resident().saturating_sub(before.1));
        for client in &mut clients {
            client.send(rest);
            client.closes_with(1009);
        }
        let share = |bytes: usize| bytes as f64 / (CLIENTS * LIMIT) as f64;
        figure(
            Kind::Attack,
            13,
            format_args!(
                "100 bombs of {} bytes at once, {what}: heap and resident memory, of limit x connections; Close",
                bytes.len()
            ),
            "<= 1.1; 1009",
            format_args!("{:.3}, {:.3}; 1009", share(grown.0), share(grown.1)),
        );
        assert!(
            share(grown.0) >= 0.5,
            "nothing was held: {}",
            share(grown.0)
        );
        assert!(share(grown.0) <= 1.1 && share(grown.1) <= 1.1, "{grown:?}");
    }
}

/// A WebSocket whose messages may be compressed.
#[test]
fn attack_14_a_window_is_as_large_as_what_was_inflated() {
    use flate2::{Compress, Compression, FlushCompress};

    const CONNECTIONS: usize = 500;
    let _alone = alone();
    let server = TestServer::with(|server| server.with_workers(1));
    let compressed = |text: &[u8]| {
        let mut bytes = Vec::with_capacity(text.len() + 1_024);
        Compress::new(Compression::fast(), false)
            .compress_vec(text, &mut bytes, FlushCompress::Sync)
            .unwrap();
        bytes.truncate(bytes.len() - 4);
        frame(0xC2, &bytes)
    };
    let mut random = fastrand::Rng::with_seed(14);
    let mut text = |length: usize| -> Vec<u8> {
        std::iter::repeat_with(|| random.u8(..))
            .take(length)
            .collect()
    };
    let echo = |client: &mut Client, text: &[u8]| {
        client.send(&compressed(text));
        assert!(client.receive().1 == text, "noise comes back as it is");
    };
    let mut warm = open_compressing(&server);
    echo(&mut warm, &text(64 << 10));
    let mut cost = |open: &dyn Fn() -> Client, sent: Option<usize>| {
        let before = least_heap(&server);
        let clients: Vec<Client> = (0..CONNECTIONS)
            .map(|_| {
                let mut client = open();
                if let Some(length) = sent {
                    echo(&mut client, &text(length));
                }
                client
            })
            .collect();
        let cost = least_heap(&server).saturating_sub(before) / CONNECTIONS;
        drop(clients);
        settle(&server);
        cost
    };
    let plain = cost(&|| Client::open(&server, "/echo"), None);
    for (sent, bound) in [
        (None, 300),
        (Some(10), 300 + 512),
        (Some(1 << 10), 2 << 10),
        (Some(40_000), (32 << 10) + 512),
    ] {
        let more = cost(&|| open_compressing(&server), sent).saturating_sub(plain);
        let sent = sent.unwrap_or_default();
        assert!(more <= bound, "{more} bytes after {sent}");
        figure(
            Kind::Attack,
            14,
            format_args!(
                "a connection that may compress, after {sent} bytes inflated, beyond a plain one"
            ),
            format_args!("<= {bound} bytes"),
            format_args!("{more} bytes"),
        );
    }
}

fn open_compressing(server: &TestServer) -> Client {
    open_compressing_at(server, "/echo")
}

fn open_compressing_at(server: &TestServer, path: &str) -> Client {
    let mut client = Client::connect(server);
    let offer = "Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n";
    client.send(
        request(path)
            .replacen("\r\n\r\n", &format!("\r\n{offer}"), 1)
            .as_bytes(),
    );
    let head = client.receive_head();
    assert!(head.contains("permessage-deflate"), "{head}");
    client
}

/// Bytes of memory that the process has, where the system tells (proc(5)).
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse().ok());
    kib.map_or(0, |kib: usize| kib << 10)
}

/// A session of Socket.IO that has joined a namespace by polling: its target.
fn joined_by_polling(server: &TestServer) -> String {
    const TARGET: &str = "/socket.io/?EIO=4&transport=polling";
    let open = ask(server, "GET", TARGET, "");
    let sid = open.split("\"sid\":\"").nth(1).unwrap();
    let target = format!("{TARGET}&sid={}", sid.split('"').next().unwrap());
    ask(server, "POST", &target, "40");
    assert!(ask(server, "GET", &target, "").contains("40{"));
    target
}

/// A whole response.
fn ask(server: &TestServer, method: &str, target: &str, body: &str) -> String {
    use std::io::Read;
    let mut client = Client::connect(server);
    let length = body.len();
    let request = format!(
        "{method} {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
         Content-Length: {length}\r\n\r\n{body}"
    );
    client.send(request.as_bytes());
    let mut response = String::new();
    client.stream.read_to_string(&mut response).unwrap();
    assert!(response.starts_with("HTTP/1.1 200 "), "{response}");
    response
}

/// No Ping ends these sessions within the test: an upgrade that fails must.
#[test]
fn attack_48_failed_upgrades_and_abandoned_polls_leave_nothing_behind() {
    use frameloop::socketio;
    const SESSIONS: usize = 100;
    let _alone = alone();
    let hour = Duration::from_secs(3_600);
    let second = Duration::from_secs(1);
    for (what, ping_timeout) in [
        ("upgrades that fail before their probe", hour),
        ("upgrades that fail after their probe", hour),
        ("polls that nobody waits for", second),
    ] {
        let (service, io) = socketio::service(socketio::SocketIoSettings {
            ping_interval: ping_timeout,
            ping_timeout,
            connect_timeout: second,
            ..Default::default()
        });
        io.namespace("/");
        let router = Router::new().mount("/socket.io/", Arc::clone(&service) as Arc<_>);
        let server = TestServer::serving(router, |server| server.with_workers(1));
        let attack = |sessions| {
            for _ in 0..sessions {
                let target = joined_by_polling(&server);
                if ping_timeout == hour {
                    let target = target.replace("polling", "websocket");
                    let mut client = Client::open(&server, &target);
                    if what.contains("after") {
                        client.send_text("2probe");
                        client.receives_text("3probe");
                    }
                } else {
                    let poll = format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n");
                    Client::connect(&server).send(poll.as_bytes());
                }
            }
            let deadline = Instant::now() + PATIENCE;
            while service.sessions() > 0 && Instant::now() < deadline {
                thread::sleep(Duration::from_millis(10));
            }
        };
        // What the first of them makes stays for all.
        attack(SESSIONS);
        let before = heap();
        attack(SESSIONS);
        let left = (service.sessions(), heap().saturating_sub(before));
        figure(
            Kind::Attack,
            48,
            format_args!("{SESSIONS} sessions of Socket.IO, {what}: sessions and heap left"),
            "0, < 64 KiB",
            format_args!("{}, {} KiB", left.0, left.1 >> 10),
        );
        assert!(left.0 == 0 && left.1 < 64 << 10, "{what}: {left:?}");
    }
}
