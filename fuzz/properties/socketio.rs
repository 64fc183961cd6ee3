//! After any input from a Socket.IO client, the server either answers the next request, or has
//! ended the session and kept nothing of it. In any order of a session's requests and messages, and
//! whether or not its upgrade succeeds, each packet arrives once, in order, on the session's current
//! transport.
//!
//! There are no sockets, no HTTP and no clock: requests are futures that this file polls, and the
//! WebSockets are streams in memory.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::mem;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use frameloop::Settings;
use frameloop::engine::{SimulatedConnection, Simulation, Stream};
use frameloop::socketio::{self, Event, Service};
use http::{Request, StatusCode};
use tokio::runtime::Runtime;

use super::client::Frame;

thread_local! {
    /// Taken for each input: an input that fails leaves nothing for the next one.
    static SESSIONS: Cell<Option<Sessions>> = const { Cell::new(None) };
}

/// A day: no session times out while the fuzzer works on others.
const NEVER: Duration = Duration::from_secs(86_400);

/// The first byte chooses between a POST, messages, and the steps of an upgrade, and between a new
/// session and the one of an earlier input, if it is still open.
pub(crate) fn check(input: &[u8]) {
    let Some((&how, rest)) = input.split_first() else {
        return;
    };
    let mut sessions = SESSIONS.take().unwrap_or_else(Sessions::new);
    let _entered = sessions.runtime.enter();
    let is_new = how >= 0x80;
    match how % 4 {
        0 => sessions.post(rest, is_new),
        2 => Upgrading::new(&mut sessions).play(rest),
        _ => sessions.send(rest, is_new),
    }
    let open = [sessions.polling.is_some(), sessions.messaging.is_some()];
    let open = open.iter().filter(|is_open| **is_open).count();
    assert_eq!(sessions.service.sessions(), open);
    SESSIONS.set(Some(sessions));
}

/// The server, and the open sessions that an input may use.
struct Sessions {
    /// Never runs: all handlers of this file end at once.
    runtime: &'static Runtime,
    service: Arc<Service>,
    worker: Simulation<Wire>,
    /// The id of a polling session that has joined `/` and whose queue is empty.
    polling: Option<String>,
    /// A WebSocket that has joined `/`.
    messaging: Option<Client>,
    inputs: u64,
}

/// The two directions of a WebSocket's stream.
#[derive(Clone, Default)]
struct Wire(Rc<RefCell<Bytes>>);

#[derive(Default)]
struct Bytes {
    to_server: VecDeque<u8>,
    to_client: Vec<u8>,
    /// The client has sent FIN.
    is_finished: bool,
}

impl Read for Wire {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut bytes = self.0.borrow_mut();
        if bytes.to_server.is_empty() && !bytes.is_finished {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        bytes.to_server.read(buffer)
    }
}

