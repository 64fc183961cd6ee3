//! The connections that keep much of one of the server's budgets.

use super::deadlines::Tick;
use super::slab::ConnectionKey;

/// Those of a worker, and since when. Bound: a connection that keeps a sixteenth of one of two
/// budgets is one of 32 at most.
#[derive(Debug, Default)]
pub(super) struct Hoarders(Vec<Hoarder>);

#[derive(Debug)]
struct Hoarder {
    key: ConnectionKey,
    since: Tick,
    last_seen: Tick,
}

impl Hoarders {
    /// Notes that a connection keeps much now. Says for how long it has done so without a break.
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

    /// Forgets all that have not been noted now.
    pub(super) fn forget_others(&mut self, now: Tick) {
        self.0.retain(|hoarder| hoarder.last_seen == now);
    }
}
