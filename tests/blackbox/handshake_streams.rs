//! The bytes around a handshake: early, late, in pieces, or missing; and servers that are full or
//! shutting down.

use std::io::{Read, Write};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use frameloop::handshake::HandshakeError;
use frameloop::http::HttpSettings;
use frameloop::{Message, Router, WebSocket};
use rustix::process::Signal;
use tokio::net::TcpSocket;

use crate::client::{Client, PATIENCE, close_frame, frame, reply, request};
use crate::handshake::{ACCEPTED, Answer, Expected, receive_answer, valid};
use crate::process::ServerProcess;
use crate::report::{Kind, figure};
use crate::server::TestServer;

use Expected::Refused;

const HELLO: &[u8] = b"\x81\x85\x00\x00\x00\x00HELLO";
pub(crate) const PLAIN_GET: &str = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";

/// What a client sends after its request to `/echo`, and the bytes after the 101.
struct Stream {
    name: &'static str,
    /// Sent in one write with the request.
    early: Vec<u8>,
    /// Whether FIN follows immediately.
    finishes: bool,
    /// Sent after the 101 has arrived.
    late: Vec<u8>,
    received: Vec<u8>,
}

#[test]
fn bytes_sent_with_the_request_are_read_as_frames() {
    let close = close_frame(1000, b"");
    let (sent, echoed): (Vec<_>, Vec<_>) = (0..64)
        .map(|number| [number; 1_018])
        .map(|payload| (frame(0x82, &payload), reply(0x82, &payload)))
        .unzip();
    let (sent, echoed) = (sent.concat(), echoed.concat());
    assert_eq!(sent.len(), (64 << 10) + 64 * 2);
    let streams = [
        Stream {
            name: "2 a whole frame",
            early: HELLO.to_vec(),
            finishes: false,
            late: close.clone(),
            received: b"\x81\x05HELLO\x88\x02\x03\xE8".to_vec(),
        },
        Stream {
            name: "3 half of a frame",
            early: HELLO[..8].to_vec(),
            finishes: false,
            late: [&HELLO[8..], &close].concat(),
            received: b"\x81\x05HELLO\x88\x02\x03\xE8".to_vec(),
        },
        Stream {
            name: "4 64 KiB of frames",
            early: sent.clone(),
            finishes: false,
            late: close.clone(),
            received: [&echoed[..], b"\x88\x02\x03\xE8"].concat(),
        },
        Stream {
            name: "4 64 KiB of frames, and the Close",
            early: [sent, close].concat(),
            finishes: false,
            late: vec![],
            received: [&echoed[..], b"\x88\x02\x03\xE8"].concat(),
        },
        Stream {
            name: "5 a whole frame, and FIN",
            early: HELLO.to_vec(),
            finishes: true,
            late: vec![],
            received: b"\x81\x05HELLO".to_vec(),
        },
        Stream {
            name: "5 nothing but FIN",
            early: vec![],
            finishes: true,
            late: vec![],
            received: vec![],
        },
        Stream {
            // G is FIN=0, RSV1, opcode 7.
            name: "6 a second request",
            early: PLAIN_GET.into(),
            finishes: false,
            late: vec![],
            received: b"\x88\x12\x03\xEAreserved bit set".to_vec(),
        },
    ];
    // A head of maximum length fills hyper's buffer, so the early bytes stay in the socket.
    let longest: Vec<u8> = valid().target("/echo").padded_to(16 << 10).into();
    let heads = [request("/echo").into_bytes(), longest];
    for (head, stream) in heads
        .iter()
        .flat_map(|head| streams.iter().map(move |stream| (head, stream)))
    {
        let mut client = Client::connect(TestServer::shared());
        client.send(&[&head[..], &stream.early].concat());
        if stream.finishes {
            client.finish();
        }
        let head = client.receive_head();
        assert!(head.starts_with("HTTP/1.1 101 "), "{}: {head}", stream.name);
        client.send(&stream.late);
        let mut received = Vec::new();
        let end = client.stream.read_to_end(&mut received);
        assert!(end.is_ok(), "{}: {end:?} instead of FIN", stream.name);
        assert_eq!(
            received.escape_ascii().to_string(),
            stream.received.escape_ascii().to_string(),
            "{}",
            stream.name
        );
    }
}

