//! Attacks that no other topic covers, each with its figure. Times are printed; a test judges a
//! time only where a missing defence would multiply it.

use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use frameloop::Settings;
use frameloop::handshake::{AllowOrigin, Policy, Subprotocols, accept};
use frameloop::protocol::SizeLimits;
use frameloop::server::Server;

use crate::client::{Client, close_frame, frame, reply, request};
use crate::report::{Kind, figure};
use crate::server::TestServer;

fn echo() -> Client {
    Client::open(TestServer::shared(), "/echo")
}

/// Sends a request and returns the status of the response. Fails if the connection carries a second
/// response.
fn status_then_end(server: &TestServer, sent: &[u8]) -> String {
    let mut client = Client::connect(server);
    client.send(sent);
    let head = client.receive_head();
    let length = head.split("Content-Length: ").nth(1).unwrap();
    let length = length.split("\r\n").next().unwrap().parse().unwrap();
    let mut body = vec![0; length];
    std::io::Read::read_exact(&mut client.stream, &mut body).unwrap();
    client.ends();
    head[9..12].to_owned()
}

/// The longest of `times`.
fn longest(times: &[Duration]) -> String {
    format!("{:.1?}", times.iter().max().unwrap())
}

#[test]
fn attacks_1_11_12_and_51_bad_frame_headers_are_refused_before_their_payload_arrives() {
    let cases: [(u32, &str, &[u8], u16); 9] = [
        (1, "length 2^63", b"\x82\xFF\x80\0\0\0\0\0\0\0", 1002),
        (
            1,
            "length 2^64 - 1",
            b"\x82\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF",
            1002,
        ),
        (
            1,
            "length 2^63 - 1",
            b"\x82\xFF\x7F\xFF\xFF\xFF\xFF\xFF\xFF\xFF",
            1009,
        ),
        (
            1,
            "Pong of 2^64 - 1",
            b"\x0A\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF",
            1002,
        ),
        (11, "Ping of 126", b"\x89\xFE\0\x7E", 1002),
        (11, "fragmented Ping", b"\x09\x80\0\0\0\0", 1002),
        (11, "Close of 126", b"\x88\xFE\0\x7E", 1002),
        (12, "RSV1 without extension", b"\xC1\x81\0\0\0\0", 1002),
        (51, "unmasked frame", b"\x81\x01", 1002),
    ];
    for (row, what, header, code) in cases {
        let times: Vec<Duration> = (0..10)
            .map(|_| {
                let mut client = echo();
                let began = Instant::now();
                client.send(header);
                let (first, payload) = client.receive();
                let took = began.elapsed();
                assert_eq!(
                    (first, &payload[..2]),
                    (0x88, &code.to_be_bytes()[..]),
                    "{what}"
                );
                client.ends();
                took
            })
            .collect();
        figure(
            Kind::Attack,
            row,
            format_args!("{what}: Close code; the longest wait for it in 10 runs"),
            format_args!("{code}, < 50 ms"),
            format_args!("{code}, {}", longest(&times)),
        );
    }
}

#[test]
fn attack_4_fragments_beyond_the_message_limit_are_refused() {
    const LIMIT: usize = 1 << 20;
    let server = TestServer::with(|server| {
        server.with_settings(Settings {
            limits: SizeLimits {
                max_message_size: LIMIT,
                ..SizeLimits::default()
            },
            ..Settings::default()
        })
    });
    let mut client = Client::open(&server, "/echo");
    client.send(&frame(0x01, &[b'a'; 64]));
    client.send(&frame(0x00, &[b'a'; 64]).repeat(LIMIT / 64 - 1));
    assert!(client.is_silent_for(Duration::from_millis(50)));
    client.send(&frame(0x00, b"a"));
    client.closes_with(1009);
    figure(
        Kind::Attack,
        4,
        "64-byte fragments, message limit 1 MiB: Close",
        "1009 one byte past the limit",
        "1009 one byte past the limit",
    );
}

