//! Version, key, Origin, subprotocols, and the order of the checks.

use frameloop::handshake::{AllowOrigin, HandshakeError, Policy, Subprotocols};
use frameloop::{Endpoint, Message, Router, WebSocket};

use crate::handshake::{
    ACCEPTED, AGREED, Agreed, Expected, Head, check, numbered, row, speaks, valid,
};
use crate::server::TestServer;

use Expected::{Accepted, Refused, Unread};
use HandshakeError::{
    Extensions, Key, Origin, RepeatedOrigin, RepeatedVersion, Subprotocols as NoTokens,
    Unauthorized, Version,
};

fn echo(socket: &mut WebSocket<'_>, message: Message<'_>) {
    if message.is_data() {
        socket.send(message);
    }
}

#[test]
fn only_version_13_is_accepted() {
    check(
        TestServer::shared(),
        [
            row(
                "56 57 58 other versions",
                Refused(426, Version),
                [
                    "8", "12", "14", "0", "255", "013", "+13", "13.0", "1777", "", "13, 8",
                    "13,13", "\"13\"",
                ]
                .map(|version| valid().with(format!("Sec-WebSocket-Version: {version}")))
                .into_iter()
                .chain([valid().without("Sec-WebSocket-Version")]),
            ),
            row(
                "59 two versions",
                Refused(400, RepeatedVersion),
                ["13", "8", ""]
                    .map(|version| valid().and(format!("Sec-WebSocket-Version: {version}"))),
            ),
        ],
    );
}

#[test]
fn the_key_must_be_16_bytes_in_base64() {
    check(
        TestServer::shared(),
        [
            row(
                "60 61 62 no key",
                Refused(400, Key),
                [
                    "",
                    "AQIDBAUGBwgJCgsMDQ4P",
                    "AQIDBAUGBwgJCgsMDQ4PEBE=",
                    "AQIDBAUGBwgJCgsMDQ4PEBES",
                    "dGhlIHNhbXBsZSBub25jZQ",
                    "dGhlIHNhbXBsZSBub25jZQ=",
                    "dGhlIHNhbXBsZSBub25jZQ=A",
                    "dGhlIHNhbXBsZSBub25jZQ===",
                    "dGhl_HNhbXBsZSBub25jZQ==",
                    "dGhl-HNhbXBsZSBub25jZQ==",
                    "dGhl HNhbXBsZSBub25jZQ==",
                    "dGhlIHNhbXBsZSBub25j\u{E9}==",
                    "\"dGhlIHNhbXBsZSBub25jZQ==\"",
                ]
                .map(|key| valid().with(format!("Sec-WebSocket-Key: {key}"))),
            ),
            row(
                "60 64 86 no key, or two keys",
                Refused(400, Key),
                [
                    valid().without("Sec-WebSocket-Key"),
                    valid().and("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="),
                    valid().and("Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA=="),
                    valid()
                        .without("Sec-WebSocket-Key")
                        .and("Sec_WebSocket_Key: dGhlIHNhbXBsZSBub25jZQ=="),
                ],
            ),
            row(
                "63 a key with non-zero spare bits is hashed unchanged",
                Accepted(Agreed {
                    accept: "NRJrplgTSmBqvVaQhF+6peBS1S8=",
                    ..AGREED
                }),
                [valid().with("Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAB==")],
            ),
            row(
                "65 white space around a key is not hashed",
                ACCEPTED,
                [valid().with("Sec-WebSocket-Key: \t dGhlIHNhbXBsZSBub25jZQ== \t")],
            ),
            row(
                "86 100 unknown headers",
                ACCEPTED,
                [
                    valid().and("Sec_WebSocket_Key: AAAAAAAAAAAAAAAAAAAAAA=="),
                    valid().and("Sec-WebSocket-Accept: AAAAAAAAAAAAAAAAAAAAAAAAAAA="),
                    valid().and("Sec-WebSocket-Nonce: AAAAAAAAAAAAAAAAAAAAAA=="),
                    valid().and("Sec-WebSocket-Key1: 4 @1  46546xW%0l 1 5"),
                ],
            ),
        ],
    );
}

fn origins(origins: &[&str]) -> Vec<Head> {
    origins
        .iter()
        .map(|origin| valid().and(format!("Origin: {origin}")))
        .collect()
}