/// Sends the first part on all connections before the second on any, so the server has read most
/// first parts by then.
fn split_everywhere(bytes: &[u8]) -> impl Iterator<Item = (usize, Client)> {
    let clients: Vec<Client> = (0..=bytes.len())
        .map(|offset| {
            let mut client = Client::connect(TestServer::shared());
            client.send(&bytes[..offset]);
            client
        })
        .collect();
    clients.into_iter().enumerate()
}

#[test]
fn r7_a_request_may_be_split_at_any_byte() {
    let bytes = [request("/echo").as_bytes(), HELLO].concat();
    let Answer::Response {
        status,
        fields,
        rest,
    } = ACCEPTED.answer(b"")
    else {
        unreachable!();
    };
    let expected = Answer::Response {
        status,
        fields,
        rest: [b"\x81\x05HELLO", &rest[..]].concat(),
    };
    for (offset, mut client) in split_everywhere(&bytes) {
        client.send(&bytes[offset..]);
        let answer = receive_answer(&mut client);
        assert_eq!(answer.as_ref(), Ok(&expected), "split at {offset}");
    }
}

#[test]
fn r90_a_client_may_send_fin_at_any_byte() {
    let bytes = request("/ws").into_bytes();
    for (offset, mut client) in split_everywhere(&bytes[..bytes.len() - 1]) {
        client.finish();
        let answer = receive_answer(&mut client);
        assert_eq!(answer, Ok(Answer::Silence), "cut at {offset}");
    }
}

#[test]
fn r91_a_request_has_a_deadline() {
    const DEADLINE: Duration = Duration::from_millis(300);
    let server = TestServer::with(|server| {
        server.with_http_settings(HttpSettings {
            head_timeout: DEADLINE,
            ..HttpSettings::default()
        })
    });
    let began = Instant::now();
    let head = request("/ws");
    let mut clients = ["", "G", "GET /ws HTTP/1.1\r\n", &head[..head.len() - 1]].map(|part| {
        let mut client = Client::connect(&server);
        client.send(part.as_bytes());
        client
    });
    for client in &mut clients {
        assert_eq!(receive_answer(client), Ok(Answer::Silence));
        assert!(began.elapsed() >= DEADLINE, "{:?}", began.elapsed());
    }
}

pub(crate) fn receives_page(client: &mut Client, request: &str) {
    client.send(request.as_bytes());
    let head = client.receive_head();
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    client.receives(b"ok");
}

#[test]
fn r95_a_handshake_may_follow_pages_on_one_connection() {
    let mut one_by_one = Client::connect(TestServer::shared());
    let mut at_once = Client::connect(TestServer::shared());
    at_once.send(&[PLAIN_GET.repeat(10), request("/ws")].concat().into_bytes());
    for _ in 0..10 {
        receives_page(&mut one_by_one, PLAIN_GET);
        receives_page(&mut at_once, "");
    }
    one_by_one.send(request("/ws").as_bytes());
    for client in [&mut one_by_one, &mut at_once] {
        let expected = ACCEPTED.answer(b"");
        assert_eq!(receive_answer(client), Ok(expected));
    }
}

/// With one worker: with several, workers that have no WebSocket stop at once.
#[test]
fn r96_a_server_that_shuts_down_refuses_handshakes() {
    let server = TestServer::with(|server| server.with_workers(1));
    let mut open = Client::open(&server, "/echo");
    let mut late = Client::connect(&server);
    receives_page(&mut late, PLAIN_GET);
    server.shutdown.drain();
    open.receives(b"\x88\x02\x03\xE9");
    late.send(request("/echo").as_bytes());
    let expected = Refused(503, HandshakeError::ShuttingDown).answer(b"");
    assert_eq!(receive_answer(&mut late), Ok(expected));
}

