//! What a server tells Prometheus. Without the feature `metrics` nothing is counted.

#[cfg(not(feature = "metrics"))]
mod none;
#[cfg(feature = "metrics")]
mod prometheus;

#[cfg(not(feature = "metrics"))]
pub use none::Metrics;
#[cfg(feature = "metrics")]
pub use prometheus::Metrics;