fn origin_server(allowed: &[&str], require_origin: bool) -> TestServer {
    let allowed = allowed.iter().map(|origin| origin.parse().unwrap());
    let policy = Policy {
        allowed_origins: AllowOrigin::Listed(allowed.collect()),
        require_origin,
        ..Policy::default()
    };
    TestServer::with(|server| server.with_policy(policy))
}

#[test]
fn any_origin_may_connect_unless_some_are_listed() {
    check(
        TestServer::shared(),
        [
            row(
                "66 69 70 no list",
                ACCEPTED,
                origins(&["https://any.example", "null", "http://127.0.0.1:3000"]),
            ),
            row(
                "71 two origins",
                Refused(400, RepeatedOrigin),
                [valid().and("Origin: null").and("Origin: null")],
            ),
        ],
    );
}

#[test]
fn listed_origins_may_connect_and_no_others() {
    let listed = ["https://good.example", "http://localhost:3000"];
    check(
        &origin_server(&listed, false),
        [
            row("66 not a browser", ACCEPTED, [valid()]),
            row(
                "67 listed",
                ACCEPTED,
                origins(&[
                    "https://good.example",
                    "https://GOOD.Example",
                    "HTTPS://good.example:443",
                    "http://localhost:3000",
                ]),
            ),
            row(
                "68 69 70 71 not listed",
                Refused(403, Origin),
                origins(&[
                    "https://good.example:8443",
                    "http://good.example",
                    "http://localhost",
                    "http://localhost:3001",
                    "https://good.example.evil.test",
                    "https://evilgood.example",
                    "https://sub.good.example",
                    "https://good.example.",
                    "https://good.example/",
                    "https://good.example@evil.test",
                    "good.example",
                    "null",
                    "https://127.0.0.1",
                    "http://192.168.0.1",
                    "https://[::1]",
                    "https://good.example, https://good.example",
                    "",
                    "*",
                ]),
            ),
            row(
                "71 two origins",
                Refused(400, RepeatedOrigin),
                [valid()
                    .and("Origin: https://good.example")
                    .and("Origin: https://good.example")],
            ),
            row(
                "72 8 KiB, and bytes above 127",
                Refused(403, Origin),
                [
                    valid().and(format!("Origin: https://{}", "a".repeat(8 << 10))),
                    valid().and(b"Origin: https://good.example\xFF"),
                ],
            ),
            row(
                "72 an ESC",
                Unread(400),
                origins(&["https://good.example\x1B[31m"]),
            ),
        ],
    );
    check(
        &origin_server(&["https://good.example", "null", "http://127.0.0.1"], true),
        [
            row("66 not a browser", Refused(403, Origin), [valid()]),
            row(
                "67 69 70 listed",
                ACCEPTED,
                origins(&["https://good.example", "null", "http://127.0.0.1"]),
            ),
        ],
    );
}

/// `/listed` speaks two subprotocols, `/none` none.
fn subprotocol_server() -> TestServer {
    let listed = Subprotocols::Supported(vec!["chat".into(), "b".into()]);
    let router = Router::new()
        .endpoint("/listed", Endpoint::new(|_| echo).with_subprotocols(listed))
        .websocket("/none", |_| echo);
    TestServer::serving(router, |server| server)
}

fn offers(target: &str, offers: &[&str]) -> Vec<Head> {
    offers
        .iter()
        .map(|offer| {
            valid()
                .target(target)
                .and(format!("Sec-WebSocket-Protocol: {offer}"))
        })
        .collect()
}

