//! The echo services that `--compat` imitates, byte for byte.

use std::io::{BufRead, BufReader, Read};
use std::time::Duration;

use frameloop::app::compat::EchoService;
use frameloop::app::{self, AppSettings};

use crate::client::{Client, close_frame, frame, reply, request};
use crate::server::TestServer;

fn standing_in_for(service: EchoService) -> TestServer {
    let router = app::router_with(AppSettings {
        compat: Some(service),
        ..AppSettings::default()
    });
    TestServer::serving(router, |server| server)
}

/// A response to a request after which the connection closes: its head and its body.
fn response(server: &TestServer, request: &str) -> (String, String) {
    let mut client = Client::connect(server);
    client.send(request.as_bytes());
    client.finish();
    let head = client.receive_head();
    let mut body = String::new();
    client.stream.read_to_string(&mut body).unwrap();
    (head, body)
}

fn served_by() -> String {
    format!(
        "Request served by {}",
        sysinfo::System::host_name().unwrap()
    )
}

/// Only the greeting of `--compat jmalloc` sends a message unasked.
#[test]
fn paths_without_a_greeting_send_nothing_first() {
    let patience = Duration::from_millis(100);
    for path in ["/", "/echo", "/ws", "/broadcast"] {
        let mut client = Client::open(TestServer::shared(), path);
        assert!(client.is_silent_for(patience), "{path}");
    }
    for (service, path) in [
        (EchoService::Lpinca, "/"),
        (EchoService::Firewalk, "/websocket/echo"),
        (EchoService::Firewalk, "/websocket/ping/1"),
        (EchoService::Httpbin, "/websocket/echo"),
        (EchoService::Httparena, "/ws"),
    ] {
        let server = standing_in_for(service);
        let mut client = Client::open(&server, path);
        assert!(client.is_silent_for(patience), "{service:?} {path}");
    }
}

#[test]
fn jmalloc_greets_on_any_path_and_then_echoes() {
    let server = standing_in_for(EchoService::Jmalloc);
    for path in ["/", "/any/path?query", "/.ws", "/.sse", "/a.ws"] {
        let mut client = Client::open(&server, path);
        client.receives_text(&served_by());
        client.send(&[frame(0x81, b"hi"), frame(0x82, b"\x00\xFF")].concat());
        client.receives(b"\x81\x02hi\x82\x02\x00\xFF");
        client.send(&close_frame(1000, b"bye"));
        client.receives(b"\x88\x05\x03\xE8bye");
        client.ends();
    }
}

/// The service has this quirk: it still sends an empty text message first.
#[test]
fn jmalloc_greets_with_an_empty_text_if_the_request_says_so() {
    let server = standing_in_for(EchoService::Jmalloc);
    for (value, expected) in [
        ("false", String::new()),
        ("FALSE", String::new()),
        ("true", served_by()),
        ("", served_by()),
    ] {
        let field = format!("\r\nX-Send-Server-Hostname: {value}\r\n\r\n");
        let mut client = Client::connect(&server);
        client.send(request("/").replace("\r\n\r\n", &field).as_bytes());
        assert!(client.receive_head().starts_with("HTTP/1.1 101 "));
        client.receives(&reply(0x81, expected.as_bytes()));
        client.send_text("hi");
        client.receives_text("hi");
    }
}