#[test]
fn r97_a_full_server_refuses_until_a_client_leaves() {
    let server = TestServer::with(|server| server.with_max_connections(1));
    let mut open = Client::open(&server, "/echo");
    let refusal = Refused(503, HandshakeError::AtCapacity).answer(b"");
    let attempt = || {
        let mut client = Client::connect(&server);
        client.send(request("/echo").as_bytes());
        receive_answer(&mut client)
    };
    assert_eq!(attempt(), Ok(refusal));
    open.send(&close_frame(1000, b""));
    open.receives(b"\x88\x02\x03\xE8");
    drop(open);
    let began = Instant::now();
    let accepted = Ok(ACCEPTED.answer(b""));
    while attempt() != accepted {
        assert!(began.elapsed() < PATIENCE, "no slot was freed");
    }
}

/// Attack 69: a flood of silent connections does not delay accepting, because the oldest are
/// dropped at once.
#[test]
fn attack_69_silent_connections_are_dropped_at_once_under_a_flood() {
    const MAX: usize = 1_024;
    const ROUNDS: usize = 5;
    let server = TestServer::with(|server| server.with_workers(1).with_max_connections(2_048));
    let mut silent = Vec::new();
    let mut times: Vec<Duration> = (0..ROUNDS)
        .map(|_| {
            silent = (0..MAX + 128).map(|_| Client::connect(&server)).collect();
            let asked = Instant::now();
            receives_page(&mut Client::connect(&server), PLAIN_GET);
            asked.elapsed()
        })
        .collect();
    times.sort();
    let median = times[ROUNDS / 2];
    figure(
        Kind::Attack,
        69,
        "1,152 silent connections at once where 1,024 may be pending: wait of a new client",
        "< 50 ms",
        format_args!("{median:.1?}, {:.1?} at most", times[ROUNDS - 1]),
    );
    // With the grace period for silent connections, the wait would be a second.
    assert!(median < Duration::from_millis(500), "{median:?}");
}

/// This test runs the binary because it checks the log.
#[test]
fn r98_a_client_that_resets_at_once_is_not_logged() {
    let server = ServerProcess::logging(&["--log-level", "info"]);
    let connect = || Client::at(server.address);
    for _ in 0..100 {
        let mut client = connect();
        // With zero linger, closing sends RST.
        TcpSocket::from_std_stream(client.stream.try_clone().unwrap())
            .set_zero_linger()
            .unwrap();
        client.send(request("/echo").as_bytes());
    }
    // Once the server answers, its signal handlers are installed.
    receives_page(&mut connect(), PLAIN_GET);
    server.signal(Signal::TERM);
    let (status, log) = server.ended_with_log();
    assert!(status.success(), "{status:?}");
    let lines: Vec<&str> = log
        .lines()
        .filter(|line| !line.contains("stopping: "))
        .collect();
    assert!(lines.is_empty(), "{log}");
}

/// Attack 21: silent connections have the deadline of the handshake, and beyond their limit the
/// oldest is dropped first. A client that sends a request is served meanwhile.
#[test]
fn attack_21_silent_connections_are_limited_and_the_oldest_is_dropped_first() {
    const MAX: usize = 1_024;
    let server = TestServer::with(|server| server.with_workers(1).with_max_connections(2_048));
    let mut silent: Vec<Client> = (0..MAX).map(|_| Client::connect(&server)).collect();
    // A connection that has sent a byte counts as less silent.
    silent[1].send(b"G");
    let began = Instant::now();
    let mut open = Client::open(&server, "/echo");
    let took = began.elapsed();
    silent[0].ends();
    Client::open(&server, "/echo");
    open.send_text("hi");
    open.receives_text("hi");
    // Two more: one takes the free slot, and the other displaces the next oldest.
    let _more = [(); 2].map(|()| Client::connect(&server));
    silent[2].ends();
    assert!(silent[1].is_silent_for(Duration::from_millis(100)));
    assert!(silent[3].is_silent_for(Duration::from_millis(1)));
    figure(
        Kind::Attack,
        21,
        "1,024 silent connections where 1,024 may be pending: time of a handshake",
        "the oldest is dropped, < 50 ms",
        format_args!("the oldest is dropped, {took:.1?}"),
    );
}

