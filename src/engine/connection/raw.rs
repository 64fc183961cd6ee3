//! Raw handlers, which take over parts of a connection. For an ordinary handler this file changes
//! nothing.

use std::panic::{self, AssertUnwindSafe};

use super::{Connection, INTERNAL_ERROR, Phase};
use crate::engine::backlog::Backlog;
use crate::engine::disconnect::Disconnect;
use crate::engine::driver::{ConnectionDriver, Context, Progress};
use crate::engine::handler::Handler;
use crate::engine::raw::Demand;
use crate::engine::slab::ConnectionKey;
use crate::engine::socket::Stream;
use crate::engine::turn;
use crate::engine::web_socket::WebSocket;
use crate::engine::write_batch::WriteBatch;
use crate::protocol::CloseFrame;

/// Whether the handler does not want the peer's next message now.
#[inline]
pub(super) fn pauses<H: Handler>(handler: &mut H) -> bool {
    let raw = handler.raw();
    raw.is_some_and(|raw| raw.demand() != Demand::Read)
}

/// Whether the handler postpones a Close until the data that it keeps is sent.
#[inline]
pub(super) fn postpones_close<H: Handler>(
    handler: &mut H,
    frame: Option<CloseFrame<'_>>,
    is_urgent: bool,
) -> bool {
    let raw = handler.raw();
    raw.is_some_and(|raw| raw.postpones_close(frame, is_urgent))
}

impl<H: Handler> Connection<H> {
    /// Returns what the handler demands of the connection.
    #[inline]
    pub(super) fn demand(&mut self) -> Demand {
        self.handler.raw().map_or(Demand::Read, |raw| raw.demand())
    }

    /// Bytes that the handler keeps for the peer.
    #[inline]
    pub(super) fn kept(&mut self) -> usize {
        self.handler.raw().map_or(0, |raw| raw.kept())
    }

    /// Bytes of memory that the handler holds for the peer.
    #[inline]
    pub(super) fn held(&mut self) -> usize {
        self.handler.raw().map_or(0, |raw| raw.held())
    }

    /// Makes the handler drop the data that it keeps. Returns whether nothing is left: a part whose
    /// sending has begun stays.
    pub(super) fn drops_kept(&mut self) -> bool {
        if let Some(raw) = self.handler.raw() {
            raw.drop_kept();
        }
        self.kept() == 0
    }

    /// Whether the handler waits for room, and the socket has accepted the whole backlog.
    #[inline]
    pub(super) fn wakes_for_room(&mut self) -> bool {
        self.handler.raw().is_some_and(|raw| raw.wants_room()) && self.outbound.backlog.is_empty()
    }

    /// Wakes the handler. Reads if the peer could not be read from before and can be now.
    pub(super) fn wake_handler<S: Stream>(
        &mut self,
        key: ConnectionKey,
        stream: &mut S,
        context: &mut Context,
    ) -> Progress {
        let was_read = self.is_read(context.settings.high_water_mark);
        let before = self.outbound.backlog.is_empty();
        let mut socket = WebSocket {
            sender: &mut self.sender,
            batch: WriteBatch::new(stream, &mut context.write_buffer, &mut self.outbound),
            mailbox: &context.mailbox,
            key,
        };
        let woken = panic::catch_unwind(AssertUnwindSafe(|| {
            if let Some(raw) = self.handler.raw() {
                raw.wake(&mut socket);
            }
        }));
        let written = socket.batch.finish();
        context.turn.charge_work(turn::take_charged());
        if before != self.outbound.backlog.is_empty() {
            self.waiting_since = context.now;
        }
        if woken.is_err() {
            return self.end(Disconnect::HandlerPanicked, INTERNAL_ERROR, stream, context);
        }
        if let Err(error) = written {
            return self.cannot_send(&error, stream, context);
        }
        self.obey(stream);
        let is_open = matches!(self.phase, Phase::Open);
        match is_open && !was_read && self.is_read(context.settings.high_water_mark) {
            true => self.drive(key, stream, context),
            false => self.settle(stream, context),
        }
    }

    /// Ends the connection if the handler demands that.
    #[inline]
    pub(super) fn obey<S: Stream>(&mut self, stream: &mut S) {
        match self.demand() {
            Demand::Read | Demand::Pause | Demand::Stall => {}
            demand => self.cut(demand == Demand::Abort, stream),
        }
    }

    #[cold]
    fn cut<S: Stream>(&mut self, is_abort: bool, stream: &mut S) {
        let why = match self.phase {
            Phase::Open => Disconnect::CutByServer,
            Phase::Leaving { why } => why,
            Phase::Draining { why, .. } if is_abort => why,
            Phase::Draining { .. } | Phase::Lingering { .. } => return,
        };
        if is_abort {
            self.outbound.backlog = Backlog::default();
            stream.reset();
        }
        self.deferred = None;
        self.receiver.discard();
        let linger = !is_abort;
        self.phase = Phase::Draining { why, linger };
    }

    /// Answers the peer's FIN by a command in the mailbox, behind all earlier deliveries.
    pub(super) fn answer_end(&mut self, key: ConnectionKey, context: &mut Context) {
        if !postpones_close(&mut self.handler, None, false) {
            context.mailbox.close(key, None);
        }
    }

    /// Ends a connection whose peer has sent FIN, if the handler never reads again.
    pub(super) fn notice_end(&mut self, key: ConnectionKey, context: &mut Context) -> Progress {
        if let (Phase::Open, Demand::Stall) = (self.phase, self.demand()) {
            let why = Disconnect::EndOfStream;
            self.phase = Phase::Leaving { why };
            self.answer_end(key, context);
        }
        Progress::Idle
    }
}
