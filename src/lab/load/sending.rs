//! The progress of sending a connection's messages.

/// The progress of sending a connection's messages.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sending {
    /// The connection's number: the high bits of its message numbers.
    pub(super) id: u64,
    /// The number and the slot of the first message that is not completely written.
    pub(super) next: u64,
    pub(super) slot: usize,
    /// Number of messages, from `next` on, that are not completely written.
    pub(super) unsent: u64,
    /// Bytes of the unsent messages that are already written.
    pub(super) offset: usize,
    /// Number of messages written at least in part.
    pub(super) flown: u64,
    /// Number of messages to send in all.
    pub(super) most: u64,
}

/// Messages written together.
#[derive(Clone, Copy, Debug)]
pub(super) struct Flight {
    pub(super) first: u64,
    pub(super) count: u64,
    /// Number of messages without a reply.
    pub(super) left: u64,
    /// Time of the write in nanoseconds.
    pub(super) at: u64,
}

impl Sending {
    /// Number of messages that are written or queued.
    pub(super) fn begun(&self) -> u64 {
        self.next + self.unsent
    }

    /// Number of messages that may still be queued.
    #[inline]
    pub(super) fn left(&self) -> u64 {
        self.most.saturating_sub(self.begun())
    }
}
