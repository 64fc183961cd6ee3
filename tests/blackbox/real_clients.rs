//! Requests of real software and the bytes that it compares: curl, Java's HttpClient, naive
//! WebSocket clients, Engine.IO's clients, Kubernetes probes.

use std::io::Read;

use frameloop::handshake::Policy;

use crate::client::{Client, request};
use crate::server::TestServer;

/// The headers that `curl --http2` and Java's `HttpClient` add to every request without TLS.
const OFFER: &str = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\
                     HTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n";

/// The status and body of the next response.
#[track_caller]
fn response(client: &mut Client) -> (String, String) {
    let head = client.receive_head();
    let mut lines = head.lines();
    let length = lines.find_map(|line| {
        line.to_lowercase()
            .strip_prefix("content-length: ")?
            .parse()
            .ok()
    });
    let mut body = vec![0; length.unwrap_or_else(|| panic!("no length: {head}"))];
    client.stream.read_exact(&mut body).unwrap();
    (head[9..12].to_owned(), String::from_utf8(body).unwrap())
}

/// RFC 9110 §7.8: a server may ignore an Upgrade.
#[test]
fn an_offer_of_another_protocol_is_ignored_and_the_connection_stays_open() {
    let mut client = Client::connect(TestServer::shared());
    let mut ask = |line: &str, fields: &str| {
        let head = format!("{line} HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\n{fields}\r\n");
        client.send(head.as_bytes());
        response(&mut client)
    };
    for line in ["GET /", "GET /healthz"] {
        let plain = ask(line, "");
        assert_eq!(plain.0, "200", "{line}");
        for offer in [
            OFFER,
            "Connection: Upgrade\r\nUpgrade: TLS/1.2, HTTP/2.0\r\n",
            "Connection: Upgrade\r\nUpgrade: \r\n",
            "Upgrade: websockets\r\n",
        ] {
            assert_eq!(ask(line, offer), plain, "{line} {offer}");
        }
    }
    // In the end the same connection becomes a WebSocket.
    client.send(
        request("/echo")
            .replace("Upgrade: web", "Upgrade: h2c, web")
            .as_bytes(),
    );
    assert!(client.receive_head().starts_with("HTTP/1.1 101 "));
}

#[test]
fn polling_works_with_an_offer_of_another_protocol() {
    let mut client = Client::connect(TestServer::shared());
    let mut ask = |method: &str, query: &str, body: &str| {
        let length = body.len();
        let head = format!(
            "{method} /socket.io/?EIO=4&transport=polling{query} HTTP/1.1\r\nHost: localhost\r\n\
             Content-Length: {length}\r\n{OFFER}\r\n{body}"
        );
        client.send(head.as_bytes());
        response(&mut client)
    };
    let (status, open) = ask("GET", "", "");
    assert_eq!(status, "200", "{open}");
    let sid = open.split('"').nth(3).unwrap();
    let posted = ask("POST", &format!("&sid={sid}"), "40");
    assert_eq!(posted, (String::from("200"), String::from("ok")));
}

/// A path for WebSockets only answers 426 to an offer of another protocol, as it does without an
/// offer.
#[test]
fn an_endpoint_answers_an_offer_of_another_protocol_with_426() {
    for fields in ["", OFFER] {
        let mut client = Client::connect(TestServer::shared());
        client.send(format!("GET /ws HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n").as_bytes());
        assert_eq!(response(&mut client).0, "426", "{fields}");
    }
}

/// Clients of Android, Defold and Mirror look for these exact bytes.
#[test]
fn the_101_spells_its_headers_as_the_rfc_does() {
    let mut client = Client::connect(TestServer::shared());
    let offers = "Sec-WebSocket-Protocol: chat\r\nSec-WebSocket-Extensions: permessage-deflate\r\nUpgrade: web";
    client.send(request("/echo").replace("Upgrade: web", offers).as_bytes());
    let head = client.receive_head();
    let mut lines: Vec<&str> = head.trim_end().split("\r\n").collect();
    // Another test covers the negotiated parameters.
    let names = lines
        .split_off(4)
        .iter()
        .map(|line| line.split(';').next().unwrap())
        .collect::<Vec<_>>();
    assert_eq!(
        [lines, names].concat(),
        [
            "HTTP/1.1 101 Switching Protocols",
            "Upgrade: websocket",
            "Connection: Upgrade",
            "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=",
            "Sec-WebSocket-Protocol: chat",
            "Sec-WebSocket-Extensions: permessage-deflate",
        ]
    );
}

/// engine.io's `Server.errors`: JavaScript compares the codes with `===`.
#[test]
fn engine_io_error_codes_are_numbers() {
    let websocket = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                     Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    for (line, fields, body) in [
        (
            "GET /socket.io/?EIO=3&transport=polling",
            "",
            r#"{"code":5,"message":"Unsupported protocol version"}"#,
        ),
        (
            "GET /socket.io/?EIO=4&transport=pigeon",
            "",
            r#"{"code":0,"message":"Transport unknown"}"#,
        ),
        (
            "GET /socket.io/?EIO=4&transport=polling&sid=no",
            "",
            r#"{"code":1,"message":"Session ID unknown"}"#,
        ),
        (
            "PUT /socket.io/?EIO=4&transport=polling",
            "",
            r#"{"code":2,"message":"Bad handshake method"}"#,
        ),
        (
            "GET /socket.io/?EIO=4&transport=websocket",
            "",
            r#"{"code":3,"message":"Bad request"}"#,
        ),
        (
            "GET /socket.io/?EIO=3&transport=websocket",
            websocket,
            r#"{"code":5,"message":"Unsupported protocol version"}"#,
        ),
        (
            "GET /socket.io/?EIO=4&transport=pigeon",
            websocket,
            r#"{"code":0,"message":"Transport unknown"}"#,
        ),
        (
            "GET /socket.io/?EIO=4&transport=websocket&sid=no",
            websocket,
            r#"{"code":1,"message":"Session ID unknown"}"#,
        ),
    ] {
        let mut client = Client::connect(TestServer::shared());
        client.send(format!("{line} HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n").as_bytes());
        let expected = (String::from("400"), String::from(body));
        assert_eq!(response(&mut client), expected, "{line} {fields}");
    }
}

/// The kubelet sends the pod's address as Host, whatever hosts are allowed.
#[test]
fn only_probes_are_answered_for_any_host() {
    let policy = Policy {
        allowed_hosts: vec!["ours.example".parse().unwrap()],
        ..Policy::default()
    };
    let server = TestServer::with(|server| server.with_policy(policy));
    let status = |head: String| {
        let mut client = Client::connect(&server);
        client.send(head.as_bytes());
        client.receive_head()[9..12].to_owned()
    };
    let get = |path, host| status(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n"));
    assert_eq!(get("/healthz", "10.1.2.3:8000"), "200");
    assert_eq!(get("/healthz", "ours.example"), "200");
    assert_eq!(get("/healthz", "a,b"), "400", "an invalid host");
    assert_eq!(get("/healthz/", "10.1.2.3:8000"), "421");
    assert_eq!(get("/", "10.1.2.3:8000"), "421");
    // A WebSocket is not exempt like a probe.
    assert_eq!(status(request("/healthz")), "421");
}
