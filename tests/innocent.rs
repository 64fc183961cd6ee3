//! An innocent echo client beside each attack that loads the server: the times of its echoes, and
//! those of an idle TCP echo on the server's core for comparison. The server has one core; all
//! clients share the other, where the attackers have a lower priority. The times fill a column of
//! `tests/RELIABILITY.md`; the test itself requires only that the innocent client is served.

#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

#[allow(dead_code, reason = "the tests of Redis need the rest")]
#[path = "redis/server.rs"]
mod redis_server;
#[path = "support/mod.rs"]
mod support;

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use flate2::{Compress, Compression, FlushCompress};
use rustix::process::setpriority_process;
use rustix::thread::{CpuSet, sched_setaffinity};

use client::{Client, LONG_PATIENCE, connect, frame, receive_head, request};
use process::{ServerProcess, command_under, succeeds};
use redis_server::RedisServer;
use report::{Kind, innocent, skip};
use support::*;

const SERVERS_CORE: usize = 0;
const CLIENTS_CORE: usize = 1;

struct Attack {
    row: u32,
    what: &'static str,
    arguments: &'static [&'static str],
    threads: usize,
    /// One round of a thread, repeated until the time is over.
    round: fn(SocketAddr, &AtomicBool) -> io::Result<()>,
}

