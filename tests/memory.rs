//! How much heap clients can make the server use, measured in a process of its own. The clients run
//! in that process, too, but use next to none.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "memory/http_bodies.rs"]
mod http_bodies;
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

/// The bytes of heap in use.
fn heap() -> usize {
    let stats = ALLOCATOR.stats();
    stats
        .bytes_allocated
        .saturating_sub(stats.bytes_deallocated)
}

/// The count covers the process, so only one test runs at a time.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Waits until all workers have read everything that was sent before.
fn settle(server: &TestServer) {
    for _ in 0..4 {
        let mut client = Client::open(server, "/echo");
        client.send_text("read?");
        client.receives_text("read?");
    }
}

/// The smallest heap within a second. Connections may still be closing, and a worker returns spare
/// buffers once per tick.
fn least_heap(server: &TestServer) -> usize {
    let began = Instant::now();
    let mut least = usize::MAX;
    while began.elapsed() < Duration::from_secs(1) {
        settle(server);
        least = least.min(heap());
    }
    least
}

/// Sends until the server stops reading, or until `most` bytes are sent. Returns the number of
/// bytes sent.
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
        "1,000 clients declare 16 MiB each and stop: heap",
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
        "fragments of 1 MiB up to the limit of 16 MiB, then one byte: heap; Close",
        "<= 32 MiB; 1009",
        format_args!("{:.1} MiB; 1009", held as f64 / f64::from(1 << 20)),
    );
    assert!(held <= 32 << 20, "{held} bytes");
}

/// Large buffers of earlier messages are free: small fragments must not occupy them.
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
    // All messages are incomplete at once, so each has its own buffer.
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
    // If fragments occupied the large buffers, these messages would need new ones.
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
        "131,000 one-byte fragments, 20 clients: heap per payload byte, without the buffer pool",
        "<= 2.0",
        format_args!("{grown:.2}"),
    );
    figure(
        Kind::Attack,
        5,
        "1 one-byte fragment while large buffers are free, 20 clients: heap",
        "< 256 KiB each",
        format_args!("{} bytes each", small / CLIENTS),
    );
    assert!(grown <= 2.0, "{grown} bytes per byte");
    assert!(small < CLIENTS * (256 << 10), "{small} bytes");
}

/// Attachments count towards the message limit, however many are announced.
#[test]
fn attack_47_unfinished_attachments_are_limited_by_the_message_limit() {
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
    // One byte over the limit.
    for client in &mut clients {
        client.send(&frame(0x82, &vec![7; LIMIT / 10 + 1]));
        let mut rest = Vec::new();
        let _ = std::io::Read::read_to_end(&mut client.stream, &mut rest);
        assert!(
            !rest.windows(4).any(|bytes| bytes == b"echo"),
            "the packet was accepted"
        );
    }
    figure(
        Kind::Attack,
        47,
        "10 attachments announced, 9 of 100,000 bytes sent, 20 sessions: heap of each; after one of 100,001 bytes",
        "<= 2 MB; the session ends",
        format_args!("{} KiB; the session ends", grown / CLIENTS / 1_024),
    );
    assert!(grown / CLIENTS <= 2 * LIMIT, "{grown} bytes");
}

/// A message that waits for many clients is stored once.
#[test]
fn a_broadcast_that_waits_for_many_clients_is_stored_once() {
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
        "Socket.IO: 100 broadcasts of 200,000 bytes, 20 of 21 clients read nothing: heap",
        "<= 60 MB",
        format_args!("{} KiB", grown >> 10),
    );
    assert!(grown <= 3 * MESSAGES * SIZE, "{grown} bytes");
}

#[test]
fn attacks_8_and_31_a_client_that_reads_nothing_costs_little_memory() {
    let _alone = alone();
    let server = TestServer::with(|server| server.with_workers(1));
    for (row, what, sent, bound) in [
        (
            8,
            "Pings from a client that does not read",
            frame(0x89, &[b'p'; 125]),
            1 << 20,
        ),
        (
            31,
            "messages of 60,000 bytes from a client that does not read",
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
                "{} KiB, {} MiB sent, socket buffers included",
                grown >> 10,
                taken >> 20
            ),
        );
        assert!(grown < bound, "{what}: {grown} bytes");
        assert!(taken < 64 << 20, "{what}: {taken} bytes were sent");
    }
}

