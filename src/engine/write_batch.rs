//! Where the frames of one turn go: together into one `write`.

use std::io::{self, IoSlice, Write};

use super::Settings;
use super::backlog::Backlog;
use super::stats::{Traffic, TrafficByType};
use super::unsent::{Kept, SharedFrame, UnsentBudget};
use crate::protocol;
use crate::protocol::copy;
use crate::protocol::frame::EncodedHeader;
use crate::protocol::{Message, OpCode};

/// What a worker's turns gather their frames in, one after the other.
#[derive(Debug)]
pub(super) struct Buffer {
    /// Empty between turns. Bound: [`WriteBatch::CAPACITY`], shared with all connections of the worker.
    pub(super) bytes: Vec<u8>,
    /// Where what a socket does not take is counted.
    pub(super) unsent: UnsentBudget,
    /// What has been sent since the worker's observer was last told.
    pub(super) sent: TrafficByType,
    /// Whether what a message publishes is delivered before the next is handled.
    one_by_one: bool,
}

/// What a connection sends: what has not gone yet, and how much it was in all.
#[derive(Debug, Default)]
pub(super) struct Outbound {
    pub(super) backlog: Backlog,
    /// Data messages.
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

/// Gathers the frames that one event's messages are answered with. Small payloads are copied
/// into the thread's buffer, large ones are written from where they are; what the socket does not
/// take becomes the backlog.
pub(super) struct WriteBatch<'a> {
    stream: &'a mut dyn Write,
    buffer: &'a mut Buffer,
    outbound: &'a mut Outbound,
    /// Data messages of this event, which are added to the worker's and the connection's at its end.
    data: Traffic,
    /// More messages of this event follow: what fits into the buffer may wait for them.
    more_follows: bool,
    /// Bytes of this event that went to the backlog.
    kept: usize,
    /// There may be a reason not to handle the next message of the event.
    may_stop: bool,
    error: Option<io::Error>,
}

impl<'a> WriteBatch<'a> {
    /// A payload of this size is worth a system call of its own more than a copy.
    const LARGE: usize = 16 << 10;
    /// The buffer is written when it holds this much.
    const FULL: usize = 128 << 10;

    /// So much of one event goes to the backlog, and a message more.
    const EVENT: usize = 16 << 20;
    /// Of an event that has put so much there no further message is handled.
    const MUCH: usize = 64 << 10;

    /// The error of an event that has sent more than may wait of one.
    pub(super) const TOO_MUCH: io::ErrorKind = io::ErrorKind::QuotaExceeded;

    /// What the buffer holds at most.
    const CAPACITY: usize = Self::FULL + Self::LARGE;

    /// `buffer` is empty, and will be so again after [`WriteBatch::finish`].
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

    /// Says whether more messages of this event follow.
    #[inline]
    pub(super) fn expect_more(&mut self, more_follows: bool) {
        self.more_follows = more_follows;
    }

    /// Where what the socket does not take is counted.
    pub(super) fn unsent(&self) -> &UnsentBudget {
        &self.buffer.unsent
    }

    /// There may be a reason not to handle the next message of the event.
    pub(super) fn ask_to_stop(&mut self) {
        self.may_stop = true;
    }

    /// Whether it is worth asking for a reason not to handle the next message of the event.
    #[inline]
    pub(super) fn may_stop(&self) -> bool {
        self.may_stop
    }

    /// Whether so much waits of this event that its next message is to wait, too.
    pub(super) fn is_full(&self) -> bool {
        self.kept >= Self::MUCH
    }

    /// Writes what has been gathered.
    ///
    /// # Errors
    /// Of the socket, now or earlier in this turn.
    pub(super) fn finish(mut self) -> io::Result<()> {
        if !self.buffer.bytes.is_empty() {
            self.write(&[]);
        }
        self.buffer.sent.data += self.data;
        self.outbound.sent += self.data;
        self.error.map_or(Ok(()), Err)
    }

