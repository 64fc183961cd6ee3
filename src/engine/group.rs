//! A room's members on one worker, and the way to them.

use std::sync::Arc;

use super::SlowConsumerPolicy;
use super::fan_out;
use super::mailbox::Mailbox;
use super::members::{GroupMembers, GroupPlace};
use super::peer::Peer;
use super::publication::Publication;

/// The members of one room that live on one worker. Clones are the same group.
#[derive(Clone, Debug)]
pub(crate) struct Group {
    mailbox: Arc<Mailbox>,
    members: Arc<GroupMembers>,
}

/// A worker that has something to do and sleeps. It is woken when this is dropped.
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
            mailbox: Arc::clone(peer.mailbox()),
            members: Arc::new(GroupMembers::new(policy)),
        }
    }

    /// Whether this is the group of that connection's worker.
    pub(crate) fn is_of(&self, peer: &Peer) -> bool {
        Arc::ptr_eq(&self.mailbox, peer.mailbox())
    }

    /// Whether both are the same group.
    pub(crate) fn is(&self, other: &Group) -> bool {
        Arc::ptr_eq(&self.members, &other.members)
    }

    /// Adds a member of the same worker.
    pub(crate) fn join(&self, peer: &Peer) -> GroupPlace {
        self.members.join(peer.key(), peer.compresses())
    }

    /// Takes a member out and says whether the group is empty now.
    pub(crate) fn leave(&self, place: GroupPlace) -> bool {
        self.members.leave(place)
    }

    /// How many members there are.
    pub(crate) fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether so much waits for all workers that nobody should publish on.
    #[cfg(feature = "redis")]
    pub(crate) fn is_congested(&self) -> bool {
        self.mailbox.is_congested()
    }

    /// Whether its worker has so much to deliver that a task which publishes should let it.
    #[allow(dead_code, reason = "Socket.IO is optional")]
    pub(crate) fn is_full(&self) -> bool {
        self.mailbox.is_full()
    }

    /// Hands a message to the worker for all members.
    /// The worker may sleep: then it is woken when what is returned is dropped, which is a system
    /// call and so nothing to do under a lock.
    pub(crate) fn deliver(&self, publication: &Publication<'_>) -> Option<Sleeper> {
        fan_out::note(&self.members, publication);
        let sleeps = self.mailbox.deliver(&self.members, publication);
        sleeps.then(|| Sleeper(Arc::clone(&self.mailbox)))
    }
}
