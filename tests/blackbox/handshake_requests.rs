//! Request lines, Host, Upgrade and Connection.

use frameloop::handshake::{HandshakeError, Policy};

use crate::handshake::{ACCEPTED, Expected, check, row, valid};
use crate::server::TestServer;

use Expected::{Nothing, Refused, Unread};
use HandshakeError::{
    Connection, FinalSlash, Host, MethodNotAllowed, MisdirectedRequest, NotANumber, NotFound,
    TargetForm, Upgrade,
};

#[test]
fn upgrade_and_connection_are_token_lists() {
    check(
        TestServer::shared(),
        [
            row("1 the request of the RFC", ACCEPTED, [valid()]),
            row(
                "8 header names in any case",
                ACCEPTED,
                [str::to_ascii_uppercase, str::to_ascii_lowercase, mixed_case].map(|change| {
                    let plain = valid().without("Sec-WebSocket-Key");
                    ["Host", "Upgrade", "Connection", "Sec-WebSocket-Version"]
                        .iter()
                        .zip(["localhost", "websocket", "Upgrade", "13"])
                        .fold(plain, |head, (name, value)| {
                            head.with(format!("{}: {value}", change(name)))
                        })
                        .with(format!(
                            "{}: dGhlIHNhbXBsZSBub25jZQ==",
                            change("Sec-WebSocket-Key")
                        ))
                }),
            ),
            row(
                "9 tokens in any case",
                ACCEPTED,
                [
                    valid().with("Upgrade: WebSocket"),
                    valid().with("Upgrade: WEBSOCKET"),
                    valid().with("Connection: UPGRADE"),
                    valid().with("Connection: upgrade"),
                ],
            ),
            row(
                "10 white space around values",
                ACCEPTED,
                [
                    valid().with("Upgrade: \t websocket \t"),
                    valid().with("Upgrade:websocket"),
                    valid().with("Connection:\tUpgrade\t"),
                    valid().with("Sec-WebSocket-Version:  13 "),
                    valid().with("Host: \tlocalhost "),
                ],
            ),
            row(
                "11 Firefox",
                ACCEPTED,
                [valid().with("Connection: keep-alive, Upgrade")],
            ),
            row(
                "12 two Connection lines",
                ACCEPTED,
                [
                    valid()
                        .with("Connection: keep-alive")
                        .and("Connection: Upgrade"),
                    valid()
                        .with("Connection: Upgrade")
                        .and("Connection: keep-alive"),
                ],
            ),
            row(
                "13 Connection also contains close",
                ACCEPTED,
                [
                    valid().with("Connection: close, Upgrade"),
                    valid().with("Connection: close").and("Connection: Upgrade"),
                ],
            ),
            row(
                "14 empty elements",
                ACCEPTED,
                [
                    valid().with("Connection: , ,Upgrade,"),
                    valid().with("Upgrade: ,\t,websocket ,"),
                ],
            ),
            row(
                "15 16 Connection without Upgrade",
                Refused(400, Connection),
                [
                    valid().with("Connection: Upgraded"),
                    valid().with("Connection: xUpgrade"),
                    valid().with("Connection: up grade"),
                    valid().with("Connection: \"Upgrade\""),
                    valid().with("Connection: close"),
                    valid().with("Connection: keep-alive"),
                    valid().with("Connection:"),
                    valid().with(b"Connection: Upgrade\xA0"),
                    valid().without("Connection"),
                ],
            ),
            row(
                "17 a plain GET",
                Refused(426, Upgrade),
                [
                    valid().without("Upgrade").without("Connection"),
                    valid()
                        .without("Upgrade")
                        .without("Connection")
                        .without("Sec-WebSocket-Key")
                        .without("Sec-WebSocket-Version"),
                ],
            ),
            row(
                "18 19 21 Upgrade without websocket",
                Refused(426, Upgrade),
                [
                    valid().with("Upgrade:"),
                    valid().with("Upgrade: ,"),
                    valid().with("Upgrade: h2c"),
                    valid().with("Upgrade: websocket/13"),
                    valid().with("Upgrade: websockets"),
                    valid().with("Upgrade: web socket"),
                    valid().without("Upgrade"),
                ],
            ),
            row(
                "17 an invalid handshake to a path that is both page and endpoint",
                Refused(426, Upgrade),
                [
                    valid().target("/").with("Upgrade: h2c"),
                    valid().target("/").without("Upgrade"),
                    // The headers that a proxy may leave of a handshake.
                    valid()
                        .target("/")
                        .without("Upgrade")
                        .without("Connection")
                        .without("Sec-WebSocket-Version"),
                ],
            ),
            row(
                "20 Upgrade also contains other protocols",
                ACCEPTED,
                [
                    valid().with("Upgrade: websocket, h2c"),
                    valid().with("Upgrade: h2c, websocket"),
                    valid().with("Upgrade: h2c").and("Upgrade: websocket"),
                    valid().with("Upgrade: websocket").and("Upgrade: h2c"),
                ],
            ),
        ],
    );
}

