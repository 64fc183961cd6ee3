//! In its steady state the server allocates nothing: not for an echo, not for a fan-out.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::alloc::System;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use frameloop::app;
use frameloop::server::{ListenAddress, Server, Shutdown};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Messages that are counted.
const MESSAGES: usize = 100_000;
/// Messages that go together in one write.
const BATCH: usize = 16;

/// A text message of 100 octets from a client, with masking key 0.
fn message() -> Vec<u8> {
    [&[0x81, 0x80 | 100, 0, 0, 0, 0][..], &[b'x'; 100]].concat()
}

fn serve() -> (SocketAddr, Shutdown) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let server = runtime.block_on(Server::bind("127.0.0.1:0")).unwrap();
    let server = server.with_workers(1);
    let ListenAddress::Tcp(address) = server.local_addresses().unwrap()[0] else {
        unreachable!()
    };
    let shutdown = server.shutdown();
    std::thread::spawn(move || runtime.block_on(server.serve(app::router())));
    (address, shutdown)
}

fn open(address: SocketAddr, path: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    stream
        .write_all(
            format!(
                "GET {path} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n\
                 Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
                 Sec-WebSocket-Version: 13\r\n\r\n"
            )
            .as_bytes(),
        )
        .unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut octet = [0];
        stream.read_exact(&mut octet).unwrap();
        head.push(octet[0]);
    }
    stream
}

/// Sends batches from the first client until each of them has received so many messages.
fn exchange(clients: &mut [TcpStream], messages: usize, batch: &[u8], replies: &mut [u8]) {
    for _ in 0..messages / BATCH {
        clients[0].write_all(batch).unwrap();
        for client in &mut *clients {
            client.read_exact(replies).unwrap();
        }
    }
}

/// One test, because the count is the process's.
#[test]
fn echo_and_fan_out_allocate_nothing_per_message() {
    let (address, shutdown) = serve();
    let batch = message().repeat(BATCH);
    let mut replies = vec![0; BATCH * 102];
    for (path, members) in [("/echo", 1), ("/broadcast", 4)] {
        let mut clients: Vec<_> = (0..members).map(|_| open(address, path)).collect();
        exchange(&mut clients, 10_000, &batch, &mut replies);
        let before = ALLOCATOR.stats();
        exchange(&mut clients, MESSAGES, &batch, &mut replies);
        let after = ALLOCATOR.stats();
        let allocations =
            after.allocations - before.allocations + after.reallocations - before.reallocations;
        println!("{path}: {allocations} allocations in {MESSAGES} messages");
        // The runtime's own timers may allocate now and then; a message may not.
        assert!(allocations < 100, "{path}: {allocations} allocations");
    }
    shutdown.cut();
}
