//! In its steady state the server allocates no memory for an echo or a fan-out. Neither does the
//! load generator.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/mod.rs"]
mod support;

use std::alloc::System;
use std::io::Read;
use std::net::SocketAddr;

use client::{Client, request};
use frameloop::lab::load::{End, Interrupt, Mode, Plan, Target, run};
use frameloop::{Settings, app};
use server::TestServer;
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use support::*;

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

fn open(server: &TestServer, path: &str, extensions: &str) -> Client {
    let mut client = Client::connect(server);
    let request = request(path).replace("\r\n\r\n", &format!("\r\n{extensions}\r\n"));
    client.send(request.as_bytes());
    client.receive_head();
    client
}

/// Sends batches from the first client until each client has received `count` messages.
fn exchange(clients: &mut [Client], messages: usize, batch: &[u8], replies: &mut [u8]) {
    for _ in 0..messages / BATCH {
        clients[0].send(batch);
        for client in &mut *clients {
            client.stream.read_exact(replies).unwrap();
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
    let server = TestServer::plainly_serving(app::router(), |server| {
        server.with_workers(1).with_settings(Settings {
            max_publish_rate: Some(u32::MAX), // counted, but never reached
            ..Settings::default()
        })
    });
    let offer = "Sec-WebSocket-Extensions: permessage-deflate\r\n";
    for (path, members, offer, message) in [
        ("/echo", 1, "", message()),
        ("/ws", 1, "", message()),
        ("/broadcast", 4, "", message()),
        ("/echo", 1, offer, compressed_message()),
    ] {
        let batch = message.repeat(BATCH);
        let mut clients: Vec<_> = (0..members).map(|_| open(&server, path, offer)).collect();
        clients[0].send(&message);
        let replies = clients.iter_mut().map(|client| client.receive().1.len());
        let mut replies = vec![0; BATCH * (2 + replies.max().unwrap())]; // short frames
        exchange(&mut clients, 10_000, &batch, &mut replies);
        let before = ALLOCATOR.stats();
        exchange(&mut clients, MESSAGES, &batch, &mut replies);
        let after = ALLOCATOR.stats();
        let allocations =
            after.allocations - before.allocations + after.reallocations - before.reallocations;
        println!("{path}: {allocations} allocations in {MESSAGES} messages");
        // Timers, and the buffers that an idle moment frees, may allocate now and then; a message
        // may not.
        assert!(
            allocations < MESSAGES / 100,
            "{path}: {allocations} allocations"
        );
    }
    for (path, mode) in [
        ("/echo", Mode::Echo),
        ("/broadcast/load", Mode::Broadcast { publishers: 1 }),
    ] {
        let (few, many) = (1_000, 1_000 + MESSAGES as u64);
        let allocations =
            load(server.address, path, mode, many).abs_diff(load(server.address, path, mode, few));
        println!("load of {path}: {allocations} more allocations for {MESSAGES} more messages");
        assert!(
            allocations < MESSAGES as u64 / 100,
            "load of {path}: {allocations} allocations"
        );
    }
}