#[test]
fn attack_10_pongs_leave_no_memory_behind() {
    const PONGS: usize = 200_000;
    let _alone = alone();
    let server = TestServer::with(|server| server.with_workers(1));
    let mut client = Client::open(&server, "/echo");
    let pongs = frame(0x8A, &[b'p'; 125]).repeat(1_000);
    // The first messages allocate what later ones reuse.
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
        "200,000 unsolicited Pongs: heap",
        "< 4 KiB",
        format_args!("{grown} bytes"),
    );
    assert!(grown < 4 << 10, "{grown} bytes");
}

#[test]
fn attacks_22_and_26_requests_leave_no_memory_behind() {
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
        "10,000 requests before the handshake, answered in order: most heap",
        "< 128 KiB",
        format_args!("{} KiB", most >> 10),
    );
    assert!(most < 128 << 10, "{most} bytes");
}

#[test]
fn attack_55_empty_rooms_are_freed() {
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
        "3,000 rooms with names of 244 bytes, joined and left: heap during; after",
        "after < 64 KiB",
        format_args!("{} KiB; {} KiB", during >> 10, after >> 10),
    );
    assert!(after < 64 << 10, "{after} bytes");
    let mut client = Client::connect(&server);
    client.send(client::request(&format!("/broadcast/{}", "x".repeat(256))).as_bytes());
    assert!(client.receive_head().starts_with("HTTP/1.1 404 "));
}

/// Messages and commands from a task to a busy worker are limited in number, and their memory is
/// freed. Messages to a stopped server are not stored.
#[test]
fn messages_from_a_task_to_a_busy_worker_are_limited() {
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
    // Dropped before the server: if an assertion fails, the server waits for its handler.
    let release = release;
    let mut flooded = Client::open(&server, "/");
    let peer = peers.recv().unwrap();
    let mut blocker = Client::open(&server, "/");
    let other = peers.recv().unwrap();
    blocker.send_text("block");
    let before = heap();
    // 1 GiB of messages, and then a million empty ones, which cost memory, too.
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
        "1 GiB and 1,000,000 empty messages from a task to a busy worker",
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
    // The memory of the burst is freed gradually.
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
    assert!(kept < 64, "{kept} MiB are kept for a stopped server");
}

/// Connections leave no heap behind, however they start and end. One byte per connection is a leak
/// that resident memory would not show for hours.
#[test]
fn connections_leave_no_memory_behind() {
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
            // The server may have closed refused connections already.
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
        "3,000 connections, opened and closed in all ways: heap left",
        "< 1 byte each",
        format_args!("{grown} bytes"),
    );
    assert!(grown < CONNECTIONS, "{grown} bytes");
}

/// Messages of all buffer sizes, after a first round.
#[test]
fn echoes_leave_no_memory_behind() {
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
        "1,000 echoes of up to 200,000 bytes and more: heap left",
        "< 1 byte each",
        format_args!("{grown} bytes"),
    );
    assert!(grown < MESSAGES, "{grown} bytes");
}

