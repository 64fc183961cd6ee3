//! Rows 1, 2, 4, 5 and 6: clients that reset, half-close, stop reading or freeze.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::process::{Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::net::sockopt::{set_socket_linger, set_socket_recv_buffer_size};
use rustix::process::Signal;

use crate::checker::{self, Log};
use crate::client::{self, LONG_PATIENCE, frame, request};
use crate::load;
use crate::process::{ServerProcess, frameloop, signal_to, succeeds};
use crate::report::{Kind, skip};
use crate::{lasting, times, under_load};

fn connect(server: &ServerProcess) -> TcpStream {
    let stream = TcpStream::connect(server.address).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(LONG_PATIENCE)).unwrap();
    stream.set_write_timeout(Some(LONG_PATIENCE)).unwrap();
    stream
}

/// The bytes of a whole session, and the end of each complete message in it.
fn session(path: &str) -> (Vec<u8>, Vec<usize>) {
    let mut bytes = request(path).into_bytes();
    let mut ends = Vec::new();
    for (first, payload, is_message) in [
        (0x81, &b"hello"[..], true),
        (0x02, &[7; 200], false),
        (0x89, b"ping", false),
        (0x80, &[8; 200], true),
        (0x82, &[9; 1_000], true),
        (0x88, b"\x03\xE8", false),
    ] {
        bytes.extend(frame(first, payload));
        if is_message {
            ends.push(bytes.len());
        }
    }
    (bytes, ends)
}

#[test]
fn row_1_reset_at_every_byte_of_a_session() {
    let mut server = ServerProcess::start(&[]);
    under_load(
        1,
        "client reset at every byte of a session",
        &mut server,
        |server| {
            let paths = ["/echo", "/broadcast/reset", "/ws/1"];
            let mut resets = 0;
            for path in paths {
                let (bytes, _) = session(path);
                for length in 0..=bytes.len() {
                    let mut stream = connect(server);
                    // The server may have closed the connection already.
                    let _ = stream.write_all(&bytes[..length]);
                    set_socket_linger(&stream, Some(Duration::ZERO)).unwrap();
                    resets += 1;
                }
            }
            format!("{resets} resets")
        },
    );
}

/// The echo guarantee: n complete messages before FIN give n echoes before the end.
#[test]
fn row_2_half_close_at_every_byte_of_a_session() {
    let mut server = ServerProcess::start(&[]);
    under_load(
        2,
        "client sends FIN at every byte of a session",
        &mut server,
        |server| {
            let (bytes, ends) = session("/echo");
            let head = request("/echo").len();
            for length in 0..=bytes.len() {
                let mut stream = connect(server);
                stream.write_all(&bytes[..length]).unwrap();
                stream.shutdown(Shutdown::Write).unwrap();
                let mut received = Vec::new();
                stream
                    .read_to_end(&mut received)
                    .unwrap_or_else(|error| panic!("FIN after {length} bytes: {error}"));
                if length < head {
                    continue;
                }
                let text = String::from_utf8_lossy(&received);
                assert!(
                    text.starts_with("HTTP/1.1 101 "),
                    "FIN after {length}: {text}"
                );
                let body = received
                    .windows(4)
                    .position(|end| end == b"\r\n\r\n")
                    .unwrap()
                    + 4;
                let due = ends.iter().filter(|end| **end <= length).count();
                assert_eq!(
                    data_frames(&received[body..]),
                    due,
                    "FIN after {length} bytes"
                );
            }
            format!(
                "{} half-closes, every complete message echoed before FIN",
                bytes.len() + 1
            )
        },
    );
}

/// The number of data frames in these bytes from a server.
fn data_frames(mut bytes: &[u8]) -> usize {
    let mut count = 0;
    while let [first, length, rest @ ..] = bytes {
        let (length, rest) = match (length, rest) {
            (126, [high, low, rest @ ..]) => (usize::from(*high) << 8 | usize::from(*low), rest),
            (length, rest) => (usize::from(*length), rest),
        };
        assert!(rest.len() >= length, "a truncated frame");
        count += usize::from(first & 0x0F <= 2);
        bytes = &rest[length..];
    }
    count
}

#[test]
fn row_4_sockets_killed_by_the_kernel() {
    const WHAT: &str = "server-side sockets killed (ss -K)";
    let mut server = ServerProcess::start(&[]);
    let killed_by = |server: &ServerProcess, stream: &TcpStream| {
        let here = format!("sport = :{}", server.address.port());
        let there = format!("dport = :{}", stream.local_addr().unwrap().port());
        succeeds("ss", &["-K", "state", "established", &here, "and", &there])
    };
    let probe = connect(&server);
    probe
        .set_read_timeout(Some(Duration::from_millis(500)))
        .unwrap();
    let works = killed_by(&server, &probe)
        && !matches!((&probe).read(&mut [0]), Err(error) if error.kind() == ErrorKind::WouldBlock);
    drop(probe);
    if !works {
        skip(Kind::Fault, 4, WHAT, "ss -K is missing or not permitted");
        return;
    }
    under_load(4, WHAT, &mut server, |server| {
        let paths = ["/echo", "/broadcast/killed", "/ws/2"];
        let victims: Vec<_> = (0..30)
            .map(|number| client::open(server.address, paths[number % 3]).unwrap())
            .collect();
        for victim in &victims {
            assert!(killed_by(server, victim.get_ref()));
        }
        format!("{} sockets killed", victims.len())
    });
}

