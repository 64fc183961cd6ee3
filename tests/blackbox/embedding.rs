//! The library as others embed it: handlers, peers, refusals, panics.

use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::thread;

use frameloop::handshake::{HandshakeError, Subprotocols};
use frameloop::{
    CloseCode, CloseFrame, Disconnect, Endpoint, Handler, Message, Peer, Router, WebSocket,
};

use crate::client::{Client, PATIENCE, close_frame, frame, request};
use crate::server::TestServer;

/// Tells a test what its handler is called with.
struct Reporter(Sender<String>);

impl Handler for Reporter {
    fn open(&mut self, socket: &mut WebSocket<'_>) {
        socket.send(Message::Text("welcome"));
        self.0.send("open".into()).unwrap();
    }

    fn message(&mut self, socket: &mut WebSocket<'_>, message: Message<'_>) {
        self.0.send(format!("{message:?}")).unwrap();
        match message {
            Message::Text("panic") => panic!("as the test asked for"),
            Message::Text("close") => socket.close(CloseCode::Library(3001), "enough"),
            _ => {}
        }
    }

    fn closed(&mut self, why: &Disconnect) {
        self.0.send(format!("closed {} {why}", why.code())).unwrap();
    }
}

fn reporting() -> (TestServer, Receiver<String>) {
    let (sender, reports) = mpsc::channel();
    let sender = Mutex::new(sender);
    let router = Router::new().websocket("/", move |_| Reporter(sender.lock().unwrap().clone()));
    (TestServer::serving(router, |server| server), reports)
}

#[track_caller]
fn reports(reports: &Receiver<String>, expected: &[&str]) {
    for expected in expected {
        assert_eq!(reports.recv_timeout(PATIENCE).as_deref(), Ok(*expected));
    }
}

#[test]
fn a_handler_is_opened_called_and_closed_once() {
    let (server, log) = reporting();
    let mut client = Client::open(&server, "/");
    client.receives_text("welcome");
    client.send(&frame(0x01, b"he"));
    client.send(&frame(0x89, b"p"));
    client.send(&frame(0x80, b"llo"));
    client.send(&frame(0x82, b"\x01"));
    client.send(&frame(0x8A, b"q"));
    client.send(&close_frame(4000, b"bye"));
    client.receives(b"\x8A\x01p\x88\x05\x0F\xA0bye");
    client.ends();
    reports(
        &log,
        &[
            "open",
            "Ping([112])",
            "Text(\"hello\")",
            "Binary([1])",
            "Pong([113])",
            "Close(Some(CloseFrame { code: Library(4000), reason: \"bye\" }))",
            "closed 4000 closed by peer",
        ],
    );
    drop(server);
    assert!(log.recv().is_err(), "nothing more is reported");
}

#[test]
fn each_end_of_a_connection_is_told_apart() {
    type Act = fn(&mut Client);
    let cases: [(&str, Act); 6] = [
        // What was not read makes the kernel reset the connection.
        ("closed 1006 connection broke: connection reset", |client| {
            client.send(&frame(0x89, b"answered, but not read"));
            assert_ne!(client.stream.peek(&mut [0]).unwrap(), 0);
        }),
        ("closed 1000 closed by peer", |client| {
            client.send(&close_frame(1000, b"C26: and then a reset"));
            assert_ne!(client.stream.peek(&mut [0]).unwrap(), 0);
        }),
        ("closed 1006 peer went without a Close", |client| {
            client.finish()
        }),
        ("closed 1005 closed by peer", |client| {
            client.send(&frame(0x88, b""))
        }),
        (
            "closed 1002 protocol error: client frame not masked",
            |client| {
                client.send(b"\x81\x00");
            },
        ),
        ("closed 1007 protocol error: text is not UTF-8", |client| {
            client.send(&frame(0x81, b"\xFF"));
        }),
    ];
    for (expected, act) in cases {
        let (server, log) = reporting();
        let mut client = Client::open(&server, "/");
        client.receives_text("welcome");
        reports(&log, &["open"]);
        act(&mut client);
        drop(client);
        let last = std::iter::from_fn(|| log.recv_timeout(PATIENCE).ok())
            .find(|report| report.starts_with("closed"));
        assert_eq!(last.as_deref(), Some(expected));
        drop(server);
    }
}

#[test]
fn c48_a_panic_closes_its_own_connection_with_1011_and_no_other() {
    let (server, log) = reporting();
    let mut bystander = Client::open(&server, "/");
    bystander.receives_text("welcome");
    for _ in 0..4 {
        let mut client = Client::open(&server, "/");
        client.receives_text("welcome");
        client.send_text("panic");
        client.closes_with(1011);
    }
    bystander.send_text("still here");
    let seen = std::iter::from_fn(|| log.recv_timeout(PATIENCE).ok())
        .find(|report| report == "Text(\"still here\")");
    assert!(seen.is_some());
}

