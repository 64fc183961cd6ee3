//! After any input from a Socket.IO client, the server either answers the next request, or has
//! ended the session and kept nothing of it. In any order of a session's requests and messages, and
//! whether or not its upgrade succeeds, each packet arrives once, in order, on the session's current
//! transport.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::iter::repeat_with;
use std::mem;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use frameloop::http::{HttpSettings, InProcessClient, InProcessServer};
use frameloop::socketio::{self, Event, Service};
use frameloop::{Router, Settings};

use super::client::Frame;

thread_local! {
    static SESSIONS: RefCell<Option<Sessions>> = const { RefCell::new(None) };
}

/// The number of sessions that are opened together, because each waits a millisecond or two for its
/// first Ping.
const OPENED_AT_ONCE: usize = 16;

/// A day: no session times out while the fuzzer works on others.
const NEVER: Duration = Duration::from_secs(86_400);

/// The first byte chooses between a POST, messages, and the steps of an upgrade, and between a new
/// session and the one of an earlier input, if it is still open.
pub(crate) fn check(input: &[u8]) {
    let Some((&how, rest)) = input.split_first() else {
        return;
    };
    SESSIONS.with_borrow_mut(|sessions| {
        let sessions = sessions.get_or_insert_with(Sessions::new);
        let is_new = how >= 0x80;
        match how % 4 {
            0 => sessions.post(rest, is_new),
            2 => Upgrading::new(sessions).play(rest),
            _ => sessions.send(rest, is_new),
        }
        // Ended sessions are freed at the next turn of the runtime.
        let open = sessions.polling.len() + sessions.messaging.len();
        let left = sessions.service.sessions() - open;
        assert!(left < 8, "{left} sessions are left");
    });
}

/// The open sessions. The last of each kind is in use.
struct Sessions {
    server: &'static InProcessServer,
    service: Arc<Service>,
    /// Clients that open polling sessions. The first one sends all further requests.
    pollers: Vec<InProcessClient<'static>>,
    polling: Vec<Polling>,
    /// WebSockets that have joined `/`.
    messaging: Vec<InProcessClient<'static>>,
    inputs: u64,
}

struct Polling {
    sid: String,
    has_joined: bool,
}

impl Sessions {
    fn new() -> Sessions {
        let settings = socketio::SocketIoSettings {
            ping_interval: NEVER,
            connect_timeout: NEVER,
            ..socketio::SocketIoSettings::default()
        };
        let (service, io) = socketio::service(settings);
        for namespace in ["/", "/n"] {
            io.namespace(namespace).on_any(async |event: Event| {
                event.socket.emit(&event.name, event.args.clone());
                event.ack.send(event.args);
            });
        }
        let router = Router::new().mount("/socket.io/", Arc::clone(&service) as Arc<_>);
        let http = HttpSettings {
            head_timeout: Duration::ZERO,
            keep_alive_timeout: Duration::ZERO,
            ..HttpSettings::default()
        };
        let server = InProcessServer::new(router, Settings::default(), http).expect("a poller");
        // Never dropped: a runtime cannot shut down among a thread's last values.
        let server: &InProcessServer = Box::leak(Box::new(server));
        Sessions {
            server,
            service,
            pollers: clients(server),
            polling: Vec::new(),
            messaging: Vec::new(),
            inputs: 0,
        }
    }

    /// Sends a body to a polling session.
    fn post(&mut self, body: &[u8], is_new: bool) {
        if let Some(old) = self.polling.pop_if(|session| is_new && session.has_joined) {
            let ended = self.ask(&[request("POST", &old.sid, b"1")]);
            assert_eq!(ended[0].0, 200);
        }
        if self.polling.is_empty() {
            self.open_polling();
        }
        let last = self.last_event();
        let Some(session) = self.polling.pop() else {
            return;
        };
        let join = (!session.has_joined).then(|| request("POST", &session.sid, b"40"));
        // If the session is still open, its answers include the last event.
        let requests = join.into_iter().chain([
            request("POST", &session.sid, body),
            request("POST", &session.sid, last.as_bytes()),
            request("GET", &session.sid, b""),
        ]);
        let answers = self.ask(&requests.collect::<Vec<_>>());
        assert!(
            answers
                .iter()
                .all(|(status, _)| [200, 400].contains(status))
        );
        let is_told = |(status, body): &(_, Vec<u8>)| *status == 200 && contains(body, &last);
        if answers.last().is_some_and(is_told) {
            self.polling.push(Polling {
                has_joined: true,
                ..session
            });
        } else {
            // The session has ended, or its answers exceed one response.
            self.ask(&[request("POST", &session.sid, b"1")]);
        }
    }

