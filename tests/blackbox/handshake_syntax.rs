//! Request heads as hyper parses them, bodies, and input after a refused request.

use frameloop::handshake::HandshakeError;
use frameloop::http::HttpSettings;

use crate::client::{frame, request};
use crate::handshake::{ACCEPTED, Expected, check, row, valid};
use crate::server::TestServer;

use Expected::{Refused, Unread};
use HandshakeError::{Body, MethodNotAllowed, NotFound, Upgrade};

#[test]
fn a_handshake_with_a_body_is_refused() {
    check(
        TestServer::shared(),
        [
            row(
                "47 52 an empty body",
                ACCEPTED,
                [
                    valid().and("Content-Length: 0"),
                    valid().and("Content-Length: 0").and("Content-Length: 0"),
                ],
            ),
            row(
                "48 49 50 51 a body, sent or announced",
                Refused(400, Body),
                [
                    valid().and("Content-Length: 5").before(b"hello"),
                    valid().and("Content-Length: 5"),
                    valid()
                        .and("Content-Length: 5")
                        .and("Content-Length: 5")
                        .before(b"hello"),
                    valid().and("Content-Length: 7").before(&frame(0x81, b"x")),
                    valid()
                        .and("Transfer-Encoding: chunked")
                        .before(b"0\r\n\r\n"),
                    valid().and("Transfer-Encoding: chunked"),
                    valid()
                        .and("Content-Length: 5")
                        .and("Transfer-Encoding: chunked")
                        .before(b"0\r\n\r\n"),
                    valid()
                        .and("Transfer-Encoding: chunked")
                        .and("Content-Length: 0")
                        .before(b"0\r\n\r\n"),
                ],
            ),
            row(
                "52 invalid lengths",
                Unread(400),
                ["+5", "5, 5", "-1", "0x5", "", "18446744073709551616"]
                    .map(|length| valid().and(format!("Content-Length: {length}"))),
            ),
            row(
                "52 two lengths",
                Unread(400),
                [valid().and("Content-Length: 0").and("Content-Length: 5")],
            ),
            row(
                "52 the longest lengths",
                Unread(431),
                [valid().and("Content-Length: 18446744073709551615")],
            ),
            row(
                "53 other transfer encodings",
                Unread(400),
                [
                    valid().and("Transfer-Encoding: gzip"),
                    valid().and("Transfer-Encoding: chunked, gzip"),
                    valid().and("Transfer-Encoding: xchunked"),
                    valid()
                        .version("HTTP/1.0")
                        .and("Transfer-Encoding: chunked"),
                ],
            ),
            row(
                "54 55 expectations",
                ACCEPTED,
                [
                    valid().and("Expect: 100-continue"),
                    valid().and("Expect: foo"),
                ],
            ),
        ],
    );
}

#[test]
fn request_heads_are_limited_in_size_and_checked() {
    let fields = |count: usize| (5..count).fold(valid(), |head, _| head.and("X: a"));
    let lines = String::from_utf8(valid().into()).unwrap();
    check(
        TestServer::shared(),
        [
            row(
                "40 41 long targets",
                Unread(431),
                [16 << 10, 65_000, 65_534, 65_535, 100_000]
                    .map(|length| valid().target(format!("/{}", "a".repeat(length - 1)))),
            ),
            row("82 100 fields", ACCEPTED, [fields(100)]),
            row("82 101 fields", Unread(431), [fields(101)]),
            row("83 16 KiB", ACCEPTED, [valid().padded_to(16 << 10)]),
            row(
                "83 more than 16 KiB",
                Unread(431),
                [
                    valid().padded_to((16 << 10) + 1),
                    valid().padded_to(400 << 10),
                ],
            ),
            row(
                "84 a line that is not a field",
                Unread(400),
                [
                    "X: a\r\n b",
                    "X: a\r\n\tb",
                    "X : a",
                    "no colon",
                    ": a",
                    "X: a\0b",
                    "X: a\x0Bb",
                    "X: a\x1Cb",
                    "X: a\x1Bb",
                    "X: a\x7Fb",
                    "X: a\rb",
                ]
                .map(|field| valid().and(field)),
            ),
            row(
                "85 bytes above 127",
                ACCEPTED,
                [valid().and(b"X: \x80\xFF"), valid().and("X: \u{4E2D}")],
            ),
            row(
                "87 lines that end with LF only",
                ACCEPTED,
                [lines.replace("\r\n", "\n")],
            ),
            row(
                "88 lines that end with CR only",
                Unread(400),
                [lines.replace("\r\n", "\r")],
            )
            .only_whole(),
            row(
                "89 empty lines before the request",
                ACCEPTED,
                [format!("\r\n\r\n{lines}")],
            ),
        ],
    );
    let sized = |max_head_size, max_headers| {
        TestServer::with(|server| {
            server.with_http_settings(HttpSettings {
                max_head_size,
                max_headers,
                ..HttpSettings::default()
            })
        })
    };
    let target = |length: usize| valid().target(format!("/{}", "a".repeat(length - 1)));
    check(
        &sized(128 << 10, 200),
        [
            row(
                "40 a long target within the limit",
                Refused(404, NotFound),
                [target(65_000), target(65_534)],
            ),
            row(
                "41 a target that is too long",
                Unread(414),
                [target(65_535)],
            ),
            row("82 200 fields", ACCEPTED, [fields(200)]),
            row("82 201 fields", Unread(431), [fields(201)]),
            row("83 128 KiB", ACCEPTED, [valid().padded_to(128 << 10)]),
        ],
    );
    check(
        &sized(1 << 10, 5),
        [
            row("82 5 fields", ACCEPTED, [fields(5)]),
            row("82 6 fields", Unread(431), [fields(6)]),
            row(
                "83 more than 1 KiB",
                Unread(431),
                [valid().without("Host").padded_to((1 << 10) + 1)],
            ),
        ],
    );
}

#[test]
fn other_protocols_are_refused() {
    check(
        TestServer::shared(),
        [row(
            "92 other protocols",
            Unread(400),
            [
                // The start of a TLS ClientHello.
                &b"\x16\x03\x01\x02\x00\x01\x00\x01\xFC\x03\x03"[..],
                b"SSH-2.0-x\r\n",
                b"PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\r\nGET /ws HTTP/1.1\r\n",
                b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0C",
            ],
        )
        .only_whole()],
    );
}

#[test]
fn input_after_a_refused_request_is_ignored() {
    let after = [
        request("/ws").into_bytes(),
        b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec(),
        frame(0x81, b"HELLO"),
        vec![b'x'; 256 << 10],
    ];
    for after in after {
        check(
            TestServer::shared(),
            [
                row(
                    "93 94 after a refusal",
                    Refused(404, NotFound),
                    [valid().target("/nowhere").before(&after)],
                ),
                row(
                    "93 94 after a refusal",
                    Refused(426, Upgrade),
                    [
                        valid().without("Upgrade").before(&after),
                        valid().version("HTTP/1.0").before(&after),
                    ],
                ),
                row(
                    "93 94 after a refusal",
                    Refused(405, MethodNotAllowed),
                    [
                        valid().method("HEAD").before(&after),
                        valid().method("CONNECT").target("x:80").before(&after),
                    ],
                ),
                row(
                    "93 94 after a refusal",
                    Refused(400, Body),
                    [valid().and("Content-Length: 5").before(&after)],
                ),
                row(
                    "93 94 after a refusal by hyper",
                    Unread(400),
                    [valid().and("no colon").before(&after)],
                ),
            ],
        );
    }
}
