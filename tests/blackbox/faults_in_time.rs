//! When faults take effect while echoes are delayed, and what the metrics count.

use std::io::{ErrorKind, Read};
use std::thread;
use std::time::{Duration, Instant};

use frameloop::app;

use crate::client::{Client, close_frame, frame, reply, request};
use crate::server::TestServer;

const PATIENCE: Duration = Duration::from_secs(10);

/// Six messages, and their echoes one by one.
fn six() -> (Vec<u8>, [Vec<u8>; 6]) {
    let messages = [b"0", b"1", b"2", b"3", b"4", b"5"];
    let frames = messages.map(|message| frame(0x81, message)).concat();
    (frames, messages.map(|message| reply(0x81, message)))
}

#[test]
fn a_fault_after_a_number_of_messages_ignores_how_they_are_segmented() {
    let (frames, echoes) = six();
    let first = echoes[..3].concat();
    let plain = TestServer::plainly_serving(app::router(), |server| server);
    for size in [1, 7, 20, usize::MAX] {
        let send = |client: &mut Client| {
            for piece in frames.chunks(size.min(frames.len())) {
                client.send(piece);
                if size < frames.len() {
                    // Each piece usually becomes a segment of its own.
                    thread::yield_now();
                }
            }
        };
        let mut client = Client::open(TestServer::shared(), "/echo?close_after=3");
        send(&mut client);
        client.receives(&[&first[..], b"\x88\x02\x03\xE8"].concat());
        client.send(&close_frame(1000, b""));
        client.ends();

        let mut client = Client::open(TestServer::shared(), "/echo?stall=3&ping=500");
        send(&mut client);
        client.receives(&first);
        // A Ping comes instead of a fourth echo, and after it nothing.
        client.receives(b"\x89\x00");
        assert!(client.is_silent_for(Duration::from_millis(100)));

        let mut client = Client::open(&plain, "/echo?abort=3");
        // A client may also learn of the reset from a failing write.
        let _ = std::io::Write::write_all(&mut client.stream, &frames);
        client.receives(&first);
        let error = client.stream.read(&mut [0]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    }
    // The messages may come with the handshake in one segment.
    let mut client = Client::connect(TestServer::shared());
    client.send(&[request("/echo?close_after=3").as_bytes(), &frames].concat());
    client.receive_head();
    client.receives(&[&first[..], b"\x88\x02\x03\xE8"].concat());
}

/// The server notices when a client that it does not read from disconnects.
#[test]
fn a_stalled_client_that_disconnects_frees_its_slot() {
    for ending in ["stall", "stall=1"] {
        let router = app::router();
        let server = TestServer::plainly_serving(router, |server| server.with_max_connections(1));
        let mut client = Client::open(&server, &format!("/echo?{ending}"));
        client.send(&[frame(0x81, b"a"), frame(0x81, b"b")].concat());
        drop(client);
        let begun = Instant::now();
        loop {
            let mut next = Client::connect(&server);
            next.send(request("/echo").as_bytes());
            if next.receive_head().starts_with("HTTP/1.1 101 ") {
                break;
            }
            assert!(begun.elapsed() < PATIENCE, "{ending}");
        }
    }
}

#[test]
fn pings_and_timed_closes_do_not_wait_for_delayed_echoes() {
    let mut client = Client::open(TestServer::shared(), "/echo?delay=60000&ping=100");
    client.send(&[frame(0x81, b"late"), frame(0x89, b"p")].concat());
    // One Pong and at least one Ping.
    let (first, _) = client.receive();
    let (second, _) = client.receive();
    assert!(matches!(
        (first, second),
        (0x8A, 0x89) | (0x89, 0x8A | 0x89)
    ));

    let mut client = Client::open(TestServer::shared(), "/echo?delay=60000&close_after=50ms");
    client.send_text("late");
    client.receives(b"\x88\x02\x03\xE8");
    client.send(&close_frame(1000, b""));
    client.ends();
}

#[test]
fn a_shutdown_sends_its_close_before_delayed_echoes() {
    for query in ["delay=60000", "delay=60000&reorder=1"] {
        let server = TestServer::with(|server| server);
        let mut client = Client::open(&server, &format!("/echo?{query}"));
        client.send(&[frame(0x81, b"a"), frame(0x81, b"b"), frame(0x89, b"")].concat());
        client.receives(b"\x8A\x00");
        server.shutdown.drain();
        client.receives(b"\x88\x02\x03\xE9");
        client.send(&close_frame(1001, b""));
        client.ends();
        server.stopped().unwrap();
    }
}

/// The server finishes a frame before it sends the Close.
#[test]
fn a_shutdown_finishes_the_current_frame() {
    let server = TestServer::with(|server| server);
    let mut client = Client::open(&server, "/echo?trickle=2000&fragment=100");
    client.send(&[frame(0x82, &[7; 400]), frame(0x82, &[8; 400])].concat());
    let (first, _) = client.receive();
    assert_eq!(first, 0x02);
    server.shutdown.drain();
    for expected in [0x00, 0x00, 0x80] {
        let (first, payload) = client.receive();
        assert_eq!((first, payload.len()), (expected, 100));
    }
    client.receives(b"\x88\x02\x03\xE9");
}

/// Fragments are encoded while they are sent, so one-byte fragments take no more memory than the
/// message.
#[test]
fn a_large_message_is_sent_in_one_byte_fragments() {
    let mut client = Client::open(TestServer::shared(), "/echo?fragment=1&dup=1");
    client.send(&frame(0x82, &[9; 50_000]));
    for _ in 0..2 {
        let whole = [
            &[0x02, 1, 9][..],
            &[0x00, 1, 9].repeat(49_998),
            &[0x80, 1, 9],
        ]
        .concat();
        client.receives(&whole);
    }
}

mod counted {
    use super::*;
    use frameloop::metrics::Metrics;

    /// Serves one connection, and waits until the metrics contain `lines`.
    fn is_counted(path: &str, extension: &str, sent: &[u8], received: usize, lines: &[&str]) {
        let metrics = Metrics::new();
        let server = TestServer::with(|server| server.with_metrics(metrics.clone()));
        let mut client = Client::connect(&server);
        let head = request(path).replace("\r\n\r\n", &format!("\r\n{extension}\r\n"));
        client.send(head.as_bytes());
        client.receive_head();
        client.send(sent);
        client.stream.read_exact(&mut vec![0; received]).unwrap();
        drop(client);
        let begun = Instant::now();
        loop {
            let text = metrics.encode();
            let is_there = |line: &&str| text.contains(&format!("frameloop_{line}\n"));
            if text.contains("frameloop_closes_total{") && lines.iter().all(is_there) {
                return;
            }
            assert!(begun.elapsed() < PATIENCE, "{path}: {lines:?}: {text}");
            thread::yield_now();
        }
    }

    #[test]
    fn only_sent_messages_are_counted() {
        let deflate = "Sec-WebSocket-Extensions: permessage-deflate\r\n";
        let close = close_frame(1000, b"");
        let text = |payload: &[u8]| frame(0x81, payload);
        for (path, extension, sent, received, lines) in [
            (
                "/echo?abort=1&delay=60000",
                "",
                text(b"abc"),
                0,
                &[
                    "messages_total{direction=\"received\",type=\"text\"} 1",
                    "messages_total{direction=\"sent\",type=\"text\"} 0",
                    "closes_total{code_sent=\"1006\",code_received=\"1006\",reason=\"cut by server\"} 1",
                ][..],
            ),
            (
                "/echo?reorder=1&abort=1",
                "",
                text(b"abc"),
                0,
                &["messages_total{direction=\"sent\",type=\"text\"} 0"],
            ),
            (
                "/echo?text",
                "",
                [frame(0x82, b"\xFF\xFF"), close.clone()].concat(),
                8 + 4,
                &[
                    "message_bytes_total{direction=\"sent\",type=\"text\"} 6",
                    "message_bytes_total{direction=\"sent\",type=\"control\"} 2",
                    "message_bytes_total{direction=\"received\",type=\"control\"} 2",
                    "backlog_bytes 0",
                ],
            ),
            (
                "/echo?invalid=close_code",
                "",
                [text(b"abc"), close.clone()].concat(),
                4 + 4,
                &[
                    "messages_total{direction=\"sent\",type=\"text\"} 0",
                    "messages_total{direction=\"sent\",type=\"control\"} 2",
                ],
            ),
            // The same without a fault.
            (
                "/echo",
                "",
                [text(b"abc"), close.clone()].concat(),
                5 + 4,
                &[
                    "message_bytes_total{direction=\"received\",type=\"control\"} 2",
                    "message_bytes_total{direction=\"sent\",type=\"text\"} 3",
                ],
            ),
            (
                "/echo",
                deflate,
                [text(&[b'a'; 5_000]), close].concat(),
                20,
                &[
                    "message_bytes_total{direction=\"received\",type=\"text\"} 5000",
                    "message_bytes_total{direction=\"sent\",type=\"text\"} 5000",
                    "messages_total{direction=\"sent\",type=\"text\"} 1",
                ],
            ),
        ] {
            is_counted(path, extension, &sent, received, lines);
        }
    }

    /// The client's Close is answered although delayed echoes precede it.
    #[test]
    fn a_shutdown_answers_a_pending_close() {
        let metrics = Metrics::new();
        let server = TestServer::with(|server| server.with_metrics(metrics.clone()));
        let mut client = Client::open(&server, "/echo?delay=60000");
        client.send(&[frame(0x81, b"late"), close_frame(1000, b"")].concat());
        let received = "frameloop_messages_total{direction=\"received\",type=\"control\"} 1\n";
        let begun = Instant::now();
        while !metrics.encode().contains(received) {
            assert!(begun.elapsed() < PATIENCE, "{}", metrics.encode());
            thread::yield_now();
        }
        server.shutdown.drain();
        client.receives(b"\x88\x02\x03\xE8");
        client.ends();
        server.stopped().unwrap();
    }

    #[test]
    fn the_backlog_metric_counts_delayed_echoes() {
        let metrics = Metrics::new();
        let server = TestServer::with(|server| server.with_metrics(metrics.clone()));
        let mut client = Client::open(&server, "/echo?delay=60000");
        client.send(&frame(0x82, &[0; 5_000]));
        let begun = Instant::now();
        while !metrics.encode().contains("frameloop_backlog_bytes 5000\n") {
            assert!(begun.elapsed() < PATIENCE, "{}", metrics.encode());
            thread::yield_now();
        }
    }
}