#[test]
fn row_5_an_echo_client_that_stops_reading_is_reset() {
    let stall = lasting(Duration::from_secs(30), Duration::from_secs(1));
    let timeout = format!("{}s", stall.as_secs());
    let mut server = ServerProcess::start(&["--write-timeout", &timeout]);
    under_load(
        5,
        "echo client stops reading for ever",
        &mut server,
        |server| {
            let before = server.resources().resident;
            let mut socket = client::open(server.address, "/echo").unwrap();
            set_socket_recv_buffer_size(socket.get_ref(), 4 << 10).unwrap();
            let message = frame(0x82, &[5; 60_000]);
            let began = Instant::now();
            let error = loop {
                if let Err(error) = socket.get_mut().write_all(&message) {
                    break error;
                }
            };
            let took = began.elapsed();
            let grown = server.resources().resident.saturating_sub(before);
            assert_eq!(error.kind(), ErrorKind::ConnectionReset);
            // A deadline is accurate to about a tenth of its length.
            assert!(took >= stall * 3 / 4, "reset after {took:?}");
            format!("reset after {took:.1?} (write timeout {stall:?}), memory +{grown} KiB")
        },
    );
}

#[test]
fn row_5_an_echo_client_that_pauses_gets_everything() {
    let pause = lasting(Duration::from_secs(10), Duration::from_millis(500));
    let mut server = ServerProcess::start(&[]);
    under_load(
        5,
        "echo client stops reading, then resumes",
        &mut server,
        |server| {
            const MESSAGES: u64 = 300;
            let mut socket = client::open(server.address, "/echo").unwrap();
            set_socket_recv_buffer_size(socket.get_ref(), 64 << 10).unwrap();
            let mut writer = socket.get_ref().try_clone().unwrap();
            let writing = thread::spawn(move || {
                for sequence in 0..MESSAGES {
                    let first = if checker::is_text(sequence) {
                        0x81
                    } else {
                        0x82
                    };
                    let payload = checker::payload(9, sequence, 30_000);
                    writer.write_all(&frame(first, &payload)).unwrap();
                }
            });
            thread::sleep(pause);
            let mut log = Log::joining([(9, 0)]);
            for _ in 0..MESSAGES {
                load::receive(&mut socket, &mut log).unwrap();
            }
            writing.join().unwrap();
            let tally = log.stayed([(9, MESSAGES)]);
            assert_eq!((tally.lost, tally.corrupted), (0, 0), "{tally}");
            format!("paused {pause:?}: {tally}")
        },
    );
}

/// A sequence without a gap, and then the end: no silent drop.
#[test]
fn row_5_a_member_that_stops_reading_is_closed_without_loss_for_others() {
    let mut server = ServerProcess::start(&["--linger", "500ms"]);
    under_load(
        5,
        "broadcast members stop reading for ever",
        &mut server,
        |server| {
            const TOPIC: &str = "/broadcast/slow";
            let mut slow: Vec<_> = (0..5)
                .map(|_| client::open(server.address, TOPIC).unwrap())
                .collect();
            let mut publisher = client::open(server.address, TOPIC).unwrap();
            let mut own = Log::joining([(9, 0)]);
            let mut sequence = 0;
            // Until all buffers are full and the slow members are closed.
            let open = server.resources().descriptors;
            while server.resources().descriptors > open - 5 {
                for _ in 0..10 {
                    let payload = checker::payload(9, sequence, 60_000);
                    let message = client::message(checker::is_text(sequence), payload);
                    publisher.send(message).unwrap();
                    load::receive(&mut publisher, &mut own).unwrap();
                    sequence += 1;
                }
            }
            let mut received = 0;
            for socket in &mut slow {
                let mut log = Log::joining([(9, 0)]);
                while load::receive(socket, &mut log).is_ok() {}
                let tally = log.left();
                assert_eq!(
                    (tally.lost, tally.duplicated, tally.corrupted),
                    (0, 0, 0),
                    "{tally}"
                );
                received += tally.received;
            }
            assert!(own.has_all([(9, sequence)]));
            format!(
                "{sequence} messages of 60 kB; 5 slow members ended, each after a run without a gap \
             ({received} messages)"
            )
        },
    );
}

#[test]
fn row_6_a_client_process_frozen_and_thawed() {
    let is_long = times(1, 0) == 1;
    let (interval, short, long) = if is_long { (20, 19, 60) } else { (1, 1, 3) };
    let seconds = format!("{interval}s");
    let arguments = ["--ping-interval", &seconds, "--ping-timeout", &seconds];
    let mut server = ServerProcess::start(&arguments);
    under_load(
        6,
        "client process frozen and thawed",
        &mut server,
        |server| {
            let is_clean = |freeze: u64| {
                let before = server.resources().descriptors;
                // The client does another round of echoes after the freeze.
                let url = format!("ws://{}/echo", server.address);
                let words = ["load", &url, "-c", "1", "--rate", "50", "--messages", "50"];
                let client = frameloop(&words).stdout(Stdio::piped()).spawn().unwrap();
                while server.resources().descriptors == before {
                    thread::sleep(Duration::from_millis(1));
                }
                signal_to(client.id(), Signal::STOP);
                thread::sleep(Duration::from_secs(freeze));
                signal_to(client.id(), Signal::CONT);
                let Output { status, stdout, .. } = client.wait_with_output().unwrap();
                (status.success(), String::from_utf8(stdout).unwrap())
            };
            let (clean, report) = is_clean(short);
            assert!(clean, "a freeze shorter than the ping deadlines: {report}");
            // A client that is frozen before its opening handshake is not silent yet: once more.
            let mut attempts = (0..5).map(|_| is_clean(long));
            let last = attempts.find(|(clean, _)| !clean);
            let (clean, report) = last.unwrap_or((true, String::from("five times")));
            assert!(
                !clean,
                "still connected after {long} s of silence: {report}"
            );
            assert!(report.contains("closed with 1008"), "{report}");
            format!(
                "{short} s: nothing lost; {long} s: closed, ping interval and timeout {interval} s"
            )
        },
    );
}
