//! A histogram of latencies from 1 ns to 1 h, with three significant digits.

use hdrhistogram::Histogram;

/// A histogram of times in nanoseconds.
#[derive(Clone, Debug)]
pub struct Latencies(Histogram<u64>);

/// The reported percentiles: name and quantile.
pub const PERCENTILES: [(&str, f64); 5] = [
    ("p50", 0.5),
    ("p90", 0.9),
    ("p99", 0.99),
    ("p99.9", 0.999),
    ("p99.99", 0.9999),
];

const HOUR: u64 = 3_600_000_000_000;

impl Default for Latencies {
    fn default() -> Latencies {
        // The bounds are valid; otherwise the first test of this file would fail.
        let of_any_size = || Histogram::new(3).unwrap_or_else(|_| unreachable!());
        Latencies(Histogram::new_with_bounds(1, HOUR, 3).unwrap_or_else(|_| of_any_size()))
    }
}

impl Latencies {
    /// Records `count` equal latencies. A latency above one hour counts as one hour.
    #[inline]
    pub fn record(&mut self, nanoseconds: u64, count: u64) {
        self.0.saturating_record_n(nanoseconds, count);
    }

    /// Adds the latencies of `other`.
    pub fn add(&mut self, other: &Latencies) {
        // Both have the same bounds.
        let _ = self.0.add(&other.0);
    }

    /// The number of recorded latencies.
    pub fn count(&self) -> u64 {
        self.0.len()
    }

    /// The latency at a quantile, in nanoseconds. For p99, `quantile` is 0.99.
    pub fn at(&self, quantile: f64) -> u64 {
        self.0.value_at_quantile(quantile)
    }

    /// The number of latencies greater than or equal to the latency at `quantile`.
    pub fn behind(&self, quantile: f64) -> u64 {
        match self.count() {
            0 => 0,
            _ => self.0.count_between(self.at(quantile), HOUR),
        }
    }

    /// The longest latency in nanoseconds.
    pub fn max(&self) -> u64 {
        self.0.max()
    }

    /// The mean latency in nanoseconds.
    pub fn mean(&self) -> f64 {
        self.0.mean()
    }

    pub(super) fn inner(&self) -> &Histogram<u64> {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn it_goes_to_an_hour_and_no_further() {
        let mut latencies = Latencies::default();
        assert_eq!((latencies.max(), latencies.behind(0.5)), (0, 0));
        latencies.record(u64::MAX, 1);
        assert!(latencies.max() >= HOUR && latencies.max() < HOUR + HOUR / 500);
    }

    proptest! {
        /// Percentiles equal those of the sorted values to three digits, also after merging two
        /// histograms.
        #[test]
        fn percentiles_are_the_sorted_values(
            mut values in proptest::collection::vec(1..10_000_000_000_u64, 1..300),
            split: prop::sample::Index,
        ) {
            let (mut one, mut other) = (Latencies::default(), Latencies::default());
            let at = split.index(values.len());
            values[..at].iter().for_each(|value| one.record(*value, 1));
            values[at..].iter().for_each(|value| other.record(*value, 1));
            one.add(&other);
            prop_assert_eq!(one.count(), values.len() as u64);
            values.sort_unstable();
            for (_, quantile) in PERCENTILES {
                let place = ((values.len() as f64 * quantile).ceil() as usize).max(1) - 1;
                let (right, got) = (values[place], one.at(quantile));
                prop_assert!(got.abs_diff(right) <= right / 500 + 1, "{quantile}: {got}, not {right}");
                let behind = values.iter().filter(|value| **value >= right).count() as u64;
                // The count includes all values in the bucket of the percentile.
                prop_assert!(one.behind(quantile) >= behind.min(1));
            }
        }
    }
}