fn mixed_case(name: &str) -> String {
    let odd = |index: usize| index % 2 == 1;
    name.char_indices()
        .map(|(index, character)| match odd(index) {
            true => character.to_ascii_uppercase(),
            false => character.to_ascii_lowercase(),
        })
        .collect()
}

#[test]
fn versions_and_methods() {
    check(
        TestServer::shared(),
        [
            row(
                "22 23 HTTP/1.0 has no Upgrade",
                Refused(426, Upgrade),
                [
                    valid().version("HTTP/1.0"),
                    valid().version("HTTP/1.0").without("Host"),
                    valid()
                        .version("HTTP/1.0")
                        .with("Connection: keep-alive, Upgrade"),
                ],
            ),
            row(
                "24 other versions",
                Unread(400),
                [
                    valid().version("HTTP/1.2"),
                    valid().version("HTTP/2.0"),
                    valid().version("http/1.1"),
                    valid().version("HTTP/1.1 "),
                    valid().version("HTTP/1.10"),
                    valid().version(""),
                ],
            ),
            row(
                "25 HTTP/0.9",
                Unread(400),
                ["GET /ws\r\n", "GET /ws\r\n\r\n"],
            )
            .only_whole(),
            row(
                "26 HTTP/2 on a port without HTTP/2",
                Nothing,
                ["PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"],
            )
            // hyper recognises the preface only if it reads all of it at once.
            .only_whole(),
            row(
                "27 other methods",
                Refused(405, MethodNotAllowed),
                ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "HEAD"]
                    .map(|method| valid().method(method)),
            ),
            row(
                "27 pages allow only GET and HEAD",
                Refused(405, MethodNotAllowed),
                ["POST", "OPTIONS", "get"].map(|method| {
                    valid()
                        .method(method)
                        .target("/healthz")
                        .without("Connection")
                }),
            ),
            row(
                "28 29 methods are case-sensitive, and unknown methods are valid",
                Refused(405, MethodNotAllowed),
                ["get", "Get", "FOO", "GETGET"].map(|method| valid().method(method)),
            ),
            row(
                "30 no method",
                Unread(400),
                [valid().method("G@T"), valid().method("")],
            ),
            row(
                "31 CONNECT opens no tunnel",
                Refused(405, MethodNotAllowed),
                [
                    valid().method("CONNECT").target("x:80"),
                    valid()
                        .method("CONNECT")
                        .target("x:80")
                        .without("Upgrade")
                        .without("Connection"),
                ],
            ),
        ],
    );
}

