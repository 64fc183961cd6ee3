//! A delivery: the fan-out messages that one connection receives.

use std::cell::OnceCell;
use std::sync::Arc;

use super::SlowConsumerPolicy;
use super::unsent::{Kept, SharedFrame, UnsentBudget};

/// Fan-out messages, in the encodings that a connection chooses from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Delivery<'a> {
    pub(super) plain: Encoded<'a>,
    /// Compressed without context takeover, with the window size of the server's settings.
    pub(super) compressed: Option<Encoded<'a>>,
    /// Number of messages.
    pub(super) messages: usize,
    /// What happens if the backlog has no room.
    pub(super) policy: SlowConsumerPolicy,
    pub(super) leeway: Leeway,
}

/// How far a delivery may exceed the bound on a backlog before the policy applies.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Leeway {
    /// Not at all.
    None,
    /// A backlog within its bound accepts messages of any size.
    Once,
    /// Up to [`Leeway::MAX`] times the bound, while publishers wait for the member.
    Awaited,
}

impl Leeway {
    /// The bound on the backlog of a member that publishers wait for, as a multiple of the bound on
    /// other backlogs.
    pub(super) const MAX: usize = 16;
    /// Bytes per second: the slowest member that publishers wait for.
    pub(super) const SLOWEST: usize = 1 << 20;

    /// The leeway in rooms with this policy.
    pub(super) fn of(policy: SlowConsumerPolicy) -> Leeway {
        match policy {
            SlowConsumerPolicy::Close => Leeway::Awaited,
            SlowConsumerPolicy::DropOldest | SlowConsumerPolicy::DropNewest => Leeway::None,
        }
    }
}

/// Encoded frames, and the shared frame that keeps them for all connections whose sockets block.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Encoded<'a> {
    bytes: &'a [u8],
    /// Created when the first such connection needs it.
    shared_frame: &'a OnceCell<Arc<SharedFrame>>,
}

impl<'a> Encoded<'a> {
    /// `shared_frame` is either unset or has the same bytes.
    pub(super) fn new(
        bytes: &'a [u8],
        shared_frame: &'a OnceCell<Arc<SharedFrame>>,
    ) -> Encoded<'a> {
        Encoded {
            bytes,
            shared_frame,
        }
    }

    /// The bytes of a shared frame that is already set.
    pub(super) fn of(shared_frame: &'a OnceCell<Arc<SharedFrame>>) -> Encoded<'a> {
        let bytes = shared_frame
            .get()
            .map_or(&[][..], |shared_frame| shared_frame);
        Encoded {
            bytes,
            shared_frame,
        }
    }

    pub(super) fn bytes(self) -> &'a [u8] {
        self.bytes
    }

    /// The shared frame; created if it does not exist.
    pub(super) fn share(self) -> &'a Arc<SharedFrame> {
        self.shared_frame
            .get_or_init(|| SharedFrame::new(self.bytes.to_vec()))
    }

    /// Keeps the bytes after the first `written` ones.
    pub(super) fn keep(self, written: usize, budget: &UnsentBudget) -> Kept {
        Kept::new(Arc::clone(self.share()), written, budget)
    }
}
