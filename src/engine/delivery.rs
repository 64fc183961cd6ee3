//! Fan-out, as a connection gets it.

use std::cell::OnceCell;
use std::sync::Arc;

use super::SlowConsumerPolicy;
use super::unsent::{Kept, SharedFrame, UnsentBudget};

/// Fan-out in the forms that a connection chooses from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Delivery<'a> {
    pub(super) plain: Encoded<'a>,
    /// Compressed without context, in a window as the server's settings say.
    pub(super) compressed: Option<Encoded<'a>>,
    /// How many there are.
    pub(super) messages: usize,
    /// What to do where they find no room.
    pub(super) policy: SlowConsumerPolicy,
    /// They find room where less waits than the bound, however large they are.
    pub(super) is_lenient: bool,
}

impl<'a> Delivery<'a> {
    pub(super) fn new(
        plain: Encoded<'a>,
        compressed: Option<Encoded<'a>>,
        messages: usize,
        policy: SlowConsumerPolicy,
    ) -> Delivery<'a> {
        Delivery {
            plain,
            compressed,
            messages,
            policy,
            is_lenient: false,
        }
    }
}

/// Encoded frames, and the shared frame in which they are kept for all that cannot take them now.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Encoded<'a> {
    bytes: &'a [u8],
    /// Made when the first of them needs it.
    shared_frame: &'a OnceCell<Arc<SharedFrame>>,
}

impl<'a> Encoded<'a> {
    /// `shared_frame` has the same bytes, or none yet.
    pub(super) fn new(
        bytes: &'a [u8],
        shared_frame: &'a OnceCell<Arc<SharedFrame>>,
    ) -> Encoded<'a> {
        Encoded {
            bytes,
            shared_frame,
        }
    }

    /// A shared frame that is there already.
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

    /// The frames as they are shared.
    pub(super) fn share(self) -> &'a Arc<SharedFrame> {
        self.shared_frame
            .get_or_init(|| SharedFrame::new(self.bytes.to_vec()))
    }

    /// Keeps what is left once `written` bytes have gone.
    pub(super) fn keep(self, written: usize, budget: &UnsentBudget) -> Kept {
        Kept::new(Arc::clone(self.share()), written, budget)
    }
}