#[test]
fn c31_a_handler_may_close_and_hears_the_answer() {
    let (server, log) = reporting();
    let mut client = Client::open(&server, "/");
    client.receives_text("welcome");
    client.send_text("close");
    client.receives(b"\x88\x08\x0B\xB9enough");
    // C33: what the client sent in the meantime is dropped.
    client.send_text("late");
    client.send(&close_frame(3001, b""));
    client.ends();
    reports(
        &log,
        &[
            "open",
            "Text(\"close\")",
            "Close(Some(CloseFrame { code: Iana(3001), reason: \"\" }))",
            "closed 3001 closed by server",
        ],
    );
}

#[test]
fn a_peer_works_from_another_thread_and_outlives_its_connection() {
    struct Spawns;
    impl Handler for Spawns {
        fn message(&mut self, socket: &mut WebSocket<'_>, message: Message<'_>) {
            if let Message::Text(text) = message {
                let (peer, text) = (socket.peer(), text.to_owned());
                thread::spawn(move || {
                    peer.send(Message::Text(&format!("{text} from afar")));
                    peer.send(Message::Ping(b"p"));
                    peer.close(CloseFrame {
                        code: CloseCode::Normal,
                        reason: "done",
                    });
                    // The connection closes: the rest has nobody to go to.
                    peer.send(Message::Text("lost"));
                });
            }
        }
    }
    let server = TestServer::serving(Router::new().websocket("/", |_| Spawns), |server| server);
    let mut client = Client::open(&server, "/");
    client.send_text("hi");
    client.receives_text("hi from afar");
    client.receives(b"\x89\x01p\x88\x06\x03\xE8done");
    client.send(&close_frame(1000, b""));
    client.ends();
}

#[test]
fn a_key_that_is_used_again_is_not_its_old_peer() {
    let peers = Arc::new(Mutex::new(Vec::<Peer>::new()));
    let router = Router::new().websocket("/", {
        let peers = Arc::clone(&peers);
        move |_| Keeps(Arc::clone(&peers))
    });
    struct Keeps(Arc<Mutex<Vec<Peer>>>);
    impl Handler for Keeps {
        fn open(&mut self, socket: &mut WebSocket<'_>) {
            self.0.lock().unwrap().push(socket.peer());
        }

        fn message(&mut self, socket: &mut WebSocket<'_>, message: Message<'_>) {
            socket.send(message);
        }
    }
    let server = TestServer::serving(router, |server| server.with_workers(1));
    for _ in 0..3 {
        let mut client = Client::open(&server, "/");
        client.send(&close_frame(1000, b""));
        client.receives(b"\x88\x02\x03\xE8");
        client.ends();
    }
    let mut client = Client::open(&server, "/");
    let peers = peers.lock().unwrap();
    for gone in &peers[..3] {
        gone.send(Message::Text("for somebody else"));
    }
    peers[3].send(Message::Text("for you"));
    client.receives_text("for you");
}

#[test]
fn an_endpoint_may_refuse_what_is_otherwise_in_order() {
    let router = Router::new().endpoint(
        "/{name}",
        Endpoint::refusing(|request| match (request.param("name"), request.query()) {
            ("secret", Some("token=right")) => Ok(|_: &mut WebSocket<'_>, _: Message<'_>| {}),
            ("secret", _) => Err(HandshakeError::Unauthorized),
            _ => Err(HandshakeError::Forbidden),
        }),
    );
    let server = TestServer::serving(router, |server| server);
    for (path, status) in [
        ("/secret", "401"),
        ("/secret?token=right", "101"),
        ("/other", "403"),
        ("/a/b", "404"),
    ] {
        let mut client = Client::connect(&server);
        client.send(request(path).as_bytes());
        let head = client.receive_head();
        assert_eq!(head.split(' ').nth(1), Some(status), "{path}");
    }
}

#[test]
fn a_handler_knows_its_path_query_headers_and_subprotocol() {
    let endpoint = Endpoint::new(|request| {
        let text = format!(
            "{} {} {:?} {:?} {:?}",
            request.path(),
            request.param("room"),
            request.query(),
            request.headers().get("host").unwrap(),
            request.subprotocol(),
        );
        move |socket: &mut WebSocket<'_>, _: Message<'_>| socket.send(Message::Text(&text))
    })
    .with_subprotocols(Subprotocols::Supported(vec!["b".into(), "a".into()]));
    let router = Router::new().endpoint("/rooms/{room}", endpoint);
    let server = TestServer::serving(router, |server| server);
    let mut client = Client::connect(&server);
    let request = request("/rooms/lobby?x=1")
        .replace("\r\n\r\n", "\r\nSec-WebSocket-Protocol: c, a, b\r\n\r\n");
    client.send(request.as_bytes());
    client.receive_head();
    client.send_text("?");
    client.receives_text("/rooms/lobby lobby Some(\"x=1\") \"localhost\" Some(\"a\")");
}
