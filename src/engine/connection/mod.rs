//! One connection, and how events, commands and deadlines change its state.
//!
//! ```text
//!   Open ── failed, or our Close answered ──▶ Draining ── all is written: FIN ──▶ Lingering
//!    │                                         ▲    │                                │
//!    └── Close or EOF ──▶ Leaving ─────────────┘    └── EOF was read ──▶ over ◀──────┘
//! ```
//!
//! A lingering connection reads until the peer's FIN. If it were closed with unread input, the
//! kernel would send RST, and the peer would lose our Close (RFC 6455 §7.1.1).

mod deferred;
mod delivering;
mod ending;
mod raw;
mod receiving;
mod timing;

use std::io;
use std::panic::{self, AssertUnwindSafe};

use super::Settings;
use super::act::Act;
use super::deadlines::Tick;
use super::delivery::Delivery;
use super::disconnect::{Disconnect, Unanswered};
use super::driver::{ConnectionDriver, Context, Progress, Waiting};
use super::handler::Handler;
use super::raw::Demand;
use super::slab::ConnectionKey;
use super::socket::Stream;
use super::stats::Traffic;
use super::turn;
use super::web_socket::WebSocket;
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
    /// When the current wait began. It ends when the peer reads more of the backlog, reads the
    /// Close of a slow consumer, or answers our FIN. Bound: `Deadlines::write_stall` or `linger`.
    waiting_since: Tick,
    /// When the unfinished message began. Bound: `Deadlines::message`.
    message_started: Tick,
    /// When the last data message ended. Bound: `Deadlines::idle`.
    idle_since: Tick,
    asked: Asked,
    /// Input that has been read and is not handled yet.
    deferred: Option<Box<DeferredInput>>,
    /// Data messages that the peer has sent.
    received: Traffic,
}

/// The question that the peer has not answered yet.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Asked {
    Nothing,
    /// A Ping, sent at this tick. Bound: `Deadlines::ping_timeout`.
    Ping(Tick),
    /// Our Close, first found unanswered at this tick. Bound: `Deadlines::close`.
    Close(Tick),
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    /// Frames are read and handled.
    Open,
    /// The peer's Close or FIN has arrived. The answer is a command in the mailbox, behind the
    /// commands that the peer's own messages caused: their deliveries are sent first.
    Leaving { why: Disconnect },
    /// Nothing is read. The backlog is written, and then FIN is sent.
    Draining { why: Disconnect, linger: bool },
    /// FIN is sent. Input is read and discarded until the peer's FIN, at most `allowance` bytes.
    Lingering { why: Disconnect, allowance: u32 },
}

/// The Close that a peer gets when its handler panics.
const INTERNAL_ERROR: (CloseCode, &str) = (CloseCode::Error, "internal error");

