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

#[path = "innocent/attacks.rs"]
mod attacks;
#[allow(dead_code, reason = "the tests of Redis need the rest")]
#[path = "redis/server.rs"]
mod redis_server;
#[path = "innocent/rounds.rs"]
mod rounds;
#[path = "support/mod.rs"]
mod support;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::setpriority_process;
use rustix::thread::{CpuSet, sched_setaffinity};

use attacks::{ATTACKS, Attack, ROOMS_OVER_REDIS};
use client::{Client, LONG_PATIENCE, connect, frame};
use process::{ServerProcess, command_under, succeeds};
use redis_server::RedisServer;
use report::{Kind, innocent, skip};
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

fn beside(attack: &Attack, arguments: &[&str]) {
    let core = SERVERS_CORE.to_string();
    let server = ServerProcess::spawn(&mut command_under(&["taskset", "-c", &core], arguments));
    let lasts = match (soak::duration(), cfg!(debug_assertions)) {
        (Some(_), _) => Duration::from_secs(5),
        (None, false) => Duration::from_secs(1),
        (None, true) => Duration::from_millis(100), // its times count for nothing
    };
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
    let attack = &ROOMS_OVER_REDIS;
    if !succeeds("redis-server", &["--version"]) {
        skip(Kind::Attack, 77, attack.what, "redis-server is missing");
        return;
    }
    let redis = RedisServer::started();
    let url = redis.url();
    beside(
        attack,
        &["--channel-layer", "redis-pubsub", "--redis-url", &url],
    );
}
