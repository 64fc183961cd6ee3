//! `/echo` with the faults that its query or its headers request.

use std::io::{ErrorKind, Read};
use std::time::{Duration, Instant};

use frameloop::engine::Deadlines;
use frameloop::protocol::SizeLimits;
use frameloop::{Settings, app};

use crate::client::{Client, frame, reply, request};
use crate::report::{Kind, figure};
use crate::server::TestServer;

fn open(query: &str) -> Client {
    Client::open(TestServer::shared(), &format!("/echo?{query}"))
}

/// The status and body of the refusal.
fn refusal(request: &str) -> String {
    let mut client = Client::connect(TestServer::shared());
    client.send(request.as_bytes());
    let mut response = String::new();
    client.stream.read_to_string(&mut response).unwrap();
    response
}

#[test]
fn an_invalid_parameter_is_refused_with_its_name_and_range() {
    for (query, expected) in [
        (
            "delay=x",
            "delay=\"x\": must be a time from 0 to 60000 milliseconds, such as 100, 100ms or 0.1s",
        ),
        ("delay=60001", "0 to 60000"),
        ("jitter=-1", "jitter"),
        ("drop=1.1", "drop=\"1.1\": must be a share from 0 to 1"),
        ("dup=NaN", "dup"),
        ("reorder=", "reorder"),
        ("fragment=0", "from 1 to 16777216 bytes"),
        ("trickle=0", "bytes a second"),
        ("close=1005", "3000 to 4999"),
        ("close_after=1d", "close_after"),
        ("abort=1000001", "abort"),
        ("stall=-1", "stall"),
        ("ping=99", "from 100 to 3600000"),
        ("mute_pong=2", "empty, 1, true, 0 or false"),
        ("max_message_size=1048577", "from 1 to 1048576 bytes"),
        ("text&binary", "binary"),
        ("invalid=nope", "accept_key, subprotocol"),
        ("seed=x", "seed"),
    ] {
        let response = refusal(&request(&format!("/echo?{query}")));
        assert!(response.starts_with("HTTP/1.1 400 "), "{query}: {response}");
        assert!(response.contains(expected), "{query}: {response}");
    }
    let long = "x".repeat(124);
    assert!(refusal(&request(&format!("/echo?reason={long}"))).contains("123 bytes"));
}

#[test]
fn unknown_parameters_are_ignored() {
    let mut client = open("token=x&utm=1");
    client.send_text("hi");
    client.receives(&reply(0x81, b"hi"));
}

#[test]
fn headers_request_faults_too_and_the_query_takes_precedence() {
    let fields = "X-Echo-Close: 4001\r\nX-Echo-Reason: field\r\n\r\n";
    let request = request("/echo?close=4000").replace("\r\n\r\n", &format!("\r\n{fields}"));
    let mut client = Client::connect(TestServer::shared());
    client.send(request.as_bytes());
    client.receive_head();
    client.receives(b"\x88\x07\x0F\xA0field");
}

#[test]
fn delay_is_a_minimum_and_keeps_the_order() {
    let mut client = open("delay=150&jitter=50");
    let begin = Instant::now();
    client.send_text("a");
    client.send_text("b");
    client.receives(&[reply(0x81, b"a"), reply(0x81, b"b")].concat());
    assert!(begin.elapsed() >= Duration::from_millis(150));
}

/// 32 waits of 0 to 60 ms last about 960 ms.
#[test]
fn jitter_delays_each_echo_by_a_random_time() {
    let mut client = open("jitter=60ms&seed=7");
    let begin = Instant::now();
    for _ in 0..32 {
        client.send_text("a");
        client.receives(&reply(0x81, b"a"));
    }
    let took = begin.elapsed();
    assert!(took >= Duration::from_millis(300), "{took:?}");
}

/// Attack 8: of the Pongs that wait for a slow link only the last is kept (§5.5.3).
#[test]
fn attack_8_a_pong_replaces_the_one_that_waits() {
    let mut client = open("trickle=100");
    let pings: Vec<u8> = (0..100_u8).flat_map(|ping| frame(0x89, &[ping])).collect();
    client.send(&pings);
    let mut pongs = 0;
    loop {
        let (first, payload) = client.receive();
        assert_eq!(first, 0x8A);
        pongs += 1;
        if payload == [99] {
            break;
        }
    }
    assert!(pongs < 20, "{pongs} Pongs to 100 Pings");
}

#[test]
fn drop_does_not_affect_pongs() {
    let mut client = open("drop=1");
    client.send(&[frame(0x81, b"lost"), frame(0x89, b"p")].concat());
    client.receives(&reply(0x8A, b"p"));
}

