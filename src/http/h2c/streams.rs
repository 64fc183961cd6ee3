//! Runs the tasks of a connection's streams. A task ends if its client accepts nothing for too
//! long.

use std::future::pending;
use std::time::Duration;

use hyper::rt::Executor;
use tokio::sync::watch;
use tokio::time::timeout;

tokio::task_local! {
    /// Whether a chunk of this task's stream is still unsent.
    static IN_FLIGHT: watch::Sender<bool>;
}

/// Returns the flag that the response's body sets for the task that sends it. Call it only in the
/// task of a stream.
pub(super) fn in_flight() -> watch::Sender<bool> {
    IN_FLIGHT.try_with(Clone::clone).unwrap_or_default()
}

/// Runs streams. A stream whose chunk stays unsent for `write_stall` is dropped, which resets it.
/// Zero switches the deadline off.
#[derive(Clone, Copy, Debug)]
pub(super) struct Streams {
    pub(super) write_stall: Duration,
}

impl Streams {
    /// Completes when one chunk has been unsent for too long.
    async fn stalls(self, mut in_flight: watch::Receiver<bool>) {
        while in_flight.wait_for(|in_flight| *in_flight).await.is_ok() {
            let gone = in_flight.changed();
            if self.write_stall.is_zero() {
                let _ = gone.await;
            } else if timeout(self.write_stall, gone).await.is_err() {
                return;
            }
        }
        pending().await
    }
}

impl<F> Executor<F> for Streams
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, stream: F) {
        let in_flight = watch::Sender::default();
        let stalls = self.stalls(in_flight.subscribe());
        tokio::spawn(IN_FLIGHT.scope(in_flight, async {
            tokio::select! {
                () = stream => {}
                () = stalls => {}
            }
        }));
    }
}
