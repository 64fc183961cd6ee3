//! One connection: what an event, a command or a deadline makes of it.
//!
//! ```text
//!   Open ── failed, or our Close answered ──▶ Draining ── all is written: FIN ──▶ Lingering
//!    │                                         ▲    │                                │
//!    └── Close or EOF ──▶ Leaving ─────────────┘    └── EOF was read ──▶ over ◀──────┘
//! ```
//!
//! Lingering reads on until the peer's FIN: closing at once with unread input would make the
//! kernel send RST, and the peer would lose our Close (RFC 6455 §7.1.1).

mod deferred;
mod delivering;
mod ending;
mod raw;
mod receiving;
mod timing;

use std::io;
use std::panic::{self, AssertUnwindSafe};

use super::Settings;
use super::deadlines::Tick;
use super::delivery::Delivery;
use super::disconnect::{Disconnect, Unanswered};
use super::driver::{ConnectionDriver, Context, Progress, Waiting};
use super::handler::{Handler, WebSocket};
use super::raw::Demand;
use super::slab::ConnectionKey;
use super::socket::Stream;
use super::stats::Traffic;
use super::write_batch::{Outbound, WriteBatch};
use crate::protocol::{CloseCode, CloseFrame, DeflateParameters, Receiver, Role, Sender};
use deferred::DeferredInput;
use receiving::Reading;

/// A WebSocket connection and its handler.
#[derive(Debug)]
pub(crate) struct Connection<H> {
    handler: H,
    /// Bound: `max_message_size` for this client, and `max_unfinished_size`, in bytes of memory,
    /// shared with all clients of the server; in time `Deadlines::message`.
    receiver: Receiver,
    sender: Sender,
    outbound: Outbound,
    phase: Phase,
    /// When the present wait began: for the peer to take more of the backlog, to answer our FIN, or
    /// to read that it is closed as too slow. Bound: `Deadlines::write_stall` or `linger`.
    waiting_since: Tick,
    /// When the message under way began. Bound: `Deadlines::message`.
    message_started: Tick,
    /// When the last data message ended. Bound: `Deadlines::idle`.
    idle_since: Tick,
    asked: Asked,
    /// What is not handled yet of what has been read.
    deferred: Option<Box<DeferredInput>>,
    /// What the peer has sent.
    received: Traffic,
}

/// What the peer has been asked and has not answered.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Asked {
    Nothing,
    /// Whether it is there, then. Bound: `Deadlines::ping_timeout`.
    Ping(Tick),
    /// To close, by the Close that a tick first found unanswered then. Bound: `Deadlines::close`.
    Close(Tick),
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    /// Frames are read and handled.
    Open,
    /// The peer's Close or FIN has come. It is answered by a command that goes through the
    /// mailbox, behind what the peer's own messages put there: those answers come first.
    Leaving { why: Disconnect },
    /// Nothing is read; what waits is written, then comes FIN.
    Draining { why: Disconnect, linger: bool },
    /// FIN is out; input is read and thrown away until the peer's, `allowance` bytes at most.
    Lingering { why: Disconnect, allowance: u32 },
}

/// How a panic of the handler is told to the peer.
const INTERNAL_ERROR: (CloseCode, &str) = (CloseCode::Error, "internal error");

impl<H: Handler> Connection<H> {
    /// A connection whose messages may be compressed if `deflate` says how.
    pub(crate) fn new(
        handler: H,
        settings: &Settings,
        deflate: Option<&DeflateParameters>,
    ) -> Connection<H> {
        let receiver = Receiver::new(Role::Server, settings.limits);
        Connection {
            handler,
            receiver: match deflate {
                Some(parameters) => receiver.with_deflate(parameters),
                None => receiver,
            },
            sender: deflate.map(Sender::with_deflate).unwrap_or_default(),
            outbound: Outbound::default(),
            phase: Phase::Open,
            waiting_since: 0,
            message_started: 0,
            idle_since: 0,
            asked: Asked::Nothing,
            deferred: None,
            received: Traffic::default(),
        }
    }

