//! Delivering: sends fan-out to one connection.

use std::io;

use super::{Connection, Phase};
use crate::engine::backlog::{Backlog, accepted, messages_left};
use crate::engine::deadlines::Tick;
use crate::engine::delivery::{Delivery, Encoded, Leeway};
use crate::engine::disconnect::Disconnect;
use crate::engine::driver::{Context, Progress, Waiting};
use crate::engine::handler::Handler;
use crate::engine::socket::Stream;
use crate::engine::{SlowConsumer, SlowConsumerPolicy};
use crate::protocol::CloseCode;

/// The Close of a client whose backlog is dropped because the unsent budget is spent.
pub(super) const TOO_MUCH_UNSENT: (CloseCode, &str) =
    (CloseCode::Again, "no memory for what waits to be sent");

impl<H: Handler> Connection<H> {
    /// Sends encoded fan-out: at once if the backlog is empty, otherwise behind the backlog.
    #[inline]
    pub(super) fn send_delivery<S: Stream>(
        &mut self,
        delivery: &Delivery<'_>,
        stream: &mut S,
        context: &mut Context,
    ) -> Progress {
        match self.phase {
            Phase::Open if self.sender.is_open() => {}
            // Deliveries that the peer's own messages caused are sent before our Close, and nothing
            // after it (§5.5.1).
            Phase::Leaving { .. } if !self.sender.is_close_sent() && !self.sender.is_closed() => {}
            _ => return Progress::Waiting,
        }
        let messages = delivery.messages;
        let encoded = self.choose(delivery, context);
        let frames = encoded.bytes();
        context.stats.delivered.add(messages, frames.len());
        self.outbound.sent.add(messages, frames.len());
        if !self.outbound.backlog.is_empty() {
            return self.queue(None, encoded, delivery, stream, context);
        }
        match stream.write(frames) {
            // No wait has begun, and earlier waits are already timed.
            Ok(written) if written == frames.len() => Progress::Idle,
            first => self.queue(Some(first), encoded, delivery, stream, context),
        }
    }

    /// Continues a delivery whose `first` write was not complete, and queues the rest. `None` means
    /// that nothing was written: the delivery is queued behind the backlog, if its policy allows
    /// that.
    #[cold]
    fn queue<S: Stream>(
        &mut self,
        first: Option<io::Result<usize>>,
        encoded: Encoded<'_>,
        delivery: &Delivery<'_>,
        stream: &mut S,
        context: &mut Context,
    ) -> Progress {
        let frames = encoded.bytes();
        let mut written = 0;
        if let Some(first) = first {
            written = match write_all(first, stream, frames) {
                Ok(written) if written == frames.len() => return Progress::Idle,
                Ok(written) => written,
                Err(error) => return self.broken(&error),
            };
            self.waiting_since = context.now;
        } else if let Some(progress) = self.make_room(delivery, frames.len(), stream, context) {
            return progress;
        }
        let messages = messages_left(delivery.messages, frames.len() - written, frames.len());
        let unsent = context.unsent();
        let kept = encoded.keep(written, unsent);
        self.outbound
            .backlog
            .push(kept, messages, unsent, written > 0);
        Progress::Waiting
    }

    /// Applies the policy of a delivery of `length` bytes if the backlog is full. `None` if the
    /// backlog has room for the delivery now.
    fn make_room<S: Stream>(
        &mut self,
        delivery: &Delivery<'_>,
        length: usize,
        stream: &mut S,
        context: &mut Context,
    ) -> Option<Progress> {
        let SlowConsumer {
            max_bytes,
            max_messages,
        } = context.settings.slow_consumer;
        let messages = delivery.messages;
        let added = match delivery.leeway {
            Leeway::Once => 0,
            Leeway::None | Leeway::Awaited => length,
        };
        let backlog = &mut self.outbound.backlog;
        let fits = |backlog: &Backlog, times: usize| {
            backlog.bytes() + added <= max_bytes.saturating_mul(times)
                && backlog.messages() + messages <= max_messages.saturating_mul(times)
        };
        if fits(backlog, 1) {
            return None;
        }
        let is_awaited = delivery.leeway == Leeway::Awaited || backlog.is_awaited();
        match delivery.policy {
            SlowConsumerPolicy::Close if is_awaited && fits(backlog, Leeway::MAX) => {
                backlog.mark_awaited();
                None
            }
            SlowConsumerPolicy::Close => {
                context.stats.dropped += messages as u64;
                Some(self.end(
                    Disconnect::SlowConsumer,
                    Disconnect::OVERRUN,
                    stream,
                    context,
                ))
            }
            SlowConsumerPolicy::DropNewest => {
                context.stats.dropped += messages as u64;
                Some(Progress::Waiting)
            }
            SlowConsumerPolicy::DropOldest => {
                let dropped = self.outbound.backlog.drop_oldest_beyond(
                    max_bytes.saturating_sub(length),
                    max_messages.saturating_sub(messages),
                );
                context.stats.dropped += dropped as u64;
                None
            }
        }
    }

