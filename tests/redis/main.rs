//! Rooms across several processes over a real Redis: messages to members, bytes on the wire, and
//! faults of Redis. Without `redis-server` each test prints that it is skipped, and counts as such.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

#[path = "../support/mod.rs"]
mod support;

mod django;
mod faults;
mod nodes;
mod server;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use tungstenite::{Message, WebSocket};

use client::{LONG_PATIENCE, open, receive_head};
use process::{ServerProcess, succeeds};
use report::{Kind, skip};
use server::RedisServer;
use support::*;

/// Whether Redis is installed. If not, the test that calls this is skipped.
fn has_redis() -> bool {
    let has = succeeds("redis-server", &["--version"]);
    if !has {
        let test = thread::current();
        let what = test.name().unwrap_or("a test");
        skip(Kind::Fault, 17, what, "redis-server is not installed");
    }
    has
}

/// `tests/run` counts skip lines: a test that passes because Redis is missing has tested nothing.
#[test]
fn without_redis_server_every_test_counts_as_skipped() {
    let run = Command::new(std::env::current_exe().unwrap())
        .args(["django::", "faults::", "nodes::", "--show-output"])
        .env("PATH", "/nowhere")
        .output()
        .unwrap();
    let told = String::from_utf8(run.stdout).unwrap();
    let result = told
        .lines()
        .find(|line| line.starts_with("test result: ok. "));
    let passed = result.and_then(|result| result.split(' ').nth(3));
    let passed: usize = passed.unwrap().parse().unwrap();
    let skips = told.lines().filter(|line| {
        line.starts_with("reliability: ") && line.contains(" | skipped: redis-server")
    });
    assert_eq!(skips.count(), passed, "{told}");
    assert!(passed > 10, "{told}");
}

/// A frameloop process with rooms on this Redis.
fn node(redis: &RedisServer, layer: &str) -> ServerProcess {
    ServerProcess::start(&["--channel-layer", layer, "--redis-url", &redis.url()])
}

type Socket = WebSocket<TcpStream>;

fn client(node: &ServerProcess, path: &str) -> Socket {
    open(node.address, path).unwrap()
}

fn send(socket: &mut Socket, text: &str) {
    socket.send(Message::text(text)).unwrap();
}

#[track_caller]
fn receives(socket: &mut Socket, text: &str) {
    assert_eq!(next(socket), Message::text(text));
}

/// The next data message.
#[track_caller]
fn next(socket: &mut Socket) -> Message {
    loop {
        let message = socket.read().unwrap();
        if message.is_text() || message.is_binary() {
            return message;
        }
    }
}

/// Sends `text` again and again until the other client receives it, because messages are lost until
/// the connection is up. Returns the time that this took.
#[track_caller]
fn reaches(from: &mut Socket, to: &mut Socket, text: &str) -> Duration {
    let began = Instant::now();
    to.get_mut()
        .set_read_timeout(Some(Duration::from_millis(100)))
        .unwrap();
    loop {
        send(from, text);
        match to.read() {
            Ok(message) if message == Message::text(text) => break,
            Ok(_) => {}
            Err(tungstenite::Error::Io(error))
                if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(error) => panic!("{error}"),
        }
        assert!(began.elapsed() < LONG_PATIENCE, "no message arrives");
    }
    to.get_mut().set_read_timeout(Some(LONG_PATIENCE)).unwrap();
    began.elapsed()
}

/// The value of a metric.
#[track_caller]
fn metric(address: SocketAddr, name: &str) -> u64 {
    let mut stream = TcpStream::connect(address).unwrap();
    stream
        .write_all(b"GET /metrics HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        .unwrap();
    receive_head(&mut stream).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let value = line.unwrap_or_else(|| panic!("no {name} in {text}"));
    value.trim().parse().unwrap()
}

/// Waits until a metric has at least this value.
#[track_caller]
fn metric_reaches(address: SocketAddr, name: &str, expected: u64) {
    let deadline = Instant::now() + LONG_PATIENCE;
    while metric(address, name) < expected {
        assert!(Instant::now() < deadline, "{name} stays below {expected}");
        thread::sleep(Duration::from_millis(10));
    }
}

const GAPS: &str = "frameloop_gap_events_total ";
const DISCARDED: &str = "frameloop_discarded_total ";
