//! How rooms reach beyond this process.

use std::fmt;
use std::sync::Arc;

use crate::protocol::Message;

/// Carries what is published in a set of rooms to the same rooms of other processes. What those
/// publish it puts into the [`Rooms`](super::Rooms) that it was made for.
///
/// [`Rooms`](super::Rooms) without one are this process's own. None of this blocks: a publisher
/// waits for no other process. `opened` and `closed` are told under a lock of the rooms, so they
/// make no system call.
pub(crate) trait ChannelLayer: fmt::Debug + Send + Sync {
    /// A room has its first member here.
    fn opened(&self, room: &Arc<str>);

    /// A room has lost its last member here.
    fn closed(&self, room: &str);

    /// Some room was opened or closed, and no lock is held any more.
    fn wake(&self);

    /// A data message was published here, and this process's members have it.
    fn publish(&self, room: &str, message: Message<'_>);
}