#[test]
fn dup_sends_twice_and_reorder_swaps_messages() {
    let mut client = open("dup=1");
    client.send_text("a");
    client.receives(&[reply(0x81, b"a"), reply(0x81, b"a")].concat());
    let mut client = open("reorder=1");
    client.send_text("a");
    client.send_text("b");
    client.receives(&[reply(0x81, b"b"), reply(0x81, b"a")].concat());
}

#[test]
fn a_seed_repeats_its_faults() {
    let run = || {
        let mut client = open("drop=0.5&seed=7");
        for number in 0..64 {
            client.send_text(&number.to_string());
        }
        client.send(&frame(0x88, b""));
        let mut bytes = Vec::new();
        client.stream.read_to_end(&mut bytes).unwrap();
        bytes
    };
    let first = run();
    assert!(first.len() > 16 && first.len() < 64 * 4, "{first:?}");
    assert_eq!(first, run());
}

#[test]
fn fragment_splits_messages_and_text_and_binary_force_the_type() {
    let mut client = open("fragment=2&binary");
    client.send_text("abcde");
    client.receives(b"\x02\x02ab\x00\x02cd\x80\x01e");
    let mut client = open("text=1");
    client.send(&frame(0x82, b"a\xFF"));
    client.receives(&reply(0x81, "a\u{FFFD}".as_bytes()));
}

#[test]
fn trickle_limits_the_bytes_per_second() {
    let mut client = open("trickle=100");
    let begin = Instant::now();
    client.send_text(&"x".repeat(48));
    client.receives(&reply(0x81, &[b'x'; 48]));
    // 50 bytes, of which the first five go at once.
    assert!(begin.elapsed() >= Duration::from_millis(400));
}

#[test]
fn close_is_sent_at_once_or_after_messages_or_after_a_time() {
    let mut client = open("close=4000&reason=a%20b+c");
    client.receives(b"\x88\x07\x0F\xA0a b c");
    client.send(&frame(0x88, b"\x0F\xA0"));
    client.ends();

    let mut client = open("close_after=2");
    client.send_text("a");
    client.receives(&reply(0x81, b"a"));
    client.send_text("b");
    client.receives(&[reply(0x81, b"b"), reply(0x88, b"\x03\xE8")].concat());

    let mut client = open("close_after=50ms&close=1012");
    client.receives(&reply(0x88, b"\x03\xF4"));
}