    /// Opens several: all requests are sent before the first response is read.
    fn open_polling(&mut self) {
        for client in &mut self.pollers {
            let asked = client.exchange(&request("GET", "", b""), |_| true);
            asked.expect("sent");
        }
        let opened = self.pollers.iter_mut().map(|client| {
            let open = client.exchange(b"", |received| responses(received).len() == 1);
            let open = String::from_utf8(open.expect("an answer")).expect("a text");
            let (_, sid) = open.split_once(r#""sid":""#).expect("a new session");
            Polling {
                sid: sid.split('"').next().unwrap_or_default().to_owned(),
                has_joined: false,
            }
        });
        self.polling = opened.collect();
    }

    /// Sends these requests at once. Returns the statuses and bodies of the responses.
    fn ask(&mut self, requests: &[Vec<u8>]) -> Vec<(u16, Vec<u8>)> {
        let is_whole = |received: &[u8]| responses(received).len() == requests.len();
        let received = self.pollers[0].exchange(&requests.concat(), is_whole);
        let responses = responses(&received.expect("answers"));
        assert_eq!(responses.len(), requests.len());
        responses
    }

    /// Sends messages, each of which ends with 0xFF.
    fn send(&mut self, messages: &[u8], is_new: bool) {
        self.messaging.pop_if(|_| is_new);
        if self.messaging.is_empty() {
            self.open_messaging();
        }
        let last = self.last_event();
        let Some(mut client) = self.messaging.pop() else {
            return;
        };
        let messages = messages.split(|byte| *byte == 0xFF);
        // A client that has left its namespace gets no answer there.
        let leaves = messages.clone().any(|message| message.starts_with(b"41"));
        let bytes: Vec<u8> = messages.chain([last.as_bytes()]).flat_map(frame).collect();
        let is_done = |received: &[u8]| leaves || contains(received, &last);
        let received = client.exchange(&bytes, is_done);
        // After the end of a session the server does not read the rest, so the client may get an
        // error.
        if received.is_ok_and(|received| contains(&received, &last)) {
            self.messaging.push(client);
        }
    }

    /// Opens several, as for polling.
    fn open_messaging(&mut self) {
        let mut bytes = handshake("/socket.io/?EIO=4&transport=websocket");
        bytes.extend(frame(b"40"));
        self.messaging = clients(self.server);
        for client in &mut self.messaging {
            let asked = client.exchange(&bytes, |_| true);
            asked.expect("sent");
        }
        for client in &mut self.messaging {
            let answer = client.exchange(b"", |received| contains(received, "40{"));
            assert!(contains(&answer.expect("an answer"), "40{"));
        }
    }

    /// An event that is echoed, different for each input.
    fn last_event(&mut self) -> String {
        self.inputs += 1;
        format!(r#"42["last",{}]"#, self.inputs)
    }
}

/// A polling session and its expected packets.
struct Upgrading<'s> {
    sessions: &'s mut Sessions,
    sid: String,
    /// Echoes that have not arrived, the oldest first.
    expected: VecDeque<Vec<Packet>>,
    stage: Stage,
    events: usize,
}

/// The text of a packet, or an attachment.
type Packet = (bool, Vec<u8>);

enum Stage {
    Polling,
    Opened(InProcessClient<'static>),
    Probed(InProcessClient<'static>),
    Upgraded(InProcessClient<'static>),
    Over,
}

impl<'s> Upgrading<'s> {
    fn new(sessions: &'s mut Sessions) -> Upgrading<'s> {
        let opened = sessions.ask(&[request("GET", "", b"")]);
        let open = String::from_utf8(opened[0].1.clone()).expect("a text");
        let (_, sid) = open.split_once(r#""sid":""#).expect("a new session");
        let sid = sid.split('"').next().unwrap_or_default().to_owned();
        let joined = sessions.ask(&[request("POST", &sid, b"40"), request("GET", &sid, b"")]);
        assert!(joined[1].1.starts_with(b"40{"));
        Upgrading {
            sessions,
            sid,
            expected: VecDeque::new(),
            stage: Stage::Polling,
            events: 0,
        }
    }

    fn play(mut self, steps: &[u8]) {
        for step in steps.iter().take(64) {
            match step % 9 {
                0 | 1 => self.emit(1, false),
                2 => self.emit(3, false),
                3 => self.emit(1, true),
                4 => self.poll(),
                5 => self.open(),
                6 => self.probe(),
                7 => self.complete(),
                _ => self.fail(),
            }
        }
        self.close();
    }

    /// Emits events over the current transport.
    fn emit(&mut self, count: usize, is_binary: bool) {
        let mut packets = Vec::new();
        for _ in 0..count {
            self.events += 1;
            let number = self.events;
            let packet: Vec<Packet> = if is_binary {
                let text = format!(r#"451-["e",{number},{{"_placeholder":true,"num":0}}]"#);
                vec![(true, text.into()), (false, number.to_be_bytes().into())]
            } else {
                vec![(true, format!(r#"42["e",{number}]"#).into())]
            };
            packets.extend(packet.clone());
            self.expected.push_back(packet);
        }
        match &mut self.stage {
            Stage::Polling | Stage::Opened(_) | Stage::Probed(_) => {
                let answer = self.ask("POST", &polled(&packets));
                assert_eq!(answer, (200, b"ok".to_vec()));
            }
            Stage::Upgraded(client) => {
                let bytes: Vec<u8> = packets.iter().flat_map(message).collect();
                client.exchange(&bytes, |_| true).expect("sent");
                self.receive();
            }
            Stage::Over => assert_eq!(self.ask("POST", &polled(&packets)).0, 400),
        }
    }

    /// Reads the queue with a GET, if it is answered at once.
    fn poll(&mut self) {
        let waiting: Vec<Packet> = self.expected.iter().flatten().cloned().collect();
        let expected = match &self.stage {
            Stage::Polling | Stage::Opened(_) if waiting.is_empty() => return,
            Stage::Probed(_) if waiting.is_empty() => (200, b"6".to_vec()),
            Stage::Polling | Stage::Opened(_) | Stage::Probed(_) => (200, polled(&waiting)),
            Stage::Upgraded(_) | Stage::Over => {
                assert_eq!(self.ask("GET", b"").0, 400);
                return;
            }
        };
        assert_eq!(self.ask("GET", b""), expected);
        self.expected.clear();
    }

    /// Opens a WebSocket for the session. The server closes all but the first at once.
    fn open(&mut self) {
        let mut client = self.sessions.server.connect().expect("a client");
        let target = format!("/socket.io/?EIO=4&transport=websocket&sid={}", self.sid);
        let handshake = handshake(&target);
        match self.stage {
            Stage::Over => {
                let answer = client.exchange(&handshake, |received| contains(received, "}"));
                assert!(answer.expect("an answer").starts_with(b"HTTP/1.1 400 "));
            }
            Stage::Polling => {
                let answer = client.exchange(&handshake, |received| contains(received, HEAD_END));
                assert!(answer.expect("an answer").starts_with(b"HTTP/1.1 101 "));
                self.stage = Stage::Opened(client);
            }
            Stage::Opened(_) | Stage::Probed(_) | Stage::Upgraded(_) => {
                let is_closed = |received: &[u8]| received.ends_with(&[0x88, 2, 3, 0xE8]);
                let answer = client.exchange(&handshake, is_closed);
                assert!(answer.expect("an answer").starts_with(b"HTTP/1.1 101 "));
            }
        }
    }

    fn probe(&mut self) {
        self.stage = match mem::replace(&mut self.stage, Stage::Over) {
            Stage::Opened(mut client) => {
                let probed = client.exchange(&frame(b"2probe"), |got| contains(got, "3probe"));
                assert_eq!(
                    frames(&probed.expect("an answer")),
                    [(true, b"3probe".to_vec())]
                );
                Stage::Probed(client)
            }
            Stage::Polling => Stage::Polling,
            // A second probe is an invalid packet.
            Stage::Probed(client) => closed(client, &frame(b"2probe"), Stage::Polling),
            Stage::Upgraded(client) => closed(client, &frame(b"2probe"), Stage::Over),
            Stage::Over => Stage::Over,
        };
    }

    /// Completes the upgrade: queued packets arrive on the WebSocket.
    fn complete(&mut self) {
        self.stage = match mem::replace(&mut self.stage, Stage::Over) {
            Stage::Probed(mut client) => {
                // The Pong after it shows that the upgrade is complete.
                const PING: &[u8] = &[0x89, 0x80, 1, 2, 3, 4];
                let bytes = [frame(b"5"), PING.to_vec()].concat();
                let waiting: Vec<Packet> = self.expected.drain(..).flatten().collect();
                let is_whole = |got: &[u8]| frames(got).len() > waiting.len();
                let received = client.exchange(&bytes, is_whole).expect("packets");
                let mut received = frames(&received);
                received.retain(|(is_text, payload)| *is_text || !payload.is_empty());
                assert_eq!(received, waiting);
                Stage::Upgraded(client)
            }
            Stage::Polling => Stage::Polling,
            Stage::Opened(client) => closed(client, &frame(b"5"), Stage::Polling),
            Stage::Upgraded(client) => closed(client, &frame(b"5"), Stage::Over),
            Stage::Over => Stage::Over,
        };
    }

    /// Closes the WebSocket. Before the end of the upgrade the session polls on.
    fn fail(&mut self) {
        const CLOSE: &[u8] = &[0x88, 0x82, 0, 0, 0, 0, 3, 0xE8];
        self.stage = match mem::replace(&mut self.stage, Stage::Over) {
            Stage::Polling => Stage::Polling,
            Stage::Opened(client) | Stage::Probed(client) => closed(client, CLOSE, Stage::Polling),
            Stage::Upgraded(client) => closed(client, CLOSE, Stage::Over),
            Stage::Over => Stage::Over,
        };
    }

    /// All expected packets arrive on the WebSocket, if it is the transport.
    fn receive(&mut self) {
        if let Stage::Upgraded(client) = &mut self.stage {
            let expected: Vec<Packet> = self.expected.drain(..).flatten().collect();
            if expected.is_empty() {
                return;
            }
            let received = client.exchange(b"", |got| frames(got).len() >= expected.len());
            assert_eq!(frames(&received.expect("packets")), expected);
        }
    }

    fn close(mut self) {
        match mem::replace(&mut self.stage, Stage::Over) {
            Stage::Upgraded(client) => drop(closed(client, &frame(b"1"), Stage::Over)),
            Stage::Polling | Stage::Opened(_) | Stage::Probed(_) => {
                assert_eq!(self.ask("POST", b"1").0, 200);
            }
            Stage::Over => {}
        }
        assert_eq!(self.ask("GET", b"").0, 400);
    }

    fn ask(&mut self, method: &str, body: &[u8]) -> (u16, Vec<u8>) {
        let request = request(method, &self.sid, body);
        self.sessions.ask(&[request]).remove(0)
    }
}

const HEAD_END: &str = "\r\n\r\n";

/// Sends input that makes the server close this WebSocket. Returns the session's next stage.
fn closed(mut client: InProcessClient<'static>, bytes: &[u8], then: Stage) -> Stage {
    let is_closed = |received: &[u8]| received.contains(&0x88);
    let received = client.exchange(bytes, is_closed);
    assert!(received.expect("a Close").contains(&0x88));
    then
}

/// Packets in the body of a polling request or response.
fn polled(packets: &[Packet]) -> Vec<u8> {
    let packets = packets.iter().map(|(is_text, bytes)| match is_text {
        true => bytes.clone(),
        false => format!("b{}", BASE64.encode(bytes)).into(),
    });
    packets.collect::<Vec<_>>().join(&0x1E)
}

/// A packet in a client's frame.
fn message((is_text, payload): &Packet) -> Vec<u8> {
    let frame = Frame {
        first: if *is_text { 0x81 } else { 0x82 },
        payload,
        key: Some([1, 2, 3, 4]),
    };
    frame.bytes()
}

/// The complete frames of a server, all of which are short.
fn frames(mut bytes: &[u8]) -> Vec<Packet> {
    let mut frames = Vec::new();
    while let [first, length, rest @ ..] = bytes {
        let Some((payload, after)) = rest.split_at_checked((*length).into()) else {
            break;
        };
        frames.push((*first == 0x81, payload.to_vec()));
        bytes = after;
    }
    frames
}

fn handshake(target: &str) -> Vec<u8> {
    format!(
        "GET {target} HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    .into()
}

fn clients(server: &'static InProcessServer) -> Vec<InProcessClient<'static>> {
    let clients = repeat_with(|| server.connect().expect("a client"));
    clients.take(OPENED_AT_ONCE).collect()
}

fn frame(payload: &[u8]) -> Vec<u8> {
    let is_text = std::str::from_utf8(payload).is_ok();
    let frame = Frame {
        first: if is_text { 0x81 } else { 0x82 },
        payload,
        key: Some([1, 2, 3, 4]),
    };
    frame.bytes()
}

/// A request of a session, or for a new one.
fn request(method: &str, sid: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let session = if sid.is_empty() { "" } else { "&sid=" };
    let head = format!(
        "{method} /socket.io/?EIO=4&transport=polling{session}{sid} HTTP/1.1\r\nHost: a\r\n\
         Content-Length: {length}\r\n\r\n"
    );
    [head.as_bytes(), body].concat()
}

/// The statuses and bodies of the complete responses.
fn responses(mut bytes: &[u8]) -> Vec<(u16, Vec<u8>)> {
    let mut responses = Vec::new();
    loop {
        let mut headers = [httparse::EMPTY_HEADER; 16];
        let mut head = httparse::Response::new(&mut headers);
        let parsed = head.parse(bytes).expect("a head");
        let httparse::Status::Complete(length) = parsed else {
            return responses;
        };
        let size = head
            .headers
            .iter()
            .find(|field| field.name == "Content-Length");
        let size = size.and_then(|field| std::str::from_utf8(field.value).ok()?.parse().ok());
        let rest = &bytes[length..];
        let Some((body, rest)) = rest.split_at_checked(size.expect("a length")) else {
            return responses;
        };
        responses.push((head.code.unwrap_or_default(), body.to_vec()));
        bytes = rest;
    }
}

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes
        .windows(text.len())
        .any(|window| window == text.as_bytes())
}
