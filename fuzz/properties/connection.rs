//! A sequence of operations on an echo connection, checked against a second implementation of the
//! state machine of RFC 6455: at most one Close, nothing after it, an answer to every Ping, replies
//! in order.

use std::time::Duration;

use arbitrary::{Arbitrary, Unstructured};
use frameloop::engine::{Deadlines, SimulatedConnection, Simulation};
use frameloop::protocol::{CloseCode, CloseFrame, SizeLimits};
use frameloop::{Handler, Message, Peer, Settings, WebSocket};

use super::client::{Frame, Sent, may_travel, read_frames};
use super::scripted::{Scripted, ServerEnd};

/// An event on the connection.
#[derive(Arbitrary, Clone, Debug)]
pub(crate) enum Operation<'a> {
    /// The peer sends a frame, mostly a valid one.
    Frame(Kind, Payload<'a>, [u8; 4]),
    /// The peer sends bytes.
    Bytes(&'a [u8]),
    /// The peer sends FIN.
    Fin,
    /// The application sends the peer a message.
    Send(bool, u8),
    Ping(u8),
    /// The application starts the closing handshake.
    Close(u16, u8),
    /// This many ticks pass.
    Wait(u8),
}

#[derive(Arbitrary, Clone, Copy, Debug)]
pub(crate) enum Kind {
    Text,
    Binary,
    BeginText,
    BeginBinary,
    Continue,
    Finish,
    Ping,
    Pong,
    Close(u16),
    Any(u8),
    Unmasked(u8),
}

#[derive(Arbitrary, Clone, Copy, Debug)]
pub(crate) enum Payload<'a> {
    Bytes(&'a [u8]),
    Text(&'a str),
    Repeated(u8, u16),
}

const TICK: Duration = Duration::from_millis(100);
const PING_INTERVAL: u32 = 20;
const PING_TIMEOUT: u32 = 15;
const MESSAGE: u32 = 25;
const CLOSE: u32 = 10;
const LINGER: u32 = 10;
const LIMITS: SizeLimits = SizeLimits {
    max_message_size: 1_000,
    max_frame_size: 800,
};

pub(crate) fn check(input: &[u8]) {
    let Ok(operations) = Vec::<Operation<'_>>::arbitrary_take_rest(Unstructured::new(input)) else {
        return;
    };
    let mut session = Session::open();
    for operation in operations.iter().take(64) {
        session.perform(operation);
    }
    session.end();
}

pub(crate) fn settings() -> Settings {
    let ticks = |ticks: u32| TICK * ticks;
    Settings {
        limits: LIMITS,
        deflate: None,
        deadlines: Deadlines {
            ping_interval: ticks(PING_INTERVAL),
            ping_timeout: ticks(PING_TIMEOUT),
            message: ticks(MESSAGE),
            idle: None,
            write_stall: ticks(30),
            close: ticks(CLOSE),
            throttle_timeout: ticks(CLOSE),
            linger: ticks(LINGER),
        },
        ..Settings::default()
    }
}

impl Operation<'_> {
    /// The part of the payload that the peer sends.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        match self {
            Operation::Frame(kind, payload, key) => kind.frame(payload.bytes(), *key),
            Operation::Bytes(bytes) => bytes.to_vec(),
            _ => Vec::new(),
        }
    }
}

impl Payload<'_> {
    fn bytes(&self) -> Vec<u8> {
        match self {
            Payload::Bytes(bytes) => bytes.to_vec(),
            Payload::Text(text) => text.as_bytes().to_vec(),
            Payload::Repeated(byte, count) => vec![*byte; usize::from(count % 1_100)],
        }
    }
}

impl Kind {
    fn frame(self, mut payload: Vec<u8>, key: [u8; 4]) -> Vec<u8> {
        let first = match self {
            Kind::Text => 0x81,
            Kind::Binary => 0x82,
            Kind::BeginText => 0x01,
            Kind::BeginBinary => 0x02,
            Kind::Continue => 0x00,
            Kind::Finish => 0x80,
            Kind::Ping => 0x89,
            Kind::Pong => 0x8A,
            Kind::Close(_) => 0x88,
            Kind::Any(first) | Kind::Unmasked(first) => first,
        };
        if let Kind::Close(code) = self {
            // Codes of all ranges, mostly valid ones.
            let code = [code, 1000 + code % 16, 2990 + code % 20, 4990 + code % 20];
            let code = code[usize::from(key[0] % 4)];
            payload.splice(0..0, code.to_be_bytes());
        }
        if matches!(self, Kind::Ping | Kind::Pong | Kind::Close(_)) {
            payload.truncate(125);
        }
        let key = (!matches!(self, Kind::Unmasked(_))).then_some(key);
        let payload = &payload;
        Frame {
            first,
            payload,
            key,
        }
        .bytes()
    }
}

