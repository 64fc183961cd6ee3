//! The timer that wakes a connection with faults.

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use crate::engine::Peer;

/// A timer whose task wakes one connection. Dropping the timer ends the task.
pub(super) struct FaultTimer {
    peer: Peer,
    at: Option<Instant>,
    task: JoinSet<()>,
}

impl FaultTimer {
    /// Creates a timer. It is not set.
    pub(super) fn new(peer: Peer) -> FaultTimer {
        FaultTimer {
            peer,
            at: None,
            task: JoinSet::new(),
        }
    }

    /// Sets the time, or clears it with `None`. The previous time is replaced.
    pub(super) fn set(&mut self, at: Option<Instant>) {
        if self.at == at {
            return;
        }
        self.at = at;
        self.task = JoinSet::new();
        if let Some(at) = at {
            let peer = self.peer.clone();
            self.task.spawn(async move {
                sleep_until(at).await;
                peer.resume();
            });
        }
    }
}
