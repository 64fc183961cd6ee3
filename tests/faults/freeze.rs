//! Rows 7 and 22: the server's process is stopped, or gets little CPU time.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::client::{self, LONG_PATIENCE, frame, request};
use crate::process::ServerProcess;
use crate::report::{Kind, skip};
use crate::{lasting, times, under_load};

/// A server with short deadlines in a normal run.
fn server() -> ServerProcess {
    let arguments = [
        "--ping-interval",
        "1s",
        "--ping-timeout",
        "1s",
        "--handshake-timeout",
        "1s",
        "--message-timeout",
        "1s",
    ];
    ServerProcess::start(if times(1, 0) == 1 { &[] } else { &arguments })
}

#[test]
fn row_7_a_freeze_of_the_server_ends_no_connection() {
    let freeze = lasting(Duration::from_secs(45), Duration::from_millis(2_500));
    let mut server = server();
    under_load(
        7,
        "server frozen (SIGSTOP) and thawed",
        &mut server,
        |server| {
            let mut idle: Vec<_> = (0..100)
                .map(|number| {
                    let path = ["/echo", "/broadcast/frozen"][number % 2];
                    client::open(server.address, path).unwrap()
                })
                .collect();
            let head = request("/echo").into_bytes();
            let mut handshakes: Vec<_> = (0..10)
                .map(|_| {
                    let mut stream = TcpStream::connect(server.address).unwrap();
                    stream.set_read_timeout(Some(LONG_PATIENCE)).unwrap();
                    stream.write_all(&head[..50]).unwrap();
                    stream
                })
                .collect();
            let message = frame(0x82, &[7; 1_000]);
            let (first, rest) = message.split_at(500);
            let mut messages: Vec<_> = (0..10)
                .map(|_| {
                    let mut socket = client::open(server.address, "/echo").unwrap();
                    // The Pong shows that the server has read the half message in the same segment.
                    let half = [&frame(0x89, b"")[..], first].concat();
                    socket.get_mut().write_all(&half).unwrap();
                    socket.get_mut().read_exact(&mut [0; 2]).unwrap();
                    socket
                })
                .collect();
            server.signal(Signal::STOP);
            // Input that arrives during the freeze counts as on time, and the freeze does not count
            // for silent clients.
            let (during, after) = messages.split_at_mut(5);
            for socket in during {
                socket.get_mut().write_all(rest).unwrap();
            }
            for stream in &mut handshakes {
                stream.write_all(&head[50..]).unwrap();
            }
            thread::sleep(freeze);
            server.signal(Signal::CONT);
            let thawed = Instant::now();
            // Time in which a wrong deadline would fire.
            thread::sleep(Duration::from_millis(200));
            for socket in after {
                socket.get_mut().write_all(rest).unwrap();
            }
            for socket in &mut messages {
                let message = socket.read().unwrap();
                assert_eq!(message.into_data(), [7; 1_000][..]);
            }
            for stream in &mut handshakes {
                let head = client::receive_head(stream).unwrap();
                assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
            }
            for socket in &mut idle {
                socket.send("still here?".into()).unwrap();
                while !socket.read().unwrap().is_text() {}
            }
            format!(
                "frozen {freeze:?}: 100 idle connections, 10 half messages and 10 half handshakes \
             all served {:.0?} after",
                thawed.elapsed()
            )
        },
    );
}

/// The CPU time of all threads of a process.
fn processor_time(process: u32) -> Duration {
    let threads = std::fs::read_dir(format!("/proc/{process}/task")).unwrap();
    let times = threads.filter_map(|thread| {
        let told = std::fs::read_to_string(thread.ok()?.path().join("schedstat")).ok()?;
        told.split(' ').next()?.parse::<u64>().ok()
    });
    Duration::from_nanos(times.sum())
}

/// The bound is on the server's own CPU time until it answers: on a busy machine the wall-clock
/// time depends on other work.
#[test]
fn row_22_a_server_with_a_tenth_of_the_cpu_answers() {
    const BOUND: Duration = Duration::from_millis(100);
    let duration = lasting(Duration::from_secs(120), Duration::from_secs(2));
    let mut server = server();
    under_load(
        22,
        "server runs 10 ms of each 100 (SIGSTOP, SIGCONT)",
        &mut server,
        |server| {
            let mut idle: Vec<_> = (0..10)
                .map(|_| client::open(server.address, "/echo").unwrap())
                .collect();
            let server = &*server;
            let began = Instant::now();
            let (slowest, most) = thread::scope(|scope| {
                let starving = scope.spawn(|| {
                    while began.elapsed() < duration {
                        server.signal(Signal::STOP);
                        thread::sleep(Duration::from_millis(90));
                        server.signal(Signal::CONT);
                        thread::sleep(Duration::from_millis(10));
                    }
                });
                // Each client sends or answers a Ping before its ping timeout.
                let (mut slowest, mut most) = (Duration::ZERO, Duration::ZERO);
                while !starving.is_finished() {
                    for socket in &mut idle {
                        let (sent, before) = (Instant::now(), processor_time(server.id()));
                        socket.send("still here?".into()).unwrap();
                        while !socket.read().unwrap().is_text() {}
                        let worked = processor_time(server.id()).saturating_sub(before);
                        slowest = slowest.max(sent.elapsed());
                        most = most.max(worked);
                    }
                }
                (slowest, most)
            });
            if most.is_zero() {
                skip(
                    Kind::Fault,
                    22,
                    "the slowest answer",
                    "no schedstat in /proc",
                );
            }
            assert!(
                most <= BOUND,
                "the server used {most:?} of CPU time before it answered after {slowest:?}"
            );
            let mut late = client::open(server.address, "/echo").unwrap();
            late.get_mut().write_all(&frame(0x81, b"x")).unwrap();
            late.get_mut().read_exact(&mut [0; 3]).unwrap();
            format!(
                "{duration:?}: 10 more clients served, after at most {most:.1?} of the server's \
                 CPU time (<= {BOUND:?}), {slowest:.0?} by the clock"
            )
        },
    );
}