const ATTACKS: &[Attack] = &[
    Attack {
        row: 5,
        what: "4 clients send one-byte fragments",
        arguments: &[],
        threads: 4,
        round: |address, is_over| {
            flood_socket(
                address,
                "/echo",
                &frame(0x01, b"a"),
                &frame(0, b"a"),
                is_over,
            )
        },
    },
    Attack {
        row: 8,
        what: "4 clients send Pings",
        arguments: &[],
        threads: 4,
        round: |address, is_over| flood_socket(address, "/echo", b"", &frame(0x89, b""), is_over),
    },
    Attack {
        row: 10,
        what: "4 clients send Pongs of 125 bytes",
        arguments: &[],
        threads: 4,
        round: |address, is_over| {
            flood_socket(address, "/echo", b"", &frame(0x8A, &[0; 125]), is_over)
        },
    },
    Attack {
        row: 17,
        what: "4 clients send heads of 64 KiB",
        arguments: &[],
        threads: 4,
        round: |address, _| {
            let mut stream = connect(address, LONG_PATIENCE)?;
            let field = "x".repeat(64 << 10);
            stream.write_all(format!("GET / HTTP/1.1\r\nA: {field}\r\n\r\n").as_bytes())?;
            receive_head(&mut stream).map(drop)
        },
    },
    Attack {
        row: 36,
        what: "4 clients open and close WebSockets",
        arguments: &[],
        threads: 4,
        round: |address, _| client::open(address, "/echo").map(drop),
    },
    Attack {
        row: 54,
        what: "4 members of one room publish",
        arguments: &[],
        threads: 4,
        round: |address, is_over| {
            let message = frame(0x82, &[7; 100]);
            flood_socket(address, "/broadcast/storm", b"", &message, is_over)
        },
    },
    Attack {
        row: 59,
        what: "2 clients pipeline GET /metrics",
        arguments: &[],
        threads: 2,
        round: |address, is_over| {
            let asked = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n";
            flood(connect(address, LONG_PATIENCE)?, asked, is_over)
        },
    },
    Attack {
        row: 67,
        what: "3 clients pipeline requests for Socket.IO sessions",
        arguments: &[],
        threads: 3,
        round: |address, is_over| {
            let asked =
                b"GET /socket.io/?EIO=4&transport=polling HTTP/1.1\r\nHost: localhost\r\n\r\n";
            flood(connect(address, LONG_PATIENCE)?, asked, is_over)
        },
    },
    Attack {
        row: 68,
        what: "2 clients open silent connections, 4 request pages, --max-connections 256",
        arguments: &["--max-connections", "256"],
        threads: 6,
        round: |address, is_over| match thread::current().name() {
            Some("0" | "1") => silent_connections(address, is_over),
            _ => {
                let asked = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";
                flood(connect(address, LONG_PATIENCE)?, asked, is_over)
            }
        },
    },
    Attack {
        row: 69,
        what: "2 clients open silent connections, --max-connections 256",
        arguments: &["--max-connections", "256"],
        threads: 2,
        round: silent_connections,
    },
    Attack {
        row: 71,
        what: "8 clients send 16 MiB of zeros, compressed",
        arguments: &[],
        threads: 8,
        round: |address, is_over| {
            let mut stream = connect(address, LONG_PATIENCE)?;
            let offer = "\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n";
            let request = [request("/echo").trim_end(), offer].concat();
            stream.write_all(request.as_bytes())?;
            receive_head(&mut stream)?;
            flood(stream, &frame(0xC2, &zeros(16 << 20)), is_over)
        },
    },
    Attack {
        row: 72,
        what: "4 Socket.IO clients send small events",
        arguments: &[],
        threads: 4,
        round: |address, is_over| {
            let event = frame(0x81, br#"42["message","x"]"#);
            let path = "/socket.io/?EIO=4&transport=websocket";
            flood_socket(address, path, &frame(0x81, b"40"), &event, is_over)
        },
    },
];

/// Sends `first` once and `again` until the time is over.
fn flood_socket(
    address: SocketAddr,
    path: &str,
    first: &[u8],
    again: &[u8],
    is_over: &AtomicBool,
) -> io::Result<()> {
    let mut stream = client::open(address, path)?.get_ref().try_clone()?;
    stream.write_all(first)?;
    flood(stream, &again.repeat((16 << 10) / again.len()), is_over)
}

/// Sends `bytes` repeatedly, and reads all answers.
fn flood(mut stream: TcpStream, bytes: &[u8], is_over: &AtomicBool) -> io::Result<()> {
    let mut answers = stream.try_clone()?;
    thread::scope(|scope| {
        scope.spawn(move || io::copy(&mut answers, &mut io::sink()));
        let mut flooding = || {
            while !is_over.load(Ordering::Relaxed) {
                stream.write_all(bytes)?;
            }
            Ok(())
        };
        let ended = flooding();
        let _ = stream.shutdown(Shutdown::Both);
        ended
    })
}

fn silent_connections(address: SocketAddr, is_over: &AtomicBool) -> io::Result<()> {
    let mut streams = VecDeque::new();
    while !is_over.load(Ordering::Relaxed) {
        streams.push_back(TcpStream::connect(address)?);
        if streams.len() > 500 {
            streams.pop_front();
        }
    }
    Ok(())
}

/// 250 clients join a room each, and leave at once.
fn rooms_left_at_once(address: SocketAddr, is_over: &AtomicBool) -> io::Result<()> {
    let mut members = Vec::new();
    for number in 0..250 {
        if is_over.load(Ordering::Relaxed) {
            break;
        }
        let room = thread::current().name().unwrap_or_default().to_owned();
        members.push(client::open(
            address,
            &format!("/broadcast/{room}-{number}"),
        )?);
    }
    Ok(())
}

fn zeros(length: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(length / 500);
    Compress::new(Compression::best(), false)
        .compress_vec(&vec![0; length], &mut bytes, FlushCompress::Sync)
        .unwrap();
    bytes.truncate(bytes.len() - 4);
    bytes
}

fn pin(core: usize) {
    let mut cores = CpuSet::new();
    cores.set(core);
    sched_setaffinity(None, &cores).unwrap();
}

/// Echoes one client's bytes on the server's core.
fn raw_echo() -> TcpStream {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = connect(listener.local_addr().unwrap(), LONG_PATIENCE).unwrap();
    let (mut stream, _) = listener.accept().unwrap();
    stream.set_nodelay(true).unwrap();
    thread::spawn(move || {
        pin(SERVERS_CORE);
        let mut bytes = [0; 64];
        while let Ok(length @ 1..) = stream.read(&mut bytes) {
            stream.write_all(&bytes[..length]).unwrap();
        }
    });
    client
}

/// The median and the 99th percentile.
fn percentiles(mut times: Vec<Duration>) -> [Duration; 2] {
    times.sort_unstable();
    [50, 99].map(|share| times[(times.len() - 1) * share / 100])
}

fn beside(attack: &Attack, arguments: &[&str]) {
    let core = SERVERS_CORE.to_string();
    let server = ServerProcess::spawn(&mut command_under(&["taskset", "-c", &core], arguments));
    let lasts = soak::duration().map_or(Duration::from_secs(1), |_| Duration::from_secs(5));
    pin(CLIENTS_CORE); // its threads inherit the core
    let mut raw = raw_echo();
    let mut client = Client::on(connect(server.address, LONG_PATIENCE).unwrap(), "/echo");
    let (mut echoes, mut raw_echoes) = (Vec::new(), Vec::new());
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        for number in 0..attack.threads {
            let (address, is_over) = (server.address, &is_over);
            let attacker = thread::Builder::new().name(number.to_string());
            let attacking = move || {
                setpriority_process(None, 10).unwrap();
                while !is_over.load(Ordering::Relaxed) {
                    // The server may close or refuse the attacker, as a defence.
                    let _ = (attack.round)(address, is_over);
                }
            };
            attacker.spawn_scoped(scope, attacking).unwrap();
        }
        let began = Instant::now();
        while began.elapsed() < lasts || echoes.len() < 10 {
            let sent = Instant::now();
            client.send(&frame(0x81, b"innocent"));
            client.receives(b"\x81\x08innocent");
            echoes.push(sent.elapsed());
            let sent = Instant::now();
            raw.write_all(b"innocent").unwrap();
            raw.read_exact(&mut [0; 8]).unwrap();
            raw_echoes.push(sent.elapsed());
        }
        is_over.store(true, Ordering::Relaxed);
        drop(server); // otherwise an attacker may wait for it
    });
    innocent(
        attack.row,
        attack.what,
        percentiles(echoes),
        percentiles(raw_echoes),
    );
}

/// A single test, because each attack needs the whole machine.
#[test]
fn an_innocent_client_is_served_beside_each_attack() {
    if thread::available_parallelism().unwrap().get() < 2 || !succeeds("taskset", &["--version"]) {
        skip(
            Kind::Attack,
            71,
            "echoes of an innocent client",
            "two cores and taskset are needed",
        );
        return;
    }
    for attack in ATTACKS {
        beside(attack, attack.arguments);
    }
    let attack = Attack {
        row: 77,
        what: "2 clients join 250 rooms over Redis and leave at once",
        arguments: &[],
        threads: 2,
        round: rooms_left_at_once,
    };
    if !succeeds("redis-server", &["--version"]) {
        skip(Kind::Attack, 77, attack.what, "redis-server is missing");
        return;
    }
    let redis = RedisServer::started();
    beside(
        &attack,
        &[
            "--channel-layer",
            "redis-pubsub",
            "--redis-url",
            &redis.url(),
        ],
    );
}
