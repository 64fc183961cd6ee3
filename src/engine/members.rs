//! The members of one room on one worker.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard};

use super::SlowConsumerPolicy;
use super::slab::{ConnectionKey, Slab};
use crate::lock::lock;

/// The members of one room on one worker.
#[derive(Debug)]
pub(crate) struct GroupMembers {
    policy: SlowConsumerPolicy,
    /// Bound: `Rooms::MAX_MEMBERSHIPS` for each connection of the worker.
    members: Mutex<Slab<GroupMember>>,
    /// Increases by one with each member that joins.
    epoch: AtomicU32,
    /// Number of members, readable without the lock.
    count: AtomicUsize,
    /// Number of members that accept compressed messages.
    compressing: AtomicUsize,
    /// Publishers wait for members with full backlogs.
    are_behind: AtomicBool,
}

/// A point in the history of a group. A message is delivered to the members that joined before it
/// was published, regardless of when its command is carried out.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Epoch(u32);

#[derive(Debug)]
pub(super) struct GroupMember {
    pub(super) key: ConnectionKey,
    since: Epoch,
}

impl GroupMember {
    #[inline]
    pub(super) fn gets(&self, epoch: Epoch) -> bool {
        epoch.0.wrapping_sub(self.since.0) as i32 >= 0
    }
}

/// A member's place among the members.
#[derive(Clone, Copy, Debug)]
pub(crate) struct GroupPlace {
    key: ConnectionKey,
    compresses: bool,
}

impl GroupMembers {
    /// No members.
    pub(super) fn new(policy: SlowConsumerPolicy) -> GroupMembers {
        GroupMembers {
            policy,
            members: Mutex::default(),
            epoch: AtomicU32::new(0),
            count: AtomicUsize::new(0),
            compressing: AtomicUsize::new(0),
            are_behind: AtomicBool::new(false),
        }
    }

    /// Adds a connection. `compresses` means that it accepts messages compressed without context
    /// takeover.
    pub(super) fn join(&self, key: ConnectionKey, compresses: bool) -> GroupPlace {
        let mut members = lock(&self.members);
        self.compressing
            .fetch_add(usize::from(compresses), Ordering::Relaxed);
        let epoch = self.epoch.fetch_add(1, Ordering::Relaxed);
        let since = Epoch(epoch.wrapping_add(1));
        self.count.fetch_add(1, Ordering::Relaxed);
        GroupPlace {
            key: members.insert(GroupMember { key, since }),
            compresses,
        }
    }

    /// Removes a member. Returns whether the group is now empty.
    pub(super) fn leave(&self, place: GroupPlace) -> bool {
        let mut members = lock(&self.members);
        members.remove(place.key);
        self.compressing
            .fetch_sub(usize::from(place.compresses), Ordering::Relaxed);
        self.count.store(members.len(), Ordering::Relaxed);
        members.len() == 0
    }

    /// Number of members.
    pub(super) fn len(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// The policy for members that read too slowly.
    pub(super) fn policy(&self) -> SlowConsumerPolicy {
        self.policy
    }

    /// Whether any member accepts compressed messages.
    pub(super) fn any_compresses(&self) -> bool {
        self.compressing.load(Ordering::Relaxed) > 0
    }

    /// Whether publishers wait for members with full backlogs.
    pub(super) fn are_behind(&self) -> bool {
        self.are_behind.load(Ordering::Relaxed)
    }

    pub(super) fn set_behind(&self, are_behind: bool) {
        self.are_behind.store(are_behind, Ordering::Relaxed);
    }

    /// The current point in the history of the group.
    pub(super) fn epoch(&self) -> Epoch {
        Epoch(self.epoch.load(Ordering::Relaxed))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Slab<GroupMember>> {
        lock(&self.members)
    }
}