/// The connections of a worker take turns, so a client that floods the server does not delay the
/// others.
#[test]
fn attack_6_a_flood_of_empty_fragments_delays_no_other_client() {
    let server = TestServer::with(|server| server.with_workers(1));
    let mut others: Vec<Client> = (0..10).map(|_| Client::open(&server, "/echo")).collect();
    let over = Arc::new(AtomicBool::new(false));
    let flood = {
        let (over, address) = (Arc::clone(&over), server.address);
        thread::spawn(move || {
            // As many empty fragments as the limit allows, again and again; after that one fragment
            // more than the limit.
            let mut allowed = frame(0x01, b"");
            allowed.extend(frame(0x00, b"").repeat(1_022));
            allowed.extend(frame(0x80, b""));
            let mut client = Client {
                stream: TcpStream::connect(address).unwrap(),
            };
            client.send(request("/echo").as_bytes());
            client.receive_head();
            while !over.load(Ordering::Relaxed) {
                client.send(&allowed.repeat(10));
                client.receives(&reply(0x81, b"").repeat(10));
            }
            client.send(&[frame(0x01, b""), frame(0x00, b"").repeat(1_024)].concat());
            client.closes_with(1008);
        })
    };
    let mut times = Vec::new();
    for _ in 0..100 {
        for other in &mut others {
            let began = Instant::now();
            other.send_text("hi");
            other.receives_text("hi");
            times.push(began.elapsed());
        }
    }
    over.store(true, Ordering::Relaxed);
    flood.join().unwrap();
    times.sort();
    figure(
        Kind::Attack,
        6,
        "endless empty fragments: Close; p99 echo time of 10 other clients meanwhile",
        "1008 after 1,024; < 5 ms",
        format_args!("1008 after 1,024; {:.1?}", times[times.len() * 99 / 100]),
    );
}

#[test]
fn attack_9_control_frames_between_fragments_are_all_answered() {
    const PINGS: usize = 100_000;
    let mut client = echo();
    let mut writer = client.stream.try_clone().unwrap();
    let began = Instant::now();
    let writing = thread::spawn(move || {
        let mut sent = frame(0x01, b"a");
        sent.extend(frame(0x89, b"").repeat(PINGS));
        sent.extend(frame(0x80, b"b"));
        std::io::Write::write_all(&mut writer, &sent).unwrap();
    });
    client.receives(&reply(0x8A, b"").repeat(PINGS));
    client.receives_text("ab");
    writing.join().unwrap();
    figure(
        Kind::Attack,
        9,
        "100,000 Pings inside a message: Pongs received; message echoed; time",
        "100,000; whole",
        format_args!("100,000; whole; {:.1?}", began.elapsed()),
    );
}

#[test]
fn attacks_17_and_18_request_heads_over_the_limit_are_refused_while_they_arrive() {
    let server = TestServer::shared();
    let mut client = Client::connect(server);
    client.send(b"GET /echo HTTP/1.1\r\nX: ");
    let began = Instant::now();
    let mut sent = 0;
    while sent < 20 << 20 && std::io::Write::write_all(&mut client.stream, &[b'x'; 4 << 10]).is_ok()
    {
        sent += 4 << 10;
    }
    figure(
        Kind::Attack,
        17,
        "a 20 MB header sent in pieces of 4 KiB: bytes sent before the connection ends",
        "< 20 MB: 431 at 16 KiB, then at most 1 MiB more and the socket buffers",
        format_args!("{} KiB in {:.1?}", sent >> 10, began.elapsed()),
    );
    assert!(sent < 16 << 20, "{sent} bytes were sent");
    let many = |headers: usize| {
        let more = "X-A: 1\r\n".repeat(headers - 5);
        request("/echo").replace("Upgrade: web", &format!("{more}Upgrade: web"))
    };
    let mut client = Client::connect(server);
    client.send(many(100).as_bytes());
    assert!(client.receive_head().starts_with("HTTP/1.1 101 "));
    assert_eq!(status_then_end(server, many(101).as_bytes()), "431");
    figure(
        Kind::Attack,
        18,
        "100 headers; 101 headers",
        "101; 431",
        "101; 431",
    );
}

