//! Back-pressure on publishers: the cost of a handler's publications, and the wait that follows.
//!
//! A handler publishes without access to its socket, so thread-local variables count for it. Two
//! rules apply:
//! - A connection whose publications cost more than a turn is not read from until this worker has
//!   delivered them.
//! - A connection that has published a large message is not read from until all members have
//!   received it, or for the time that the message needs at [`Ticket::SLOWEST`]. So a member that
//!   reads fast enough is not closed because messages are large, and a member that does not read
//!   at all delays its room only for the second in which its backlog fills.

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::time::Duration;

use super::SlowConsumerPolicy;
use super::mailbox::Mailbox;
use super::members::GroupMembers;
use super::publication::Publication;
use super::slab::ConnectionKey;
use super::turn::Turn;
use super::unsent::SharedFrame;

thread_local! {
    /// Cost of the running handler's publications, in the unit of [`Turn`].
    static COST: Cell<usize> = const { Cell::new(NO_HANDLER) };
    /// The running handler's large messages. Bound: the messages of one event, which are also in a
    /// mailbox.
    static LARGE: RefCell<Vec<Arc<SharedFrame>>> = const { RefCell::new(Vec::new()) };
}

const NO_HANDLER: usize = usize::MAX;

/// Size in bytes from which a message is large: a sixteenth of a member's default backlog bound.
const LARGE_SIZE: usize = 64 << 10;

/// Starts to count for a handler that is about to run.
#[inline]
pub(super) fn begin() {
    COST.set(0);
}

/// Stops counting after the handler has run. Returns the cost of its publications.
#[inline]
pub(super) fn end() -> usize {
    COST.replace(NO_HANDLER)
}

/// Notes that a message is published to these members.
pub(super) fn note(members: &GroupMembers, publication: &Publication<'_>) {
    let cost = COST.get();
    if cost == NO_HANDLER {
        return;
    }
    let size = publication.size();
    let more = members.len().saturating_mul(Turn::DELIVERY + size);
    COST.set(cost.saturating_add(more).min(NO_HANDLER - 1));
    if size >= LARGE_SIZE && members.policy() == SlowConsumerPolicy::Close {
        LARGE.with_borrow_mut(|large| large.extend(publication.shared_frames().cloned()));
    }
}

/// A publisher's wait for its receivers. When the last reference is dropped, the publisher's
/// connection is driven again.
#[derive(Debug)]
pub(super) struct Ticket {
    mailbox: Arc<Mailbox>,
    key: ConnectionKey,
}

impl Ticket {
    /// Bytes per second: the slowest member that a publisher waits for.
    const SLOWEST: usize = 1 << 20;

    /// Returns a ticket for the large messages of the last handler, and its maximum wait.
    pub(super) fn of_last(mailbox: &Arc<Mailbox>, key: ConnectionKey) -> (Arc<Ticket>, Duration) {
        let ticket = Arc::new(Ticket {
            mailbox: Arc::clone(mailbox),
            key,
        });
        let mut bytes = 0;
        for frame in LARGE.take() {
            bytes += frame.len();
            frame.attach(Arc::clone(&ticket) as _);
        }
        let patience = Duration::from_secs(1).mul_f64(bytes as f64 / Self::SLOWEST as f64);
        (ticket, patience)
    }

    /// Whether the last handler has published large messages.
    pub(super) fn is_due() -> bool {
        LARGE.with_borrow(|large| !large.is_empty())
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.mailbox.wake_connection(self.key);
    }
}