    fn try_drive<S: Stream>(
        &mut self,
        key: ConnectionKey,
        stream: &mut S,
        context: &mut Context,
    ) -> io::Result<Progress> {
        if !self.outbound.backlog.is_empty() {
            self.write_backlog(stream, context.now)?;
        }
        if self.wakes_for_room() {
            return Ok(self.wake_handler(key, stream, context));
        }
        if let Phase::Open = self.phase {
            if !self.is_read(context.high_water_mark) {
                return Ok(Progress::Waiting);
            }
            if self.deferred.is_some() && !self.resume(key, stream, context)? {
                return Ok(self.settle(stream, context));
            }
            if context.turn.is_over() {
                return Ok(Progress::MoreToRead);
            }
            loop {
                match (self.read(key, stream, context)?, self.phase) {
                    (Reading::Drained, Phase::Open) => return Ok(self.wait_for_more(context.now)),
                    (Reading::Full, Phase::Open) => {
                        // What is under way is read on: its last bytes are to find the first still
                        // in the cache, and its buffer is the sooner another's.
                        if context.turn.is_over() || !self.reads_on(context) {
                            return Ok(Progress::MoreToRead);
                        }
                    }
                    (Reading::EndOfStream, _) => {
                        let why = self.unanswered(Unanswered::EndOfStream);
                        let why = why.unwrap_or(Disconnect::EndOfStream);
                        self.phase = Phase::Leaving { why };
                        self.answer_end(key, context);
                        break;
                    }
                    (Reading::Drained | Reading::Full, _) => break,
                }
            }
        }
        Ok(self.settle(stream, context))
    }

    /// All is read that there is: who is not held by now publishes no faster than it may.
    fn wait_for_more(&mut self, now: Tick) -> Progress {
        if self.deferred.is_some() && !self.is_deferred_kept(now) {
            self.deferred = None;
        }
        self.wait()
    }

    /// Nothing can be done until the socket has something, or a deadline passes.
    fn wait(&mut self) -> Progress {
        let is_timed = !matches!(self.phase, Phase::Open)
            || !self.sender.is_open()
            || !self.outbound.backlog.is_empty()
            || self.receiver.is_inside_message()
            || self.asked != Asked::Nothing
            || self.deferred.is_some()
            || self.kept() > 0;
        match is_timed {
            false => Progress::Idle,
            true if self
                .deferred
                .as_ref()
                .is_some_and(|deferred| deferred.is_next) =>
            {
                Progress::MoreToRead
            }
            true => Progress::Waiting,
        }
    }

    /// Whether what has been read already is to wait.
    fn is_deferred_kept(&self, now: Tick) -> bool {
        self.deferred
            .as_ref()
            .is_some_and(|deferred| deferred.is_next || deferred.is_behind || deferred.is_held(now))
    }

    /// Whether a message is under way that the peer may send more of.
    #[cold]
    fn reads_on(&mut self, context: &Context) -> bool {
        self.receiver.is_inside_message()
            && self.deferred.is_none()
            && self.is_read(context.high_water_mark)
    }

    /// Whether the peer is read from: not while it leaves lying what it was answered.
    fn is_read(&mut self, high_water_mark: usize) -> bool {
        self.demand() == Demand::Read
            && !self.outbound.backlog.has_replies()
            && self.outbound.backlog.bytes() <= high_water_mark
    }

    /// Whether the peer has to wait before more of what it sent is handled.
    fn is_held(&self, now: Tick) -> bool {
        self.deferred.as_ref().is_some_and(|deferred| {
            deferred.is_held(now) || (deferred.is_behind && self.handler.is_busy())
        })
    }

    /// Writes of the backlog what the socket takes; says whether that was worth waiting for more.
    fn write_backlog<S: Stream>(&mut self, stream: &mut S, now: Tick) -> io::Result<bool> {
        let is_late = matches!(self.phase, Phase::Draining { why, .. } if why.is_stalled());
        let takes =
            self.outbound.backlog.write_to(stream)? > 0 && self.outbound.backlog.takes_progress();
        if takes && !is_late {
            self.waiting_since = now;
        }
        Ok(takes)
    }

    /// How a connection ends whose peer has not answered our Close, if that is out.
    fn unanswered(&self, how: Unanswered) -> Option<Disconnect> {
        let code = self.sender.close_code_sent();
        let is_out = self.sender.is_close_sent();
        is_out.then_some(Disconnect::Unanswered(code, how))
    }

    /// Ends a connection that cannot be written to, or whose handler has sent too much at once.
    fn cannot_send<S: Stream>(
        &mut self,
        error: &io::Error,
        stream: &mut S,
        context: &mut Context,
    ) -> Progress {
        if error.kind() != WriteBatch::TOO_MUCH {
            return self.broken(error);
        }
        context.stats.dropped += self.outbound.backlog.drop_unbegun() as u64;
        let frame = (CloseCode::Error, "too much sent at once");
        self.fail(Disconnect::TooMuchSent, frame, stream, context)
    }

    fn broken(&self, error: &io::Error) -> Progress {
        Progress::Over(match self.phase {
            Phase::Open => {
                let kind = error.kind();
                let unanswered = self.unanswered(Unanswered::Broken(kind));
                unanswered.unwrap_or(Disconnect::Broken(kind))
            }
            Phase::Leaving { why } | Phase::Draining { why, .. } | Phase::Lingering { why, .. } => {
                why
            }
        })
    }
}

