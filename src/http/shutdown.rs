//! The stages of a server's shutdown, in one watched value.

use tokio::sync::watch;

/// Ends a server; usable from any thread.
#[derive(Clone, Debug)]
pub struct Shutdown(watch::Sender<Stage>);

/// A stage of the shutdown. A server never returns to an earlier stage.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Stage {
    /// The server accepts and serves connections.
    Serving,
    /// The server accepts no new connection and has sent each WebSocket a Close. It still answers
    /// requests, but a request for a WebSocket gets 503.
    Draining,
    /// All WebSockets are closed. The server answers the requests in progress, then closes each
    /// connection.
    Ending,
    /// The server closes all remaining connections at once.
    Cut,
}

impl Shutdown {
    pub(crate) fn new() -> Shutdown {
        Shutdown(watch::Sender::new(Stage::Serving))
    }

    /// Stops accepting, sends every client a Close 1001, waits up to the drain timeout for the
    /// answers, then cuts the remaining connections.
    pub fn drain(&self) {
        self.reach(Stage::Draining);
    }

    /// Closes every connection at once.
    pub fn cut(&self) {
        self.reach(Stage::Cut);
    }

    /// Whether the shutdown has begun.
    pub fn is_draining(&self) -> bool {
        self.has_reached(Stage::Draining)
    }

    /// Waits until the shutdown begins.
    pub async fn draining(&self) {
        self.reached(Stage::Draining).await;
    }

    pub(crate) fn reach(&self, stage: Stage) {
        self.0.send_if_modified(|current| {
            let later = stage > *current;
            *current = stage.max(*current);
            later
        });
    }

    pub(crate) fn has_reached(&self, stage: Stage) -> bool {
        *self.0.borrow() >= stage
    }

    pub(crate) async fn reached(&self, stage: Stage) {
        let mut current = self.0.subscribe();
        // This cannot fail: `self` keeps the sender alive.
        let _ = current.wait_for(|current| *current >= stage).await;
    }
}