#[test]
fn abort_resets_the_connection() {
    let mut client = open("abort=1");
    client.send_text("a");
    let error = loop {
        match client.stream.read(&mut [0; 16]) {
            Ok(0) => panic!("FIN"),
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

#[test]
fn stall_stops_reading() {
    let mut client = open("stall=1");
    client.send_text("a");
    client.receives(&reply(0x81, b"a"));
    client.send_text("b");
    assert!(client.is_silent_for(Duration::from_millis(200)));
}

#[test]
fn ping_sends_pings_and_mute_pong_answers_none() {
    let mut client = open("ping=100");
    for _ in 0..2 {
        client.receives(b"\x89\x00");
        // Attack 75: an unanswered Ping is not followed by another.
        assert!(client.is_silent_for(Duration::from_millis(250)));
        client.send(&frame(0x8A, b""));
    }
    let what = "ping=100, a client that never answers: Pings in 350 ms";
    figure(Kind::Attack, 75, what, "1", "1");
    figure(
        Kind::Attack,
        75,
        "ping=100, a client that answers after 250 ms, twice: Pings before each answer",
        "1; 1",
        "1; 1",
    );
    let mut client = open("mute_pong");
    client.send(&[frame(0x89, b"p"), frame(0x81, b"a")].concat());
    client.receives(&reply(0x81, b"a"));
}

#[test]
fn a_message_over_the_requested_size_closes_with_1009() {
    let mut client = open("max_message_size=3");
    client.send_text("abc");
    client.receives(&reply(0x81, b"abc"));
    client.send_text("abcd");
    client.closes_with(1009);
}

#[test]
fn the_answer_to_a_close_follows_delayed_echoes() {
    let mut client = open("delay=50");
    client.send(&[frame(0x81, b"a"), frame(0x88, b"\x03\xE8bye")].concat());
    client.receives(&[reply(0x81, b"a"), reply(0x88, b"\x03\xE8bye")].concat());
    client.ends();
}

#[test]
fn a_shutdown_closes_with_1001() {
    let server = TestServer::with(|server| server);
    let mut client = Client::open(&server, "/echo?delay=1");
    client.send_text("a");
    client.receives(&reply(0x81, b"a"));
    server.shutdown.drain();
    client.receives(b"\x88\x02\x03\xE9");
    client.send(&frame(0x88, b"\x03\xE9"));
    client.ends();
    server.stopped().unwrap();
}

/// `/echo` with a fault that has no effect, on a server with these settings.
fn open_with(settings: Settings) -> (TestServer, Client) {
    let server = TestServer::with(|server| server.with_settings(settings));
    let client = Client::open(&server, "/echo?drop=0");
    (server, client)
}

fn deadlines(change: impl FnOnce(&mut Deadlines)) -> Settings {
    let mut settings = Settings::default();
    change(&mut settings.deadlines);
    settings
}

#[test]
fn a_client_that_answers_no_ping_is_closed() {
    let (_server, mut client) = open_with(deadlines(|deadlines| {
        deadlines.ping_interval = Duration::from_millis(100);
        deadlines.ping_timeout = Duration::from_millis(300);
    }));
    for _ in 0..3 {
        client.receives(b"\x89\x00");
        client.send(&frame(0x8A, b""));
    }
    client.receives(b"\x89\x00");
    client.receives(&reply(0x88, b"\x03\xF0ping timeout"));
    client.ends();
}

/// A client is not silent because its echo is delayed.
#[test]
fn a_delayed_echo_does_not_cause_a_ping_timeout() {
    let settings = deadlines(|deadlines| {
        deadlines.ping_interval = Duration::from_millis(20);
        deadlines.ping_timeout = Duration::from_millis(20);
    });
    let server = TestServer::with(|server| server.with_settings(settings));
    let mut client = Client::open(&server, "/echo?delay=300");
    client.send_text("a");
    client.receives(&reply(0x81, b"a"));
}

#[test]
fn an_unfinished_message_closes_the_connection() {
    let (_server, mut client) = open_with(deadlines(|deadlines| {
        deadlines.message = Duration::from_millis(100);
    }));
    client.send(&frame(0x01, b"begun"));
    client.receives(&reply(0x88, b"\x03\xF0message not finished in time"));
    client.ends();
}

#[test]
fn an_unanswered_close_ends_after_the_close_timeout() {
    let server = TestServer::with(|server| {
        server.with_settings(deadlines(|deadlines| {
            deadlines.close = Duration::from_millis(100);
        }))
    });
    let mut client = Client::open(&server, "/echo?close=4000");
    client.receives(b"\x88\x02\x0F\xA0");
    client.ends();
}

#[test]
fn the_servers_message_rate_applies() {
    let (_server, mut client) = open_with(Settings {
        max_message_rate: Some(2),
        ..Settings::default()
    });
    client.send(&frame(0x81, b"a").repeat(3));
    client.receives(&reply(0x81, b"a").repeat(2));
    client.receives(&reply(0x88, b"\x03\xF0too many messages"));
}

#[test]
fn the_servers_message_limit_applies() {
    let (_server, mut client) = open_with(Settings {
        limits: SizeLimits {
            max_message_size: 3,
            max_frame_size: 3,
        },
        ..Settings::default()
    });
    client.send_text("abc");
    client.receives_text("abc");
    client.send(&[frame(0x01, b"ab"), frame(0x80, b"cd")].concat());
    client.closes_with(1009);
}

/// All connections of the server share this budget.
#[test]
fn unfinished_messages_share_the_servers_budget() {
    const PART: usize = 48 << 10;
    // Room for one message with any segmentation (a buffer holds 512 bytes more than its content
    // and doubles when it grows), but not for two.
    let settings = || Settings {
        max_unfinished_size: 2 * PART + 768,
        ..Settings::default()
    };
    let part = frame(0x01, &[b'a'; PART]);
    let (_server, mut alone) = open_with(settings());
    alone.send(&part);
    alone.send(&frame(0x80, b"b"));
    assert_eq!(alone.receive().1.len(), PART + 1);

    let (server, mut late) = open_with(settings());
    let mut first = Client::open(&server, "/echo");
    first.send(&part);
    first.send(&frame(0x89, b"read?"));
    first.receives(b"\x8A\x05read?");
    late.send(&part);
    late.closes_with(1013);
}

/// A seed repeats every random choice: which messages are lost, sent twice, and reordered.
#[test]
fn a_seed_repeats_every_fault_and_another_seed_does_not() {
    let run = |seed: u32| {
        let mut client = open(&format!("drop=0.3&dup=0.3&reorder=0.3&seed={seed}"));
        for number in 10..74 {
            client.send_text(&number.to_string());
        }
        client.send(&frame(0x88, b""));
        let mut bytes = Vec::new();
        client.stream.read_to_end(&mut bytes).unwrap();
        bytes
    };
    assert_eq!(run(7), run(7));
    assert_ne!(run(7), run(8));
}

/// Each parameter as a header, with an invalid value.
#[test]
fn every_invalid_header_is_refused_with_its_name_and_range() {
    for (name, value, range) in [
        ("delay", "60001", "from 0 to 60000 milliseconds"),
        ("jitter", "60001", "from 0 to 60000 milliseconds"),
        ("drop", "2", "a share from 0 to 1"),
        ("dup", "2", "a share from 0 to 1"),
        ("reorder", "2", "a share from 0 to 1"),
        ("fragment", "0", "from 1 to 16777216 bytes"),
        ("trickle", "0", "from 1 to 1000000000 bytes a second"),
        ("close", "999", "1000 to 1003, 1007 to 1014 or 3000 to 4999"),
        (
            "close_after",
            "x",
            "from 0 to 1000000, or a time from 0ms to 1h",
        ),
        ("abort", "x", "from 0 to 1000000, or a time from 0ms to 1h"),
        ("stall", "x", "from 0 to 1000000, or a time from 0ms to 1h"),
        ("ping", "99", "from 100 to 3600000 milliseconds"),
        ("mute_pong", "x", "empty, 1, true, 0 or false"),
        ("max_message_size", "0", "from 1 to 1048576 bytes"),
        ("text", "x", "empty, 1, true, 0 or false"),
        ("binary", "x", "empty, 1, true, 0 or false"),
        ("invalid", "x", "one of accept_key, "),
        ("seed", "-1", "from 0 to 18446744073709551615"),
    ] {
        let field = format!("X-Echo-{}: {value}", name.replace('_', "-"));
        let asked = request("/echo").replace("\r\n\r\n", &format!("\r\n{field}\r\n\r\n"));
        let response = refusal(&asked);
        assert!(response.starts_with("HTTP/1.1 400 "), "{name}: {response}");
        let (_, body) = response.split_once("\r\n\r\n").unwrap();
        let begin = format!("{name}=\"{value}\": must be ");
        assert!(body.starts_with(&begin), "{body}");
        assert!(body.contains(range), "{body}");
        let asked = request(&format!("/echo?{name}={value}"));
        let (_, same) = refusal(&asked)
            .split_once("\r\n\r\n")
            .map(|(head, body)| (head.to_owned(), body.to_owned()))
            .unwrap();
        assert_eq!(same, body);
    }
}

#[test]
fn each_violation_sends_what_its_name_says() {
    for (name, expected) in [
        ("opcode", &b"\x83\x02hi"[..]),
        ("control_opcode", b"\x8B\x00"),
        ("rsv1", b"\xC1\x02hi"),
        ("rsv2", b"\xA1\x02hi"),
        ("rsv3", b"\x91\x02hi"),
        ("utf8", b"\x81\x02\xC3\x28"),
        ("masked", b"\x81\x82\0\0\0\0hi"),
        ("oversized_control", b"\x89\x7E\0\x7E"),
        ("fragmented_control", b"\x09\x00"),
        ("length", b"\x81\x7E\0\x02hi"),
        ("length_msb", b"\x82\x7F\x80\0\0\0\0\0\0\0"),
        ("truncated", b"\x81\x02h"),
        ("continuation", b"\x80\x02hi"),
        ("interleaved", b"\x01\x01a\x81\x01b"),
        ("one_octet_close", b"\x88\x01\x03"),
        ("close_code", b"\x88\x02\x03\xED"),
        ("close_reason", b"\x88\x04\x03\xE8\xC3\x28"),
        ("after_close", b"\x88\x02\x03\xE8\x81\x02hi"),
    ] {
        let mut client = open(&format!("invalid={name}"));
        client.send_text("hi");
        let mut bytes = vec![0; expected.len()];
        client.stream.read_exact(&mut bytes).unwrap();
        assert_eq!(bytes, expected, "{name}");
        if name == "truncated" {
            client.ends();
        }
    }
}

#[test]
fn invalid_length_uses_64_bits_from_126_bytes_on() {
    for length in [126, 65_535, 65_536] {
        let mut client = open("invalid=length");
        client.send_text(&"x".repeat(length));
        let mut head = [0; 10];
        client.stream.read_exact(&mut head).unwrap();
        let sent = (length as u64).min(65_535).to_be_bytes();
        assert_eq!(head, *[&[0x81, 127], &sent[..]].concat());
    }
}

#[test]
fn each_handshake_violation_changes_its_header() {
    for (name, expected) in [
        (
            "accept_key",
            "Sec-WebSocket-Accept: AAAAAAAAAAAAAAAAAAAAAAAAAAA=\r\n",
        ),
        ("subprotocol", "Sec-WebSocket-Protocol: not.offered\r\n"),
        ("extension", "Sec-WebSocket-Extensions: x-not-offered\r\n"),
    ] {
        let mut client = Client::connect(TestServer::shared());
        client.send(request(&format!("/echo?invalid={name}")).as_bytes());
        let head = client.receive_head();
        assert!(head.contains(expected), "{name}: {head}");
    }
}

/// The server stops reading from a client that does not read its delayed echoes.
#[test]
fn delayed_echoes_are_limited_per_client() {
    let mut client = open("delay=60000");
    client.stream.set_nonblocking(true).unwrap();
    let message = frame(0x82, &[0; 60_000]);
    let mut accepted = 0;
    let mut idle_since = Instant::now();
    while idle_since.elapsed() < Duration::from_millis(500) {
        match std::io::Write::write(&mut client.stream, &message[accepted % message.len()..]) {
            Ok(bytes) => {
                accepted += bytes;
                idle_since = Instant::now();
            }
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
        }
        // 1 MiB and what the kernel buffers on both sides.
        assert!(accepted < 64 << 20, "the server does not stop reading");
    }
}

/// Attack 66: delayed echoes count towards the budget of unsent data of all clients.
#[test]
fn delayed_echoes_count_towards_the_servers_budget() {
    let settings = Settings {
        max_unsent_size: 1 << 20,
        ..Settings::default()
    };
    let server = TestServer::with(|server| server.with_settings(settings));
    let mut smaller = Client::open(&server, "/echo?delay=60000");
    smaller.send(&frame(0x82, &[0; 500_000]));
    smaller.send(&frame(0x89, b""));
    smaller.receives(b"\x8A\x00");
    let mut larger = Client::open(&server, "/echo?delay=60000");
    larger.send(&frame(0x82, &[0; 700_000]));
    larger.closes_with(1013);
    smaller.send(&frame(0x89, b""));
    smaller.receives(b"\x8A\x00");
    figure(
        Kind::Attack,
        66,
        "delayed echoes of 500,000 and 700,000 bytes, budget of unsent data 1 MiB: Close",
        "1013",
        "1013 for the larger; the smaller stays",
    );
}

#[test]
fn cut_does_not_wait_for_delayed_echoes() {
    let server = TestServer::with(|server| server);
    let mut client = Client::open(&server, "/echo?delay=60000");
    client.send_text("a");
    client.send(&frame(0x89, b""));
    server.shutdown.cut();
    server.stopped().unwrap();
}

#[test]
fn with_faults_disabled_the_query_is_ignored() {
    let router = app::router_with(app::AppSettings {
        faults: false,
        ..app::AppSettings::default()
    });
    let server = TestServer::serving(router, |server| server);
    let mut client = Client::open(&server, "/echo?invalid=rsv1&delay=x");
    client.send_text("hi");
    client.receives(&reply(0x81, b"hi"));
}

/// All times accept the same units as the flags.
#[test]
fn every_time_accepts_every_unit() {
    for query in [
        "delay=0.001s&jitter=0.5ms",
        "delay=1ms&ping=1s",
        "delay=1&ping=0.5m",
        "stall=1h",
        "close_after=60m",
        "abort=0.9h",
    ] {
        let mut client = open(query);
        client.send_text("hi");
        client.receives_text("hi");
    }
    let mut client = open("close_after=0.01s");
    client.receives(b"\x88\x02\x03\xE8");
    for (query, range) in [
        ("delay=61s", "from 0 to 60000 milliseconds"),
        ("ping=99ms", "from 100 to 3600000 milliseconds"),
        ("stall=61m", "or a time from 0ms to 1h"),
        ("stall=0.5", "or a time from 0ms to 1h"),
        ("delay=1d", "such as 100, 100ms or 0.1s"),
    ] {
        let response = refusal(&request(&format!("/echo?{query}")));
        assert!(response.starts_with("HTTP/1.1 400 "), "{query}: {response}");
        assert!(response.contains(range), "{query}: {response}");
    }
}
