//! The work of a Socket.IO client is done in turns: other connections of its worker are served
//! after two turns at most. Attacks 54 and 61.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use frameloop::socketio::{self, Event, SocketIoSettings};
use frameloop::{Message, Router, WebSocket};

use crate::client::{Client, frame};
use crate::report::{Kind, figure};
use crate::server::TestServer;
use crate::socketio::{POLLING, WEBSOCKET, receive_packet, upgrade};

const EVENTS: usize = 200;

/// Counts the events that are handled while a message of an innocent client waits. The first event
/// sends the message, so that it arrives on the busy worker.
#[derive(Debug, Default)]
struct Waiting {
    innocent: Mutex<Option<TcpStream>>,
    is_sent: AtomicBool,
    events: AtomicUsize,
    most: AtomicUsize,
}

impl Waiting {
    fn event(&self) {
        if !self.is_sent.swap(true, Ordering::SeqCst)
            && let Some(innocent) = &mut *self.innocent.lock().unwrap()
        {
            innocent.write_all(&frame(0x81, b"hi")).unwrap();
        }
        let events = 1 + self.events.fetch_add(1, Ordering::SeqCst);
        self.most.fetch_max(events, Ordering::SeqCst);
    }

    fn served(&self) {
        self.events.store(0, Ordering::SeqCst);
        self.is_sent.store(false, Ordering::SeqCst);
    }
}

/// A server with one worker, and its innocent client.
struct Worker {
    server: TestServer,
    waiting: Arc<Waiting>,
    _innocent: Client,
}

impl Worker {
    fn new() -> Worker {
        let waiting = Arc::new(Waiting::default());
        let (counts, served) = (Arc::clone(&waiting), Arc::clone(&waiting));
        let (service, io) = socketio::service(SocketIoSettings::default());
        io.namespace("/")
            .on("last", async |event: Event| event.ack.send("done"))
            .on_any(move |event: Event| {
                counts.event();
                async move {
                    match &*event.name {
                        "all" => drop(event.socket.everybody().emit("all", event.args)),
                        "others" => drop(event.socket.others().emit("others", event.args)),
                        _ => {}
                    }
                }
            });
        let router =
            Router::new()
                .mount("/socket.io/", service)
                .websocket("/innocent", move |_| {
                    let served = Arc::clone(&served);
                    move |_: &mut WebSocket<'_>, _: Message<'_>| served.served()
                });
        let server = TestServer::serving(router, |server| server.with_workers(1));
        let innocent = Client::open(&server, "/innocent");
        let stream = innocent.stream.try_clone().unwrap();
        *waiting.innocent.lock().unwrap() = Some(stream);
        Worker {
            server,
            waiting,
            _innocent: innocent,
        }
    }

    /// Sends these events at once by WebSocket, and waits until they are handled. Returns the most
    /// events that were handled while the innocent client's message waited.
    fn handled_at_once(&self, event: &str, count: usize) -> usize {
        let mut client = upgrade(&self.server, WEBSOCKET);
        client.send_text("40");
        let events = frame(0x81, event.as_bytes()).repeat(count);
        client.send(&[&*events, &frame(0x81, LAST.as_bytes())].concat());
        while receive_packet(&mut client) != DONE {}
        self.waiting.most.swap(0, Ordering::SeqCst)
    }

    /// The same by a POST.
    fn handled_in_a_post(&self, event: &str, count: usize) -> usize {
        let mut poller = Poller::joined(&self.server);
        let events = [[event].repeat(count), vec![LAST]].concat();
        poller.ask("POST", &events.join("\x1e"));
        while !poller.ask("GET", "").contains(DONE) {}
        self.waiting.most.swap(0, Ordering::SeqCst)
    }
}

const LAST: &str = r#"427["last"]"#;
const DONE: &str = r#"437["done"]"#;

/// A polling session, and its connection.
struct Poller {
    client: Client,
    sid: String,
}

impl Poller {
    fn joined(server: &TestServer) -> Poller {
        let mut poller = Poller {
            client: Client::connect(server),
            sid: String::new(),
        };
        let open = poller.ask("GET", "");
        let (_, sid) = open.split_once(r#""sid":""#).unwrap();
        poller.sid = format!("&sid={}", sid.split('"').next().unwrap());
        assert_eq!(poller.ask("POST", "40"), "ok");
        poller
    }

    fn ask(&mut self, method: &str, body: &str) -> String {
        let (sid, length) = (&self.sid, body.len());
        let request = format!(
            "{method} /socket.io/?{POLLING}{sid} HTTP/1.1\r\nHost: localhost\r\n\
             Content-Length: {length}\r\n\r\n{body}"
        );
        self.client.send(request.as_bytes());
        let head = self.client.receive_head().to_lowercase();
        let (_, length) = head.split_once("content-length: ").unwrap();
        let mut body = vec![0; length.split('\r').next().unwrap().parse().unwrap()];
        self.client.stream.read_exact(&mut body).unwrap();
        String::from_utf8(body).unwrap()
    }
}

/// Attack 61.
#[test]
fn events_with_many_values_take_turns_with_other_connections() {
    let worker = Worker::new();
    let event = format!(r#"42["values",[{}1]]"#, "[],".repeat(4_999));
    let by_websocket = worker.handled_at_once(&event, 40);
    let by_post = worker.handled_in_a_post(&event, 40);
    figure(
        Kind::Attack,
        61,
        "events of 5,000 values, by WebSocket; by POST: handled while another client waits",
        "<= 2",
        format_args!("{by_websocket}; {by_post}"),
    );
    assert!(by_websocket.max(by_post) <= 2, "{by_websocket} {by_post}");
}

/// Attack 54. Each event costs a part of a turn for every polling member.
#[test]
fn events_to_polling_members_take_turns_with_other_connections() {
    const MEMBERS: usize = 300;
    let worker = Worker::new();
    let _members: Vec<_> = (0..MEMBERS)
        .map(|_| Poller::joined(&worker.server))
        .collect();
    let mut handled = Vec::new();
    for event in [r#"42["all",1]"#, r#"42["others",1]"#] {
        handled.push(worker.handled_at_once(event, EVENTS));
        handled.push(worker.handled_in_a_post(event, EVENTS));
    }
    figure(
        Kind::Attack,
        54,
        format_args!(
            "{EVENTS} Socket.IO events at once to {MEMBERS} polling members, by WebSocket and by POST; the same to all but the sender: handled while another client waits"
        ),
        "<= 32",
        format_args!("{handled:?}"),
    );
    assert!(handled.iter().all(|events| *events <= 32), "{handled:?}");
}

/// Events cost a part of a turn even if nobody receives them.
#[test]
fn small_events_take_turns_with_other_connections() {
    let worker = Worker::new();
    let by_websocket = worker.handled_at_once(r#"42["x"]"#, 900);
    let by_post = worker.handled_in_a_post(r#"42["x"]"#, 900);
    assert!(by_websocket.max(by_post) <= 512, "{by_websocket} {by_post}");
}
