//! What a worker's connections are counted for: the server's bounds, its metrics and its log.

use std::sync::Arc;

use super::Shared;
use crate::engine::{ConnectionRecord, EndpointIndex, Observer, Tally};
use crate::log;

pub(super) struct WorkerObserver {
    pub(super) worker: usize,
    pub(super) shared: Arc<Shared>,
}

impl Observer for WorkerObserver {
    fn opened(&self, endpoint: EndpointIndex) {
        self.shared.count(self.worker, 1);
        #[cfg(feature = "metrics")]
        if let Some(metrics) = &self.shared.metrics {
            metrics.opened(self.shared.router.pattern(endpoint));
        }
        let _ = endpoint;
    }

    fn closed(&self, record: &ConnectionRecord<'_>) {
        self.shared.count(self.worker, -1);
        let endpoint = self.shared.router.pattern(record.endpoint);
        #[cfg(feature = "metrics")]
        if let Some(metrics) = &self.shared.metrics {
            metrics.closed(endpoint, record);
        }
        log::disconnected(self.worker, endpoint, record);
    }

    fn tallied(&self, tally: &Tally) {
        #[cfg(feature = "metrics")]
        if let Some(metrics) = &self.shared.metrics {
            metrics.tallied(self.worker, tally);
        }
        let _ = tally;
    }
}
