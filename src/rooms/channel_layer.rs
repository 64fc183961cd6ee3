//! The interface that connects rooms with those of other processes.

use std::fmt;
use std::sync::Arc;

use super::Room;
use crate::protocol::Message;

/// Carries messages published in a set of rooms to the same rooms in other processes, and delivers
/// their messages to the rooms here.
///
/// No method blocks: a publisher waits for no other process. `changed` runs under a lock of
/// the rooms, so it makes no system call.
pub(super) trait ChannelLayer: fmt::Debug + Send + Sync {
    /// Called when a room gets its first member in this process (`true`), or loses its last one.
    fn changed(&self, room: &Arc<Room>, is_open: bool);

    /// Called after `changed`, when no lock is held.
    fn wake(&self);

    /// Called with each data message after its delivery to the members in this process.
    fn publish(&self, room: &str, message: Message<'_>);
}
