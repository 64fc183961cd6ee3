//! The send queue of a connection with faults: delays, a trickle, and reordering.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::{Buf, Bytes};
use tokio::time::Instant;

use crate::engine::WebSocket;
use crate::protocol::{FrameHeader, OpCode};

/// Bytes, and messages, in the queue at which reading pauses.
const MAX_BYTES: usize = 1 << 20;
const MAX_MESSAGES: usize = 1_024;

/// Bytes encoded at a time.
const PIECE: usize = 16 << 10;

/// The queue, in send order.
pub(super) struct Outgoing {
    waiting: VecDeque<WaitingBytes>,
    /// An echo that waits until the next echo has overtaken it.
    overtaken: Option<WaitingBytes>,
    /// Encoded bytes of the first message in the queue, and how many of them are sent.
    piece: Vec<u8>,
    written: usize,
    /// Send rate in bytes per second, if limited.
    trickle: Option<u32>,
    /// When the rate limit allows the next bytes.
    next_drop: Instant,
}

struct WaitingBytes {
    /// The earliest time to send it.
    due: Instant,
    begun: bool,
    frames: FramedMessage,
}

impl WaitingBytes {
    fn new(frames: FramedMessage, due: Instant) -> WaitingBytes {
        WaitingBytes {
            due,
            begun: false,
            frames,
        }
    }
}

/// A message, or the bytes sent in place of one. It is encoded while it is sent.
#[derive(Clone)]
pub(super) struct FramedMessage {
    /// The opcode under which it is counted; `None` if it is not counted.
    kind: Option<OpCode>,
    /// The payload size under which it is counted, in bytes.
    size: usize,
    /// The payload that is not yet encoded.
    rest: Bytes,
    /// How many bytes of `rest` belong to the frame whose header is already encoded.
    left_of_frame: usize,
    /// The opcode of the next frame; `None` after the last one.
    next: Option<OpCode>,
    /// Maximum payload of a frame, in bytes.
    fragment: usize,
}

impl FramedMessage {
    /// A message in frames of at most `fragment` bytes of payload.
    pub(super) fn message(opcode: OpCode, payload: Bytes, fragment: usize) -> FramedMessage {
        FramedMessage {
            kind: Some(opcode),
            size: payload.len(),
            rest: payload,
            left_of_frame: 0,
            next: Some(opcode),
            fragment,
        }
    }

    /// Bytes that are sent unchanged and counted as a message of this kind and size.
    pub(super) fn raw(bytes: Vec<u8>, kind: Option<OpCode>, size: usize) -> FramedMessage {
        FramedMessage {
            kind,
            size,
            left_of_frame: bytes.len(),
            rest: bytes.into(),
            next: None,
            fragment: 0,
        }
    }

    fn is_control(&self) -> bool {
        self.kind.is_some_and(OpCode::is_control)
    }

    fn is_encoded(&self) -> bool {
        self.next.is_none() && self.left_of_frame == 0
    }

    fn encode(&mut self, piece: &mut Vec<u8>) {
        while piece.len() < PIECE {
            if self.left_of_frame == 0 {
                let Some(opcode) = self.next else {
                    return;
                };
                let size = self.rest.len().min(self.fragment);
                let is_last = size == self.rest.len();
                let header = FrameHeader {
                    fin: is_last,
                    rsv1: false,
                    opcode,
                    masking_key: None,
                    payload_length: size as u64,
                };
                header.encode().append_to(piece);
                self.left_of_frame = size;
                self.next = (!is_last).then_some(OpCode::Continuation);
            }
            let bytes = self.left_of_frame.min(PIECE);
            piece.extend_from_slice(&self.rest[..bytes]);
            self.rest.advance(bytes);
            self.left_of_frame -= bytes;
        }
    }
}

