//! Hoarders: the connections that hold a large part of one of the server's budgets.

use std::collections::HashMap;

use super::deadlines::Tick;
use super::slab::ConnectionKey;

/// The hoarders of a worker. For each: the tick since which it is one, and the tick of its last
/// check. Bound: 32 entries, because a hoarder holds a sixteenth of one of two budgets.
#[derive(Debug, Default)]
pub(super) struct Hoarders(HashMap<ConnectionKey, [Tick; 2]>);

impl Hoarders {
    /// Notes that a connection is a hoarder now. Returns for how long it has been one without a
    /// break.
    pub(super) fn note(&mut self, key: ConnectionKey, now: Tick) -> Tick {
        let [since, last_seen] = self.0.entry(key).or_insert([now, now]);
        *last_seen = now;
        now.wrapping_sub(*since)
    }

    /// Forgets the connections that were not noted at `now`.
    pub(super) fn forget_others(&mut self, now: Tick) {
        self.0.retain(|_, [_, last_seen]| *last_seen == now);
    }
}
