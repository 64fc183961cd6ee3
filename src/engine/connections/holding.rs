//! Holds publishers while members of their rooms are behind.

use std::any::Any;
use std::mem;
use std::sync::Arc;

use super::Connections;
use crate::engine::members::GroupMembers;
use crate::engine::slab::ConnectionKey;
use crate::engine::socket::Stream;

/// A group with members whose backlogs are over the bound, and the publishers that wait for them.
#[derive(Debug)]
pub(super) struct HeldGroup {
    group: Arc<GroupMembers>,
    /// Bound: the members of the group.
    behind: Vec<ConnectionKey>,
    /// Bound: one for each connection of the server.
    tickets: Vec<Arc<dyn Any + Send + Sync>>,
}

impl<S: Stream> Connections<S> {
    /// Notes the members that a delivery has found behind. A delivery to the whole group finds all
    /// of them; one that `continues` a delivery finds more.
    #[cold]
    pub(super) fn hold(
        &mut self,
        group: &Arc<GroupMembers>,
        continues: bool,
        behind: Vec<ConnectionKey>,
    ) {
        match self.held_group(group) {
            Some(held) if continues => held.behind.extend(behind),
            Some(held) => held.behind = behind,
            None => {
                group.set_behind(true);
                self.held.push(HeldGroup {
                    group: Arc::clone(group),
                    behind,
                    tickets: Vec::new(),
                });
            }
        }
    }

    /// Drops the ticket of a publisher, or keeps it until no member is behind.
    pub(super) fn release(
        &mut self,
        group: &Arc<GroupMembers>,
        ticket: Arc<dyn Any + Send + Sync>,
    ) {
        if let Some(held) = self.held_group(group) {
            held.tickets.push(ticket);
        }
    }

    /// Drops the tickets for groups whose members have all caught up or left.
    #[inline]
    pub(super) fn release_caught_up(&mut self) {
        if !self.held.is_empty() {
            self.release_caught_up_now();
        }
    }

    #[cold]
    fn release_caught_up_now(&mut self) {
        let mut held = mem::take(&mut self.held);
        held.retain_mut(|held| {
            while let Some(key) = held.behind.last() {
                if self.is_awaited(*key) {
                    return true;
                }
                held.behind.pop();
            }
            held.group.set_behind(false);
            false
        });
        self.held = held;
    }

    /// Whether publishers wait for this connection.
    pub(super) fn is_awaited(&mut self, key: ConnectionKey) -> bool {
        let entry = self.entries.get_mut(key);
        entry.is_some_and(|entry| entry.connection.is_awaited(&self.context))
    }

    fn held_group(&mut self, group: &Arc<GroupMembers>) -> Option<&mut HeldGroup> {
        let mut held = self.held.iter_mut();
        held.find(|held| Arc::ptr_eq(&held.group, group))
    }
}
