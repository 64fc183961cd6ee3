//! The library as applications embed it: handlers, peers, refusals, panics.

use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use frameloop::engine::Deadlines;
use frameloop::handshake::{HandshakeError, Subprotocols};
use frameloop::{
    CloseCode, CloseFrame, Disconnect, Endpoint, Handler, Membership, Message, Peer, Rooms, Router,
    Settings, WebSocket,
};

use crate::client::{Client, PATIENCE, close_frame, frame, request};
use crate::report::{Kind, figure};
use crate::server::TestServer;

/// Reports each call of the handler to the test.
struct Reporter(Sender<String>);

impl Handler for Reporter {
    fn open(&mut self, socket: &mut WebSocket<'_>) {
        socket.send(Message::Text("welcome"));
        self.0.send("open".into()).unwrap();
    }

    fn message(&mut self, socket: &mut WebSocket<'_>, message: Message<'_>) {
        self.0.send(format!("{message:?}")).unwrap();
        match message {
            Message::Text("panic") => panic!("requested by the test"),
            Message::Text("close") => socket.close(CloseCode::Library(3001), "enough"),
            Message::Text("flood") => socket.send(Message::Binary(&vec![0; 64 << 20])),
            _ => {}
        }
    }

    fn closed(&mut self, why: &Disconnect) {
        self.0
            .send(format!(
                "closed {}/{} {why}",
                why.code_sent(),
                why.code_received()
            ))
            .unwrap();
    }
}

fn reporting() -> (TestServer, Receiver<String>) {
    reporting_with(Settings::default())
}

fn reporting_with(settings: Settings) -> (TestServer, Receiver<String>) {
    let (sender, reports) = mpsc::channel();
    let sender = Mutex::new(sender);
    let router = Router::new().websocket("/", move |_| Reporter(sender.lock().unwrap().clone()));
    let server = TestServer::serving(router, |server| server.with_settings(settings));
    (server, reports)
}

/// The report of `closed`, which must be the last.
#[track_caller]
fn end(reports: &Receiver<String>) -> String {
    std::iter::from_fn(|| reports.recv_timeout(PATIENCE).ok())
        .find(|report| report.starts_with("closed"))
        .unwrap()
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
            "closed 4000/4000 closed by peer",
        ],
    );
    drop(server);
    assert!(log.recv().is_err(), "a report after the end");
}

#[test]
fn each_end_of_a_connection_is_reported() {
    type Act = fn(&mut Client);
    let cases: [(&str, Act); 8] = [
        // Unread input makes the kernel reset the connection.
        (
            "closed 1006/1006 connection broke: connection reset",
            |client| {
                client.send(&frame(0x89, b"answered, but not read"));
                assert_ne!(client.stream.peek(&mut [0]).unwrap(), 0);
            },
        ),
        ("closed 1000/1000 closed by peer", |client| {
            client.send(&close_frame(1000, b"C26: and then a reset"));
            assert_ne!(client.stream.peek(&mut [0]).unwrap(), 0);
        }),
        ("closed 1006/1006 peer went without a Close", |client| {
            client.finish()
        }),
        ("closed 1006/1006 peer went without a Close", |client| {
            client.send(&close_frame(1000, b"C21: half a Close")[..9]);
            client.finish();
        }),
        ("closed 1006/1006 peer went without a Close", |client| {
            client.send(&frame(0x01, b"C24: half a message"));
            client.finish();
        }),
        ("closed 1005/1005 closed by peer", |client| {
            client.send(&frame(0x88, b""))
        }),
        (
            "closed 1002/1006 protocol error: client frame not masked",
            |client| {
                client.send(b"\x81\x00");
            },
        ),
        (
            "closed 1007/1006 protocol error: text is not UTF-8",
            |client| {
                client.send(&frame(0x81, b"\xFF"));
            },
        ),
    ];
    for (expected, act) in cases {
        let (server, log) = reporting();
        let mut client = Client::open(&server, "/");
        client.receives_text("welcome");
        reports(&log, &["open"]);
        act(&mut client);
        drop(client);
        assert_eq!(end(&log), expected);
        drop(server);
        assert!(log.recv().is_err(), "{expected}: a report after the end");
    }
}