/// Fault 21: when too many clients connect at once and start their requests, the excess waits. It
/// must not displace the others, because they would reconnect and do the same.
#[test]
fn fault_21_clients_that_all_connect_at_once_are_all_served() {
    const MAX: usize = 1_024;
    const CLIENTS: usize = MAX + 512;
    let server = TestServer::with(|server| server.with_workers(1).with_max_connections(4 * MAX));
    let mut clients: Vec<Client> = (0..CLIENTS).map(|_| Client::connect(&server)).collect();
    let whole = request("/echo");
    let (first, rest) = whole.as_bytes().split_at(1);
    for client in &mut clients {
        client.send(first);
    }
    // Long enough to accept as many connections as the limit allows.
    assert!(clients[CLIENTS - 1].is_silent_for(Duration::from_millis(200)));
    for client in &mut clients {
        let _ = client.stream.write_all(rest);
    }
    let is_served = |client: &mut Client| {
        let mut head = [0; 13];
        client.stream.read_exact(&mut head).is_ok() && &head == b"HTTP/1.1 101 "
    };
    let served = clients
        .iter_mut()
        .map(is_served)
        .filter(|is_served| *is_served)
        .count();
    // Connections that waited for the grace period have displaced others: few, or more on a busy
    // machine.
    assert!(served > MAX, "{served} of {CLIENTS}");
}

/// A socket that one worker has accepted for another, and that is not served before the drain
/// begins.
#[test]
fn r96_a_socket_on_its_way_to_another_worker_is_refused_too() {
    const WAITING: usize = 4;
    let (release, released) = mpsc::channel::<()>();
    let released = Arc::new(Mutex::new(released));
    let router = Router::new().websocket("/", move |_| {
        let released = Arc::clone(&released);
        move |_: &mut WebSocket<'_>, message: Message<'_>| {
            if message == Message::Text("block") {
                let _ = released.lock().unwrap().recv();
            }
        }
    });
    let server = TestServer::serving(router, |server| server.with_workers(2));
    // Each worker has one connection. The worker that accepts must not be the blocked one.
    let mut open: Vec<Client> = (0..2).map(|_| Client::open(&server, "/")).collect();
    let accepts = |server: &TestServer| {
        let mut client = Client::connect(server);
        client.send(PLAIN_GET.as_bytes());
        let mut other = Client::connect(server);
        other.send(PLAIN_GET.as_bytes());
        [client, other]
    };
    for blocked in 0..2 {
        open[blocked].send_text("block");
        let mut clients = accepts(&server);
        let served = clients
            .iter_mut()
            .any(|client| !client.is_silent_for(Duration::from_millis(200)));
        if !served {
            // The blocked worker is the one that accepts: try the other.
            release.send(()).unwrap();
            continue;
        }
        let mut waiting: Vec<Client> = (0..2 * WAITING).map(|_| Client::connect(&server)).collect();
        for client in &mut waiting {
            client.send(request("/").as_bytes());
        }
        let mut answered: Vec<String> = Vec::new();
        let mut silent = Vec::new();
        for mut client in waiting {
            match client.is_silent_for(Duration::from_millis(100)) {
                true => silent.push(client),
                false => answered.push(client.receive_head()),
            }
        }
        assert!(!silent.is_empty(), "{answered:?}");
        server.shutdown.drain();
        assert!(open[1 - blocked].receive().0 == 0x88);
        release.send(()).unwrap();
        for client in &mut silent {
            let expected = Refused(503, HandshakeError::ShuttingDown).answer(b"");
            assert_eq!(receive_answer(client), Ok(expected));
        }
        return;
    }
    panic!("no worker accepts");
}
