//! When a connection with faults is to be woken.

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use crate::engine::Peer;

/// A task that wakes one connection, and ends with this.
pub(super) struct FaultTimer {
    at: watch::Sender<Option<Instant>>,
}

impl FaultTimer {
    /// A timer that is not set, on the runtime of the connection's worker.
    pub(super) fn new(peer: Peer) -> FaultTimer {
        let (at, times) = watch::channel(None);
        tokio::spawn(wake(times, peer));
        FaultTimer { at }
    }

    /// Sets it, in place of the time before.
    pub(super) fn set(&self, at: Option<Instant>) {
        self.at.send_if_modified(|current| {
            let before = std::mem::replace(current, at);
            before != at
        });
    }

    /// It has rung.
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
                peer.wake();
                if times.changed().await.is_err() {
                    return;
                }
            }
        }
    }
}