impl Write for Wire {
    fn write(&mut self, written: &[u8]) -> io::Result<usize> {
        self.0.borrow_mut().to_client.write(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Stream for Wire {
    fn shutdown_write(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The client's end of a WebSocket.
struct Client {
    wire: Wire,
    connection: SimulatedConnection,
}

/// A request that is not answered yet.
type Asked = Pin<Box<dyn Future<Output = (StatusCode, Vec<u8>)>>>;

/// The status and the body of a response.
type Answer = (u16, Vec<u8>);

impl Sessions {
    fn new() -> Sessions {
        let settings = socketio::SocketIoSettings {
            ping_interval: NEVER,
            connect_timeout: NEVER,
            upgrade_timeout: NEVER,
            // Otherwise POSTs would wait.
            max_publish_rate: None,
            ..socketio::SocketIoSettings::default()
        };
        let (service, io) = socketio::service(settings);
        for namespace in ["/", "/n"] {
            io.namespace(namespace).on_any(async |event: Event| {
                event.socket.emit(&event.name, event.args.clone());
                event.ack.send(event.args);
            });
        }
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .expect("a runtime");
        Sessions {
            // Never dropped: a runtime cannot shut down among a thread's last values.
            runtime: Box::leak(Box::new(runtime)),
            service,
            worker: Simulation::new(&Settings::default()),
            polling: None,
            messaging: None,
            inputs: 0,
        }
    }

    /// Sends a body to a polling session.
    fn post(&mut self, body: &[u8], is_new: bool) {
        if let Some(old) = self.polling.take_if(|_| is_new) {
            assert_eq!(self.ask("POST", &old, b"1").0, 200);
        }
        let sid = self.polling.take().unwrap_or_else(|| self.open_polling());
        let last = self.last_event();
        let posted = self.ask("POST", &sid, body).0;
        assert!([200, 400].contains(&posted), "{posted}");
        let is_open = self.ask("POST", &sid, last.as_bytes()) == (200, b"ok".to_vec());
        assert!(
            is_open || posted == 400 || ends(body),
            "the session has ended"
        );
        if !is_open {
            assert_eq!(self.ask("GET", &sid, b"").0, 400);
            return;
        }
        // A client that has left `/` gets no answer there.
        let answer = self.poll(&sid).map(|(_, packets)| packets);
        let is_told = answer
            .as_ref()
            .is_some_and(|packets| contains(packets, &last));
        assert!(
            is_told || leaves(body, 0x1E),
            "the last event has no answer"
        );
        match is_told {
            true => self.polling = Some(sid),
            false => assert_eq!(self.ask("POST", &sid, b"1").0, 200),
        }
    }

    /// Opens a polling session that joins `/`.
    fn open_polling(&mut self) -> String {
        let (status, open) = self.ask("GET", "", b"");
        let open = String::from_utf8(open).expect("a text");
        assert_eq!(status, 200, "{open}");
        let (_, sid) = open.split_once(r#""sid":""#).expect("a new session");
        let sid = sid.split('"').next().unwrap_or_default().to_owned();
        assert_eq!(self.ask("POST", &sid, b"40"), (200, b"ok".to_vec()));
        assert!(self.ask("GET", &sid, b"").1.starts_with(b"40{"));
        sid
    }

    /// Begins a request of a session, or for a new one.
    fn begin(&self, method: &str, sid: &str, body: &[u8]) -> Asked {
        let session = if sid.is_empty() { "" } else { "&sid=" };
        let request = Request::builder()
            .method(method)
            .uri(format!("/socket.io/?EIO=4&transport=polling{session}{sid}"))
            .body(body.to_vec())
            .expect("a request");
        Box::pin(Arc::clone(&self.service).simulate(request))
    }

    /// Returns the answer to a request. `None` if the request waits. Then the worker delivers what
    /// the request has caused.
    fn answer(&mut self, asked: &mut Asked) -> Option<Answer> {
        /// A request yields when its work exceeds a turn.
        const TURNS: usize = 100;
        let mut context = Context::from_waker(Waker::noop());
        for _ in 0..TURNS {
            let polled = asked.as_mut().poll(&mut context);
            self.worker.run();
            if let Poll::Ready((status, body)) = polled {
                return Some((status.as_u16(), body));
            }
        }
        None
    }

    /// Sends a request that is answered at once.
    fn ask(&mut self, method: &str, sid: &str, body: &[u8]) -> Answer {
        let mut asked = self.begin(method, sid, body);
        self.answer(&mut asked).expect("an answer")
    }

    /// Sends a GET. `None` if it is not answered at once.
    fn poll(&mut self, sid: &str) -> Option<Answer> {
        let mut asked = self.begin("GET", sid, b"");
        self.answer(&mut asked)
    }

    /// Sends messages, each of which ends with 0xFF.
    fn send(&mut self, messages: &[u8], is_new: bool) {
        if let Some(old) = self.messaging.take_if(|_| is_new) {
            self.finish(old);
        }
        let client = self
            .messaging
            .take()
            .unwrap_or_else(|| self.open_messaging());
        let last = self.last_event();
        let parts = messages.split(|byte| *byte == 0xFF);
        let bytes: Vec<u8> = parts.chain([last.as_bytes()]).flat_map(frame).collect();
        self.exchange(&client, &bytes);
        let received = client.received();
        let is_closed = client.is_over(&mut self.worker) || ends_with_close(&received);
        let is_told = contains(&received, &last);
        assert!(
            is_told || is_closed || leaves(messages, 0xFF),
            "the last event has no answer"
        );
        match is_told && !is_closed {
            true => self.messaging = Some(client),
            false => self.finish(client),
        }
    }

    /// Opens a WebSocket that joins `/`.
    fn open_messaging(&mut self) -> Client {
        let client = self.connect("").expect("a WebSocket");
        self.exchange(&client, &frame(b"40"));
        assert!(contains(&client.received(), "40{"));
        client
    }

    /// Opens a WebSocket for a session, or for a new one. `None` if the server refuses it.
    fn connect(&mut self, sid: &str) -> Option<Client> {
        let session = if sid.is_empty() { "" } else { "&sid=" };
        let query = format!("EIO=4&transport=websocket{session}{sid}");
        let wire = Wire::default();
        let handler = self.service.simulate_websocket(&query)?;
        let connection = self.worker.open(wire.clone(), handler, None);
        self.worker.run();
        Some(Client { wire, connection })
    }

    /// Sends bytes to the server, and lets it answer.
    fn exchange(&mut self, client: &Client, bytes: &[u8]) {
        client.wire.0.borrow_mut().to_server.extend(bytes);
        self.worker.ready(client.connection);
        self.worker.run();
    }

    /// Ends a WebSocket with FIN.
    fn finish(&mut self, client: Client) {
        client.wire.0.borrow_mut().is_finished = true;
        self.exchange(&client, b"");
        assert!(
            client.is_over(&mut self.worker),
            "FIN does not end the WebSocket"
        );
    }

    /// An event that is echoed, different for each input.
    fn last_event(&mut self) -> String {
        self.inputs += 1;
        format!(r#"42["last",{}]"#, self.inputs)
    }
}

impl Client {
    /// What the server has sent since the last call.
    fn received(&self) -> Vec<u8> {
        mem::take(&mut self.wire.0.borrow_mut().to_client)
    }

    fn is_over(&self, worker: &mut Simulation<Wire>) -> bool {
        worker.stream(self.connection).is_none()
    }
}

/// Whether the session may end after a POST of this body that succeeds: a packet closes it, or lacks
/// attachments.
fn ends(body: &[u8]) -> bool {
    let mut packets = body.split(|byte| *byte == 0x1E);
    packets.any(|packet| matches!(packet, [b'1', ..] | [b'4', b'5' | b'6', ..]))
}

/// Whether one of these packets leaves a namespace.
fn leaves(packets: &[u8], separator: u8) -> bool {
    let mut packets = packets.split(|byte| *byte == separator);
    packets.any(|packet| packet.starts_with(b"41"))
}

/// A polling session and its expected packets.
struct Upgrading<'s> {
    sessions: &'s mut Sessions,
    sid: String,
    /// Echoes that have not arrived, the oldest first.
    expected: VecDeque<Vec<Packet>>,
    stage: Stage,
    /// A GET that waits for a packet. Nothing else is expected then.
    parked: Option<Asked>,
    events: usize,
}

/// The text of a packet, or an attachment.
type Packet = (bool, Vec<u8>);

enum Stage {
    Polling,
    Opened(Client),
    Probed(Client),
    Upgraded(Client),
    Over,
}

impl<'s> Upgrading<'s> {
    fn new(sessions: &'s mut Sessions) -> Upgrading<'s> {
        let sid = sessions.open_polling();
        Upgrading {
            sessions,
            sid,
            expected: VecDeque::new(),
            stage: Stage::Polling,
            parked: None,
            events: 0,
        }
    }

    fn play(mut self, steps: &[u8]) {
        for step in steps.iter().take(64) {
            match step % 10 {
                0 | 1 => self.emit(1, false),
                2 => self.emit(3, false),
                3 => self.emit(1, true),
                4 => self.poll(),
                5 => self.open(),
                6 => self.probe(),
                7 => self.complete(),
                8 => self.fail(),
                _ => self.park(),
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
                self.unpark(&polled(&packets));
            }
            Stage::Upgraded(client) => {
                let bytes: Vec<u8> = packets.iter().flat_map(message).collect();
                self.sessions.exchange(client, &bytes);
                let expected: Vec<Packet> = self.expected.drain(..).flatten().collect();
                assert_eq!(frames(&client.received()), expected);
            }
            Stage::Over => assert_eq!(self.ask("POST", &polled(&packets)).0, 400),
        }
    }

    /// Reads the queue with a GET, if it is answered at once. A second GET ends the session.
    fn poll(&mut self) {
        let waiting: Vec<Packet> = self.expected.drain(..).flatten().collect();
        let expected = match &self.stage {
            Stage::Polling | Stage::Opened(_) if self.parked.is_some() => {
                assert_eq!(self.ask("GET", b"").0, 400);
                self.unpark(b"1");
                let stage = mem::replace(&mut self.stage, Stage::Over);
                if let Stage::Opened(client) = stage {
                    self.closed(client, b"", Stage::Over);
                }
                return;
            }
            Stage::Polling | Stage::Opened(_) if waiting.is_empty() => return,
            Stage::Probed(_) if waiting.is_empty() => (200, b"6".to_vec()),
            Stage::Polling | Stage::Opened(_) | Stage::Probed(_) => (200, polled(&waiting)),
            Stage::Upgraded(_) | Stage::Over => {
                assert_eq!(self.ask("GET", b"").0, 400);
                return;
            }
        };
        assert_eq!(self.ask("GET", b""), expected);
    }

    /// Sends a GET that waits, because the queue is empty.
    fn park(&mut self) {
        let is_polling = matches!(self.stage, Stage::Polling | Stage::Opened(_));
        if is_polling && self.parked.is_none() && self.expected.is_empty() {
            let mut asked = self.sessions.begin("GET", &self.sid, b"");
            assert_eq!(self.sessions.answer(&mut asked), None);
            self.parked = Some(asked);
        }
    }

    /// The GET that waits, if there is one, gets this body.
    fn unpark(&mut self, body: &[u8]) {
        if let Some(mut asked) = self.parked.take() {
            let answer = self.sessions.answer(&mut asked);
            assert_eq!(answer, Some((200, body.to_vec())));
            self.expected.clear();
        }
    }

    /// Opens a WebSocket for the session. The server closes all but the first at once.
    fn open(&mut self) {
        let client = self.sessions.connect(&self.sid);
        self.stage = match (mem::replace(&mut self.stage, Stage::Over), client) {
            (Stage::Over, refused) => {
                assert!(refused.is_none());
                Stage::Over
            }
            (Stage::Polling, client) => Stage::Opened(client.expect("a WebSocket")),
            (stage, client) => {
                let client = client.expect("a WebSocket");
                assert_eq!(client.received(), [0x88, 2, 3, 0xE8]);
                self.sessions.finish(client);
                stage
            }
        };
    }

    fn probe(&mut self) {
        self.stage = match mem::replace(&mut self.stage, Stage::Over) {
            Stage::Opened(client) => {
                self.sessions.exchange(&client, &frame(b"2probe"));
                assert_eq!(frames(&client.received()), [(true, b"3probe".to_vec())]);
                self.unpark(b"6");
                Stage::Probed(client)
            }
            Stage::Polling => Stage::Polling,
            // A second probe is an invalid packet.
            Stage::Probed(client) => self.closed(client, &frame(b"2probe"), Stage::Polling),
            Stage::Upgraded(client) => self.closed(client, &frame(b"2probe"), Stage::Over),
            Stage::Over => Stage::Over,
        };
    }

    /// Completes the upgrade: queued packets arrive on the WebSocket.
    fn complete(&mut self) {
        self.stage = match mem::replace(&mut self.stage, Stage::Over) {
            Stage::Probed(client) => {
                self.sessions.exchange(&client, &frame(b"5"));
                let waiting: Vec<Packet> = self.expected.drain(..).flatten().collect();
                assert_eq!(frames(&client.received()), waiting);
                Stage::Upgraded(client)
            }
            Stage::Polling => Stage::Polling,
            Stage::Opened(client) => self.closed(client, &frame(b"5"), Stage::Polling),
            Stage::Upgraded(client) => self.closed(client, &frame(b"5"), Stage::Over),
            Stage::Over => Stage::Over,
        };
    }

    /// Closes the WebSocket. Before the end of the upgrade the session polls on.
    fn fail(&mut self) {
        const CLOSE: &[u8] = &[0x88, 0x82, 0, 0, 0, 0, 3, 0xE8];
        self.stage = match mem::replace(&mut self.stage, Stage::Over) {
            Stage::Polling => Stage::Polling,
            Stage::Opened(client) | Stage::Probed(client) => {
                self.closed(client, CLOSE, Stage::Polling)
            }
            Stage::Upgraded(client) => self.closed(client, CLOSE, Stage::Over),
            Stage::Over => Stage::Over,
        };
    }

    fn close(mut self) {
        match mem::replace(&mut self.stage, Stage::Over) {
            Stage::Upgraded(client) => drop(self.closed(client, &frame(b"1"), Stage::Over)),
            Stage::Polling => assert_eq!(self.ask("POST", b"1").0, 200),
            Stage::Opened(client) | Stage::Probed(client) => {
                assert_eq!(self.ask("POST", b"1").0, 200);
                self.closed(client, b"", Stage::Over);
            }
            Stage::Over => {}
        }
        self.unpark(b"6");
        assert_eq!(self.ask("GET", b"").0, 400);
    }

    /// Sends input that makes the server close this WebSocket. Returns the session's next stage.
    fn closed(&mut self, client: Client, bytes: &[u8], then: Stage) -> Stage {
        self.sessions.exchange(&client, bytes);
        assert!(client.received().contains(&0x88), "no Close");
        self.sessions.finish(client);
        then
    }

    fn ask(&mut self, method: &str, body: &[u8]) -> (u16, Vec<u8>) {
        self.sessions.ask(method, &self.sid, body)
    }
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

fn frame(payload: &[u8]) -> Vec<u8> {
    let is_text = std::str::from_utf8(payload).is_ok();
    let frame = Frame {
        first: if is_text { 0x81 } else { 0x82 },
        payload,
        key: Some([1, 2, 3, 4]),
    };
    frame.bytes()
}

/// Whether these frames end with a Close.
fn ends_with_close(bytes: &[u8]) -> bool {
    let begin = bytes.len().saturating_sub(127);
    let close =
        |at: &usize| bytes[*at] == 0x88 && usize::from(bytes[at + 1]) == bytes.len() - at - 2;
    (begin..bytes.len().saturating_sub(1)).any(|at| close(&at))
}

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes
        .windows(text.len())
        .any(|window| window == text.as_bytes())
}
