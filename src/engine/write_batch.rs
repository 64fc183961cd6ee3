//! A write batch gathers the frames of one event and sends them with one `write`.

use std::io::{self, IoSlice, Write};

use super::Settings;
use super::backlog::{Backlog, accepted};
use super::stats::{Traffic, TrafficByType};
use super::turn;
use super::unsent::{Kept, SharedFrame, UnsentBudget};
use crate::protocol;
use crate::protocol::copy;
use crate::protocol::frame::EncodedHeader;
use crate::protocol::{FrameHeader, LongCompression, Message, OpCode, sender};

/// The write buffer of a worker, which all its connections use in turn.
#[derive(Debug)]
pub(super) struct Buffer {
    /// Empty between turns. Bound: [`WriteBatch::CAPACITY`], shared with all connections of the
    /// worker.
    pub(super) bytes: Vec<u8>,
    /// The budget that counts bytes which a socket does not accept.
    pub(super) unsent: UnsentBudget,
    /// Messages sent since the last report to the worker's observer.
    pub(super) sent: TrafficByType,
    /// Whether the publications of a message are delivered before the next message is handled.
    one_by_one: bool,
}

/// The output of a connection: its backlog, and the total count.
#[derive(Debug, Default)]
pub(super) struct Outbound {
    pub(super) backlog: Backlog,
    /// Data messages sent since the connection was opened.
    pub(super) sent: Traffic,
}

impl Buffer {
    pub(super) fn new(settings: &Settings, unsent: UnsentBudget) -> Buffer {
        Buffer {
            bytes: Vec::with_capacity(WriteBatch::CAPACITY),
            unsent,
            sent: TrafficByType::default(),
            one_by_one: !settings.gather_publications,
        }
    }
}

/// Gathers the answers to the messages of one event. Small payloads are copied into the worker's
/// buffer; large ones are written without a copy. Bytes that the socket does not accept stay in the
/// backlog.
pub(super) struct WriteBatch<'a> {
    stream: &'a mut dyn Write,
    buffer: &'a mut Buffer,
    outbound: &'a mut Outbound,
    /// Data messages of this event. At its end they are added to the counts of the worker and of
    /// the connection.
    pub(super) data: Traffic,
    /// More messages of this event follow: frames that fit into the buffer may wait for them.
    pub(super) more_follows: bool,
    /// Bytes of this event in the backlog.
    kept: usize,
    /// The connection must check whether to defer the next message of the event.
    pub(super) may_stop: bool,
    error: Option<io::Error>,
}

impl<'a> WriteBatch<'a> {
    /// Payload size in bytes from which a separate system call is cheaper than a copy.
    const LARGE: usize = 16 << 10;
    /// Size in bytes from which the buffer is written.
    const FULL: usize = 128 << 10;

    /// Maximum number of bytes of one event in the backlog, plus one message.
    const EVENT: usize = 16 << 20;
    /// Number of bytes of one event in the backlog from which its further messages are deferred.
    const MUCH: usize = 64 << 10;

    /// The error of an event that exceeds [`WriteBatch::EVENT`].
    pub(super) const TOO_MUCH: io::ErrorKind = io::ErrorKind::QuotaExceeded;

    /// Maximum size of the buffer in bytes.
    const CAPACITY: usize = Self::FULL + Self::LARGE;

