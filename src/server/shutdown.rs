//! How a server is told to end.

use std::sync::Arc;

use tokio::sync::watch;

/// Ends a server, from any thread.
#[derive(Clone, Debug)]
pub struct Shutdown {
    stage: Arc<watch::Sender<Stage>>,
}

#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Stage {
    Serving,
    Draining,
    Cut,
}

impl Shutdown {
    pub(super) fn new() -> Shutdown {
        Shutdown {
            stage: Arc::new(watch::Sender::new(Stage::Serving)),
        }
    }

    /// Stops accepting, sends every client a Close 1001, waits for their answers for the drain
    /// timeout at most, then cuts who is left.
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

    fn reach(&self, stage: Stage) {
        self.stage.send_if_modified(|current| {
            let later = stage > *current;
            *current = stage.max(*current);
            later
        });
    }

    pub(super) fn has_reached(&self, stage: Stage) -> bool {
        *self.stage.borrow() >= stage
    }

    pub(super) async fn reached(&self, stage: Stage) {
        // The sender is alive: it is `self`.
        let _ = self
            .stage
            .subscribe()
            .wait_for(|current| *current >= stage)
            .await;
    }
}
