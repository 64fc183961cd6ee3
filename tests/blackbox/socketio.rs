//! Socket.IO as raw bytes: polling, WebSocket, the upgrade between them, and abuse. S1 to S14 are
//! rows of `tests/tables/endpoints.md`; the real clients are in tests/interop.

use std::io::{Read, Write};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use frameloop::Router;
use frameloop::handshake::{AllowOrigin, Policy};
use frameloop::socketio::{self, Event, Service, SocketIoSettings};

use crate::client::{Client, PATIENCE, close_frame, frame};
use crate::report::{Kind, figure};
use crate::server::TestServer;

pub(crate) const POLLING: &str = "EIO=4&transport=polling";
pub(crate) const WEBSOCKET: &str = "EIO=4&transport=websocket";

/// A response: its status, its head in lower case, and its body.
pub(crate) struct Response {
    pub(crate) status: u16,
    head: String,
    pub(crate) body: String,
}

impl Response {
    #[track_caller]
    pub(crate) fn is(&self, status: u16, body: &str) {
        assert_eq!((self.status, self.body.as_str()), (status, body));
    }

    fn has(&self, field: &str) -> bool {
        self.head.lines().any(|line| line == field)
    }
}

/// Sends a request. The caller reads the response later.
fn ask(server: &TestServer, method: &str, query: &str, fields: &str, body: &[u8]) -> Client {
    let mut client = Client::connect(server);
    let length = body.len();
    let head = format!(
        "{method} /socket.io/?{query} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
         Content-Length: {length}\r\n{fields}\r\n"
    );
    client.send(&[head.as_bytes(), body].concat());
    client
}

pub(crate) fn response(client: &mut Client) -> Response {
    let head = client.receive_head().to_lowercase();
    let mut body = String::new();
    client.stream.read_to_string(&mut body).unwrap();
    let status = head[9..12].parse().unwrap();
    Response { status, head, body }
}

pub(crate) fn get(server: &TestServer, query: &str) -> Response {
    response(&mut ask(server, "GET", query, "", b""))
}

/// A polling session.
pub(crate) struct Session<'s> {
    server: &'s TestServer,
    pub(crate) query: String,
    /// The id of its socket in `/`, once it has joined.
    socket: String,
}

