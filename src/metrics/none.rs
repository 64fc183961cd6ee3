//! Metrics that count nothing.

use crate::engine::{ConnectionRecord, WorkerStats};

/// Metrics that count nothing, because the feature `metrics` is off.
#[derive(Clone, Debug, Default)]
pub struct Metrics;

impl Metrics {
    /// Creates metrics that count nothing.
    pub fn new() -> Metrics {
        Metrics
    }

    /// Counts nothing.
    pub fn gap(&self) {}

    /// Counts nothing.
    pub fn discarded(&self) {}

    pub(crate) fn handshake(&self, _: u16) {}

    pub(crate) fn opened(&self, _: &str) {}

    pub(crate) fn closed(&self, _: &str, _: &ConnectionRecord<'_>) {}

    pub(crate) fn count(&self, _: usize, _: &WorkerStats) {}
}
