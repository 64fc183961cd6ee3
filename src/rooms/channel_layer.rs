//! The interface that connects rooms with those of other processes.

use std::fmt;
use std::sync::Arc;

use super::Room;
use crate::protocol::Message;

/// Carries messages published in a set of rooms to the same rooms in other processes, and delivers
/// their messages to the rooms here.
///
/// No method blocks: a publisher waits for no other process. `opened` and `closed` run under a lock
/// of the rooms, so they make no system call.
pub(super) trait ChannelLayer: fmt::Debug + Send + Sync {
    /// Called when a room gets its first member in this process.
    fn opened(&self, room: &Arc<Room>);

    /// Called when a room loses its last member in this process.
    fn closed(&self, room: &str);

    /// Called after `opened` and `closed`, when no lock is held.
    fn wake(&self);

    /// Called with each data message after its delivery to the members in this process.
    fn publish(&self, room: &str, message: Message<'_>);
}
