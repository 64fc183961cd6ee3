//! Input that has been read and is not handled yet.

use std::sync::{Arc, Weak};

use crate::engine::deadlines::Tick;
use crate::engine::fan_out::Ticket;
use crate::engine::unsent::{Held, UnsentBudget};

/// What is not handled yet of what has been read.
#[derive(Debug, Default)]
pub(super) struct DeferredInput {
    /// Back-pressure on a peer that publishes faster than it may, until it does so no more.
    pub(super) hold: Option<Hold>,
    /// It is to be handled when what the peer published has been delivered.
    pause: Option<Pause>,
    /// It is to be handled in the next turn, when what came before it has been delivered.
    pub(super) is_next: bool,
    /// It is to be handled when the handler has done what it began.
    pub(super) is_behind: bool,
    /// Bound: one read, and `max_unsent_size`, in bytes, shared with all clients of the server: it
    /// waits for the same reasons as what is to be sent.
    pub(super) input: Vec<u8>,
    pub(super) held: Option<Held>,
}

#[derive(Debug)]
pub(super) struct Pause {
    /// Until when nothing is handled or read, at most.
    until: Tick,
    /// What is waited for.
    ticket: Weak<Ticket>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Hold {
    /// Bound: `Deadlines::throttle_timeout`.
    pub(super) since: Tick,
    /// Until when nothing is handled or read.
    until: Tick,
}

impl DeferredInput {
    /// Puts back-pressure on a peer, for so many ticks; `input` is handled after them.
    #[cold]
    pub(super) fn throttle(
        deferred: &mut Option<Box<DeferredInput>>,
        now: Tick,
        ticks: u128,
        input: &[u8],
        budget: &UnsentBudget,
    ) {
        let ticks = Tick::try_from(ticks).unwrap_or(Tick::MAX);
        let before = deferred.as_ref().and_then(|deferred| deferred.hold);
        let hold = Some(Hold {
            since: before.map_or(now, |hold| hold.since),
            until: now.wrapping_add(ticks.clamp(1, Tick::MAX / 4)),
        });
        *deferred = Some(Box::new(DeferredInput {
            hold,
            input: input.to_vec(),
            held: Some(Held::new(input.len(), budget)),
            ..DeferredInput::default()
        }));
    }

    /// Has `input` handled in the next turn, or behind what the handler has begun.
    #[cold]
    pub(super) fn defer(
        deferred: &mut Option<Box<DeferredInput>>,
        input: &[u8],
        is_behind: bool,
        budget: &UnsentBudget,
    ) {
        let hold = deferred.as_ref().and_then(|deferred| deferred.hold);
        *deferred = Some(Box::new(DeferredInput {
            hold,
            is_next: !is_behind,
            is_behind,
            input: input.to_vec(),
            held: Some(Held::new(input.len(), budget)),
            pause: None,
        }));
    }

    /// Has nothing more handled or read until the ticket is dropped, or that time has come.
    pub(super) fn pause(
        deferred: &mut Option<Box<DeferredInput>>,
        until: Tick,
        ticket: &Arc<Ticket>,
    ) {
        deferred.get_or_insert_default().pause = Some(Pause {
            until,
            ticket: Arc::downgrade(ticket),
        });
    }

    /// Bytes that are kept for this connection.
    pub(super) fn bytes(&self) -> usize {
        self.held.as_ref().map_or(0, Held::bytes)
    }

    pub(super) fn is_held(&self, now: Tick) -> bool {
        let is_before = |until: Tick| (now.wrapping_sub(until) as i32) < 0;
        self.hold.is_some_and(|hold| is_before(hold.until))
            || self
                .pause
                .as_ref()
                .is_some_and(|pause| is_before(pause.until) && pause.ticket.strong_count() > 0)
    }
}
