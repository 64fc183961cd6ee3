//! Back-pressure on publishers: the cost of a handler's publications, and the wait that follows.
//!
//! A handler publishes without access to its socket, so thread-local variables count for it. A
//! connection is not read from after publications that
//! - cost more than a turn, or went to a mailbox that is full, until all workers have delivered
//!   them;
//! - went to a room whose members are behind, until these members have caught up or are closed.
//!
//! So each publisher adds at most a few messages to what a mailbox or a member's backlog holds, and
//! the other connections are still read from.

use std::cell::{Cell, RefCell};
use std::sync::Arc;

use super::commands::Command;
use super::mailbox::Mailbox;
use super::members::GroupMembers;
use super::publication::Publication;
use super::slab::ConnectionKey;
use super::turn::Turn;

thread_local! {
    /// Cost of the running handler's publications, in the unit of [`Turn`].
    static COST: Cell<usize> = const { Cell::new(NO_HANDLER) };
    /// The groups that the running handler has published to. Bound: the messages of one event,
    /// which are also in a mailbox.
    static REACHED: RefCell<Vec<Reached>> = const { RefCell::new(Vec::new()) };
}

const NO_HANDLER: usize = usize::MAX;

/// A group that the running handler has published to, and the mailbox of its worker.
type Reached = (Arc<Mailbox>, Arc<GroupMembers>);

/// Starts to count for a handler that is about to run.
#[inline]
pub(super) fn begin() {
    COST.set(0);
}

/// Stops counting after the handler has run. Returns the cost of its publications. If that is not
/// 0, [`hold`] must follow.
#[inline]
pub(super) fn end() -> usize {
    COST.replace(NO_HANDLER)
}

/// Notes that a message is published to these members.
pub(super) fn note(
    mailbox: &Arc<Mailbox>,
    members: &Arc<GroupMembers>,
    publication: &Publication<'_>,
) {
    let (cost, count) = (COST.get(), members.len());
    if cost == NO_HANDLER || count == 0 {
        return;
    }
    let more = Turn::cost_of_deliveries(count, publication.size());
    COST.set(cost.saturating_add(more).min(NO_HANDLER - 1));
    REACHED.with_borrow_mut(|reached| {
        let is_noted = |(_, last): &Reached| Arc::ptr_eq(last, members);
        if !reached.last().is_some_and(is_noted) {
            reached.push((Arc::clone(mailbox), Arc::clone(members)));
        }
    });
}

/// Returns a ticket if the publisher must wait for its receivers; always if its publications cost a
/// turn. The ticket is in the mailboxes of all groups that the last handler has published to.
pub(super) fn hold(cost: usize, mailbox: &Arc<Mailbox>, key: ConnectionKey) -> Option<Arc<Ticket>> {
    REACHED.with_borrow_mut(|reached| {
        let is_slow = |(mailbox, members): &Reached| mailbox.is_full() || members.are_behind();
        let ticket = (cost >= Turn::SHARE || reached.iter().any(is_slow)).then(|| {
            Arc::new(Ticket {
                mailbox: Arc::clone(mailbox),
                key,
            })
        });
        for (mailbox, members) in reached.drain(..) {
            if let Some(ticket) = &ticket {
                let ticket = Arc::clone(ticket) as _;
                mailbox.command(Command::Release { members, ticket });
            }
        }
        ticket
    })
}

/// A publisher's wait for its receivers. When the last reference is dropped, the publisher's
/// connection is driven again.
#[derive(Debug)]
pub(super) struct Ticket {
    mailbox: Arc<Mailbox>,
    key: ConnectionKey,
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.mailbox.wake_connection(self.key);
    }
}