/// The time that the check of a head with this field takes: the shortest of many runs.
fn check(fields: &[(&str, &str)]) -> Duration {
    let mut head = http::Request::get("/echo")
        .header("Host", "localhost")
        .header("Upgrade", "websocket")
        .header("Connection", "Upgrade")
        .header("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")
        .header("Sec-WebSocket-Version", "13");
    for (name, value) in fields {
        head = head.header(*name, *value);
    }
    let (head, ()) = head.body(()).unwrap().into_parts();
    (0..200)
        .map(|_| {
            let began = Instant::now();
            let _ =
                std::hint::black_box(accept(&head, &Policy::default(), &Subprotocols::None, None));
            began.elapsed()
        })
        .min()
        .unwrap()
}

#[test]
fn attack_19_header_lists_are_parsed_in_linear_time() {
    type Value = fn(usize) -> String;
    let values: [(&str, &str, Value); 4] = [
        (
            "Sec-WebSocket-Extensions",
            "an unclosed quoted string",
            |length| format!("a; b=\"{}", "\\c".repeat(length / 2)),
        ),
        ("Sec-WebSocket-Extensions", "offers", |length| {
            "a, ".repeat(length / 3)
        }),
        ("Sec-WebSocket-Protocol", "spaces", |length| {
            format!("b{}x", " ".repeat(length))
        }),
        ("Sec-WebSocket-Protocol", "different tokens", |length| {
            (0..length / 6)
                .map(|number| format!("{number:04}, "))
                .collect::<String>()
                + "x"
        }),
    ];
    for (name, what, value) in values {
        let [half, whole] =
            [8 << 10, 16 << 10].map(|length| check(&[(name, &value(length))]).as_secs_f64());
        let ratio = whole / half;
        figure(
            Kind::Attack,
            19,
            format_args!("{name}, {what}: time for 16 KiB divided by time for 8 KiB"),
            "< 2.5",
            format_args!("{ratio:.2}"),
        );
        // A quadratic parser has a ratio of 4.
        assert!(ratio < 3.5, "{name}, {what}: {ratio}");
    }
}

#[test]
fn attacks_23_and_24_a_refused_handshake_gets_one_response_and_the_connection_ends() {
    let server = TestServer::shared();
    let smuggled = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let with = |field: &str, body: &str| {
        let head = request("/echo").replace("Upgrade: web", &format!("{field}\r\nUpgrade: web"));
        format!("{head}{body}").into_bytes()
    };
    let length = format!("Content-Length: {}", smuggled.len());
    let chunked = format!("{:x}\r\n{smuggled}\r\n0\r\n\r\n", smuggled.len());
    for (row, what, sent, status) in [
        (
            23,
            "Content-Length and a request as body",
            with(&length, smuggled),
            "400",
        ),
        (
            23,
            "a chunked body that contains a request",
            with("Transfer-Encoding: chunked", &chunked),
            "400",
        ),
        (
            24,
            "version 1777, then a request",
            [
                request("/echo").replace(": 13", ": 1777"),
                smuggled.to_owned(),
            ]
            .concat()
            .into_bytes(),
            "426",
        ),
    ] {
        assert_eq!(status_then_end(server, &sent), status, "{what}");
        figure(
            Kind::Attack,
            row,
            format_args!("{what}: answers"),
            format_args!("one, {status}"),
            format_args!("one, {status}"),
        );
    }
}

#[test]
fn attacks_27_to_29_invalid_handshake_headers_are_refused() {
    let server = TestServer::with(|server| {
        server.with_policy(Policy {
            allowed_origins: AllowOrigin::Listed(vec!["https://good.example".parse().unwrap()]),
            allowed_hosts: vec!["localhost".parse().unwrap()],
            ..Policy::default()
        })
    });
    let with = |field: &[u8]| {
        let request = request("/echo").into_bytes();
        let (line, rest) = request.split_at("GET /echo HTTP/1.1\r\n".len());
        [line, field, b"\r\n", rest].concat()
    };
    let foreign = request("/echo")
        .replace("localhost", "evil.example")
        .into_bytes();
    let cases: [(u32, &str, Vec<u8>, &str); 6] = [
        (
            27,
            "subprotocol with byte 0x85",
            with(b"Sec-WebSocket-Protocol: chat\x85X: 1"),
            "400",
        ),
        (
            28,
            "foreign Origin",
            with(b"Origin: https://evil.example"),
            "403",
        ),
        (
            28,
            "Origin with ours as a prefix",
            with(b"Origin: https://good.example.evil"),
            "403",
        ),
        (
            28,
            "Origin with an IP address",
            with(b"Origin: http://127.0.0.1"),
            "403",
        ),
        (28, "Origin null", with(b"Origin: null"), "403"),
        (29, "foreign Host", foreign, "421"),
    ];
    for (row, what, sent, status) in cases {
        let answer = status_then_end(&server, &sent);
        assert_eq!(answer, status, "{what}");
        figure(Kind::Attack, row, what, status, answer);
    }
}

