//! Access control: tokens, connections per address, message rates.

use std::cmp::Ordering;
use std::hint::black_box;
use std::time::{Duration, Instant};

use frameloop::Settings;
use frameloop::handshake::{Policy, Subprotocols, Token, accept};

use crate::client::{Client, PATIENCE, close_frame, frame, request};
use crate::report::{Kind, figure};
use crate::server::TestServer;

const TOKEN: &str = "0123456789abcdef0123456789abcdef";

fn policy() -> Policy {
    Policy {
        token: Some(TOKEN.parse::<Token>().unwrap()),
        ..Policy::default()
    }
}

#[test]
fn r99_every_websocket_needs_the_token_and_pages_do_not() {
    let server = TestServer::with(|server| server.with_policy(policy()));
    let header = |value: &str| format!("Authorization: {value}\r\n");
    let cases: [(&str, String, &str); 11] = [
        ("/echo", header(&format!("Bearer {TOKEN}")), "101"),
        ("/broadcast", header(&format!("bearer {TOKEN}")), "101"),
        (&format!("/ws?token={TOKEN}"), String::new(), "101"),
        (&format!("/ws/1?a=b&token={TOKEN}"), String::new(), "101"),
        ("/echo", String::new(), "401"),
        ("/echo", header("Bearer "), "401"),
        ("/echo", header(&format!("Bearer {TOKEN}x")), "401"),
        ("/echo", header(&format!("Bearer {}", &TOKEN[1..])), "401"),
        ("/echo", header(&format!("Basic {TOKEN}")), "401"),
        ("/echo?token=", String::new(), "401"),
        // A parameter with the right token does not make up for a header with a wrong one.
        (
            &format!("/echo?token={TOKEN}"),
            header("Bearer wrong"),
            "401",
        ),
    ];
    for (path, fields, status) in cases {
        let mut client = Client::connect(&server);
        let request = request(path).replace("Upgrade: web", &format!("{fields}Upgrade: web"));
        client.send(request.as_bytes());
        let head = client.receive_head();
        assert_eq!(&head[9..12], status, "{request}");
        if status == "401" {
            assert!(head.contains("\r\nWww-Authenticate: Bearer\r\n"), "{head}");
        }
    }
    let mut client = Client::connect(&server);
    client.send(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert!(client.receive_head().starts_with("HTTP/1.1 200 "));
}

/// The head of a handshake with this token.
fn head_with(token: &str) -> http::request::Parts {
    let (head, ()) = http::Request::get("/echo")
        .header("Host", "localhost")
        .header("Upgrade", "websocket")
        .header("Connection", "Upgrade")
        .header("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")
        .header("Sec-WebSocket-Version", "13")
        .header("Authorization", format!("Bearer {token}"))
        .body(())
        .unwrap()
        .into_parts();
    head
}

/// A sign test over pairs of tokens: one wrong in its first byte, one in its last. Counts the pairs
/// in which `refuse` takes longer for the second token. Returns the distance of this count from
/// half of the pairs, in standard deviations.
///
/// Chance decides which token of a pair comes first, and each head is built anew, so caches favour
/// neither. Other work on the machine slows both equally often.
fn sign_statistic(pairs: u32, token: &str, refuse: impl Fn(&http::request::Parts) -> bool) -> f64 {
    let wrong_at_once = format!("x{}", &token[1..]);
    let wrong_at_last = format!("{}x", &token[..token.len() - 1]);
    let mut random = fastrand::Rng::with_seed(49);
    let time = |token: &str| {
        let head = head_with(token);
        let began = Instant::now();
        let refused = black_box(refuse(black_box(&head)));
        let took = began.elapsed();
        assert!(refused);
        took
    };
    let mut longer = 0.0;
    for _ in 0..pairs {
        let (once, last) = if random.bool() {
            let once = time(&wrong_at_once);
            (once, time(&wrong_at_last))
        } else {
            let last = time(&wrong_at_last);
            (time(&wrong_at_once), last)
        };
        longer += match last.cmp(&once) {
            Ordering::Greater => 1.0,
            Ordering::Equal => 0.5,
            Ordering::Less => 0.0,
        };
    }
    let pairs = f64::from(pairs);
    (longer - pairs / 2.0) / (pairs / 4.0).sqrt()
}

/// Attack 49: the time of a refusal must not show how many bytes of a token are right. The test
/// times the check itself, because the noise of a socket would hide a difference.
///
/// The same run must detect a comparison that stops at the first difference.
#[test]
fn attack_49_a_token_is_compared_in_constant_time() {
    // An unoptimised comparison takes as long as thirty optimised ones.
    const PAIRS: u32 = if cfg!(debug_assertions) {
        2_000
    } else {
        50_000
    };
    // With a long token, a comparison that stops early saves more time than the noise.
    let token = TOKEN.repeat(512);
    let policy = Policy {
        token: Some(token.parse().unwrap()),
        ..Policy::default()
    };
    let accepts = |head: &http::request::Parts, policy: &Policy| {
        accept(head, policy, &Subprotocols::None, None).is_ok()
    };
    let is_refused = |head: &http::request::Parts| !accepts(head, &policy);
    let (expected, open) = (format!("Bearer {token}"), Policy::default());
    let stops_early = |head: &http::request::Parts| {
        accepts(head, &open) && head.headers["Authorization"].as_bytes() != expected.as_bytes()
    };
    let seen = sign_statistic(PAIRS, &token, stops_early).abs();
    let z = sign_statistic(PAIRS, &token, is_refused).abs();
    figure(
        Kind::Attack,
        49,
        format_args!(
            "{} handshakes, wrong in the token's first or last byte: frameloop; a comparison that stops early",
            2 * PAIRS
        ),
        "|z| < 4.5; > 4.5",
        format_args!("|z| = {z:.1}; {seen:.1}"),
    );
    assert!(z < 4.5, "|z| = {z}");
    assert!(
        seen > 4.5,
        "the comparison that stops early is not detected: |z| = {seen}"
    );
}

#[test]
fn attack_36_websockets_per_address_are_limited_and_a_closed_one_frees_its_slot() {
    let server = TestServer::with(|server| server.with_max_connections_per_address(Some(3)));
    let mut clients: Vec<Client> = (0..3).map(|_| Client::open(&server, "/echo")).collect();
    let status = || {
        let mut client = Client::connect(&server);
        client.send(request("/echo").as_bytes());
        client.receive_head()[9..12].to_owned()
    };
    assert_eq!(status(), "503");
    // A refused request takes no slot, and each way of disconnecting frees its slot.
    let mut leaver = clients.remove(0);
    leaver.send(&close_frame(1000, b""));
    leaver.receives(b"\x88\x02\x03\xE8");
    drop(leaver);
    drop(clients.remove(0));
    let began = Instant::now();
    let mut opened = 0;
    while opened < 3 {
        opened += usize::from(status() == "101");
        assert!(began.elapsed() < PATIENCE, "no slot was freed");
    }
    figure(
        Kind::Attack,
        36,
        "WebSockets from one address with --max-connections-per-address 3",
        "3, then 503",
        "3, then 503",
    );
}

#[test]
fn attack_36_a_client_over_the_message_rate_is_closed_with_1008() {
    const RATE: u32 = 20;
    let server = TestServer::with(|server| {
        server.with_settings(Settings {
            max_message_rate: Some(RATE),
            ..Settings::default()
        })
    });
    let mut client = Client::open(&server, "/echo");
    client.send(&frame(0x81, b"x").repeat(10 * RATE as usize));
    let mut echoes = 0;
    let (code, began) = loop {
        match client.receive() {
            (0x81, _) => echoes += 1,
            (first, payload) => break ((first, payload), Instant::now()),
        }
    };
    assert_eq!(code, (0x88, b"\x03\xF0too many messages".to_vec()));
    client.send(&close_frame(1008, b""));
    client.ends();
    assert!(began.elapsed() < PATIENCE);
    figure(
        Kind::Attack,
        36,
        "echoes of a burst of 200 with --max-message-rate 20",
        "20, then 1008",
        format_args!("{echoes}, then 1008"),
    );
    assert!((RATE..2 * RATE).contains(&echoes), "{echoes}");
    // A client within the rate stays connected.
    let mut client = Client::open(&server, "/echo");
    for _ in 0..RATE + 5 {
        client.send_text("x");
        client.receives_text("x");
        std::thread::park_timeout(Duration::from_secs(1) / RATE);
    }
}
