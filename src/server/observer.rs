//! What a worker's connections are counted for: the server's bounds, its metrics and its log.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::Shared;
use crate::engine::{ConnectionRecord, EndpointIndex, Observer, Tally};
use crate::http::Account;
use crate::log;
use crate::protocol::AssemblyBudget;

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

/// Where connections are counted that are tasks: as those of a worker more than there are. They
/// have their places among the server's bounds already.
pub(super) struct TaskAccount {
    pub(super) shared: Arc<Shared>,
}

impl TaskAccount {
    fn worker(&self) -> usize {
        self.shared.loads.len()
    }
}

impl Account for TaskAccount {
    fn budget(&self) -> AssemblyBudget {
        self.shared.bounds.unfinished.clone()
    }

    fn opened(&self, endpoint: EndpointIndex) -> u64 {
        #[cfg(feature = "metrics")]
        if let Some(metrics) = &self.shared.metrics {
            metrics.opened(self.shared.router.pattern(endpoint));
        }
        let _ = endpoint;
        self.shared.tasks.fetch_add(1, Ordering::Relaxed) + 1
    }

    fn tallied(&self, tally: &Tally) {
        #[cfg(feature = "metrics")]
        if let Some(metrics) = &self.shared.metrics {
            let backlog_octets = self.shared.tasks_backlog.load(Ordering::Relaxed);
            metrics.tallied(
                self.worker(),
                &Tally {
                    backlog_octets,
                    unsent_octets: self.shared.bounds.unsent.octets(),
                    ..*tally
                },
            );
        }
        let _ = tally;
    }

    fn backlogged(&self, before: usize, now: usize) {
        let backlog = &self.shared.tasks_backlog;
        backlog.fetch_add(now, Ordering::Relaxed);
        backlog.fetch_sub(before, Ordering::Relaxed);
        self.tallied(&Tally::default());
    }

    fn closed(&self, record: &ConnectionRecord<'_>) {
        let endpoint = self.shared.router.pattern(record.endpoint);
        #[cfg(feature = "metrics")]
        if let Some(metrics) = &self.shared.metrics {
            metrics.closed(endpoint, record);
        }
        log::disconnected(self.worker(), endpoint, record);
    }
}
