//! How far a server is on its way to its end: one value, which all watch that have to know.

use std::sync::Arc;

use tokio::sync::watch;

/// Ends a server, from any thread.
#[derive(Clone, Debug)]
pub struct Shutdown {
    stage: Arc<watch::Sender<Stage>>,
}

/// How far a server is. No stage comes back.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Stage {
    /// It accepts connections and serves them.
    Serving,
    /// It accepts no new connection, has sent each WebSocket a Close, and answers requests: those that
    /// want a WebSocket with 503.
    Draining,
    /// No WebSocket is left: what has been asked is answered, and then each connection ends.
    Ending,
    /// All that is left is cut.
    Cut,
}

impl Shutdown {
    pub(crate) fn new() -> Shutdown {
        Shutdown {
            stage: Arc::new(watch::Sender::new(Stage::Serving)),
        }
    }

    /// Stops accepting, sends every client a Close 1001, waits for their answers for the drain
    /// timeout at most, then cuts the clients that are left.
    pub fn drain(&self) {
        self.reach(Stage::Draining);
    }

    /// Ends every connection now.
    pub fn cut(&self) {
        self.reach(Stage::Cut);
    }

    /// Whether the server has been told to end.
    pub fn is_draining(&self) -> bool {
        self.has_reached(Stage::Draining)
    }

    /// Waits until the server is told to end.
    pub async fn draining(&self) {
        self.reached(Stage::Draining).await;
    }

    pub(crate) fn reach(&self, stage: Stage) {
        self.stage.send_if_modified(|current| {
            let later = stage > *current;
            *current = stage.max(*current);
            later
        });
    }

    pub(crate) fn has_reached(&self, stage: Stage) -> bool {
        *self.stage.borrow() >= stage
    }

    pub(crate) async fn reached(&self, stage: Stage) {
        // The sender is alive: it is `self`.
        let _ = self
            .stage
            .subscribe()
            .wait_for(|current| *current >= stage)
            .await;
    }
}