#[test]
fn attack_36_thousands_of_short_connections_are_served() {
    const CONNECTIONS: usize = 2_000;
    let server = TestServer::with(|server| server);
    let began = Instant::now();
    for _ in 0..CONNECTIONS {
        let mut client = Client::open(&server, "/echo");
        client.send(&close_frame(1000, b""));
        client.receives(b"\x88\x02\x03\xE8");
        client.ends();
    }
    let a_second = CONNECTIONS as f64 / began.elapsed().as_secs_f64();
    figure(
        Kind::Attack,
        36,
        "2,000 connections opened and closed one after another",
        "all served",
        format_args!("all served, {a_second:.0} a second"),
    );
}

/// Connections in TIME_WAIT do not block the port.
#[test]
fn attack_37_a_server_starts_again_on_its_port_at_once() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    for _ in 0..3 {
        let server = runtime
            .block_on(Server::bind(&address.to_string()))
            .unwrap();
        let shutdown = server.shutdown();
        let serving = thread::spawn(move || {
            tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap()
                .block_on(server.serve(frameloop::app::router()))
        });
        for _ in 0..20 {
            let mut client = Client {
                stream: TcpStream::connect(address).unwrap(),
            };
            client.send(request("/echo").as_bytes());
            client.receive_head();
            client.send(&close_frame(1000, b""));
            client.receives(b"\x88\x02\x03\xE8");
            client.ends();
        }
        shutdown.drain();
        serving.join().unwrap().unwrap();
    }
    figure(
        Kind::Attack,
        37,
        "20 connections closed by the server, then a restart on the same port, 3 times",
        "starts",
        "starts",
    );
}

#[test]
fn attacks_52_and_53_text_fails_at_its_first_invalid_byte() {
    let times: Vec<Duration> = (0..10)
        .map(|_| {
            let mut client = echo();
            let began = Instant::now();
            client.send(b"\x81\xFE\x10\0\0\0\0\0\xCE\xBA\xE1\xBD\xB9\xF4\x90");
            let (first, payload) = client.receive();
            let took = began.elapsed();
            assert_eq!((first, &payload[..2]), (0x88, &b"\x03\xEF"[..]));
            client.ends();
            took
        })
        .collect();
    figure(
        Kind::Attack,
        52,
        "first 7 bytes of a 4,096-byte frame, the last one invalid: Close; longest wait of 10",
        "1007 without the rest",
        format_args!("1007, {}", longest(&times)),
    );
    let text = "κόσμε".as_bytes();
    let mut client = echo();
    for cut in 0..=text.len() {
        let (head, tail) = text.split_at(cut);
        client.send(&[frame(0x01, head), frame(0x80, tail)].concat());
        client.receives(&reply(0x81, text));
    }
    let bad: [&[u8]; 5] = [
        b"\xED\xA0\x80",
        b"\xC0\x80",
        b"\xF4\x90\x80\x80",
        b"\xFE",
        b"\xFF",
    ];
    for bytes in bad {
        for cut in 0..bytes.len() {
            let (head, tail) = bytes.split_at(cut);
            let mut client = echo();
            client.send(&[frame(0x01, head), frame(0x80, tail)].concat());
            client.closes_with(1007);
        }
    }
    figure(
        Kind::Attack,
        53,
        "text cut at every byte; 5 bad sequences cut at every byte",
        "echoed; 1007",
        "echoed; 1007",
    );
}