#[test]
fn jmalloc_echoes_http_requests_with_headers_in_order() {
    let server = standing_in_for(EchoService::Jmalloc);
    let (head, body) = response(
        &server,
        "POST /path?a=1&b=2 HTTP/1.1\r\nx-b: 2\r\nHost: example.com:81\r\nX-B: 1\r\n\
         accept: */*\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello",
    );
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    assert!(head.contains("\r\nContent-Type: text/plain\r\n"), "{head}");
    let expected = "POST /path?a=1&b=2 HTTP/1.1\n\nHost: example.com:81\nAccept: */*\n\
                    Connection: close\nContent-Length: 5\nX-B: 2\nX-B: 1\n\nhello";
    assert_eq!(body, format!("{}\n\n{expected}", served_by()));

    let (_, body) = response(
        &server,
        "DELETE / HTTP/1.1\r\nHost: a\r\nX-Send-Server-Hostname: False\r\nConnection: close\r\n\r\n",
    );
    let expected = "DELETE / HTTP/1.1\n\nHost: a\nConnection: close\n\
                    X-Send-Server-Hostname: False\n";
    assert_eq!(body, expected);

    let (head, body) = response(
        &server,
        "GET /.ws HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    );
    assert!(head.contains("\r\nContent-Type: text/html"), "{head}");
    assert!(body.contains("new WebSocket("));
    for section in ["chat", "faults", "socketio"] {
        let hidden = format!("<section id=\"{section}\" hidden");
        assert!(body.contains(&hidden), "{section} is not served");
    }
}

#[test]
fn jmalloc_limits_the_body_that_it_echoes() {
    let server = standing_in_for(EchoService::Jmalloc);
    let mut client = Client::connect(&server);
    client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1048577\r\n\r\n");
    client.send(&[b'x'; (1 << 20) + 1]);
    assert!(client.receive_head().starts_with("HTTP/1.1 413 "));
    let mut client = Client::connect(&server);
    client.send(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n");
    assert!(client.receive_head().starts_with("HTTP/1.1 400 "));
}

/// The bytes of the next chunk of a body.
fn chunk(stream: &mut impl BufRead) -> String {
    let mut size = String::new();
    stream.read_line(&mut size).unwrap();
    let mut bytes = vec![0; usize::from_str_radix(size.trim_end(), 16).unwrap() + 2];
    stream.read_exact(&mut bytes).unwrap();
    String::from_utf8(bytes)
        .unwrap()
        .strip_suffix("\r\n")
        .unwrap()
        .to_owned()
}

#[test]
fn jmalloc_streams_server_sent_events_until_shutdown() {
    let server = standing_in_for(EchoService::Jmalloc);
    let mut client = Client::connect(&server);
    client.send(b"GET /any.sse HTTP/1.1\r\nHost: a\r\nAccept: text/event-stream\r\n\r\n");
    let head = client.receive_head();
    let expected = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\
                    Cache-Control: no-cache\r\nConnection: keep-alive\r\n\
                    Access-Control-Allow-Origin: *\r\n\
                    X-Content-Type-Options: nosniff\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert_eq!(head, expected);
    let mut stream = BufReader::new(client.stream.try_clone().unwrap());
    let name = sysinfo::System::host_name().unwrap();
    let expected = format!(
        "event: server\ndata: {name}\nid: 1\n\nevent: request\n\
         data: GET /any.sse HTTP/1.1\ndata: \ndata: Host: a\ndata: Accept: text/event-stream\n\
         data: \nid: 2\n\n"
    );
    assert_eq!(chunk(&mut stream), expected);
    for id in 3..5 {
        let event = chunk(&mut stream);
        let time = event.strip_prefix("event: time\ndata: ").unwrap();
        let time = time.strip_suffix(&format!("\nid: {id}\n\n")).unwrap();
        let digits: String = time
            .chars()
            .map(|character| {
                if character.is_ascii_digit() {
                    '0'
                } else {
                    character
                }
            })
            .collect();
        assert_eq!(digits, "0000-00-00T00:00:00Z");
    }
    server.shutdown.drain();
    let mut rest = String::new();
    stream.read_to_string(&mut rest).unwrap();
    assert!(rest.ends_with("0\r\n\r\n"), "{rest:?}");
}

#[test]
fn lpinca_answers_plain_http_with_426() {
    let server = standing_in_for(EchoService::Lpinca);
    for request in [
        "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "POST /any HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
    ] {
        let mut client = Client::connect(&server);
        client.send(request.as_bytes());
        let head = client.receive_head();
        assert!(
            head.starts_with("HTTP/1.1 426 Upgrade Required\r\n"),
            "{head}"
        );
        assert!(head.contains("\r\nConnection: close\r\n"), "{head}");
        client.receives(b"Upgrade Required");
        client.ends();
    }
    let mut client = Client::open(&server, "/any/path");
    client.send_text("hi");
    client.receives(b"\x81\x02hi");
}

#[test]
fn firewalk_describes_the_request_and_closes() {
    let server = standing_in_for(EchoService::Firewalk);
    for (path, times, code) in [
        ("/websocket?a=1%20+2&b", 1, 1000),
        ("/websocket?closeCode=%34000&closeDelay=0", 1, 4000),
        ("/websocket?closeCode=1005", 1, 1000),
        ("/websocket?closeCode=1014", 1, 1014),
        ("/websocket?closeCode=1016", 1, 1000),
        ("/websocket/payloads/3", 3, 1000),
        ("/websocket/payloads/x", 1, 1000),
        ("/websocket/payloads/0", 0, 1000),
    ] {
        let mut client = Client::open(&server, path);
        for _ in 0..times {
            let (first, payload) = client.receive();
            assert_eq!(first, 0x82);
            let reply: serde_json::Value = serde_json::from_slice(&payload).unwrap();
            if path.ends_with("?a=1%20+2&b") {
                assert_eq!(reply["args"], serde_json::json!({"a": "1  2", "b": ""}));
            }
            assert_eq!(reply["url"], format!("http://localhost{path}"));
            assert_eq!(reply["headers"]["sec-websocket-version"], "13");
            let origin = reply["origin"].as_str().unwrap();
            assert!(origin.starts_with("[IPv4]127.0.0.1:"), "{origin}");
        }
        let (first, payload) = client.receive();
        assert_eq!(
            (first, &*payload),
            (0x88, &u16::to_be_bytes(code)[..]),
            "{path}"
        );
    }
    let mut client = Client::connect(&server);
    client.send(request("/websocket/payloads/1000000").as_bytes());
    assert!(client.receive_head().starts_with("HTTP/1.1 403 "));
}

#[test]
fn firewalk_accepts_any_subprotocol_and_closes_after_the_given_number_of_pings() {
    let server = standing_in_for(EchoService::Firewalk);
    let offer = "\r\nSec-WebSocket-Protocol: one, two\r\n\r\n";
    let mut client = Client::connect(&server);
    client.send(
        request("/websocket/ping/2")
            .replace("\r\n\r\n", offer)
            .as_bytes(),
    );
    let head = client.receive_head();
    assert!(
        head.contains("\r\nSec-WebSocket-Protocol: one\r\n"),
        "{head}"
    );
    client.send(&frame(0x89, b"a"));
    client.receives(b"\x8A\x01a");
    client.send(&frame(0x89, b"b"));
    client.receives(b"\x8A\x01b\x88\x02\x03\xE9");
    client.send(&close_frame(1001, b""));
    client.ends();
}

#[test]
fn httpbin_echoes_in_fragments() {
    let server = standing_in_for(EchoService::Httpbin);
    let mut client = Client::open(&server, "/websocket/echo?max_fragment_size=%32");
    client.send(&[frame(0x01, b"ab"), frame(0x00, b"cd"), frame(0x80, b"e")].concat());
    client.receives(b"\x01\x02ab\x00\x02cd\x80\x01e");
    client.send(&frame(0x82, b"\x00\xFF"));
    client.receives(b"\x82\x02\x00\xFF");
    client.send(&frame(0x81, b""));
    client.receives(b"\x81\x00");

    let path = "/websocket/echo?max_fragment_size=4&max_message_size=5";
    let mut client = Client::open(&server, path);
    client.send(&[frame(0x01, b"abc"), frame(0x80, b"def")].concat());
    client.closes_with(1009);
    let mut client = Client::open(&server, path);
    client.send(&frame(0x81, b"abcde"));
    client.closes_with(1002);
}

#[test]
fn httpbin_refuses_sizes_out_of_range() {
    let server = standing_in_for(EchoService::Httpbin);
    for (query, detail) in [
        (
            "max_fragment_size=0",
            "invalid max_fragment_size: 0 not in range [1, 1048576]",
        ),
        (
            "max_message_size=1048577",
            "invalid max_message_size: 1048577 not in range [1, 1048576]",
        ),
        (
            "max_message_size=x",
            "invalid max_message_size: strconv.ParseInt: parsing \\\"x\\\": invalid syntax",
        ),
        (
            "max_message_size=10",
            "max_fragment_size 524288 must be less than or equal to max_message_size 10",
        ),
    ] {
        let mut client = Client::connect(&server);
        client.send(request(&format!("/websocket/echo?{query}")).as_bytes());
        let head = client.receive_head();
        assert!(head.starts_with("HTTP/1.1 400 "), "{query}: {head}");
        assert!(head.contains("\r\nContent-Type: application/json; charset=utf-8\r\n"));
        let mut body = String::new();
        client.stream.read_to_string(&mut body).unwrap();
        assert_eq!(body, httpbin_refusal(detail));
    }
}

/// The error of go-httpbin for an invalid request.
fn httpbin_refusal(detail: &str) -> String {
    format!(
        "{{\n  \"status_code\": 400,\n  \"error\": \"Bad Request\",\n  \"detail\": \"{detail}\"\n}}\n"
    )
}

/// Every invalid handshake gets the same status.
#[test]
fn httpbin_refuses_every_invalid_handshake_with_400() {
    let server = standing_in_for(EchoService::Httpbin);
    let whole = request("/websocket/echo");
    for (botched, detail) in [
        (
            String::from("GET /websocket/echo HTTP/1.1\r\nHost: a\r\n\r\n"),
            "missing required `Connection: upgrade` header",
        ),
        (
            whole.replace("Upgrade: websocket", "Upgrade: h2c"),
            "missing required `Upgrade: websocket` header",
        ),
        (
            whole.replace("Version: 13", "Version: 8"),
            "only websocket version \\\"13\\\" is supported, got \\\"8\\\"",
        ),
        (
            whole.replace("Sec-WebSocket-Version: 13\r\n", ""),
            "only websocket version \\\"13\\\" is supported, got \\\"\\\"",
        ),
        (
            whole.replace("Sec-WebSocket-Key", "X-Key"),
            "missing required `Sec-Websocket-Key` header",
        ),
        (whole.replace("GET ", "POST "), "Use the method GET."),
    ] {
        let (head, body) = response(&server, &botched);
        assert!(head.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{head}");
        assert!(head.contains("\r\nContent-Type: application/json; charset=utf-8\r\n"));
        assert!(head.contains("\r\nConnection: close\r\n"), "{head}");
        assert_eq!(body, httpbin_refusal(detail));
    }
}

/// The seven checks of HttpArena's validator.
#[test]
fn httparena_passes_its_validator() {
    let server = standing_in_for(EchoService::Httparena);
    let mut client = Client::connect(&server);
    client.send(request("/ws").as_bytes());
    let head = client.receive_head();
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    assert!(
        head.contains(": s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"),
        "{head}"
    );
    client.send_text("text");
    client.receives(b"\x81\x04text");
    client.send(&frame(0x82, b"\x00\xFF"));
    client.receives(b"\x82\x02\x00\xFF");
    for number in 0..5 {
        client.send_text(&number.to_string());
    }
    client.receives(b"\x81\x010\x81\x011\x81\x012\x81\x013\x81\x014");
    client.send(&close_frame(1000, b""));
    client.receives(b"\x88\x02\x03\xE8");
    client.ends();
    let (head, _) = response(&server, "GET /ws HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(head.starts_with("HTTP/1.1 426 "), "{head}");
    let mut client = Client::open(&server, "/ws");
    client.send_text("still there");
    client.receives_text("still there");
}
