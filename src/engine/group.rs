//! Groups: the members of a room on each worker, and the mailbox of that worker.

use std::sync::Arc;

use super::SlowConsumerPolicy;
use super::fan_out;
use super::mailbox::Mailbox;
use super::members::{GroupMembers, GroupPlace};
use super::peer::Peer;
use super::publication::Publication;

/// The members of one room on one worker. A clone is the same group.
#[derive(Clone, Debug)]
pub(super) struct Group {
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

/// The groups of one room: one for each worker with members.
#[derive(Debug, Default)]
pub(crate) struct Groups(pub(super) Vec<Group>);

/// The place of a member in a room.
#[derive(Debug)]
pub(crate) struct Seat {
    group: Group,
    place: GroupPlace,
}

impl Groups {
    /// Adds a connection. `policy` is the policy of the room.
    pub(crate) fn join(&mut self, peer: &Peer, policy: SlowConsumerPolicy) -> Seat {
        let is_on_worker = |group: &&Group| Arc::ptr_eq(&group.mailbox, &peer.mailbox);
        let group = match self.0.iter().find(is_on_worker) {
            Some(group) => group.clone(),
            None => {
                let group = Group {
                    mailbox: Arc::clone(&peer.mailbox),
                    members: Arc::new(GroupMembers::new(policy)),
                };
                self.0.push(group.clone());
                group
            }
        };
        let place = group.members.join(peer.key, peer.compresses);
        Seat { group, place }
    }

    /// Removes a member. Returns whether the room is now empty.
    pub(crate) fn leave(&mut self, seat: &Seat) -> bool {
        let members = &seat.group.members;
        if members.leave(seat.place) {
            self.0.retain(|group| !Arc::ptr_eq(&group.members, members));
        }
        self.0.is_empty()
    }

    /// Number of members.
    pub(crate) fn len(&self) -> usize {
        self.0.iter().map(|group| group.members.len()).sum()
    }

    /// Whether the mailboxes of all workers are congested, so that publishers should pause.
    #[cfg(feature = "redis")]
    pub(crate) fn is_congested(&self) -> bool {
        self.0.iter().any(|group| group.mailbox.is_congested())
    }

    /// Puts a message for all members into the workers' mailboxes.
    ///
    /// Dropping the returned [`Sleeper`]s wakes the workers that sleep. Each is a system call, so
    /// drop them without holding a lock.
    pub(crate) fn deliver(&self, publication: &Publication<'_>) -> Vec<Sleeper> {
        let deliver = |Group { mailbox, members }: &Group| {
            fan_out::note(mailbox, members, publication);
            let sleeps = mailbox.deliver(members, publication);
            sleeps.then(|| Sleeper(Arc::clone(mailbox)))
        };
        self.0.iter().filter_map(deliver).collect()
    }
}
