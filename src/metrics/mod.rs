//! Metrics for Prometheus. Without the feature `metrics` nothing is counted.

#[cfg_attr(not(feature = "metrics"), path = "none.rs")]
mod prometheus;

pub use prometheus::Metrics;
