//! Timing: the deadlines, and the keepalive.

use std::time::Duration;

use super::delivering::TOO_MUCH_UNSENT;
use super::{Asked, Connection, Phase};
use crate::engine::deadlines::{Tick, is_past};
use crate::engine::delivery::Leeway;
use crate::engine::disconnect::{Disconnect, Timeout, Unanswered};
use crate::engine::driver::{Context, Progress};
use crate::engine::handler::Handler;
use crate::engine::slab::ConnectionKey;
use crate::engine::socket::Stream;
use crate::engine::write_batch::WriteBatch;
use crate::protocol::{CloseCode, Message, ProtocolError};

impl<H: Handler> Connection<H> {
    /// Checks the deadlines. `silence` is the time since the peer was last heard.
    pub(super) fn check_deadlines<S: Stream>(
        &mut self,
        key: ConnectionKey,
        silence: Tick,
        stream: &mut S,
        context: &mut Context,
    ) -> Progress {
        if let Some(progress) = self.check_waits(stream, context) {
            return progress;
        }
        let now = context.now;
        let is_read = self.is_read(context.settings.high_water_mark)
            && !self.is_held(now)
            && self.kept() == 0;
        if !is_read {
            // The peer cannot be heard: its deadlines start again when it is read from.
            self.message_started = now;
            if let Asked::Ping(_) = self.asked {
                self.asked = Asked::Nothing;
            }
        }
        if let Some((why, frame)) = self.keeps_much(key, context) {
            context.stats.dropped += self.outbound.backlog.drop_unbegun() as u64;
            return match self.drops_kept() {
                true => self.fail(why, frame, stream, context),
                false => Progress::Over(why),
            };
        }
        if self.is_awaited(context) && self.keeps_publishers(stream, context) {
            let (why, frame) = (Disconnect::SlowConsumer, Disconnect::OVERRUN);
            return self.fail(why, frame, stream, context);
        }
        if let Some((why, reason)) = self.overdue(is_read, silence, stream, context) {
            return self.fail(why, (CloseCode::Policy, reason), stream, context);
        }
        match self.deferred.is_some() && is_read {
            true => Progress::MoreToRead,
            false => self.wait(now),
        }
    }

    /// Checks the deadlines of the backlog and of a connection that is ending. `None` if the
    /// connection is open and no deadline has passed.
    fn check_waits<S: Stream>(
        &mut self,
        stream: &mut S,
        context: &mut Context,
    ) -> Option<Progress> {
        let (waited, deadlines) = (
            context.since(self.waiting_since),
            &context.settings.deadlines,
        );
        let is_stalled = is_past(deadlines.write_stall, waited);
        Some(match self.phase {
            Phase::Lingering { why, .. } if waited >= deadlines.linger => Progress::Over(why),
            // The rest of an unfinished frame and our Close are kept as long as a write may stall.
            Phase::Draining { why, .. } if why.is_overrun() => match is_stalled {
                true => Progress::Over(why),
                false => Progress::Waiting,
            },
            Phase::Draining { why, .. } if why.is_stalled() && waited >= deadlines.linger => {
                Progress::Over(why)
            }
            Phase::Draining { why, .. } if stream.has_unsent() && is_stalled => Progress::Over(why),
            _ if !self.outbound.backlog.is_empty() && is_stalled => {
                // A socket reports room when a third of its buffer is free, and a slow reader may
                // need longer for that: a client that reads something is not stalled.
                if matches!(self.write_backlog(stream, context), Ok(true)) {
                    return Some(Progress::MoreToRead);
                }
                let why = self.unanswered(Unanswered::TimedOut);
                let why = why.unwrap_or(Disconnect::TimedOut(Timeout::WriteStall));
                context.observer.failed(&why, stream.peer_address());
                Progress::Over(why)
            }
            Phase::Leaving { .. } | Phase::Draining { .. } | Phase::Lingering { .. } => {
                Progress::Waiting
            }
            Phase::Open => return None,
        })
    }

    /// Whether publishers have waited for this member so long that it reads too slowly.
    fn keeps_publishers<S: Stream>(&mut self, stream: &mut S, context: &mut Context) -> bool {
        // A socket reports room only when a third of its buffer is free. A broken socket is found
        // by the next read.
        let _ = self.write_backlog(stream, context);
        let due = Leeway::SLOWEST * context.tick.as_millis() as usize / 1_000;
        self.is_awaited(context) && self.outbound.backlog.owes_too_much(due)
    }