#[test]
fn targets_are_not_normalised() {
    check(
        TestServer::shared(),
        [
            row(
                "32 33 unknown paths, and paths that would match if normalised",
                Refused(404, NotFound),
                [
                    "/nowhere",
                    "/WS",
                    "/ws/../ws",
                    "//ws",
                    "/%77s",
                    "/ws%2F1",
                    "/ws;a=b",
                ]
                .map(|target| valid().target(target)),
            ),
            row(
                "33 two dots are a client id that is not a number",
                Refused(403, NotANumber),
                ["/ws/..", "/ws/abc"].map(|target| valid().target(target)),
            ),
            row(
                "32 a slash too much or too few at the end",
                Refused(404, FinalSlash),
                ["/ws/", "/ws/./", "/ws/chat/lobby", "/echo/", "/broadcast/"]
                    .map(|target| valid().target(target)),
            ),
            row(
                "34 queries",
                ACCEPTED,
                ["/ws?x=1&y", "/ws?", "/ws??/../", "/ws?%zz"].map(|target| valid().target(target)),
            ),
            row(
                "35 a target in absolute form",
                ACCEPTED,
                [
                    valid().target("http://other/ws"),
                    valid().target("http://other:8000/ws?x"),
                    valid().target("HTTP://localhost/ws"),
                ],
            ),
            row(
                "36 target forms of other methods",
                Refused(400, TargetForm),
                [valid().target("x:80"), valid().target("*")],
            ),
            row(
                "35 36 absolute targets with a missing or invalid host",
                Refused(400, TargetForm),
                [
                    valid().target("http://user@other/ws"),
                    valid().target("http://other:99999/ws"),
                ],
            ),
            row("37 a fragment", ACCEPTED, [valid().target("/ws#f")]),
            row(
                "38 paths that are not valid in a URI",
                Refused(404, NotFound),
                ["/ws\u{4E2D}", "/ws/\u{4E2D}", "/%zz", "/ws/%zz", "/ws/%"]
                    .map(|target| valid().target(target)),
            ),
            row(
                "39 targets that break the request line",
                Unread(400),
                ["/w s", "/ws\0", " /ws", "/ws ", "/ws\t", "/ws\x7F"]
                    .map(|target| valid().target(target)),
            ),
        ],
    );
}

#[test]
fn a_request_has_exactly_one_valid_host() {
    check(
        TestServer::shared(),
        [
            row(
                "42 43 44 45 no Host, two Hosts, an empty one, or an invalid one",
                Refused(400, Host),
                [
                    valid().without("Host"),
                    valid().and("Host: localhost"),
                    valid().and("Host: other"),
                    valid().with("Host:"),
                    valid().with("Host:  \t"),
                    valid().with("Host: a b/c"),
                    valid().with("Host: a,b"),
                    valid().with("Host: [::1"),
                    valid().with("Host: a:99999"),
                    valid().with("Host: a:b"),
                    valid().with("Host: user@a"),
                    valid().with(b"Host: \xE4"),
                    // An absolute target overrides Host, but Host must still be valid.
                    valid().target("http://other/ws").without("Host"),
                ],
            ),
            row(
                "45 hosts",
                ACCEPTED,
                [
                    "a",
                    "a:80",
                    "127.0.0.1:8000",
                    "[::1]",
                    "[::1]:8000",
                    "a_b.test",
                ]
                .map(|host| valid().with(format!("Host: {host}"))),
            ),
        ],
    );
    let server = TestServer::with(|server| {
        server.with_policy(Policy {
            token: None,
            allowed_hosts: vec![
                "good.example".parse().unwrap(),
                "[::1]:8000".parse().unwrap(),
            ],
            ..Policy::default()
        })
    });
    check(
        &server,
        [
            row(
                "46 allowed hosts",
                ACCEPTED,
                [
                    valid().with("Host: good.example"),
                    valid().with("Host: GOOD.example:1234"),
                    valid().with("Host: [::1]:8000"),
                ],
            ),
            row(
                "46 other hosts",
                Refused(421, MisdirectedRequest),
                [
                    valid(),
                    valid().with("Host: good.example.evil.test"),
                    valid().with("Host: evilgood.example"),
                    valid().with("Host: [::1]"),
                    valid().with("Host: [::1]:8001"),
                    // The check covers pages, too.
                    valid().target("/").without("Upgrade").without("Connection"),
                ],
            ),
            row(
                "35 the host of the target takes precedence",
                ACCEPTED,
                [valid().target("http://good.example/ws")],
            ),
            row(
                "35 the host of the target takes precedence",
                Refused(421, MisdirectedRequest),
                [valid()
                    .target("http://evil.example/ws")
                    .with("Host: good.example")],
            ),
        ],
    );
}
