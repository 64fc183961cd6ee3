//! Raw handlers: what they take over of a connection. All of it is nothing for an ordinary handler.

use std::panic::{self, AssertUnwindSafe};

use super::{Connection, INTERNAL_ERROR, Phase};
use crate::engine::backlog::Backlog;
use crate::engine::disconnect::Disconnect;
use crate::engine::driver::{ConnectionDriver, Context, Progress};
use crate::engine::handler::{Handler, WebSocket};
use crate::engine::raw::Demand;
use crate::engine::slab::ConnectionKey;
use crate::engine::socket::Stream;
use crate::engine::write_batch::WriteBatch;
use crate::protocol::CloseFrame;

/// Whether the handler wants no more of the peer's messages for now.
#[inline]
pub(super) fn pauses<H: Handler>(handler: &mut H) -> bool {
    let raw = handler.raw();
    raw.is_some_and(|raw| raw.demand() != Demand::Read)
}

/// Whether the Close that is about to go out waits for what the handler keeps.
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
    /// What the handler wants of the connection.
    #[inline]
    pub(super) fn demand(&mut self) -> Demand {
        self.handler.raw().map_or(Demand::Read, |raw| raw.demand())
    }

    /// Bytes that the handler keeps for the peer.
    #[inline]
    pub(super) fn kept(&mut self) -> usize {
        self.handler.raw().map_or(0, |raw| raw.kept())
    }

    /// Bytes of memory in which the handler keeps something for the peer.
    #[inline]
    pub(super) fn held(&mut self) -> usize {
        self.handler.raw().map_or(0, |raw| raw.held())
    }

    /// Has the handler drop what it keeps. Says whether it has done so: not what has begun to go.
    pub(super) fn drops_kept(&mut self) -> bool {
        if let Some(raw) = self.handler.raw() {
            raw.drop_kept();
        }
        self.kept() == 0
    }

    /// Whether the handler has waited for the socket, which has taken all.
    #[inline]
    pub(super) fn wakes_for_room(&mut self) -> bool {
        self.handler.raw().is_some_and(|raw| raw.wants_room()) && self.outbound.backlog.is_empty()
    }

    /// Wakes the handler, and reads on if it wants that now and did not before.
    pub(super) fn wake_handler<S: Stream>(
        &mut self,
        key: ConnectionKey,
        stream: &mut S,
        context: &mut Context,
    ) -> Progress {
        let was_read = self.is_read(context.high_water_mark);
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
        match is_open && !was_read && self.is_read(context.high_water_mark) {
            true => self.drive(key, stream, context),
            false => self.settle(stream, context),
        }
    }

    /// Ends the connection if the handler wants that.
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

    /// Has the end of the peer's stream answered by ours, when all else has gone out.
    pub(super) fn answer_end(&mut self, key: ConnectionKey, context: &mut Context) {
        if !postpones_close(&mut self.handler, None, false) {
            context.mailbox.close(key, None);
        }
    }

    /// Notices that a peer has gone which is never read from again.
    pub(super) fn notice_end(&mut self, key: ConnectionKey, context: &mut Context) -> Progress {
        if let (Phase::Open, Demand::Stall) = (self.phase, self.demand()) {
            let why = Disconnect::EndOfStream;
            self.phase = Phase::Leaving { why };
            self.answer_end(key, context);
        }
        Progress::Idle
    }
}
