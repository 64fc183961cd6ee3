//! Medians over rounds, and percentiles of latency.

use frameloop::lab::load::Latencies;
use serde_json::{Value, json};

/// Percentiles in microseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Latency {
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) p999: f64,
}

impl Latency {
    pub(crate) fn of(latencies: &Latencies) -> Self {
        let at = |quantile| latencies.at(quantile) as f64 / 1e3;
        Self {
            p50: at(0.5),
            p99: at(0.99),
            p999: at(0.999),
        }
    }

    /// The median of each percentile.
    pub(crate) fn median(rounds: impl Iterator<Item = Self> + Clone) -> Self {
        Self {
            p50: median(rounds.clone().map(|round| round.p50)),
            p99: median(rounds.clone().map(|round| round.p99)),
            p999: median(rounds.map(|round| round.p999)),
        }
    }

    pub(crate) fn json(self) -> Value {
        json!({ "p50": figure(self.p50), "p99": figure(self.p99), "p99.9": figure(self.p999) })
    }
}

pub(crate) fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        odd if odd % 2 == 1 => values[odd / 2],
        even => f64::midpoint(values[even / 2 - 1], values[even / 2]),
    }
}

/// Rounds a figure to four significant digits, more than its precision.
pub(crate) fn figure(value: f64) -> Value {
    format!("{value:.3e}").parse::<f64>().ok().into()
}
