//! Closes connections when the unsent budget of all clients is spent.

use std::collections::BinaryHeap;
use std::mem;

use super::Connections;
use crate::engine::act::Act;
use crate::engine::deadlines::Tick;
use crate::engine::driver::Waiting;
use crate::engine::slab::ConnectionKey;
use crate::engine::socket::Stream;

/// Connections that may be closed, found by one search; the greatest of the queue is closed first.
/// Bound: the number of the worker's connections.
#[derive(Debug, Default)]
pub(super) struct Candidates {
    found: Option<Tick>,
    /// The last search found no candidates.
    were_none: bool,
    queue: BinaryHeap<(Waiting, ConnectionKey)>,
}

impl<S: Stream> Connections<S> {
    /// Closes the connections with the most unsent data until the budget suffices.
    ///
    /// The rule: a worker considers its connections that hold at least the average share. The one
    /// with the most memory is closed first, then the next; connections that have read something
    /// within the last second are closed last. The largest connection of all workers holds at least
    /// the average, so some worker finds it. A worker whose connections all hold less closes none:
    /// the other workers check when they next deliver, are blocked, or sweep. A connection that was
    /// closed and still holds the most is cut.
    ///
    /// All connections are searched at most once a tick, or again when all candidates are closed: a
    /// search visits every connection.
    #[inline]
    pub(super) fn relieve(&mut self) {
        if self.context.unsent().is_spent() {
            self.relieve_now();
        }
    }

    #[cold]
    fn relieve_now(&mut self) {
        // Taken out for the call, because closing a connection borrows the rest.
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
                candidates.queue.push((current, key));
                continue;
            }
            self.apply(key, |connection, stream, context| {
                connection.act(key, Act::Relieve, stream, context)
            });
            if let Some(left) = self.waiting(key) {
                candidates.queue.push((left, key));
            }
        }
        self.candidates = candidates;
    }

    fn find_candidates(&mut self) -> Candidates {
        let (now, average) = (self.context.now, self.context.unsent().average());
        let waiting = (0..self.entries.places()).filter_map(|index| {
            let (key, entry) = self.entries.at_mut(index)?;
            Some((entry.connection.waiting(now), key))
        });
        let queue: BinaryHeap<_> = waiting
            .filter(|(waiting, _)| waiting.share >= average.max(1))
            .collect();
        Candidates {
            found: Some(now),
            were_none: queue.is_empty(),
            queue,
        }
    }

    /// Returns the backlog of a connection, `None` if there is nothing to free.
    fn waiting(&mut self, key: ConnectionKey) -> Option<Waiting> {
        let now = self.context.now;
        let entry = self.entries.get_mut(key)?;
        Some(entry.connection.waiting(now)).filter(|waiting| waiting.share > 0)
    }
}
