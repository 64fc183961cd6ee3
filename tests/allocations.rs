//! In its steady state the server allocates no memory for an echo or a fan-out. Neither does the
//! load generator.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::alloc::System;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use frameloop::lab::load::{End, Interrupt, Mode, Plan, Target, run};
use frameloop::server::{ListenAddress, Server, Shutdown};
use frameloop::{Settings, app};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Messages that are measured.
const MESSAGES: usize = 100_000;
/// Messages per write.
const BATCH: usize = 16;

/// A text message of 100 bytes from a client, with masking key 0.
fn message() -> Vec<u8> {
    [&[0x81, 0x80 | 100, 0, 0, 0, 0][..], &[b'x'; 100]].concat()
}

fn serve() -> (SocketAddr, Shutdown) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let server = runtime.block_on(Server::bind("127.0.0.1:0")).unwrap();
    let server = server.with_workers(1).with_settings(Settings {
        max_publish_rate: Some(u32::MAX), // counted, but never reached
        ..Settings::default()
    });
    let ListenAddress::Tcp(address) = server.local_addresses().unwrap()[0] else {
        unreachable!()
    };
    let shutdown = server.shutdown();
    std::thread::spawn(move || runtime.block_on(server.serve(app::router())));
    (address, shutdown)
}

fn open(address: SocketAddr, path: &str, extensions: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    stream
        .write_all(
            format!(
                "GET {path} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n\
                 Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
                 Sec-WebSocket-Version: 13\r\n{extensions}\r\n"
            )
            .as_bytes(),
        )
        .unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    stream
}

/// The length of the first frame, which is short.
fn first_frame(stream: &mut TcpStream) -> usize {
    let mut header = [0; 2];
    stream.read_exact(&mut header).unwrap();
    let mut payload = vec![0; header[1].into()];
    stream.read_exact(&mut payload).unwrap();
    2 + payload.len()
}

/// Sends batches from the first client until each client has received `count` messages.
fn exchange(clients: &mut [TcpStream], messages: usize, batch: &[u8], replies: &mut [u8]) {
    for _ in 0..messages / BATCH {
        clients[0].write_all(batch).unwrap();
        for client in &mut *clients {
            client.read_exact(replies).unwrap();
        }
    }
}

/// 1,024 times "x", compressed: a text message from a client, with masking key 0.
fn compressed_message() -> Vec<u8> {
    let payload = b"\xAA\xA8\x18\x05\xA3\x60\x14\x8C\x54\x00\x00";
    [&[0xC1, 0x80 | 11, 0, 0, 0, 0][..], payload].concat()
}

/// The allocations of a run of the load generator, its server's included.
fn load(address: SocketAddr, path: &str, mode: Mode, messages: u64) -> u64 {
    let before = ALLOCATOR.stats();
    let mut plan = Plan::new(Target::parse(&format!("ws://{address}{path}")).unwrap());
    (plan.mode, plan.end) = (mode, End::Messages(messages));
    (plan.connections, plan.depth) = (4, BATCH);
    let outcome = run(&plan, &Interrupt::default(), |_| {}).unwrap();
    assert_eq!(
        (outcome.counts.sent, outcome.counts.errors()),
        (messages, 0)
    );
    let after = ALLOCATOR.stats();
    (after.allocations - before.allocations + after.reallocations - before.reallocations) as u64
}

/// One test, because the count covers the whole process.
#[test]
fn echo_and_fan_out_allocate_nothing_per_message() {
    let (address, shutdown) = serve();
    let offer = "Sec-WebSocket-Extensions: permessage-deflate\r\n";
    for (path, members, offer, message) in [
        ("/echo", 1, "", message()),
        ("/broadcast", 4, "", message()),
        ("/echo", 1, offer, compressed_message()),
    ] {
        let batch = message.repeat(BATCH);
        let mut clients: Vec<_> = (0..members).map(|_| open(address, path, offer)).collect();
        clients[0].write_all(&message).unwrap();
        let reply = clients
            .iter_mut()
            .map(first_frame)
            .max()
            .unwrap_or_default();
        let mut replies = vec![0; BATCH * reply];
        exchange(&mut clients, 10_000, &batch, &mut replies);
        let before = ALLOCATOR.stats();
        exchange(&mut clients, MESSAGES, &batch, &mut replies);
        let after = ALLOCATOR.stats();
        let allocations =
            after.allocations - before.allocations + after.reallocations - before.reallocations;
        println!("{path}: {allocations} allocations in {MESSAGES} messages");
        // The runtime's timers may allocate now and then; a message may not.
        assert!(allocations < 100, "{path}: {allocations} allocations");
    }
    for (path, mode) in [
        ("/echo", Mode::Echo),
        ("/broadcast/load", Mode::Broadcast { publishers: 1 }),
    ] {
        let (few, many) = (1_000, 1_000 + MESSAGES as u64);
        let allocations = load(address, path, mode, many).abs_diff(load(address, path, mode, few));
        println!("load of {path}: {allocations} more allocations for {MESSAGES} more messages");
        assert!(
            allocations < 100,
            "load of {path}: {allocations} allocations"
        );
    }
    shutdown.cut();
}