impl Outgoing {
    /// An empty queue. `trickle` is the send rate in bytes per second.
    pub(super) fn new(trickle: Option<u32>) -> Outgoing {
        Outgoing {
            waiting: VecDeque::new(),
            overtaken: None,
            piece: Vec::new(),
            written: 0,
            trickle,
            next_drop: Instant::now(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Whether the queue is so full that reading must pause.
    pub(super) fn is_full(&self) -> bool {
        self.bytes() >= MAX_BYTES || self.waiting.len() >= MAX_MESSAGES
    }

    /// Bytes of payload in the queue.
    pub(super) fn bytes(&self) -> usize {
        let all = self.waiting.iter().chain(&self.overtaken);
        all.map(|waiting| waiting.frames.size).sum()
    }

    /// The due time of the oldest message in the queue.
    pub(super) fn oldest(&self) -> Option<Instant> {
        let first = self.waiting.front().into_iter().chain(&self.overtaken);
        first.map(|waiting| waiting.due).min()
    }

    /// Adds frames to the end of the queue. They are sent when `due` at the earliest.
    pub(super) fn push(&mut self, frames: FramedMessage, due: Instant) {
        let before = self.waiting.back().map_or(due, |before| before.due);
        let waiting = WaitingBytes::new(frames, due.max(before));
        self.waiting.push_back(waiting);
    }

    /// Adds a control frame. It overtakes messages that are delayed. A Pong replaces the one that
    /// still waits (§5.5.3).
    pub(super) fn push_control(&mut self, opcode: OpCode, payload: &[u8]) {
        let due = Instant::now();
        let before = |waiting: &WaitingBytes| waiting.begun || waiting.due <= due;
        let place = self.waiting.partition_point(before);
        let payload = Bytes::copy_from_slice(payload);
        let frames = FramedMessage::message(opcode, payload, usize::MAX);
        let last = place
            .checked_sub(1)
            .and_then(|last| self.waiting.get_mut(last));
        if let Some(last) = last
            && opcode == OpCode::Pong
            && !last.begun
            && last.frames.kind == Some(OpCode::Pong)
        {
            last.frames = frames;
            return;
        }
        self.waiting.insert(place, WaitingBytes::new(frames, due));
    }

    /// Whether an echo is kept back.
    pub(super) fn keeps_back(&self) -> bool {
        self.overtaken.is_some()
    }

    /// Keeps an echo until the next one has overtaken it.
    pub(super) fn keep_back(&mut self, frames: FramedMessage, due: Instant) {
        self.overtaken = Some(WaitingBytes::new(frames, due));
    }

    /// Adds the overtaken echo to the queue.
    pub(super) fn release(&mut self) {
        if let Some(WaitingBytes { due, frames, .. }) = self.overtaken.take() {
            self.push(frames, due);
        }
    }

    /// Drops delayed echoes and, with a trickle, every echo that has not begun. The rest becomes
    /// due now.
    pub(super) fn hurry(&mut self) {
        let now = Instant::now();
        let trickles = self.trickle.is_some();
        self.overtaken = None;
        self.waiting.retain_mut(|waiting| {
            let is_late = waiting.due > now || trickles;
            waiting.due = waiting.due.min(now);
            waiting.begun || waiting.frames.is_control() || !is_late
        });
    }

    /// Drops every message of which no byte is sent.
    pub(super) fn drop_unbegun(&mut self) {
        self.overtaken = None;
        self.waiting.retain(|waiting| waiting.begun);
    }

    /// The memory that the queue takes, in bytes.
    pub(super) fn memory(&self) -> usize {
        self.bytes() + self.piece.capacity() + self.waiting.len() * size_of::<WaitingBytes>()
    }

    /// Drops everything.
    pub(super) fn clear(&mut self) {
        self.waiting.clear();
        self.overtaken = None;
        self.piece.clear();
        self.written = 0;
    }

    /// When the next bytes may be sent; `None` if the queue is empty.
    pub(super) fn next_at(&self) -> Option<Instant> {
        let first = self.waiting.front()?;
        Some(first.due.max(self.next_drop))
    }

    /// Sends the bytes that are due, as many as fit into a turn. Returns whether due bytes wait for
    /// the socket.
    pub(super) fn send_due(&mut self, socket: &mut WebSocket<'_>, now: Instant) -> bool {
        while self.next_at().is_some_and(|at| at <= now) && !socket.has_used_turn() {
            if socket.is_blocked() {
                return true;
            }
            let Some(first) = self.waiting.front_mut() else {
                break;
            };
            if self.written == self.piece.len() {
                self.piece.clear();
                self.written = 0;
                first.begun = true;
                first.frames.encode(&mut self.piece);
            }
            let mut bytes = &self.piece[self.written..];
            if let Some(rate) = self.trickle {
                // About twenty pieces a second.
                let most = usize::try_from(rate / 20).unwrap_or(usize::MAX).max(1);
                bytes = &bytes[..bytes.len().min(most)];
                let pause = Duration::from_secs_f64(bytes.len() as f64 / f64::from(rate));
                self.next_drop = Instant::now() + pause;
            }
            socket.send_raw(bytes);
            self.written += bytes.len();
            if self.written == self.piece.len()
                && first.frames.is_encoded()
                && let Some(WaitingBytes { frames, .. }) = self.waiting.pop_front()
                && let Some(kind) = frames.kind
            {
                socket.count_sent(kind, frames.size);
            }
        }
        if self.waiting.is_empty() {
            (self.waiting, self.piece, self.written) = Default::default();
        }
        false
    }
}
