//! The HdrHistogram log format, version 2. HdrHistogram's tools read it.

use std::io;

use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::{IntervalLogWriterBuilder, Tag};

use super::Report;

/// Writes the latencies of runs in nanoseconds, each histogram as one interval with a tag.
///
/// # Errors
/// Writing to `to` fails.
pub fn write(to: &mut impl io::Write, runs: &[Report<'_>]) -> io::Result<()> {
    let mut serializer = V2DeflateSerializer::new();
    let mut builder = IntervalLogWriterBuilder::new();
    builder.add_comment("[Histogram log format version 1.3]");
    builder.add_comment("[frameloop load; values are nanoseconds]");
    for (place, run) in runs.iter().enumerate() {
        builder.add_comment(&format!(
            "[run {place}: {} {}]",
            run.plan.target.url,
            run.title()
        ));
    }
    // The tools expect milliseconds: 1,000,000 ns.
    builder.with_max_value_divisor(1e6);
    let mut log = builder.begin_log_with(to, &mut serializer)?;
    let mut start = std::time::Duration::ZERO;
    for (place, run) in runs.iter().enumerate() {
        let time = run.outcome.measured.time;
        let all = [run.named_latencies(), run.named_openings()].concat();
        for (name, latencies) in all {
            let name = name.to_lowercase().replace(' ', "-");
            let name = match runs.len() {
                1 => name,
                _ => format!("{name}-{place}"),
            };
            log.write_histogram(latencies.inner(), start, time, Tag::new(&name))
                .map_err(|error| io::Error::other(error.to_string()))?;
        }
        start += time;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use hdrhistogram::Histogram;
    use hdrhistogram::serialization::Deserializer;
    use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};

    use super::*;
    use crate::lab::load::{Machine, Plan, Target};

    #[test]
    fn what_is_written_reads_back() {
        use base64::Engine;
        let plan = Plan::new(Target::parse("unix:/x").unwrap());
        let mut outcome = crate::lab::load::LoadOutcome::default();
        outcome.service.record(1_000_000, 3);
        outcome.service.record(7_000_000, 1);
        let machine = Machine::here();
        let mut log = Vec::new();
        write(&mut log, &[Report::new(&plan, &outcome, &machine)]).unwrap();
        let mut intervals =
            IntervalLogIterator::new(&log).filter_map(|entry| match entry.unwrap() {
                LogEntry::Interval(interval) => Some(interval),
                _ => None,
            });
        let interval = intervals.next().unwrap();
        assert_eq!(interval.tag().unwrap().as_str(), "service");
        assert!((interval.max() - 7.0).abs() < 0.01);
        let bytes = base64::prelude::BASE64_STANDARD
            .decode(interval.encoded_histogram())
            .unwrap();
        let read: Histogram<u64> = Deserializer::new().deserialize(&mut &bytes[..]).unwrap();
        assert_eq!(&read, outcome.service.inner());
        assert!(intervals.next().is_none());
    }
}