#[test]
fn each_deadline_that_ends_a_connection_is_reported() {
    const SHORT: Duration = Duration::from_millis(100);
    type Change = fn(&mut Deadlines);
    type Act = fn(&mut Client);
    let cases: [(&str, Change, Act); 5] = [
        (
            "closed 1008/1006 ping timeout",
            |deadlines| (deadlines.ping_interval, deadlines.ping_timeout) = (SHORT, SHORT),
            |_| {},
        ),
        (
            "closed 1008/1006 message not finished",
            |deadlines| deadlines.message = SHORT,
            |client| client.send(&frame(0x01, b"and then")),
        ),
        (
            "closed 1008/1006 idle timeout",
            |deadlines| deadlines.idle = Some(SHORT),
            |_| {},
        ),
        (
            "closed 3001/1006 close timeout",
            |deadlines| deadlines.close = SHORT,
            |client| client.send_text("close"),
        ),
        (
            "closed 1006/1006 write stall",
            |deadlines| deadlines.write_stall = SHORT,
            |client| client.send_text("flood"),
        ),
    ];
    for (expected, change, act) in cases {
        let mut settings = Settings::default();
        settings.deadlines.linger = SHORT;
        change(&mut settings.deadlines);
        let (server, log) = reporting_with(settings);
        let mut client = Client::open(&server, "/");
        act(&mut client);
        assert_eq!(end(&log), expected);
    }
    let (server, log) = reporting();
    let client = Client::open(&server, "/");
    reports(&log, &["open"]);
    server.shutdown.cut();
    assert_eq!(end(&log), "closed 1006/1006 cut at shutdown");
    drop(client);
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
fn c31_a_handler_may_close_and_sees_the_answer() {
    let (server, log) = reporting();
    let mut client = Client::open(&server, "/");
    client.receives_text("welcome");
    client.send_text("close");
    client.receives(b"\x88\x08\x0B\xB9enough");
    // C33: data that the client sent in the meantime is dropped.
    client.send_text("late");
    client.send(&close_frame(3001, b""));
    client.ends();
    reports(
        &log,
        &[
            "open",
            "Text(\"close\")",
            "Close(Some(CloseFrame { code: Iana(3001), reason: \"\" }))",
            "closed 3001/3001 closed by server",
        ],
    );
}

#[test]
fn c34_a_close_answered_with_another_code_reports_both_codes() {
    struct Closes(Sender<Disconnect>);
    impl Handler for Closes {
        fn message(&mut self, socket: &mut WebSocket<'_>, _: Message<'_>) {
            socket.close(CloseCode::Restart, "");
        }

        fn closed(&mut self, why: &Disconnect) {
            self.0.send(*why).unwrap();
        }
    }
    let (sender, ends) = mpsc::channel();
    let sender = Mutex::new(sender);
    let router = Router::new().websocket("/", move |_| Closes(sender.lock().unwrap().clone()));
    let server = TestServer::serving(router, |server| server);
    for (answer, code) in [
        (close_frame(1001, b"ok"), Some(CloseCode::Away)),
        (frame(0x88, b""), None),
    ] {
        let mut client = Client::open(&server, "/");
        client.send_text("?");
        client.receives(b"\x88\x02\x03\xF4");
        client.send(&answer);
        client.ends();
        let expected = Disconnect::ClosedLocally(Some(CloseCode::Restart), code);
        assert_eq!(ends.recv_timeout(PATIENCE), Ok(expected));
    }
}

/// Fault 16: the worker survives a panic in any method of a handler.
#[test]
fn c48_a_panic_in_open_closed_or_drop_closes_no_other_connection() {
    struct Panics(Sender<String>, bool);
    impl Handler for Panics {
        fn open(&mut self, _: &mut WebSocket<'_>) {
            assert!(!self.1, "requested by the test");
        }

        fn message(&mut self, socket: &mut WebSocket<'_>, message: Message<'_>) {
            socket.send(message);
        }

        fn closed(&mut self, why: &Disconnect) {
            self.0
                .send(format!(
                    "closed {}/{} {why}",
                    why.code_sent(),
                    why.code_received()
                ))
                .unwrap();
            panic!("requested by the test");
        }
    }
    impl Drop for Panics {
        fn drop(&mut self) {
            panic!("requested by the test");
        }
    }
    let (sender, log) = mpsc::channel();
    let sender = Mutex::new(sender);
    let router = Router::new().websocket("/{when}", move |request| {
        let sender = sender.lock().unwrap().clone();
        Panics(sender, request.param("when") == "open")
    });
    let server = TestServer::serving(router, |server| server.with_workers(1));
    let mut bystander = Client::open(&server, "/closed");
    for _ in 0..3 {
        // The 101 is sent first, then the Close.
        let mut client = Client::open(&server, "/open");
        client.closes_with(1011);
        reports(&log, &["closed 1011/1006 handler panicked"]);
        let mut client = Client::open(&server, "/closed");
        client.send(&close_frame(1000, b""));
        client.receives(b"\x88\x02\x03\xE8");
        client.ends();
        reports(&log, &["closed 1000/1000 closed by peer"]);
    }
    bystander.send_text("still here");
    bystander.receives_text("still here");
}

#[test]
fn a_peer_sends_from_another_thread_and_outlives_its_connection() {
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
                    // The connection is closing, so this message is dropped.
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
fn a_peer_of_a_closed_connection_never_reaches_a_new_one() {
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
        gone.send(Message::Text("for a closed connection"));
    }
    peers[3].send(Message::Text("for you"));
    client.receives_text("for you");
}

#[test]
fn an_endpoint_may_refuse_a_valid_handshake() {
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

/// A read that fills the buffer looks as if more data followed. If FIN came with that data, the
/// kernel does not report it again.
#[test]
fn c23_fin_is_seen_after_a_read_that_filled_the_buffer() {
    struct Blocks(Arc<Mutex<mpsc::Receiver<()>>>);
    impl Handler for Blocks {
        fn message(&mut self, socket: &mut WebSocket<'_>, message: Message<'_>) {
            if message.is_data() {
                socket.send(message);
            }
            if message == Message::Text("block") {
                self.0.lock().unwrap().recv().unwrap();
            }
        }
    }
    let (release, released) = mpsc::channel();
    let released = Arc::new(Mutex::new(released));
    let router = Router::new().websocket("/", move |_| Blocks(Arc::clone(&released)));
    let server = TestServer::serving(router, |server| server.with_workers(1));
    let mut client = Client::open(&server, "/");
    let mut blocker = Client::open(&server, "/");
    let large = frame(0x82, &[7; 20_000]);
    client.send(&[&frame(0x89, b"p")[..], &large[..200]].concat());
    client.receives(b"\x8A\x01p");
    // While the worker is busy, the rest arrives, FIN included.
    blocker.send_text("block");
    assert!(blocker.is_silent_for(std::time::Duration::from_millis(100)));
    client.send(&[&large[200..], &frame(0x81, b"x")[..]].concat());
    client.finish();
    release.send(()).unwrap();
    client.receives(&crate::client::reply(0x82, &[7; 20_000]));
    client.receives_text("x");
    client.ends();
}

#[test]
fn a_panic_while_a_handler_is_created_frees_the_slot() {
    let router = Router::new()
        .websocket("/panic", |_| -> fn(&mut WebSocket<'_>, Message<'_>) {
            panic!("requested by the test")
        })
        .websocket("/", |_| |_: &mut WebSocket<'_>, _: Message<'_>| {});
    let server = TestServer::serving(router, |server| {
        server.with_workers(1).with_max_connections(2)
    });
    for _ in 0..5 {
        let mut client = Client::connect(&server);
        client.send(request("/panic").as_bytes());
        let _ = client.stream.peek(&mut [0]);
    }
    Client::open(&server, "/");
}

/// Attack 55: a handler lets clients choose their rooms.
#[test]
fn attack_55_the_rooms_of_a_connection_are_limited() {
    struct Joins(Rooms, Vec<Membership>);
    impl Handler for Joins {
        fn message(&mut self, socket: &mut WebSocket<'_>, message: Message<'_>) {
            match message {
                Message::Text("leave") => drop(self.1.pop()),
                Message::Text(name) => match self.0.join(name, &socket.peer()) {
                    Ok(membership) => self.1.push(membership),
                    Err(error) => {
                        socket.send(Message::Text(error.reason()));
                    }
                },
                _ => {}
            }
        }
    }
    let rooms = Rooms::default();
    let router = Router::new().websocket("/", {
        let rooms = rooms.clone();
        move |_| Joins(rooms.clone(), Vec::new())
    });
    let server = TestServer::serving(router, |server| server);
    let mut client = Client::open(&server, "/");
    client.send_text(&"n".repeat(256));
    client.receives_text("room name too long");
    client.send_text(&"n".repeat(255));
    for number in 1..Rooms::MAX_MEMBERSHIPS {
        client.send_text(&format!("{number}"));
    }
    client.send_text("one too many");
    client.receives_text("too many rooms");
    assert_eq!(rooms.members(&"n".repeat(255)), 1);
    assert_eq!(rooms.members("127"), 1);
    assert_eq!(rooms.members("one too many"), 0);
    client.send_text("leave");
    client.send_text("instead");
    client.send_text("one too many");
    client.receives_text("too many rooms");
    assert_eq!((rooms.members("127"), rooms.members("instead")), (0, 1));
    // The limit counts per connection.
    let mut other = Client::open(&server, "/");
    other.send_text("instead");
    other.send_text(&"n".repeat(256));
    other.receives_text("room name too long");
    assert_eq!(rooms.members("instead"), 2);
    figure(
        Kind::Attack,
        55,
        "a client joins rooms of its choice: rooms per connection; longest name",
        "128; 255 bytes",
        format_args!("{}; 255 bytes", Rooms::MAX_MEMBERSHIPS),
    );
}

/// Each worker calls the function on its own thread once its connections have closed.
#[test]
fn every_idle_worker_returns_memory() {
    static THREADS: Mutex<Option<Sender<Option<String>>>> = Mutex::new(None);
    fn give_back() {
        let name = thread::current().name().map(String::from);
        if let Some(threads) = &*THREADS.lock().unwrap() {
            let _ = threads.send(name);
        }
    }
    let (sender, threads) = mpsc::channel();
    *THREADS.lock().unwrap() = Some(sender);
    let server = TestServer::with(|server| server.on_worker_idle(give_back));
    drop(Client::open(&server, "/echo"));
    let mut missing = vec!["worker-0", "worker-1"];
    while !missing.is_empty() {
        let name = threads.recv_timeout(3 * PATIENCE).unwrap().unwrap();
        missing.retain(|worker| *worker != name);
    }
}

/// Memory is returned after a burst although all connections stay open.
#[test]
fn a_worker_returns_memory_after_a_burst() {
    const SIZE: usize = 8 << 20;
    static GIVEN: Mutex<Option<Sender<()>>> = Mutex::new(None);
    fn give_back() {
        if let Some(given) = &*GIVEN.lock().unwrap() {
            let _ = given.send(());
        }
    }
    let server = TestServer::with(|server| server.with_workers(1).on_worker_idle(give_back));
    let (mut client, mut other) = (
        Client::open(&server, "/echo"),
        Client::open(&server, "/echo"),
    );
    let message = frame(0x82, &vec![7; SIZE]);
    let (begun, rest) = message.split_at(SIZE);
    client.send(begun);
    // The worker checks once a second how many bytes it holds.
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(3) {
        other.send_text("still held");
        other.receives_text("still held");
    }
    let (sender, given) = mpsc::channel();
    *GIVEN.lock().unwrap() = Some(sender);
    client.send(rest);
    client.receives(&crate::client::reply(0x82, &vec![7; SIZE]));
    given.recv_timeout(3 * PATIENCE).unwrap();
    other.send_text("still here");
    other.receives_text("still here");
}