    /// Whether publishers wait for this member, because its backlog is over the bound.
    pub(super) fn is_awaited(&self, context: &Context) -> bool {
        let SlowConsumer {
            max_bytes,
            max_messages,
        } = context.settings.slow_consumer;
        let backlog = &self.outbound.backlog;
        matches!(self.phase, Phase::Open)
            && backlog.is_awaited()
            && (backlog.bytes() > max_bytes || backlog.messages() > max_messages)
    }

    /// Returns the size of the backlog, as compared when the unsent budget is spent.
    pub(super) fn waiting_at(&mut self, now: Tick) -> Waiting {
        /// Ten ticks: a second, or less if a deadline is shorter than that.
        const RECENT: Tick = 10;
        Waiting {
            is_stalled: now.wrapping_sub(self.waiting_since) > RECENT,
            share: self.outbound.backlog.share() + self.besides_backlog(),
            rest: self.outbound.backlog.bytes() + self.kept(),
        }
    }

    /// The most that the share in [`Connection::waiting_at`] can be.
    pub(super) fn max_share(&mut self) -> usize {
        self.outbound.backlog.max_share() + self.besides_backlog()
    }

    /// Bytes that are kept for this peer outside the backlog.
    fn besides_backlog(&mut self) -> usize {
        let deferred = self.deferred.as_ref();
        deferred.map_or(0, |deferred| deferred.bytes()) + self.held()
    }

    /// Ends a connection with the largest backlog. If the connection is closing already, or its
    /// handler keeps a part, it ends without a Close.
    pub(super) fn end_largest<S: Stream>(
        &mut self,
        stream: &mut S,
        context: &mut Context,
    ) -> Progress {
        let (why, frame) = match self.outbound.backlog.messages() {
            0 => (Disconnect::TooMuchUnsent, TOO_MUCH_UNSENT),
            _ => (Disconnect::SlowConsumer, Disconnect::OVERRUN),
        };
        let drops = self.drops_kept();
        match self.phase {
            Phase::Open | Phase::Leaving { .. } if drops && !self.sender.is_close_sent() => {
                context.stats.dropped += self.outbound.backlog.drop_unbegun() as u64;
                self.fail(why, frame, stream, context)
            }
            Phase::Open | Phase::Leaving { .. } => Progress::Over(why),
            Phase::Draining { why, .. } | Phase::Lingering { why, .. } => Progress::Over(why),
        }
    }

    /// Returns the delivery compressed if this peer accepts that, otherwise plain.
    fn choose<'a>(&mut self, delivery: &Delivery<'a>, context: &Context) -> Encoded<'a> {
        if let Some(compressed) = delivery.compressed
            && let Some(deflate) = context.mailbox.deflate()
            && let length = delivery.plain.bytes().len()
            && self.sender.accepts_compressed(deflate.window_bits, length)
        {
            self.sender.sent_compressed();
            return compressed;
        }
        delivery.plain
    }
}

/// Writes until all is written or the socket is full; `first` is the result of the first write.
/// Returns the number of bytes written.
fn write_all<S: Stream>(
    first: io::Result<usize>,
    stream: &mut S,
    bytes: &[u8],
) -> io::Result<usize> {
    let (mut written, mut result) = (0, first);
    while let Some(more) = accepted(result)? {
        written += more;
        match bytes.get(written..).filter(|rest| !rest.is_empty()) {
            Some(rest) => result = stream.write(rest),
            None => break,
        }
    }
    Ok(written)
}
