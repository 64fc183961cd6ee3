//! Reports a worker's connections to the server's counts, metrics and log.

use std::sync::Arc;

use super::ServerShared;
use crate::engine::{
    ConnectionRecord, Disconnect, EndpointIndex, Observer, PeerAddress, WorkerStats,
};
use crate::log;

pub(super) struct WorkerObserver {
    pub(super) worker: usize,
    pub(super) shared: Arc<ServerShared>,
}

impl Observer for WorkerObserver {
    fn opened(&self, endpoint: EndpointIndex) {
        self.shared.count(self.worker, 1);
        let endpoint = self.shared.http.router.pattern(endpoint);
        self.shared.metrics.opened(endpoint);
    }

    fn failed(&self, why: &Disconnect, peer: PeerAddress) {
        log::failed(why, &peer);
    }

    fn closed(&self, record: &ConnectionRecord<'_>) {
        self.shared.count(self.worker, -1);
        let endpoint = self.shared.http.router.pattern(record.endpoint);
        self.shared.metrics.closed(endpoint, record);
        log::disconnected(
            format_args!("{}-{}", self.worker, record.number),
            endpoint,
            (record.peer, record.duration),
            [record.received, record.sent],
            record.why,
        );
    }

    fn statistics(&self, stats: &WorkerStats) {
        self.shared.metrics.count(self.worker, stats);
    }

    fn answered(&self, status: u16) {
        self.shared.metrics.handshake(status);
    }

    fn mounted(&self, difference: isize) {
        self.shared.count(self.worker, difference);
    }
}