/// Fault 13: unfinished messages share a budget. A client that exceeds it is closed with 1013. The
/// others finish their messages, and then their share is free again.
#[test]
fn unfinished_messages_share_a_budget() {
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
        assert!(Instant::now() < deadline, "no client was refused");
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
        "clients that begin messages and stop: heap of all of them",
        "<= 4 MiB and the connections themselves; 1013 for clients over the budget",
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

/// Attack 13: a hundred clients at once send input that inflates to one byte over the limit, in one
/// frame and in 1,000 fragments. The measurement is before the last bytes.
#[test]
fn attack_13_decompression_bombs_cost_little_more_than_the_limit() {
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
    let size = bomb.len() / 1_000; // gives 1,000 fragments or a few more
    let mut fragments: Vec<Vec<u8>> = bomb.chunks(size).map(|piece| frame(0x00, piece)).collect();
    fragments[0][0] = 0x42;
    fragments.last_mut().unwrap()[0] = 0x80;
    for (what, bytes) in [
        ("in one frame", frame(0xC2, &bomb)),
        ("in 1,000 fragments", fragments.concat()),
    ] {
        // A flush ends with an empty block, so the text is complete before these bytes.
        let (held, rest) = bytes.split_at(bytes.len() - 12);
        let mut clients: Vec<Client> = (0..CLIENTS).map(|_| open_compressing(&server)).collect();
        settle(&server);
        let before = (heap(), resident());
        for client in &mut clients {
            client.send(held);
        }
        // The messages are inflated in turns.
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
                "100 bombs of {} bytes at once, {what}: heap and resident memory as a share of limit x connections; Close",
                bytes.len()
            ),
            "<= 1.1; 1009",
            format_args!("{:.3}, {:.3}; 1009", share(grown.0), share(grown.1)),
        );
        assert!(
            share(grown.0) >= 0.5,
            "the messages were not inflated: {}",
            share(grown.0)
        );
        assert!(share(grown.0) <= 1.1 && share(grown.1) <= 1.1, "{grown:?}");
    }
}

/// A WebSocket that has negotiated compression.
#[test]
fn attack_14_an_inflation_window_grows_with_the_inflated_bytes() {
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
        assert!(
            client.receive().1 == text,
            "incompressible data was not echoed unchanged"
        );
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
                "a connection with compression, after {sent} inflated bytes: heap beyond a plain one"
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

/// The resident memory of the process in bytes, from proc(5).
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse().ok());
    kib.map_or(0, |kib: usize| kib << 10)
}

/// Opens a polling session that has joined a namespace. Returns its target.
fn joined_by_polling(server: &TestServer) -> String {
    const TARGET: &str = "/socket.io/?EIO=4&transport=polling";
    let open = ask(server, "GET", TARGET, "");
    let sid = open.split("\"sid\":\"").nth(1).unwrap();
    let target = format!("{TARGET}&sid={}", sid.split('"').next().unwrap());
    ask(server, "POST", &target, "40");
    assert!(ask(server, "GET", &target, "").contains("40{"));
    target
}

/// Reads a whole response.
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

/// A session whose upgrade fails goes on by polling, and ends at its ping timeout like an abandoned one.
#[test]
fn attack_48_failed_upgrades_and_abandoned_polls_leave_no_memory_behind() {
    use frameloop::socketio;
    const SESSIONS: usize = 100;
    let _alone = alone();
    let second = Duration::from_secs(1);
    for what in [
        "upgrades that fail before their probe",
        "upgrades that fail after their probe",
        "polls abandoned by their clients",
    ] {
        let (service, io) = socketio::service(socketio::SocketIoSettings {
            ping_interval: second,
            ping_timeout: second,
            connect_timeout: second,
            ..Default::default()
        });
        io.namespace("/");
        let router = Router::new().mount("/socket.io/", Arc::clone(&service) as Arc<_>);
        let server = TestServer::serving(router, |server| server.with_workers(1));
        let attack = |sessions| {
            for _ in 0..sessions {
                let target = joined_by_polling(&server);
                if what.starts_with("upgrades") {
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
        // The first attack allocates what stays for all.
        attack(SESSIONS);
        let before = heap();
        attack(SESSIONS);
        let left = (service.sessions(), heap().saturating_sub(before));
        figure(
            Kind::Attack,
            48,
            format_args!("{SESSIONS} Socket.IO sessions, {what}: sessions and heap left"),
            "0, < 64 KiB",
            format_args!("{}, {} KiB", left.0, left.1 >> 10),
        );
        assert!(left.0 == 0 && left.1 < 64 << 10, "{what}: {left:?}");
    }
}