/// Echoes messages, and exposes its peer.
struct Echo(std::rc::Rc<std::cell::OnceCell<Peer>>);

impl Handler for Echo {
    fn open(&mut self, socket: &mut WebSocket<'_>) {
        let _ = self.0.set(socket.peer());
    }

    fn message(&mut self, socket: &mut WebSocket<'_>, message: Message<'_>) {
        if message.is_data() {
            socket.send(message);
        }
    }
}

struct Session {
    simulation: Simulation<ServerEnd>,
    connection: SimulatedConnection,
    peer: Peer,
    scripted: Scripted,
    model: Model,
    /// The number of sent frames that have been checked.
    judged: usize,
}

impl Session {
    fn open() -> Session {
        let scripted = Scripted::default();
        let mut simulation = Simulation::new(&settings());
        let cell = std::rc::Rc::default();
        let handler = Echo(std::rc::Rc::clone(&cell));
        let connection = simulation.open(scripted.server(), handler, None);
        let peer = cell.get().expect("the connection is open").clone();
        Session {
            simulation,
            connection,
            peer,
            scripted,
            model: Model::default(),
            judged: 0,
        }
    }

    fn perform(&mut self, operation: &Operation<'_>) {
        match operation {
            Operation::Frame(..) | Operation::Bytes(_) => {
                let bytes = operation.bytes();
                if bytes.is_empty() || self.scripted.wire().has_ended {
                    return;
                }
                self.model.receive(&bytes);
                self.scripted.wire().incoming.extend(bytes);
                self.drive();
            }
            Operation::Fin => {
                self.model.end();
                self.scripted.wire().has_ended = true;
                self.drive();
            }
            Operation::Send(is_text, length) => {
                let payload = "m".repeat(usize::from(*length));
                self.model
                    .send(if *is_text { 0x81 } else { 0x82 }, payload.as_bytes());
                self.peer.send(match is_text {
                    true => Message::Text(&payload),
                    false => Message::Binary(payload.as_bytes()),
                });
            }
            Operation::Ping(length) => {
                let payload = vec![7; usize::from(*length)];
                self.model.send(0x89, &payload[..payload.len().min(125)]);
                self.peer.send(Message::Ping(&payload));
            }
            Operation::Close(code, length) => {
                let reason = "r".repeat(usize::from(*length));
                self.model.close(*code, &reason);
                self.peer.close(CloseFrame {
                    code: CloseCode::from(*code),
                    reason: &reason,
                });
            }
            Operation::Wait(ticks) => {
                for _ in 0..ticks % 64 {
                    self.simulation.advance(TICK);
                    self.judge_tick();
                }
            }
        }
        self.simulation.run();
        let frames = self.frames();
        let mut sent = frames[self.judged..].to_vec();
        if let Some(close) = sent.last_mut().filter(|_| self.model.has_failed) {
            close.payload.truncate(2); // the reason of a failure is not checked
        }
        assert_eq!(sent, self.model.expected);
        self.judged = frames.len();
        self.model.expected.clear();
    }

    /// The stream is readable: bytes or FIN have arrived.
    fn drive(&mut self) {
        for _ in 0..2 {
            self.simulation.ready(self.connection);
            self.simulation.run();
        }
        self.model.heard();
    }

    /// Checks what the server sent at a tick: what the deadlines allow and require.
    fn judge_tick(&mut self) {
        let frames = self.frames();
        self.model.tick(&frames[self.judged..]);
        self.judged = frames.len();
        if self.model.must_be_closed() {
            assert!(
                self.simulation.stream(self.connection).is_none(),
                "the connection outlives its linger"
            );
        }
    }

    fn frames(&self) -> Vec<Sent> {
        let (frames, is_partial) = read_frames(&self.scripted.wire().outgoing);
        assert!(!is_partial, "a partial frame");
        let closes = frames.iter().filter(|frame| frame.first == 0x88).count();
        let last = frames.last().is_some_and(|frame| frame.first == 0x88);
        assert!(
            closes == 0 || closes == 1 && last,
            "a frame follows a Close"
        );
        frames
    }

    /// Once the peer has disconnected, nothing of the connection remains.
    fn end(mut self) {
        self.perform(&Operation::Fin);
        self.simulation.run();
        assert!(self.scripted.wire().is_dropped);
        assert!(self.simulation.stream(self.connection).is_none());
    }
}

