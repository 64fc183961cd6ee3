//! A group: the members of one room on one worker, and the mailbox of that worker.

use std::sync::Arc;

use super::SlowConsumerPolicy;
use super::fan_out;
use super::mailbox::Mailbox;
use super::members::{GroupMembers, GroupPlace};
use super::peer::Peer;
use super::publication::Publication;

/// The members of one room on one worker. A clone is the same group.
#[derive(Clone, Debug)]
pub(crate) struct Group {
    pub(super) mailbox: Arc<Mailbox>,
    members: Arc<GroupMembers>,
}

/// A sleeping worker with new commands. Dropping this value wakes the worker.
#[derive(Debug)]
pub(crate) struct Sleeper(Arc<Mailbox>);

impl Drop for Sleeper {
    fn drop(&mut self) {
        self.0.wake();
    }
}

impl Group {
    /// An empty group on the worker of `peer`.
    pub(crate) fn of(peer: &Peer, policy: SlowConsumerPolicy) -> Group {
        Group {
            mailbox: Arc::clone(&peer.mailbox),
            members: Arc::new(GroupMembers::new(policy)),
        }
    }

    /// Whether the group and the connection are on the same worker.
    pub(crate) fn is_of(&self, peer: &Peer) -> bool {
        Arc::ptr_eq(&self.mailbox, &peer.mailbox)
    }

    /// Whether both are the same group.
    pub(crate) fn is(&self, other: &Group) -> bool {
        Arc::ptr_eq(&self.members, &other.members)
    }

    /// Adds a connection of the same worker.
    pub(crate) fn join(&self, peer: &Peer) -> GroupPlace {
        self.members.join(peer.key, peer.compresses)
    }

    /// Removes a member. Returns whether the group is now empty.
    pub(crate) fn leave(&self, place: GroupPlace) -> bool {
        self.members.leave(place)
    }

    /// Number of members.
    pub(crate) fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether the mailboxes of all workers are congested, so that publishers should pause.
    #[cfg(feature = "redis")]
    pub(crate) fn is_congested(&self) -> bool {
        self.mailbox.is_congested()
    }

    /// Puts a message for all members into the worker's mailbox.
    ///
    /// If the worker sleeps, dropping the returned [`Sleeper`] wakes it. That is a system call, so
    /// drop it without holding a lock.
    pub(crate) fn deliver(&self, publication: &Publication<'_>) -> Option<Sleeper> {
        fan_out::note(&self.mailbox, &self.members, publication);
        let sleeps = self.mailbox.deliver(&self.members, publication);
        sleeps.then(|| Sleeper(Arc::clone(&self.mailbox)))
    }
}