impl<H: Handler> Connection<H> {
    /// Creates an open connection. `deflate` is the negotiated compression, `None` without one.
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
            self.write_backlog(stream, context)?;
        }
        if self.wakes_for_room() {
            return Ok(self.wake_handler(key, stream, context));
        }
        if let Phase::Open = self.phase {
            if !self.is_read(context.settings.high_water_mark) {
                return Ok(self.wait_for_socket());
            }
            if self.deferred.is_some() {
                if !self.resume(key, stream, context)? {
                    return Ok(self.settle(stream, context));
                }
                if context.turn.is_over() {
                    return Ok(Progress::MoreToRead);
                }
            }
            loop {
                match (self.read(key, stream, context)?, self.phase) {
                    (Reading::Drained, Phase::Open) => return Ok(self.wait_for_more(context.now)),
                    (Reading::Full, Phase::Open) => {
                        // An unfinished message is read on: its first bytes are still in the cache,
                        // and its buffer becomes free sooner.
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

    /// Waits for the socket, which has no more input. A peer that is not throttled at this point
    /// publishes slowly enough: its throttle is forgotten.
    fn wait_for_more(&mut self, now: Tick) -> Progress {
        if self.deferred.is_some() && !self.is_deferred_kept(now) {
            self.deferred = None;
        }
        self.wait(now)
    }

    /// Returns what a connection with a backlog waits for: the socket, or its next turn.
    fn wait_for_socket(&self) -> Progress {
        match self.outbound.backlog.is_compressing() {
            true => Progress::MoreToRead,
            false => Progress::Waiting,
        }
    }

    /// Returns what the connection waits for: the socket, a deadline or its next turn.
    fn wait(&mut self, now: Tick) -> Progress {
        let is_timed = !matches!(self.phase, Phase::Open)
            || !self.sender.is_open()
            || !self.outbound.backlog.is_empty()
            || self.receiver.is_inside_message()
            || self.asked != Asked::Nothing
            || self.deferred.is_some()
            || self.kept() > 0;
        match &self.deferred {
            Some(deferred) if deferred.is_next && !deferred.is_held(now) => Progress::MoreToRead,
            _ if is_timed => self.wait_for_socket(),
            _ => Progress::Idle,
        }
    }

    /// Whether the deferred input must wait longer.
    fn is_deferred_kept(&self, now: Tick) -> bool {
        self.deferred
            .as_ref()
            .is_some_and(|deferred| deferred.is_next || deferred.is_behind || deferred.is_held(now))
    }

    /// Whether a message is unfinished and the peer may send more of it.
    #[cold]
    fn reads_on(&mut self, context: &Context) -> bool {
        self.receiver.is_inside_message()
            && self.deferred.is_none()
            && self.is_read(context.settings.high_water_mark)
    }

    /// Whether the peer is read from. It is not while a reply is in the backlog, or while the
    /// backlog is above `high_water_mark` bytes.
    fn is_read(&mut self, high_water_mark: usize) -> bool {
        self.demand() == Demand::Read
            && !self.outbound.backlog.has_replies()
            && self.outbound.backlog.bytes() <= high_water_mark
    }

    /// Whether deferred input waits for a throttle, for deliveries or for a busy handler.
    fn is_held(&self, now: Tick) -> bool {
        self.deferred.as_ref().is_some_and(|deferred| {
            deferred.is_held(now) || (deferred.is_behind && self.handler.is_busy())
        })
    }

    /// Writes as much of the backlog as the socket accepts, and compresses long replies on the way
    /// until the turn is over. Returns whether the peer has read enough not to count as stalled.
    fn write_backlog<S: Stream>(
        &mut self,
        stream: &mut S,
        context: &mut Context,
    ) -> io::Result<bool> {
        let is_late = matches!(self.phase, Phase::Draining { why, .. } if why.is_stalled());
        let backlog = &mut self.outbound.backlog;
        let mut written = backlog.write_to(stream)?;
        while backlog.is_compressing() && !context.turn.is_over() {
            backlog.compress(&context.write_buffer.unsent);
            context.turn.charge_work(turn::take_charged());
            written += backlog.write_to(stream)?;
        }
        let takes = written > 0 && backlog.takes_progress();
        if takes && !is_late {
            self.waiting_since = context.now;
        }
        Ok(takes)
    }

    /// Returns how the connection ends without an answer to our Close. `None` if no Close was sent.
    fn unanswered(&self, how: Unanswered) -> Option<Disconnect> {
        let code = self.sender.close_code_sent();
        let is_out = self.sender.is_close_sent();
        is_out.then_some(Disconnect::Unanswered(code, how))
    }

    /// Ends a connection after a failed write, or after its handler has sent too much in one event.
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

    fn act(
        &mut self,
        key: ConnectionKey,
        act: Act,
        stream: &mut S,
        context: &mut Context,
    ) -> Progress {
        match act {
            Act::Wake if self.handler.raw().is_some() => self.wake_handler(key, stream, context),
            Act::Wake => self.drive(key, stream, context),
            Act::HangUp => self.notice_end(key, context),
            Act::End { why, frame } => self.end(why, frame, stream, context),
            Act::Close(frame) => {
                let frame = frame.as_ref().map(|(code, reason)| CloseFrame {
                    code: *code,
                    reason,
                });
                self.send_close(frame, stream, context)
            }
            Act::Tick { silence } => self.check_deadlines(key, silence, stream, context),
            Act::Relieve => self.end_largest(stream, context),
        }
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

    fn is_awaited(&self, context: &Context) -> bool {
        self.is_awaited(context)
    }

    fn backlog_bytes(&mut self) -> usize {
        self.outbound.backlog.bytes() + self.kept()
    }

    fn waiting(&mut self, now: Tick) -> Waiting {
        self.waiting_at(now)
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
        // Separately: a panic during the unwinding of another one would abort the process.
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
        // mimalloc adds 7 bytes to align a block, so the next class is that of 160 bytes.
        assert!(size <= 152, "{size} bytes");
    }
}
