//! An innocent echo client beside each attack that a client can repeat: the times of its echoes,
//! and those of an idle TCP echo on the server's core for comparison. The server has one core; all
//! clients share the other, where the attackers have a lower priority. The times fill a column of
//! `tests/RELIABILITY.md`; the test itself requires only that the innocent client is served.

#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

#[path = "innocent/attacks.rs"]
mod attacks;
#[path = "innocent/frames.rs"]
mod frames;
#[path = "innocent/http.rs"]
mod http;
#[allow(dead_code, reason = "the tests of Redis need the rest")]
#[path = "redis/server.rs"]
mod redis_server;
#[path = "innocent/rooms.rs"]
mod rooms;
#[path = "innocent/rounds.rs"]
mod rounds;
#[path = "innocent/socketio.rs"]
mod socketio;
#[path = "support/mod.rs"]
mod support;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::setpriority_process;
use rustix::thread::{CpuSet, sched_setaffinity};
use rustls::pki_types::ServerName;
use rustls::{ClientConnection, StreamOwned};

use attacks::{Attack, Innocent, TOKEN, WITHOUT, attacks};
use client::{Client, LONG_PATIENCE, connect, frame};
use process::{ServerProcess, command_under, succeeds};
use redis_server::RedisServer;
use report::{Kind, innocent, no_innocent, skip};
use rooms::{OVER_REDIS, REDIS};
use support::*;

const SERVERS_CORE: usize = 0;
const CLIENTS_CORE: usize = 1;

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

trait Stream: Read + Write {}

impl<S: Read + Write> Stream for S {}

impl Innocent {
    fn open(self, address: SocketAddr) -> Client<Box<dyn Stream>> {
        let stream = connect(address, LONG_PATIENCE).unwrap();
        let stream: Box<dyn Stream> = if self == Innocent::OverTls {
            let name = ServerName::try_from("localhost").unwrap();
            let session = ClientConnection::new(tls_client::config(), name).unwrap();
            Box::new(StreamOwned::new(session, stream))
        } else {
            Box::new(stream)
        };
        let mut client = match self {
            Innocent::WithToken => Client::on(stream, &format!("/echo?token={TOKEN}")),
            _ => Client::on(stream, "/echo"),
        };
        if self == Innocent::Greeted {
            client.receive();
        }
        client
    }
}

/// Expects an echo, with or without Pings before it.
fn is_echoed(client: &mut Client<Box<dyn Stream>>) {
    client.send(&frame(0x81, b"innocent"));
    let mut reply = client.receive();
    while reply.0 == 0x89 {
        reply = client.receive();
    }
    assert_eq!(reply, (0x81, b"innocent".to_vec()));
}

fn beside(attack: &Attack, arguments: &[&str]) {
    let core = SERVERS_CORE.to_string();
    let wrapper = [&["taskset", "-c", &core][..], attack.wrapper].concat();
    let server = ServerProcess::spawn(&mut command_under(&wrapper, arguments));
    let lasts = match (soak::duration(), cfg!(debug_assertions)) {
        (Some(_), _) => Duration::from_secs(5),
        (None, false) => Duration::from_secs(1),
        (None, true) => Duration::from_millis(100), // its times count for nothing
    };
    pin(CLIENTS_CORE); // its threads inherit the core
    let mut raw = raw_echo();
    let mut client = attack.innocent.open(server.address);
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
            is_echoed(&mut client);
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
    for attack in attacks() {
        beside(attack, attack.arguments);
    }
    for (row, why) in WITHOUT {
        no_innocent(*row, why);
    }
    if !succeeds("redis-server", &["--version"]) {
        let why = "redis-server is missing";
        skip(Kind::Attack, 77, "echoes of an innocent client", why);
        for attack in OVER_REDIS {
            no_innocent(attack.row, why);
        }
        return;
    }
    let redis = RedisServer::started();
    let url = redis.url();
    let address = url.trim_start_matches("redis://").trim_end_matches("/0");
    REDIS.set(address.parse().unwrap()).unwrap();
    for attack in OVER_REDIS {
        beside(
            attack,
            &["--channel-layer", "redis-pubsub", "--redis-url", &url],
        );
    }
}

#[test]
fn every_attack_has_an_innocent_client_or_a_reason() {
    let table = include_str!("tables/attacks.md");
    let first_cells = table.lines().filter_map(|line| line.split('|').nth(1));
    let rows: Vec<u32> = first_cells
        .filter_map(|cell| cell.trim().parse().ok())
        .collect();
    let measured = attacks().chain(OVER_REDIS).map(|attack| attack.row);
    let mut covered: Vec<u32> = measured
        .chain(WITHOUT.iter().map(|(row, _)| *row))
        .collect();
    covered.sort_unstable();
    assert_eq!(covered, rows);
}
