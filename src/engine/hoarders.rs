//! Hoarders: the connections that hold a large part of one of the server's budgets.

use super::deadlines::Tick;
use super::slab::ConnectionKey;

/// The hoarders of a worker. Bound: 32 entries, because a hoarder holds a sixteenth of one of two
/// budgets.
#[derive(Debug, Default)]
pub(super) struct Hoarders(Vec<Hoarder>);

#[derive(Debug)]
struct Hoarder {
    key: ConnectionKey,
    since: Tick,
    last_seen: Tick,
}

impl Hoarders {
    /// Notes that a connection is a hoarder now. Returns for how long it has been one without a
    /// break.
    pub(super) fn note(&mut self, key: ConnectionKey, now: Tick) -> Tick {
        let known = self.0.iter_mut().find(|hoarder| hoarder.key == key);
        if let Some(hoarder) = known {
            hoarder.last_seen = now;
            return now.wrapping_sub(hoarder.since);
        }
        self.0.push(Hoarder {
            key,
            since: now,
            last_seen: now,
        });
        0
    }

    /// Forgets the connections that were not noted at `now`.
    pub(super) fn forget_others(&mut self, now: Tick) {
        self.0.retain(|hoarder| hoarder.last_seen == now);
    }
}
