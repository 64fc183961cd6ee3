//! What a handler's publications cost others, and how long its connection waits for that.
//!
//! A handler publishes without its socket, so its thread remembers for it. Two rules follow:
//! - A connection whose publications cost more than a turn is not read from until this worker has
//!   delivered them.
//! - A connection that has published a large message is not read from until all members have taken
//!   it, or as long as they need at [`Ticket::SLOWEST`]: a member that reads fast enough is not
//!   thrown out for the size of messages, and one that does not read at all delays its room by the
//!   second in which its queue fills.

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
    /// What the handler that runs has published so far, as [`Turn`] charges it.
    static COST: Cell<usize> = const { Cell::new(NO_HANDLER) };
    /// Its large messages. Bound: those of one event, which are in a mailbox, too.
    static LARGE: RefCell<Vec<Arc<SharedFrame>>> = const { RefCell::new(Vec::new()) };
}

const NO_HANDLER: usize = usize::MAX;

/// From this size on a message is large: a sixteenth of a member's queue.
const LARGE_SIZE: usize = 64 << 10;

/// A handler is about to run.
#[inline]
pub(super) fn begin() {
    COST.set(0);
}

/// The handler is done. Says what its publications cost.
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

/// What a connection waits for that has published: when the last reference goes, the connection is
/// driven again.
#[derive(Debug)]
pub(super) struct Ticket {
    mailbox: Arc<Mailbox>,
    key: ConnectionKey,
}

impl Ticket {
    /// Bytes a second that a member is waited for.
    const SLOWEST: usize = 1 << 20;

    /// A ticket for what the last handler has published, and for how long it holds at most.
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
        self.mailbox.resume(self.key);
    }
}