/// RFC 6455 for an echo server, implemented a second time.
#[derive(Default)]
struct Model {
    state: State,
    /// Bytes from the peer that are not a whole frame yet.
    pending: Vec<u8>,
    /// The first byte and the payload so far of an unfinished message.
    fragmented: Option<(u8, Vec<u8>)>,
    empty_fragments: u32,
    has_failed: bool,
    /// Frames that the server must send next.
    expected: Vec<Sent>,
    ticks: Ticks,
}

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum State {
    #[default]
    Open,
    CloseSent,
    /// The closing handshake is over, or the connection has failed.
    Over,
    /// The peer has sent FIN.
    Ended,
}

/// Ticks that have passed since these events.
#[derive(Default)]
struct Ticks {
    heard: u32,
    pinged: Option<u32>,
    close: u32,
    message: u32,
}

impl Model {
    fn send(&mut self, first: u8, payload: &[u8]) {
        if self.state == State::Open {
            self.expected.push(Sent::new(first, payload));
        }
    }

    fn close(&mut self, code: u16, reason: &str) {
        let reason = &reason[..reason.len().min(123)];
        self.send(0x88, &[&code.to_be_bytes(), reason.as_bytes()].concat());
        if self.state == State::Open {
            self.state = State::CloseSent;
            self.ticks.close = 0;
        }
    }

    fn end(&mut self) {
        self.state = State::Ended;
    }

    fn heard(&mut self) {
        self.ticks.heard = 0;
        self.ticks.pinged = None;
    }

    fn receive(&mut self, bytes: &[u8]) {
        let was_inside = self.is_inside_message();
        self.pending.extend(bytes);
        let mut messages = 0;
        while matches!(self.state, State::Open | State::CloseSent) {
            match self.frame() {
                Ok(Some((first, payload))) => messages += u32::from(self.handle(first, &payload)),
                Ok(None) => break,
                Err(code) => self.fail(code),
            }
        }
        if messages > 0 || !was_inside {
            self.ticks.message = 0;
        }
    }

    fn fail(&mut self, code: u16) {
        if self.state == State::Open {
            let payload = code.to_be_bytes();
            self.expected.push(Sent::new(0x88, &payload));
        }
        self.state = State::Over;
        self.has_failed = true;
        self.ticks.close = 0;
    }

    /// Whether the peer is known to be inside a message.
    fn is_inside_message(&self) -> bool {
        self.fragmented.is_some() || self.partial_payload().is_some()
    }

    /// The current frame: its first byte and the part of its payload that has arrived.
    fn partial_payload(&self) -> Option<(u8, Vec<u8>)> {
        let (header, _) = self.header().ok()??;
        let key = &self.pending[header - 4..header];
        let bytes = self.pending[header..].iter().zip(key.iter().cycle());
        Some((
            self.pending[0],
            bytes.map(|(byte, key)| byte ^ key).collect(),
        ))
    }

    /// Takes a frame off the pending bytes, or returns the code of its failure.
    fn frame(&mut self) -> Result<Option<(u8, Vec<u8>)>, u16> {
        let Some((header, length)) = self.header()? else {
            return Ok(None);
        };
        let (first, mut payload) = self.partial_payload().expect("a header");
        payload.truncate(length);
        self.check_text(first, &payload)?;
        if payload.len() < length {
            return Ok(None);
        }
        self.pending.drain(..header + length);
        Ok(Some((first, payload)))
    }