    /// What waits already. What this turn has gathered is written, or waits, before it is shown.
    pub(super) fn backlog(&mut self) -> &mut Backlog {
        if !self.buffer.bytes.is_empty() {
            self.write(&[]);
        }
        &mut self.outbound.backlog
    }

    /// Takes the frames that a message has been encoded to.
    pub(super) fn encoded(&mut self, frames: &[u8], message: Message<'_>) {
        let Some((opcode, payload)) = message.frame().filter(|_| !frames.is_empty()) else {
            return;
        };
        self.count(opcode.is_control(), opcode == OpCode::Text, payload.len());
        self.write(frames);
    }

    /// Takes bytes that are no frame, or a part of one.
    #[cfg(feature = "cli")]
    pub(super) fn raw(&mut self, bytes: &[u8]) {
        if bytes.len() >= Self::LARGE {
            return self.write(bytes);
        }
        self.buffer.bytes.extend_from_slice(bytes);
        if self.buffer.bytes.len() >= Self::FULL {
            self.write(&[]);
        }
    }

    /// Whether something waits for the socket.
    #[cfg(feature = "cli")]
    pub(super) fn is_blocked(&self) -> bool {
        !self.outbound.backlog.is_empty()
    }

    /// Counts a message, by its size in bytes of payload.
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

    /// The data messages of this event so far.
    pub(super) fn sent_data(&self) -> Traffic {
        self.data
    }

    /// Counts the payload of a message where since `before` a compressed one has been counted.
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

    /// Whether a large payload is gathered with what follows it: one system call less is worth
    /// the copy.
    fn waits(&self, payload: &[u8]) -> bool {
        self.more_follows && self.buffer.bytes.len() + payload.len() <= Self::FULL
    }

    /// Writes the buffer and then `payload`; the rest goes to the backlog.
    fn write(&mut self, payload: &[u8]) {
        if self.outbound.backlog.is_empty() && self.error.is_none() {
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

    /// Goes on after a write that has not taken all.
    #[cold]
    fn write_on(&mut self, mut result: io::Result<usize>, payload: &[u8]) {
        let mut written = 0;
        let total = self.buffer.bytes.len() + payload.len();
        loop {
            match result {
                Ok(0) => self.error = Some(io::ErrorKind::WriteZero.into()),
                Ok(bytes) => written += bytes,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => self.error = Some(error),
            }
            if self.error.is_some() || written >= total {
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

    /// Has what comes after the first `written` bytes wait.
    #[cold]
    fn keep(&mut self, written: usize, payload: &[u8]) {
        let total = self.buffer.bytes.len() + payload.len();
        if self.error.is_some() || written >= total {
            return;
        }
        if self.kept > Self::EVENT {
            self.error = Some(Self::TOO_MUCH.into());
            return;
        }
        self.kept += total - written;
        self.may_stop = true;
        let mut rest = Vec::with_capacity(total - written);
        rest.extend_from_slice(self.buffer.bytes.get(written..).unwrap_or_default());
        rest.extend_from_slice(&payload[written.saturating_sub(self.buffer.bytes.len())..]);
        let unsent = &self.buffer.unsent;
        let kept = Kept::new(SharedFrame::new(rest), 0, unsent);
        self.outbound.backlog.push_reply(kept, unsent, written > 0);
    }
}

impl protocol::FrameSink for WriteBatch<'_> {
    #[inline(always)]
    fn frame(&mut self, header: EncodedHeader, payload: &[u8]) {
        self.count(header.is_control(), header.is_text(), payload.len());
        header.append_to(&mut self.buffer.bytes);
        if payload.len() >= Self::LARGE && !self.waits(payload) {
            self.write(payload);
        } else {
            copy::append(&mut self.buffer.bytes, payload);
            if self.buffer.bytes.len() >= Self::FULL {
                self.write(&[]);
            }
        }
    }
}
