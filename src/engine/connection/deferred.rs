//! Input that has been read and is not handled yet.

use std::sync::{Arc, Weak};

use crate::engine::deadlines::Tick;
use crate::engine::fan_out::Ticket;
use crate::engine::unsent::{Held, UnsentBudget};

/// Input that has been read and is not handled yet, and the reasons why it waits.
#[derive(Debug, Default)]
pub(super) struct DeferredInput {
    /// The throttle of a peer that publishes too fast, until the peer slows down.
    pub(super) hold: Option<Hold>,
    /// The input waits until this ticket is dropped: the peer's publications are delivered then.
    ticket: Weak<Ticket>,
    /// The input waits for the next turn, when earlier messages have been delivered.
    pub(super) is_next: bool,
    /// The input waits until the handler has finished the work that it began.
    pub(super) is_behind: bool,
    /// Bound: one read, and `max_unsent_size`, in bytes, shared with all clients of the server:
    /// input waits for the same reasons as output.
    pub(super) input: Vec<u8>,
    pub(super) held: Option<Held>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Hold {
    /// Bound: `Deadlines::throttle_timeout`.
    pub(super) since: Tick,
    /// Nothing is read or handled before this tick.
    until: Tick,
}

impl DeferredInput {
    /// Throttles a peer for this number of ticks. `input` is handled afterwards.
    #[cold]
    pub(super) fn throttle(
        deferred: &mut Option<Box<DeferredInput>>,
        now: Tick,
        ticks: u128,
        input: &[u8],
        budget: &UnsentBudget,
    ) {
        let ticks = Tick::try_from(ticks).unwrap_or(Tick::MAX);
        let deferred = DeferredInput::defer(deferred, input, false, budget);
        deferred.is_next = false;
        deferred.hold = Some(Hold {
            since: deferred.hold.map_or(now, |hold| hold.since),
            until: now.wrapping_add(ticks.clamp(1, Tick::MAX / 4)),
        });
    }

    /// Keeps `input` for the next turn or, if `is_behind`, until the handler has finished its work.
    #[cold]
    pub(super) fn defer<'a>(
        deferred: &'a mut Option<Box<DeferredInput>>,
        input: &[u8],
        is_behind: bool,
        budget: &UnsentBudget,
    ) -> &'a mut DeferredInput {
        let hold = deferred.as_ref().and_then(|deferred| deferred.hold);
        deferred.insert(Box::new(DeferredInput {
            hold,
            is_next: !is_behind,
            is_behind,
            input: input.to_vec(),
            held: Some(Held::new(input.len(), budget)),
            ticket: Weak::new(),
        }))
    }

    /// Stops reading and handling until the ticket is dropped.
    pub(super) fn pause(deferred: &mut Option<Box<DeferredInput>>, ticket: &Arc<Ticket>) {
        deferred.get_or_insert_default().ticket = Arc::downgrade(ticket);
    }

    /// Bytes of input that are kept for this connection.
    pub(super) fn bytes(&self) -> usize {
        self.held.as_ref().map_or(0, Held::bytes)
    }

    pub(super) fn is_held(&self, now: Tick) -> bool {
        let is_before = |until: Tick| (now.wrapping_sub(until) as i32) < 0;
        self.hold.is_some_and(|hold| is_before(hold.until)) || self.ticket.strong_count() > 0
    }
}