    /// The lengths of the next frame's header and payload, once they are known.
    fn header(&self) -> Result<Option<(usize, usize)>, u16> {
        let Some(&first) = self.pending.first() else {
            return Ok(None);
        };
        let (is_control, is_final) = (first & 0x08 != 0, first & 0x80 != 0);
        let opcode_is_known = matches!(first & 0x0F, 0 | 1 | 2 | 8 | 9 | 10);
        let is_continuation = first & 0x0F == 0;
        if first & 0x70 != 0
            || !opcode_is_known
            || is_control && !is_final
            || !is_control && is_continuation != self.fragmented.is_some()
        {
            return Err(1002);
        }
        let Some(&second) = self.pending.get(1) else {
            return Ok(None);
        };
        if second & 0x80 == 0 || is_control && second & 0x7F > 125 {
            return Err(1002);
        }
        let extended = match second & 0x7F {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let Some(length) = self.pending.get(2..2 + extended) else {
            return Ok(None);
        };
        let length = match extended {
            0 => u64::from(second & 0x7F),
            _ => length
                .iter()
                .fold(0, |length, byte| length << 8 | u64::from(*byte)),
        };
        if extended == 2 && length < 126 || extended == 8 && length < 65_536 || length >> 63 != 0 {
            return Err(1002);
        }
        let so_far = self
            .fragmented
            .as_ref()
            .map_or(0, |(_, payload)| payload.len() as u64);
        if !is_control && (length > 800 || so_far + length > 1_000) {
            return Err(1009);
        }
        let header = 2 + extended + 4;
        Ok((self.pending.len() >= header).then_some((header, length as usize)))
    }

    /// Validates text while it arrives.
    fn check_text(&self, first: u8, payload: &[u8]) -> Result<(), u16> {
        let text = match (&self.fragmented, first & 0x0F) {
            (None, 1) => payload.to_vec(),
            (Some((1, so_far)), 0) => [so_far, payload].concat(),
            _ => return Ok(()),
        };
        match std::str::from_utf8(&text) {
            Err(error) if error.error_len().is_some() => Err(1007),
            _ => Ok(()),
        }
    }

    /// Answers a whole frame. Returns whether a data message has ended.
    fn handle(&mut self, first: u8, payload: &[u8]) -> bool {
        match first & 0x0F {
            8 => self.handle_close(payload),
            9 => self.send(0x8A, payload),
            10 => {}
            opcode => return self.handle_data(opcode, first & 0x80 != 0, payload),
        }
        false
    }

    fn handle_close(&mut self, payload: &[u8]) {
        let sound = match payload {
            [] => Ok(()),
            [a, b, reason @ ..] if may_travel(u16::from_be_bytes([*a, *b])) => {
                std::str::from_utf8(reason).map(|_| ()).map_err(|_| 1007)
            }
            _ => Err(1002),
        };
        match sound {
            Ok(()) => {
                self.send(0x88, payload);
                self.state = State::Over;
                self.ticks.close = 0;
            }
            Err(code) => self.fail(code),
        }
    }

    fn handle_data(&mut self, opcode: u8, is_final: bool, payload: &[u8]) -> bool {
        let is_fragment = self.fragmented.is_some() || !is_final;
        let (opcode, mut message) = self.fragmented.take().unwrap_or((opcode, Vec::new()));
        message.extend(payload);
        self.empty_fragments = match payload.is_empty() && is_fragment {
            true => self.empty_fragments + 1,
            false => 0,
        };
        if self.empty_fragments > u32::from(SizeLimits::MAX_EMPTY_FRAGMENTS) {
            self.fail(1008);
        } else if !is_final {
            self.fragmented = Some((opcode, message));
        } else if opcode == 1 && std::str::from_utf8(&message).is_err() {
            self.fail(1007);
        } else {
            self.empty_fragments = 0;
            self.send(0x80 | opcode, &message);
        }
        is_final
    }

    /// Checks the frames that were sent at a tick.
    fn tick(&mut self, frames: &[Sent]) {
        let Ticks {
            heard,
            pinged,
            close,
            message,
        } = &mut self.ticks;
        *heard += 1;
        *close += 1;
        *message += 1;
        *pinged = pinged.map(|ticks| ticks + 1);
        for frame in frames {
            match (frame.first, frame.close_code()) {
                (0x89, _) => {
                    assert!(self.state == State::Open && frame.payload.is_empty());
                    assert!(self.ticks.heard >= PING_INTERVAL && self.ticks.pinged.is_none());
                    self.ticks.pinged = Some(0);
                }
                (0x88, Some(1008)) => {
                    let is_silent = self.ticks.pinged.is_some_and(|ticks| ticks >= PING_TIMEOUT);
                    let is_late = self.ticks.message >= MESSAGE && self.is_inside_message();
                    assert!(self.state == State::Open && (is_silent || is_late));
                    self.state = State::Over;
                    self.ticks.close = 0;
                }
                _ => panic!("unexpected {frame:?}"),
            }
        }
        let late = 2;
        if self.state == State::Open {
            assert!(self.ticks.heard <= PING_INTERVAL + late || self.ticks.pinged.is_some());
            assert!(
                self.ticks
                    .pinged
                    .is_none_or(|ticks| ticks <= PING_TIMEOUT + late)
            );
            assert!(!self.is_inside_message() || self.ticks.message <= MESSAGE + late);
        }
    }

    /// Whether the connection must be closed because the peer has been silent for too long.
    fn must_be_closed(&self) -> bool {
        match self.state {
            State::Open => false,
            // The time for the answer, and then the time for FIN.
            State::CloseSent => self.ticks.close > CLOSE + LINGER + 4,
            State::Over => self.ticks.close > LINGER + 2,
            State::Ended => true,
        }
    }
}