#[test]
fn the_clients_first_supported_subprotocol_is_chosen() {
    check(
        &subprotocol_server(),
        [
            row(
                "73 74 supported",
                speaks("chat"),
                offers(
                    "/listed",
                    &["chat", "a, chat, b", "chat,b", "\tchat\t,", "Chat, chat"],
                ),
            ),
            row(
                "74 the client's order",
                speaks("b"),
                offers("/listed", &["b, chat", "a,b ,chat"])
                    .into_iter()
                    .chain([valid()
                        .target("/listed")
                        .and("Sec-WebSocket-Protocol: a")
                        .and("Sec-WebSocket-Protocol: b")
                        .and("Sec-WebSocket-Protocol: chat")]),
            ),
            row(
                "76 no common subprotocol, or no offer",
                ACCEPTED,
                offers("/listed", &["a", "CHAT", "chat2, cha"])
                    .into_iter()
                    .chain(offers("/none", &["chat", "a, b"]))
                    .chain([valid().target("/listed"), valid().target("/none")]),
            ),
        ],
    );
    check(
        TestServer::shared(),
        [
            row(
                "75 any subprotocol is accepted",
                speaks("a"),
                offers("/echo", &["a", "a, b"])
                    .into_iter()
                    .chain(offers("/", &["a"]))
                    .chain(offers("/broadcast", &["a"])),
            ),
            row(
                "78 empty elements",
                speaks("a"),
                offers("/echo", &["a,,b", ", ,a"]),
            ),
            row(
                "79 all characters of a token",
                speaks("!#$%&'*+-.^_`|~09aZ"),
                offers("/echo", &["!#$%&'*+-.^_`|~09aZ"]),
            ),
            row(
                "81 1,000 subprotocols",
                speaks("number-000000"),
                offers("/echo", &[&numbered("number-", 1_000)]),
            ),
            row("75 none offered", ACCEPTED, [valid().target("/echo")]),
        ],
    );
}

#[test]
fn subprotocols_must_be_distinct_tokens() {
    let malformed = [
        "", ",", "  ", " , ,\t", "a b", "a/b", "\"a\"", "a;b", "a=b", "\u{E9}", "a, a", "a,b,a",
    ];
    check(
        TestServer::shared(),
        ["/ws", "/echo"].map(|target| {
            row(
                "77 79 80 not a list of distinct tokens",
                Refused(400, NoTokens),
                offers(target, &malformed).into_iter().chain([valid()
                    .target(target)
                    .and("Sec-WebSocket-Protocol: a")
                    .and("Sec-WebSocket-Protocol: a")]),
            )
        }),
    );
}

/// The endpoint refuses requests without Authorization, and the server is full.
#[test]
fn the_first_failing_check_decides_the_refusal() {
    let router = Router::new().endpoint(
        "/members",
        Endpoint::refusing(|request| match request.headers().get("authorization") {
            Some(_) => Ok(echo),
            None => Err(Unauthorized),
        }),
    );
    let policy = Policy {
        allowed_origins: AllowOrigin::Listed(vec!["null".parse().unwrap()]),
        token: None,
        allowed_hosts: vec!["localhost".parse().unwrap()],
        ..Policy::default()
    };
    let server = TestServer::serving(router, |server| {
        server.with_policy(policy).with_max_connections(0)
    });
    type Fault = (u16, HandshakeError, fn(Head) -> Head);
    let faults: [Fault; 15] = [
        (400, HandshakeError::Host, |head| head.and("Host: another")),
        (421, HandshakeError::MisdirectedRequest, |head| {
            head.with("Host: evil.example")
        }),
        (404, HandshakeError::NotFound, |head| {
            head.target("/nowhere")
        }),
        (405, HandshakeError::MethodNotAllowed, |head| {
            head.method("POST")
        }),
        (400, HandshakeError::Body, |head| {
            head.and("Content-Length: 5")
        }),
        (426, HandshakeError::Upgrade, |head| {
            head.with("Upgrade: h2c")
        }),
        (400, HandshakeError::Connection, |head| {
            head.with("Connection: keep-alive")
        }),
        (426, Version, |head| head.with("Sec-WebSocket-Version: 8")),
        (400, Key, |head| head.without("Sec-WebSocket-Key")),
        (403, Origin, |head| head.and("Origin: https://evil.example")),
        (400, NoTokens, |head| {
            head.and("Sec-WebSocket-Protocol: a b")
        }),
        (400, Extensions, |head| {
            head.and("Sec-WebSocket-Extensions: ;")
        }),
        (401, Unauthorized, |head| head.without("Authorization")),
        (503, HandshakeError::AtCapacity, |head| head),
        (503, HandshakeError::AtCapacity, |head| {
            head.and("X: no fault")
        }),
    ];
    let in_order = valid().target("/members").and("Authorization: Bearer x");
    check(
        &server,
        faults
            .iter()
            .enumerate()
            .map(|(first, (status, error, _))| {
                let request = faults[first..]
                    .iter()
                    .rev()
                    .fold(in_order.clone(), |head, (_, _, fault)| fault(head));
                row(
                    format!("97 99 the order of checks: {error:?}"),
                    Refused(*status, *error),
                    [request],
                )
            }),
    );
}