    /// `buffer` must be empty; [`WriteBatch::finish`] empties it again.
    pub(super) fn new(
        stream: &'a mut dyn Write,
        buffer: &'a mut Buffer,
        outbound: &'a mut Outbound,
    ) -> WriteBatch<'a> {
        WriteBatch {
            stream,
            outbound,
            data: Traffic::default(),
            more_follows: false,
            kept: 0,
            may_stop: buffer.one_by_one,
            buffer,
            error: None,
        }
    }

    /// The budget that counts bytes which the socket does not accept.
    pub(super) fn unsent(&self) -> &UnsentBudget {
        &self.buffer.unsent
    }

    /// Whether the backlog holds so many bytes of this event that its next message is deferred.
    pub(super) fn is_full(&self) -> bool {
        self.kept >= Self::MUCH
    }

    /// Writes the gathered frames.
    ///
    /// # Errors
    /// The first error of the socket in this event, or [`WriteBatch::TOO_MUCH`].
    pub(super) fn finish(mut self) -> io::Result<()> {
        if !self.buffer.bytes.is_empty() {
            self.write(&[]);
        }
        self.buffer.sent.data += self.data;
        self.outbound.sent += self.data;
        self.error.map_or(Ok(()), Err)
    }

    /// Writes the gathered frames, then returns the backlog.
    pub(super) fn backlog(&mut self) -> &mut Backlog {
        if !self.buffer.bytes.is_empty() {
            self.write(&[]);
        }
        &mut self.outbound.backlog
    }

    /// Sends the frames of an encoded message.
    pub(super) fn encoded(&mut self, frames: &[u8], message: Message<'_>) {
        let Some((opcode, payload)) = message.frame().filter(|_| !frames.is_empty()) else {
            return;
        };
        self.count(opcode.is_control(), opcode == OpCode::Text, payload.len());
        self.raw(frames);
    }

    /// Queues a message whose compression has begun. It continues in the connection's next turns.
    pub(super) fn long(&mut self, compression: LongCompression, message: Message<'_>) {
        let is_text = matches!(message, Message::Text(_));
        self.count(false, is_text, message.size());
        if !self.buffer.bytes.is_empty() {
            self.write(&[]);
        }
        let mut frame = Vec::with_capacity(message.size() + FrameHeader::MAX_LENGTH);
        sender::encode_message(message, &mut frame);
        if self.may_keep(frame.len()) {
            let unsent = &self.buffer.unsent;
            let kept = Kept::new(SharedFrame::new(frame), 0, unsent);
            self.outbound.backlog.push_long(kept, compression, unsent);
        }
    }

    /// Sends raw bytes, which need not be whole frames.
    pub(super) fn raw(&mut self, bytes: &[u8]) {
        if bytes.len() >= Self::LARGE {
            return self.write(bytes);
        }
        self.buffer.bytes.extend_from_slice(bytes);
        if self.buffer.bytes.len() >= Self::FULL {
            self.write(&[]);
        }
    }

    /// Whether the backlog holds anything.
    pub(super) fn is_blocked(&self) -> bool {
        !self.outbound.backlog.is_empty()
    }

    /// Counts a message. `size` is in bytes of payload.
    #[inline(always)]
    pub(super) fn count(&mut self, is_control: bool, is_text: bool, size: usize) {
        if is_control {
            return self.buffer.sent.control.add(1, size);
        }
        if is_text {
            self.buffer.sent.text.add(1, size);
        }
        self.data.add(1, size);
    }

    /// Replaces the compressed size of a message, counted since `before`, by its uncompressed size.
    pub(super) fn recount(&mut self, message: Message<'_>, before: Traffic) {
        let counted = self.data - before;
        if counted.messages == 0 {
            return;
        }
        let size = message.size() as u64;
        self.data.bytes = before.bytes + size;
        if let Message::Text(_) = message {
            self.buffer.sent.text.bytes += size - counted.bytes; // no text becomes larger
        }
    }

    /// Sends a text message whose text begins with `prefix`, without a copy of a large `text`.
    pub(super) fn prefixed_text(&mut self, prefix: &str, text: &str) {
        let size = prefix.len() + text.len();
        let header = FrameHeader {
            fin: true,
            rsv1: false,
            opcode: OpCode::Text,
            masking_key: None,
            payload_length: size as u64,
        };
        self.count(false, true, size);
        header.encode().append_to(&mut self.buffer.bytes);
        self.buffer.bytes.extend_from_slice(prefix.as_bytes());
        self.payload(text.as_bytes());
    }

    /// Appends the payload, or its last part, of the frame whose header is in the buffer.
    #[inline(always)]
    fn payload(&mut self, payload: &[u8]) {
        if payload.len() >= Self::LARGE && !self.waits(payload) {
            self.write(payload);
        } else {
            copy::append(&mut self.buffer.bytes, payload);
            if self.buffer.bytes.len() >= Self::FULL {
                self.write(&[]);
            }
        }
    }

    /// Whether a large payload is gathered with the messages that follow: saving a system call is
    /// worth the copy.
    fn waits(&self, payload: &[u8]) -> bool {
        self.more_follows && self.buffer.bytes.len() + payload.len() <= Self::FULL
    }

    /// Writes the buffer and then `payload`. Bytes that the socket does not accept stay in the
    /// backlog.
    fn write(&mut self, payload: &[u8]) {
        if !self.is_blocked() && self.error.is_none() {
            let result = match payload.is_empty() {
                true => self.stream.write(&self.buffer.bytes),
                false => self
                    .stream
                    .write_vectored(&[IoSlice::new(&self.buffer.bytes), IoSlice::new(payload)]),
            };
            let total = self.buffer.bytes.len() + payload.len();
            match result {
                Ok(written) if written == total => return self.buffer.bytes.clear(),
                result => self.write_on(result, payload),
            }
        } else {
            self.keep(0, payload);
        }
        self.buffer.bytes.clear();
    }

    /// Continues after an incomplete write.
    #[cold]
    fn write_on(&mut self, mut result: io::Result<usize>, payload: &[u8]) {
        let mut written = 0;
        let total = self.buffer.bytes.len() + payload.len();
        loop {
            match accepted(result) {
                Ok(Some(bytes)) => written += bytes,
                Ok(None) => break,
                Err(error) => {
                    self.error = Some(error);
                    return;
                }
            }
            if written >= total {
                return;
            }
            let head = self.buffer.bytes.get(written..).unwrap_or_default();
            let tail = &payload[written.saturating_sub(self.buffer.bytes.len())..];
            result = self
                .stream
                .write_vectored(&[IoSlice::new(head), IoSlice::new(tail)]);
        }
        self.keep(written, payload);
    }

    /// Moves the bytes after the first `written` ones to the backlog.
    #[cold]
    fn keep(&mut self, written: usize, payload: &[u8]) {
        let total = self.buffer.bytes.len() + payload.len();
        if written >= total || !self.may_keep(total - written) {
            return;
        }
        let mut rest = Vec::with_capacity(total - written);
        rest.extend_from_slice(self.buffer.bytes.get(written..).unwrap_or_default());
        rest.extend_from_slice(&payload[written.saturating_sub(self.buffer.bytes.len())..]);
        let unsent = &self.buffer.unsent;
        let kept = Kept::new(SharedFrame::new(rest), 0, unsent);
        self.outbound.backlog.push(kept, 0, unsent, written > 0);
    }

    /// Charges for bytes that go to the backlog. Returns whether the backlog may
    /// take them.
    fn may_keep(&mut self, bytes: usize) -> bool {
        if self.error.is_none() && self.kept > Self::EVENT {
            self.error = Some(Self::TOO_MUCH.into());
        }
        if self.error.is_some() {
            return false;
        }
        self.kept += bytes;
        self.may_stop = true;
        turn::charge(bytes);
        true
    }
}

impl protocol::FrameSink for WriteBatch<'_> {
    #[inline(always)]
    fn frame(&mut self, header: EncodedHeader, payload: &[u8]) {
        self.count(header.is_control(), header.is_text(), payload.len());
        header.append_to(&mut self.buffer.bytes);
        self.payload(payload);
    }
}