impl<H: Handler, S: Stream> ConnectionDriver<S> for Connection<H> {
    fn open(
        &mut self,
        key: ConnectionKey,
        head: &[u8],
        early: &mut [u8],
        stream: &mut S,
        context: &mut Context,
    ) -> Progress {
        self.idle_since = context.now;
        context.write_buffer.bytes.extend_from_slice(head);
        let mut socket = WebSocket {
            sender: &mut self.sender,
            batch: WriteBatch::new(stream, &mut context.write_buffer, &mut self.outbound),
            mailbox: &context.mailbox,
            key,
        };
        let opened = panic::catch_unwind(AssertUnwindSafe(|| self.handler.open(&mut socket)));
        let so_far = socket.batch.finish();
        self.waiting_since = context.now;
        if opened.is_err() {
            let why = Disconnect::HandlerPanicked;
            return self.fail(why, INTERNAL_ERROR, stream, context);
        }
        if self.demand() != Demand::Read {
            DeferredInput::defer(&mut self.deferred, early, true, context.unsent());
            self.obey(stream);
            return self.settle(stream, context);
        }
        match so_far.and_then(|()| self.handle(key, early, Ok(()), stream, context)) {
            Ok(()) => self.settle(stream, context),
            Err(error) => self.cannot_send(&error, stream, context),
        }
    }

    fn drive(&mut self, key: ConnectionKey, stream: &mut S, context: &mut Context) -> Progress {
        self.try_drive(key, stream, context)
            .unwrap_or_else(|error| self.cannot_send(&error, stream, context))
    }

    fn wake(&mut self, key: ConnectionKey, stream: &mut S, context: &mut Context) -> Progress {
        self.wake_handler(key, stream, context)
    }

    fn hang_up(&mut self, key: ConnectionKey, context: &mut Context) -> Progress {
        self.notice_end(key, context)
    }

    fn is_blocked(&mut self) -> bool {
        !self.outbound.backlog.is_empty() || self.held() > 0
    }

    fn deliver(
        &mut self,
        delivery: &Delivery<'_>,
        stream: &mut S,
        context: &mut Context,
    ) -> Progress {
        self.send_delivery(delivery, stream, context)
    }

    fn end(
        &mut self,
        why: Disconnect,
        frame: (CloseCode, &'static str),
        stream: &mut S,
        context: &mut Context,
    ) -> Progress {
        match self.phase {
            Phase::Open | Phase::Leaving { .. } => self.fail(why, frame, stream, context),
            Phase::Draining { .. } | Phase::Lingering { .. } => Progress::Waiting,
        }
    }

    fn close(
        &mut self,
        frame: Option<CloseFrame<'_>>,
        stream: &mut S,
        context: &mut Context,
    ) -> Progress {
        self.send_close(frame, stream, context)
    }

    fn tick(
        &mut self,
        key: ConnectionKey,
        silence: Tick,
        stream: &mut S,
        context: &mut Context,
    ) -> Progress {
        self.check_deadlines(key, silence, stream, context)
    }

    fn backlog_bytes(&mut self) -> usize {
        self.outbound.backlog.bytes() + self.kept()
    }

    fn waiting(&mut self, now: Tick) -> Waiting {
        self.waiting_at(now)
    }

    fn relieve(&mut self, stream: &mut S, context: &mut Context) -> Progress {
        self.end_largest(stream, context)
    }

    fn when_cut(&self) -> Disconnect {
        match self.phase {
            Phase::Open => self
                .unanswered(Unanswered::CutAtShutdown)
                .unwrap_or(Disconnect::CutAtShutdown),
            Phase::Leaving { why } | Phase::Draining { why, .. } | Phase::Lingering { why, .. } => {
                why
            }
        }
    }

    fn traffic(&self) -> (Traffic, Traffic) {
        (self.received, self.outbound.sent)
    }

    fn closed(self: Box<Self>, why: &Disconnect) {
        let mut handler = self.handler;
        let _ = panic::catch_unwind(AssertUnwindSafe(|| handler.closed(why)));
        // One by one: a panic while another unwinds would abort the process.
        let _ = panic::catch_unwind(AssertUnwindSafe(|| drop(handler)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::Message;

    #[test]
    fn a_connection_takes_few_bytes() {
        fn of<H: Handler>(_: H) -> usize {
            size_of::<Connection<H>>()
        }
        let size = of(|_: &mut WebSocket<'_>, _: Message<'_>| {});
        assert!(size <= 168, "{size} bytes");
    }
}