    /// Returns how an open connection ends, and the reason in its Close. `None` if no deadline has
    /// passed.
    fn overdue<S: Stream>(
        &mut self,
        is_read: bool,
        silence: Tick,
        stream: &mut S,
        context: &mut Context,
    ) -> Option<(Disconnect, &'static str)> {
        let deadlines = &context.settings.deadlines;
        if let Some(hold) = self.deferred.as_ref().and_then(|deferred| deferred.hold)
            && is_past(deadlines.throttle_timeout, context.since(hold.since))
        {
            return Some((Disconnect::FastPublisher, "publishing too fast"));
        }
        let unanswered = self.unanswered(Unanswered::TimedOut);
        if let Some(why) = unanswered {
            let Asked::Close(since) = self.asked else {
                self.asked = Asked::Close(context.now);
                return None;
            };
            if is_past(deadlines.close, context.since(since)) {
                return Some((why, "")); // our Close was sent, and a second one is never sent
            }
        }
        let (timeout, reason) = if self.receiver.is_inside_message()
            && is_past(deadlines.message, context.since(self.message_started))
        {
            (Timeout::Message, "message not finished in time")
        } else if let Some(idle) = deadlines.idle
            && is_past(idle, context.since(self.idle_since))
        {
            (Timeout::Idle, "idle timeout")
        } else if is_read && !self.handler.has_heartbeat() {
            self.keep_alive(silence, stream, context)?
        } else {
            return None;
        };
        let why = unanswered.unwrap_or(Disconnect::TimedOut(timeout));
        Some((why, reason))
    }

    /// Returns how a connection ends that has kept a sixteenth of one of the server's budgets for a
    /// minute: sixteen such connections would leave nothing for the others.
    fn keeps_much(
        &mut self,
        key: ConnectionKey,
        context: &mut Context,
    ) -> Option<(Disconnect, (CloseCode, &'static str))> {
        const PATIENCE: Duration = Duration::from_secs(60);
        let (unsent, unfinished) = (context.unsent(), context.pool.budget());
        // The share is a sum over all frames of the backlog: too slow for each connection and tick.
        let ending = if unsent.is_much(unsent.bytes())
            && unsent.is_much(self.max_share())
            && unsent.is_much(self.waiting_at(context.now).share)
        {
            (Disconnect::TooMuchUnsent, TOO_MUCH_UNSENT)
        } else if unfinished.is_much(self.receiver.held()) {
            let error = ProtocolError::BudgetExceeded;
            let frame = (error.close_code(), error.reason());
            (Disconnect::Failed(error, frame.0), frame)
        } else {
            return None;
        };
        let lasted = context.tick * context.hoarders.note(key, context.now);
        (lasted >= PATIENCE).then_some(ending)
    }

    /// Sends a Ping after silence. Returns the timeout if the Ping is not answered. Any input is an
    /// answer: a slow upload proves as much as a Pong.
    fn keep_alive<S: Stream>(
        &mut self,
        silence: Tick,
        stream: &mut S,
        context: &mut Context,
    ) -> Option<(Timeout, &'static str)> {
        match self.asked {
            Asked::Ping(at) => {
                let unanswered = context.now.wrapping_sub(at);
                // A Ping follows silence, so input in the tick of the Ping came after it.
                if silence <= unanswered {
                    self.asked = Asked::Nothing;
                } else if is_past(context.settings.deadlines.ping_timeout, context.since(at)) {
                    return Some((Timeout::Ping, "ping timeout"));
                }
            }
            // A backlog needs no Ping: the write stall finds a dead peer.
            Asked::Nothing
                if is_past(
                    context.settings.deadlines.ping_interval,
                    context.tick * silence,
                ) && self.sender.is_open()
                    && self.outbound.backlog.is_empty() =>
            {
                self.asked = Asked::Ping(context.now);
                let mut batch =
                    WriteBatch::new(stream, &mut context.write_buffer, &mut self.outbound);
                self.sender.send(Message::Ping(b""), &mut batch);
                // The next read reports a broken socket, too.
                let _ = batch.finish();
                self.waiting_since = context.now;
            }
            Asked::Nothing | Asked::Close(_) => {}
        }
        None
    }
}
