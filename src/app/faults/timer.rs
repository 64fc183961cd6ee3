//! The timer that wakes a connection with faults.

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use crate::engine::Peer;

/// A timer whose task wakes one connection. Dropping the timer ends the task.
pub(super) struct FaultTimer {
    at: watch::Sender<Option<Instant>>,
}

impl FaultTimer {
    /// Creates a timer on the runtime of the connection's worker. It is not set.
    pub(super) fn new(peer: Peer) -> FaultTimer {
        let (at, times) = watch::channel(None);
        tokio::spawn(wake(times, peer));
        FaultTimer { at }
    }

    /// Sets the time, or clears it with `None`. The previous time is replaced.
    pub(super) fn set(&self, at: Option<Instant>) {
        self.at.send_if_modified(|current| {
            let before = std::mem::replace(current, at);
            before != at
        });
    }

    /// Clears the time after the connection was woken.
    pub(super) fn rang(&self) {
        self.set(None);
    }
}

async fn wake(mut times: watch::Receiver<Option<Instant>>, peer: Peer) {
    loop {
        let at = *times.borrow_and_update();
        let Some(at) = at else {
            match times.changed().await {
                Ok(()) => continue,
                Err(_) => return,
            }
        };
        tokio::select! {
            changed = times.changed() => match changed {
                Ok(()) => {}
                Err(_) => return,
            },
            () = sleep_until(at) => {
                peer.resume();
                if times.changed().await.is_err() {
                    return;
                }
            }
        }
    }
}
