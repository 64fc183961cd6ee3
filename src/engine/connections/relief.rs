//! What is closed when more waits to be sent to all clients than may.

use std::mem;

use super::Connections;
use crate::engine::deadlines::Tick;
use crate::engine::driver::Waiting;
use crate::engine::slab::ConnectionKey;
use crate::engine::socket::Stream;

/// Those that may have to go, as they were found at a time, the next to go last. Bounded by the
/// number of the worker's connections.
#[derive(Debug, Default)]
pub(super) struct Candidates {
    found: Option<Tick>,
    /// There were none the last time.
    were_none: bool,
    queue: Vec<(Waiting, ConnectionKey)>,
}

impl Candidates {
    fn insert(&mut self, candidate: (Waiting, ConnectionKey)) {
        let place = self.queue.partition_point(|other| *other < candidate);
        self.queue.insert(place, candidate);
    }
}

impl<S: Stream> Connections<S> {
    /// Closes connections while the budget of what waits to be sent is spent.
    ///
    /// The rule: of a worker's connections that hold an average share or more the one with the most
    /// memory goes first, then the next; those that have taken something within the last second go
    /// last. The largest of all holds the average at least, so some worker finds it; a worker whose
    /// connections all hold less leaves it to the others, which look when they next deliver, are
    /// blocked, or sweep. A connection that was closed and still holds the most is cut.
    ///
    /// All connections are looked at once a tick at most, or again when all that were found have
    /// gone: to look costs as many as there are.
    #[inline]
    pub(super) fn relieve(&mut self) {
        if self.context.unsent().is_spent() {
            self.relieve_now();
        }
    }

    #[cold]
    fn relieve_now(&mut self) {
        // Taken out for a moment: what goes is driven by the rest.
        let mut candidates = mem::take(&mut self.candidates);
        let now = self.context.now;
        if candidates.found != Some(now) {
            candidates = self.find_candidates();
        }
        while self.context.unsent().is_spent() {
            let Some((waiting, key)) = candidates.queue.pop() else {
                if candidates.were_none {
                    break;
                }
                candidates = self.find_candidates();
                continue;
            };
            let Some(current) = self.waiting(key) else {
                continue;
            };
            if current < waiting {
                candidates.insert((current, key));
                continue;
            }
            self.act(key, |connection, stream, context| {
                connection.relieve(stream, context)
            });
            if let Some(left) = self.waiting(key) {
                candidates.insert((left, key));
            }
        }
        self.candidates = candidates;
    }

    fn find_candidates(&mut self) -> Candidates {
        let (now, average) = (self.context.now, self.context.unsent().average());
        let mut queue = Vec::new();
        for index in 0..self.entries.places() {
            if let Some((key, entry)) = self.entries.at_mut(index) {
                let waiting = entry.connection.waiting(now);
                if waiting.share >= average.max(1) {
                    queue.push((waiting, key));
                }
            }
        }
        queue.sort_unstable();
        Candidates {
            found: Some(now),
            were_none: queue.is_empty(),
            queue,
        }
    }

    /// What waits for a connection, if anything does.
    fn waiting(&mut self, key: ConnectionKey) -> Option<Waiting> {
        let now = self.context.now;
        let entry = self.entries.get_mut(key)?;
        Some(entry.connection.waiting(now)).filter(|waiting| waiting.share > 0)
    }
}