impl<'s> Session<'s> {
    pub(crate) fn open(server: &'s TestServer) -> Session<'s> {
        let open = get(server, POLLING);
        assert_eq!(open.status, 200);
        let sid = member(&open.body, "sid").to_owned();
        let query = format!("{POLLING}&sid={sid}");
        Session {
            server,
            query,
            socket: String::new(),
        }
    }

    /// A session that has joined `/` and read the CONNECT and the greeting.
    pub(crate) fn joined(server: &'s TestServer) -> Session<'s> {
        Session::joined_with(server, &[r#"42["response",{"data":"连接成功"}]"#])
    }

    /// A session that has joined `/` of a server from [`serving`].
    pub(crate) fn joined_silently(server: &'s TestServer) -> Session<'s> {
        Session::joined_with(server, &[])
    }

    fn joined_with(server: &'s TestServer, greeting: &[&str]) -> Session<'s> {
        let mut session = Session::open(server);
        session.post("40").is(200, "ok");
        let mut packets = session.take(1 + greeting.len());
        let joined = packets.remove(0);
        session.socket = member(&joined, "sid").to_owned();
        assert_eq!(joined, format!(r#"40{{"sid":"{}"}}"#, session.socket));
        assert_eq!(packets, greeting);
        session
    }

    fn sid(&self) -> &str {
        self.query.rsplit('=').next().unwrap()
    }

    pub(crate) fn post(&self, body: &str) -> Response {
        response(&mut self.posting(body.as_bytes()))
    }

    pub(crate) fn posting(&self, body: &[u8]) -> Client {
        ask(self.server, "POST", &self.query, "", body)
    }

    pub(crate) fn polling(&self) -> Client {
        ask(self.server, "GET", &self.query, "", b"")
    }

    fn poll(&self) -> Response {
        response(&mut self.polling())
    }

    /// Asserts that the next packets are these.
    #[track_caller]
    pub(crate) fn receives(&self, packets: &[&str]) {
        assert_eq!(self.take(packets.len()), packets);
    }

    /// The next packets, at least `count` of them, without Pings, from as many responses as
    /// necessary.
    #[track_caller]
    pub(crate) fn take(&self, count: usize) -> Vec<String> {
        let mut received = Vec::new();
        while received.len() < count {
            let polled = self.poll();
            assert_eq!(polled.status, 200, "{received:?}");
            let packets = polled.body.split('\x1e').filter(|packet| *packet != "2");
            received.extend(packets.map(str::to_owned));
        }
        received
    }

    #[track_caller]
    pub(crate) fn is_gone(&self) {
        let unknown = self.poll();
        assert_eq!(unknown.status, 400, "{}", unknown.body);
    }

    #[track_caller]
    fn lives(&self) {
        self.post(r#"429["ack",1]"#).is(200, "ok");
        self.receives(&[r#"439["ok",1]"#]);
    }
}

/// A string member of JSON that contains no escapes.
fn member<'t>(json: &'t str, name: &str) -> &'t str {
    let (_, rest) = json.split_once(&format!("\"{name}\":\"")).unwrap();
    rest.split('"').next().unwrap()
}

pub(crate) fn upgrade_request(query: &str) -> String {
    crate::client::request(&format!("/socket.io/?{query}"))
}

pub(crate) fn upgrade(server: &TestServer, query: &str) -> Client {
    Client::open(server, &format!("/socket.io/?{query}"))
}

/// The next text message that is not an Engine.IO Ping.
pub(crate) fn receive_packet(client: &mut Client) -> String {
    loop {
        let (first, payload) = client.receive();
        let text = String::from_utf8(payload).unwrap();
        assert_eq!(first, 0x81, "{text:?}");
        if text != "2" {
            return text;
        }
    }
}

/// A WebSocket session that has joined `/`.
pub(crate) fn joined_websocket(server: &TestServer) -> Client {
    let mut client = upgrade(server, WEBSOCKET);
    assert!(receive_packet(&mut client).starts_with('0'));
    client.send_text("40");
    assert!(receive_packet(&mut client).starts_with("40"));
    let greeting = r#"42["response",{"data":"连接成功"}]"#;
    assert_eq!(receive_packet(&mut client), greeting);
    client
}

/// Reads up to the end of the connection, with or without a Close or a reset before it.
#[track_caller]
pub(crate) fn is_closed(mut client: Client) {
    let mut rest = Vec::new();
    if let Err(error) = client.stream.read_to_end(&mut rest) {
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    }
}

/// A server with these session settings and a few handlers, and the service that counts its
/// sessions.
fn serving(settings: SocketIoSettings) -> (TestServer, Arc<Service>) {
    let (service, io) = socketio::service(settings);
    io.namespace("/")
        .on("echo", async |event: Event| {
            event.socket.emit("echo", event.args);
        })
        .on("panic", async |_| panic!("requested by the test"))
        .on("wait", async |event: Event| {
            let asked = event.socket.emit_with_ack("wait", event.args);
            let answer = asked.await.map_err(drop);
            event.ack.send(answer.unwrap_or_default());
        });
    let router = Router::new().mount("/socket.io/", Arc::clone(&service) as Arc<_>);
    (TestServer::serving(router, |server| server), service)
}

/// Waits until no session is left.
#[track_caller]
fn none_are_left(service: &Service) {
    let deadline = Instant::now() + PATIENCE;
    while service.sessions() > 0 {
        let left = service.sessions();
        assert!(Instant::now() < deadline, "{left} sessions are left");
        thread::sleep(Duration::from_millis(10));
    }
}

pub(crate) fn quick() -> SocketIoSettings {
    SocketIoSettings {
        ping_interval: Duration::from_millis(300),
        ping_timeout: Duration::from_millis(200),
        connect_timeout: Duration::from_millis(300),
        upgrade_timeout: Duration::from_millis(300),
        body_timeout: Duration::from_millis(300),
        ..SocketIoSettings::default()
    }
}

#[test]
fn s3_the_open_packet_has_exactly_the_expected_members() {
    let server = TestServer::shared();
    let open = get(server, POLLING);
    assert!(
        open.has("content-type: text/plain; charset=utf-8"),
        "{}",
        open.head
    );
    let sid = member(&open.body, "sid");
    let rest = r#""pingInterval":25000,"pingTimeout":20000,"maxPayload":1000000}"#;
    let expected = format!(r#"0{{"sid":"{sid}","upgrades":["websocket"],{rest}"#);
    open.is(200, &expected);

    let mut client = upgrade(server, WEBSOCKET);
    let open = receive_packet(&mut client);
    let sid = member(&open, "sid");
    assert_eq!(open, format!(r#"0{{"sid":"{sid}","upgrades":[],{rest}"#));
}

#[test]
fn s4_s5_events_are_acknowledged_and_binary_is_echoed() {
    let session = Session::joined(TestServer::shared());
    session.post(r#"420["message","x"]"#).is(200, "ok");
    // Tests share the server, so broadcasts of others may come in between.
    let mut received = String::new();
    while !received.contains("430[]") {
        received.push_str(&session.poll().body);
    }
    assert!(
        received.contains(r#"42["response",{"data":"收到: x"}]"#),
        "{received}"
    );

    session
        .post("451-2[\"echo\",{\"_placeholder\":true,\"num\":0}]\x1ebAQID")
        .is(200, "ok");
    session.receives(&[
        r#"451-["echo",{"_placeholder":true,"num":0}]"#,
        "bAQID",
        r#"461-2[{"_placeholder":true,"num":0}]"#,
        "bAQID",
    ]);
}

#[test]
fn s6_each_namespace_is_joined_separately() {
    let session = Session::joined(TestServer::shared());
    session.post("40/ns,").is(200, "ok");
    let received = session.take(2);
    let sid = member(&received[0], "sid");
    assert_ne!(sid, session.socket);
    assert_eq!(received[0], format!(r#"40/ns,{{"sid":"{sid}"}}"#));
    assert_eq!(received[1], r#"42/ns,["response",{"data":"ns"}]"#);
    session.post("40/nope,").is(200, "ok");
    session.receives(&[r#"44/nope,{"message":"Invalid namespace"}"#]);
    session.post(r#"42/other,["x"]"#).is(200, "ok");
    session.lives();

    let refused = Session::joined(TestServer::shared());
    refused.post(r#"40/ns,{"token":"bad"}"#).is(200, "ok");
    refused.receives(&[r#"44/ns,{"message":"unauthorized"}"#]);
}

#[test]
fn s7_s8_rooms_are_joined_and_left_and_the_server_disconnects() {
    let server = TestServer::shared();
    let (inside, outside) = (Session::joined(server), Session::joined(server));
    inside.post(r#"421["join",{"room":"s7"}]"#).is(200, "ok");
    inside.receives(&[r#"42["response",{"data":"joined s7"}]"#, "431[]"]);
    outside
        .post(r#"42["room",{"room":"s7","data":"to s7"}]"#)
        .is(200, "ok");
    inside.receives(&[r#"42["response",{"data":"to s7"}]"#]);
    inside.post(r#"422["leave",{"room":"s7"}]"#).is(200, "ok");
    inside.receives(&[r#"432["left"]"#]);
    outside
        .post(r#"42["room",{"room":"s7","data":"to nobody"}]"#)
        .is(200, "ok");
    inside.lives();
    outside.lives();
    outside.post(r#"42["bye"]"#).is(200, "ok");
    outside.receives(&["41"]);
}

#[test]
fn s9_an_upgrade_neither_loses_nor_repeats_a_packet() {
    let session = Session::joined(TestServer::shared());
    let mut parked = session.polling();
    let mut client = upgrade(
        session.server,
        &session.query.replace("polling", "websocket"),
    );
    client.send_text("2probe");
    client.receives_text("3probe");
    response(&mut parked).is(200, "6");
    let events = (1..=200).map(|number| format!(r#"42["echo",{number}]"#));
    for batch in events.collect::<Vec<_>>().chunks(50) {
        session.post(&batch.join("\x1e")).is(200, "ok");
    }
    client.send_text("5");
    for number in 1..=200 {
        assert_eq!(
            receive_packet(&mut client),
            format!(r#"42["echo",{number}]"#)
        );
    }
    session.is_gone(); // the polling transport has ended
    client.send_text(r#"423["ack",1]"#);
    assert_eq!(receive_packet(&mut client), r#"433["ok",1]"#);
    client.send(&close_frame(1000, b""));
    is_closed(client);
}

#[test]
fn s10_invalid_requests_get_400() {
    let server = TestServer::shared();
    let wrong = [
        format!("{POLLING}&sid=nope"),
        format!("{POLLING}&sid=AAAAAAAAAAAAAAAA"),
        "EIO=3&transport=polling".into(),
        "transport=polling".into(),
        "EIO=4&transport=abc".into(),
        "EIO=4".into(),
        WEBSOCKET.into(),
    ];
    for query in &wrong {
        let refused = get(server, query);
        assert_eq!(refused.status, 400, "{query}");
        assert!(
            refused.body.contains("\"message\":"),
            "{query} {}",
            refused.body
        );
    }
    for query in [
        format!("{WEBSOCKET}&sid=nope"),
        format!("{WEBSOCKET}&sid=AAAAAAAAAAAAAAAA"),
        "EIO=3&transport=websocket".into(),
        "EIO=4&transport=abc".into(),
        POLLING.into(),
    ] {
        let mut client = Client::connect(server);
        client.send(upgrade_request(&query).as_bytes());
        let head = client.receive_head();
        assert!(head.starts_with("HTTP/1.1 400 "), "{query}: {head}");
    }
    for method in ["PUT", "DELETE", "POST"] {
        let refused = response(&mut ask(server, method, POLLING, "", b""));
        assert_eq!(refused.status, 400, "{method}");
    }
    let mut client = Client::connect(server);
    client.send(b"GET /socket.io HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert!(client.receive_head().starts_with("HTTP/1.1 404 "));
}

/// Applications show clients each other's socket ids, so a socket id must not give access to the
/// session.
#[test]
fn a_socket_id_does_not_give_access_to_its_session() {
    let session = Session::joined(TestServer::shared());
    assert_ne!(session.sid(), session.socket);
    let stranger = Session {
        server: session.server,
        query: format!("{POLLING}&sid={}", session.socket),
        socket: String::new(),
    };
    stranger.is_gone();
    assert_eq!(stranger.post("41").status, 400);
    let mut client = Client::connect(session.server);
    let query = stranger.query.replace("polling", "websocket");
    client.send(upgrade_request(&query).as_bytes());
    let head = client.receive_head();
    assert!(head.starts_with("HTTP/1.1 400 "), "{head}");
    session.lives();
}

#[test]
fn s10_a_second_poll_while_one_waits_ends_the_session() {
    let session = Session::joined(TestServer::shared());
    let mut parked = session.polling();
    assert!(parked.is_silent_for(Duration::from_millis(50)));
    assert_eq!(session.poll().status, 400);
    assert_eq!(response(&mut parked).status, 200);
    session.is_gone();
}

#[test]
fn s11_a_message_over_the_limit_ends_only_its_session() {
    let server = TestServer::shared();
    let other = Session::joined(server);
    let event = |size: usize| {
        let (open, close) = (r#"427["ack",""#, r#""]"#);
        [open, &"x".repeat(size - open.len() - close.len()), close].concat()
    };
    let session = Session::joined(server);
    for size in [900_000, 1_000_000] {
        session.post(&event(size)).is(200, "ok");
        assert!(
            session.poll().body.starts_with(r#"437["ok","xxx"#),
            "{size}"
        );
    }
    session.post(&event(1_000_001)).is(413, "");
    session.is_gone();

    let mut client = joined_websocket(server);
    for size in [900_000, 1_000_000] {
        client.send_text(&event(size));
        assert!(
            receive_packet(&mut client).starts_with(r#"437["ok","xxx"#),
            "{size}"
        );
    }
    client.send_text(&event(1_000_001));
    is_closed(client);
    other.lives();
}

#[test]
fn s12_pages_of_other_origins_may_read_the_answers() {
    let server = TestServer::shared();
    let origin = "Origin: http://evil.example\r\n";
    let allows = "access-control-allow-origin: http://evil.example";
    for query in [POLLING, "EIO=3&transport=polling"] {
        let answer = response(&mut ask(server, "GET", query, origin, b""));
        assert!(answer.has(allows), "{}", answer.head);
        assert!(answer.has("vary: origin"), "{}", answer.head);
    }
    let asks = format!(
        "{origin}Access-Control-Request-Method: POST\r\nAccess-Control-Request-Headers: X-Custom\r\n"
    );
    let answer = response(&mut ask(server, "OPTIONS", POLLING, &asks, b""));
    answer.is(200, "");
    for field in [
        allows,
        "access-control-allow-methods: options, get, post",
        "access-control-allow-headers: x-custom",
    ] {
        assert!(answer.has(field), "{field}: {}", answer.head);
    }
    // Attack 78: no origin is listed, so the response does not allow credentials.
    assert!(!answer.head.contains("credentials"), "{}", answer.head);
    assert!(!get(server, POLLING).head.contains("access-control"));
}

#[test]
fn s12_a_session_needs_a_listed_origin_and_the_token() {
    let policy = Policy {
        allowed_origins: AllowOrigin::Listed(vec!["https://good.example".parse().unwrap()]),
        token: Some("sesame".parse().unwrap()),
        ..Policy::default()
    };
    let server = TestServer::with(|server| server.with_policy(policy));
    let (good, evil) = (
        "Origin: https://good.example\r\n",
        "Origin: http://evil.example\r\n",
    );
    let with_token = format!("{POLLING}&token=sesame");
    let preflight = format!("{good}Access-Control-Request-Method: POST\r\n");
    for (method, query, fields, status) in [
        ("GET", with_token.as_str(), good, 200),
        ("GET", &with_token, "", 200),
        ("GET", &with_token, evil, 403),
        ("OPTIONS", POLLING, evil, 403),
        ("OPTIONS", POLLING, good, 401),
        ("OPTIONS", POLLING, &preflight, 200),
        ("GET", POLLING, good, 401),
        ("POST", POLLING, good, 401),
    ] {
        let answer = response(&mut ask(&server, method, query, fields, b""));
        assert_eq!(answer.status, status, "{method} {query} {fields}");
        // Attack 78: the origin is listed, so the response allows credentials.
        for field in [
            "access-control-allow-origin",
            "access-control-allow-credentials: true",
        ] {
            let is_shared = answer.head.contains(field);
            let expected = status == 200 && fields.starts_with(good);
            assert_eq!(is_shared, expected, "{}", answer.head);
        }
    }
    let mut client = Client::connect(&server);
    client.send(upgrade_request(WEBSOCKET).as_bytes());
    assert!(client.receive_head().starts_with("HTTP/1.1 401 "));
    Client::open(&server, &format!("/socket.io/?{WEBSOCKET}&token=sesame"));
}

#[test]
fn s13_a_session_without_pongs_ends_and_leaves_nothing_behind() {
    let (server, service) = serving(quick());
    let abandoned: Vec<_> = (0..100).map(|_| Session::open(&server)).collect();
    let join = |_| {
        let session = Session::open(&server);
        session.post("40").is(200, "ok");
        session
    };
    let joined: Vec<_> = (0..10).map(join).collect();
    let mut clients: Vec<_> = (0..10).map(|_| upgrade(&server, WEBSOCKET)).collect();
    clients.iter_mut().for_each(|client| client.send_text("40"));
    none_are_left(&service);
    abandoned.iter().chain(&joined).for_each(Session::is_gone);
    clients.into_iter().for_each(is_closed);
}

#[test]
fn s13_a_session_with_pongs_stays() {
    let (server, service) = serving(quick());
    let mut client = upgrade(&server, WEBSOCKET);
    assert!(receive_packet(&mut client).starts_with('0'));
    client.send_text("40");
    let mut pings = 0;
    while pings < 5 {
        let (_, payload) = client.receive();
        if payload == b"2" {
            pings += 1;
            client.send_text("3");
        }
    }
    assert_eq!(service.sessions(), 1);
    client.send(&close_frame(1000, b""));
    none_are_left(&service);
}

/// The first Ping is sent after pingInterval, here an hour.
#[test]
fn s13_the_first_ping_comes_after_the_ping_interval() {
    let (server, _service) = serving(SocketIoSettings {
        ping_interval: Duration::from_secs(3_600),
        ..SocketIoSettings::default()
    });
    let session = Session::open(&server);
    session.post("40").is(200, "ok");
    assert!(session.poll().body.starts_with("40{"));
    assert!(session.polling().is_silent_for(Duration::from_millis(50)));

    let mut client = upgrade(&server, WEBSOCKET);
    assert!(client.receive().1.starts_with(b"0{"));
    client.send_text("40");
    assert!(client.receive().1.starts_with(b"40{"));
    assert!(client.is_silent_for(Duration::from_millis(50)));
}

/// Attack 47.
#[test]
fn packets_with_too_many_or_wrong_attachments_end_the_session() {
    let server = TestServer::shared();
    let placeholder = r#"{"_placeholder":true,"num":0}"#;
    for packets in [
        format!(r#"4511-["echo",{placeholder}]"#),
        format!(r#"451000000-["echo",{placeholder}]"#),
        format!(r#"45-["echo",{placeholder}]"#),
        format!(r#"4599999999999999999999-["echo",{placeholder}]"#),
        // A text packet where an attachment is expected.
        format!("451-[\"echo\",{placeholder}]\x1e42[\"echo\",1]"),
        "bAQID".into(),
        "47".into(),
        "4".into(),
        "49".into(),
        // Invalid JSON.
        "42".into(),
        "42[".into(),
        r#"42["echo""#.into(),
        format!(r#"42["echo",{}"#, "[".repeat(300_000)),
        // Arguments over the limits, or a reference to an attachment that was not sent.
        format!(r#"450-["echo",{placeholder}]"#),
        "42[\"echo\",{\"_placeholder\":true,\"num\":\"constructor\"}]".into(),
        format!(r#"42["echo",{}{}]"#, "[".repeat(65), "]".repeat(65)),
    ] {
        let session = Session::joined(server);
        session.post(&packets);
        session.is_gone();
    }
    figure(
        Kind::Attack,
        47,
        "packets with 11 to 10^22 attachments, with a wrong or missing one, or with invalid JSON: the session",
        "ends, 16 of 16",
        "ends, 16 of 16",
    );
    // Packets without a handler are ignored, and the session goes on.
    let session = Session::joined(server);
    for packets in [r#"42["unknown event"]"#, "43999[]"] {
        session.post(packets).is(200, "ok");
        session.lives();
    }
}

/// Attack 48.
#[test]
fn invalid_posts_do_not_disturb_other_sessions() {
    let server = TestServer::shared();
    let other = Session::joined(server);
    for (body, status) in [
        (b"b!!!not base64".to_vec(), 400),
        (b"9".to_vec(), 400),
        (b"4\xFF".to_vec(), 400),
        ([b'3', 0x1e].repeat(1_000), 400),
    ] {
        let session = Session::joined(server);
        let refused = response(&mut session.posting(&body));
        assert_eq!(refused.status, status, "{body:?}");
        session.is_gone();
    }
    let session = Session::joined(server);
    session.post(&["3"; 1_000].join("\x1e")).is(200, "ok");
    session.lives();
    other.lives();
    figure(
        Kind::Attack,
        48,
        "POSTs with invalid base64, types or UTF-8, or with 1,001 packets: answer; other sessions",
        "400 each; live",
        "400 each; live",
    );
}

/// Attack 48.
#[test]
fn a_second_upgrade_of_a_session_is_closed_at_once() {
    let session = Session::joined(TestServer::shared());
    let query = session.query.replace("polling", "websocket");
    let mut first = upgrade(session.server, &query);
    let is_surplus = |query: &str| {
        let mut second = upgrade(session.server, query);
        assert_eq!(second.receive(), (0x88, 1_000_u16.to_be_bytes().to_vec()));
        second.send(&close_frame(1000, b""));
        is_closed(second);
    };
    is_surplus(&query);
    first.send_text("2probe");
    first.receives_text("3probe");
    is_surplus(&query);
    first.send_text("5");
    first.send_text(r#"421["ack",1]"#);
    assert_eq!(receive_packet(&mut first), r#"431["ok",1]"#);
    is_surplus(&query);
    first.send_text(r#"422["ack",1]"#);
    assert_eq!(receive_packet(&mut first), r#"432["ok",1]"#);
    figure(
        Kind::Attack,
        48,
        "a second upgrade of a session, before, during and after the first: answer; the first upgrade",
        "101 and closed each; serves on",
        "101 and closed each; serves on",
    );
}

#[test]
fn a_failed_upgrade_leaves_the_session_polling() {
    let (server, service) = serving(SocketIoSettings {
        ping_timeout: Duration::from_secs(3_600),
        ..quick()
    });
    let ends: [&dyn Fn(Client); 7] = [
        &|client| drop(client),
        &|mut client| client.send(&close_frame(1000, b"")),
        &|mut client| {
            client.send_text("2probe");
            client.receives_text("3probe");
        },
        &|mut client| client.send_text("5"),
        &|mut client| client.send(&frame(0x82, b"\0")),
        // A silent client runs into the upgrade timeout, before the probe or after it.
        &|client| is_closed(client),
        &|mut client| {
            client.send_text("2probe");
            client.receives_text("3probe");
            is_closed(client);
        },
    ];
    let session = Session::joined_silently(&server);
    let query = session.query.replace("polling", "websocket");
    for (number, end) in ends.iter().enumerate() {
        let mut parked = session.polling();
        end(probing(&server, &query));
        // The probe answers a waiting GET, so the client polls again.
        let event = format!(r#"42["echo",{number}]"#);
        session.post(&event).is(200, "ok");
        let mut body = response(&mut parked).body;
        while !body.contains(&event) {
            assert!(
                body.split('\x1e')
                    .all(|packet| ["2", "6"].contains(&packet)),
                "{body}"
            );
            body = session.poll().body;
        }
    }
    let mut client = probing(&server, &query);
    client.send_text("2probe");
    client.receives_text("3probe");
    client.send_text("5");
    client.send_text(r#"42["echo","by WebSocket"]"#);
    assert_eq!(receive_packet(&mut client), r#"42["echo","by WebSocket"]"#);
    client.send(&close_frame(1000, b""));
    none_are_left(&service);
    session.is_gone();
}

/// Opens a WebSocket that can upgrade the session, once the server has seen earlier upgrades fail.
fn probing(server: &TestServer, query: &str) -> Client {
    loop {
        let mut client = upgrade(server, query);
        if client.is_silent_for(Duration::from_millis(20)) {
            return client;
        }
        assert_eq!(client.receive(), (0x88, 1_000_u16.to_be_bytes().to_vec()));
    }
}

#[test]
fn a_body_that_does_not_arrive_ends_the_session() {
    let (server, service) = serving(SocketIoSettings {
        ping_timeout: Duration::from_secs(3_600),
        ..quick()
    });
    let session = Session::joined_silently(&server);
    let mut client = Client::connect(&server);
    let head = format!(
        "POST /socket.io/?{} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\n40",
        session.query
    );
    client.send(head.as_bytes());
    assert!(client.receive_head().starts_with("HTTP/1.1 408 "));
    none_are_left(&service);

    // Attack 62: a body that arrives too slowly ends its session, too, but a large body may take
    // longer.
    let body = |length: usize, step: usize| {
        let session = Session::joined_silently(&server);
        let mut client = Client::connect(&server);
        let head = format!(
            "POST /socket.io/?{} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n",
            session.query
        );
        client.send(head.as_bytes());
        let body = vec![b'3'; length];
        for piece in body.chunks(step) {
            if client.stream.write_all(piece).is_err()
                || !client.is_silent_for(Duration::from_millis(50))
            {
                break;
            }
        }
        client.receive_head()[9..12].to_owned()
    };
    assert_eq!(body(1_000, 1), "408");
    assert_eq!(body(320_000, 20_000), "200");
}

#[test]
fn sessions_over_the_limit_get_503() {
    let (server, service) = serving(SocketIoSettings {
        max_sessions: 2,
        ..SocketIoSettings::default()
    });
    let session = Session::joined_silently(&server);
    let mut client = upgrade(&server, WEBSOCKET);
    client.send_text("40");
    while !receive_packet(&mut client).starts_with("40") {}
    let refused = get(&server, POLLING);
    assert_eq!(refused.status, 503);
    assert!(refused.has("retry-after: 1"), "{}", refused.head);
    let mut third = Client::connect(&server);
    third.send(upgrade_request(WEBSOCKET).as_bytes());
    assert!(third.receive_head().starts_with("HTTP/1.1 503 "));
    drop(client);
    session.post("1");
    none_are_left(&service);
    Session::open(&server);
}

#[test]
fn a_panic_in_a_handler_ends_only_that_handler() {
    let (server, _service) = serving(SocketIoSettings::default());
    let mut client = upgrade(&server, WEBSOCKET);
    assert!(receive_packet(&mut client).starts_with('0'));
    client.send_text("40");
    assert!(receive_packet(&mut client).starts_with("40"));
    client.send_text(r#"42["panic"]"#);
    client.send_text(r#"42["echo",1]"#);
    assert_eq!(receive_packet(&mut client), r#"42["echo",1]"#);
}

/// The server stops reading from a client that does not read its answers, so nothing piles up.
#[test]
fn the_server_stops_reading_from_a_client_that_does_not_read() {
    let server = TestServer::with(|server| server);
    let mut client = joined_websocket(&server);
    let burst = frame(0x89, &[0; 125]).repeat(1_000);
    client
        .stream
        .set_write_timeout(Some(Duration::from_millis(300)))
        .unwrap();
    let mut sent = 0;
    let refused = (0..2_000).find(|_| {
        use std::io::Write;
        sent += burst.len();
        client.stream.write_all(&burst).is_err()
    });
    assert!(refused.is_some(), "{sent} bytes of Pings were taken");
}

#[test]
fn a_drain_ends_sessions_of_both_transports() {
    let server = TestServer::with(|server| server);
    let session = Session::joined(&server);
    let mut parked = session.polling();
    let mut client = joined_websocket(&server);
    server.shutdown.drain();
    // A polling client receives a packet, a WebSocket client a Close frame.
    response(&mut parked).is(200, "1");
    assert_eq!(client.receive(), (0x88, 1_001_u16.to_be_bytes().to_vec()));
    client.send(&close_frame(1001, b""));
    is_closed(client);
    server.stopped().unwrap();
}

#[test]
fn the_browser_client_is_served() {
    let server = TestServer::shared();
    let mut client = Client::connect(server);
    client.send(
        b"GET /socket.io/socket.io.js HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
    );
    let script = response(&mut client);
    assert!(
        script.has("content-type: text/javascript; charset=utf-8"),
        "{}",
        script.head
    );
    script.is(200, socketio::BROWSER_CLIENT);
    assert!(script.body.contains("Socket.IO v4.8.4"));
}
