//! `--deterministic`: the same input gives the same answers and the same log, however it is
//! segmented.

#![cfg(unix)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

#[path = "support/mod.rs"]
mod support;

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};

use client::{LONG_PATIENCE, frame, receive_head, request};
use process::{ServerProcess, frameloop};
use rustix::process::Signal;
use support::*;

/// The input of each client. The clients come one after another.
fn script() -> Vec<Vec<u8>> {
    let close = frame(0x88, b"\x03\xE8");
    let talk =
        |path: &str, frames: &[Vec<u8>]| [request(path).into_bytes(), frames.concat()].concat();
    let numbered = |first: u8| (0..64).map(move |number| frame(first, &[b'a' + number % 26; 20]));
    let page = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n").into_bytes();
    let offer = request("/echo").replace(
        "\r\n\r\n",
        "\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n",
    );
    vec![
        talk(
            "/echo",
            &[frame(0x81, b"Hello"), frame(0x89, b"p"), close.clone()],
        ),
        talk(
            "/echo",
            &[frame(0x01, b"in "), frame(0x80, b"pieces"), close.clone()],
        ),
        // Invalid input: a reserved bit, invalid UTF-8, a length that is not minimal, no mask.
        talk("/echo", &[frame(0xB1, b"x")]),
        talk("/echo", &[frame(0x81, b"before"), frame(0x81, b"\xC3\x28")]),
        talk("/echo", &[b"\x81\xFE\x00\x01\0\0\0\0x".to_vec()]),
        talk("/echo", &[b"\x81\x02hi".to_vec()]),
        // Half a message, then FIN.
        talk("/echo", &[b"\x81\xFEhalf".to_vec()]),
        [offer.into_bytes(), frame(0x82, &[7; 3_000]), close.clone()].concat(),
        // Random faults with a seed.
        talk(
            "/echo?drop=0.5&dup=0.5",
            &numbered(0x81).collect::<Vec<_>>(),
        ),
        talk("/echo?reorder=0.5", &numbered(0x82).collect::<Vec<_>>()),
        // Rooms whose sender is a member.
        talk("/broadcast/news", &numbered(0x82).collect::<Vec<_>>()),
        talk("/ws/1", &[frame(0x81, b"hi"), frame(0x81, b"hi"), close]),
        talk(
            "/ws/chat/lobby/",
            &[frame(0x81, br#"{"message":"hi"}"#), frame(0x81, b"{")],
        ),
        // The server's own answers follow messages that the room sent earlier.
        talk(
            "/broadcast",
            &[
                frame(0x81, b"first"),
                frame(0x89, b"ping"),
                frame(0x81, b"second"),
                frame(0x83, b"invalid"),
            ],
        ),
        [
            page("/"),
            page("/healthz"),
            page("/metrics"),
            page("/nowhere"),
        ]
        .concat(),
        page("/socket.io/?EIO=4&transport=polling"),
        b"GET / HTTP/1.1\r\nHost: a\r\nAccept: text/html\r\n\r\n".to_vec(),
        talk("/ws/abc", &[]),
        b"GET / HTTP/1.1\r\nno field\r\n\r\n".to_vec(),
        b"\x16\x03\x01".to_vec(),
    ]
}

/// The answers on each connection, and the whole log.
#[derive(Debug, Eq, PartialEq)]
struct Run {
    answers: Vec<String>,
    log: String,
}

/// Starts a server with these arguments and plays the script in pieces of at most `cut` bytes. The
/// server reads each piece before the next is sent.
fn run(arguments: &[&str], cut: usize) -> Run {
    let server = ServerProcess::logging(arguments);
    let mut beside = connect(server.address);
    let mut play = |bytes: &[u8]| play_on(connect(server.address), bytes, cut, &mut beside);
    let answers: Vec<String> = script().iter().map(|bytes| play(bytes)).collect();
    // Messages to another member are sent in between.
    let mut member = connect(server.address);
    member.write_all(request("/broadcast").as_bytes()).unwrap();
    let head = receive_head(&mut member).unwrap();
    let publisher = [request("/broadcast").into_bytes(), frame(0x81, b"all")].concat();
    let published = play(&publisher);
    let received = play_on(member, b"", 1, &mut beside);
    ask(&mut beside); // by now the member's end is logged
    drop(beside);
    server.signal(Signal::TERM);
    let (status, log) = server.ended_with_log();
    assert!(status.success());
    Run {
        answers: [answers, vec![head, published, received]].concat(),
        log,
    }
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(LONG_PATIENCE)).unwrap();
    stream
}

/// Sends the bytes and FIN. Returns the answer up to the server's FIN.
fn play_on(mut stream: TcpStream, bytes: &[u8], cut: usize, beside: &mut TcpStream) -> String {
    for (index, piece) in bytes.chunks(cut).enumerate() {
        if index > 0 {
            ask(beside);
        }
        stream.write_all(piece).unwrap();
    }
    stream.shutdown(Shutdown::Write).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    answer.escape_ascii().to_string()
}

/// A request and its response on another connection, which makes the server poll its sockets.
fn ask(stream: &mut TcpStream) {
    stream
        .write_all(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
        .unwrap();
    let head = receive_head(stream).unwrap();
    let length = head.lines().find_map(|line| {
        line.to_ascii_lowercase()
            .strip_prefix("content-length: ")?
            .parse()
            .ok()
    });
    let mut body = vec![0; length.expect("it has a body")];
    stream.read_exact(&mut body).unwrap();
}

#[test]
fn the_same_input_gives_the_same_answers_and_the_same_log() {
    for (format, cuts) in [
        ("text", &[usize::MAX, 7, 1][..]),
        ("json", &[usize::MAX][..]),
    ] {
        let arguments = [
            "--deterministic",
            "--log-level",
            "debug",
            "--log-format",
            format,
        ];
        let first = run(&arguments, usize::MAX);
        assert_eq!(first.answers.len(), script().len() + 3);
        assert!(first.answers.iter().all(|answer| !answer.is_empty()));
        assert!(first.log.lines().count() >= script().len(), "{}", first.log);
        // Connections are numbered from 1.
        assert!(
            first.log.contains("0-1") && !first.log.contains("0-0"),
            "{}",
            first.log
        );
        for cut in cuts {
            assert_eq!(run(&arguments, *cut), first, "cut {cut}, log {format}");
        }
    }
}

/// Without the flag each of these would differ between runs.
#[test]
fn nothing_differs_between_runs() {
    let (without, with) = (run(&[], usize::MAX), run(&["--deterministic"], usize::MAX));
    let contains = |lines: &[String], part: &str| lines.iter().any(|line| line.contains(part));
    // With Socket.IO the page mentions it.
    let shown = "<section id=\\\"socketio\\\" class";
    for part in [
        "\\r\\nDate: ",
        "{\\\"sid\\\"",
        "frameloop_connections",
        shown,
    ] {
        let found = |run: &Run| contains(&run.answers, part);
        assert_eq!((found(&without), found(&with)), (true, false), "{part}");
    }
    for part in ["peer=127.0.0.1:", "seconds=", "Z  INFO"] {
        let found = |run: &Run| run.log.contains(part);
        assert_eq!((found(&without), found(&with)), (true, false), "{part}");
    }
    // Random faults without a seed: two runs are equal by chance once in 2^64.
    assert_ne!(without.answers[8], run(&[], usize::MAX).answers[8]);
}

#[test]
fn flags_that_cannot_be_deterministic_are_refused() {
    for arguments in [["--workers", "2"], ["--tls-cert", "x"]] {
        let words = ["--deterministic", arguments[0], arguments[1]];
        let (code, _, error) = process::run(&mut frameloop(&words));
        assert_eq!(code, Some(2));
        assert!(error.contains("cannot be used with"), "{error}");
    }
}
