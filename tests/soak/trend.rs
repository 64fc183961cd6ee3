//! Whether the resources of a server grow.

use std::thread;
use std::time::{Duration, Instant};

use crate::process::{Resources, ServerProcess};
use crate::report::{Kind, figure, skip};
use crate::soak;

/// How long a soak takes.
pub(crate) fn duration() -> Duration {
    soak::duration().unwrap_or(Duration::from_secs(2))
}

/// KiB. For a server of a few MiB, the hourly bound is only a page or two in a quarter of an hour,
/// and allocator arenas grow by some pages at random.
const PAGES: f64 = 64.0;

/// A server's resources over time.
#[derive(Debug, Default)]
pub(crate) struct Trend {
    samples: Vec<(Duration, Resources)>,
}

/// The verdict of the samples, with the measured slopes.
#[derive(Debug)]
enum Verdict {
    Level(String),
    Grows(String),
    /// The samples do not suffice for a verdict.
    TooShort(String),
}

/// A straight line through samples, by least squares.
#[derive(Clone, Copy, Debug)]
struct Line {
    mean: f64,
    /// Per second.
    slope: f64,
    /// Standard error of the slope.
    error: f64,
}

impl Trend {
    /// Takes samples until the duration is over, and calls `act` before each.
    pub(crate) fn watch(server: &ServerProcess, mut act: impl FnMut()) -> Trend {
        let duration = duration();
        let interval = (duration / 240).clamp(Duration::from_millis(100), Duration::from_secs(10));
        let began = Instant::now();
        let mut trend = Trend::default();
        while began.elapsed() < duration {
            act();
            trend.samples.push((began.elapsed(), server.resources()));
            thread::sleep(interval);
        }
        trend
    }

    /// Reports the slopes, and fails if one exceeds its bound.
    ///
    /// The first quarter is left out: buffers, pools and allocator arenas fill up once, and that
    /// does not count as growth. The rest must last at least a minute; otherwise the check is
    /// skipped. A slope counts as growth if it exceeds its bound by more than twice its standard
    /// error, and for memory only if the line rises by more than [`PAGES`]. `tests/memory.rs`,
    /// which counts bytes, finds smaller growth.
    #[track_caller]
    pub(crate) fn is_level(&self, row: u32, what: &str) {
        let what = format!("{what}: slopes");
        let bound = "< 1 %/h or 64 KiB in all, 0, 0 (fit without the first quarter)";
        match self.verdict() {
            Verdict::Level(measured) => figure(Kind::Soak, row, what, bound, measured),
            Verdict::Grows(measured) => panic!("{what}: {measured}"),
            Verdict::TooShort(measured) => skip(Kind::Soak, row, what, measured),
        }
    }

    /// Whether the slopes are within their bounds.
    fn verdict(&self) -> Verdict {
        let settled = &self.samples[self.samples.len() / 4..];
        let line = |of: fn(&Resources) -> u64| Line::through(settled, of);
        let resident = line(|resources| resources.resident);
        let descriptors = line(|resources| resources.descriptors);
        let threads = line(|resources| resources.threads);
        let hourly = |line: Line| (line.slope * 3_600.0, line.error * 3_600.0);
        let (slope, error) = hourly(resident);
        let percent = 100.0 / resident.mean.max(1.0);
        let span = settled[settled.len() - 1].0 - settled[0].0;
        let measured = format!(
            "{:.0} min: {:+.2} ± {:.2} %/h of {:.0} KiB resident; {:+.2} descriptors/h of {:.0}; \
             {:+.2} threads/h of {:.0}",
            self.samples[self.samples.len() - 1].0.as_secs_f64() / 60.0,
            slope * percent,
            error * percent,
            resident.mean,
            hourly(descriptors).0,
            descriptors.mean,
            hourly(threads).0,
            threads.mean,
        );
        let is_within = |line: Line, bound: f64| {
            let (slope, error) = hourly(line);
            slope - 2.0 * error <= bound
        };
        let quarters: Vec<_> = self
            .samples
            .chunks(self.samples.len().div_ceil(4))
            .map(|quarter| quarter[quarter.len() / 2].1.resident.to_string())
            .collect();
        let measured = format!(
            "{measured}; resident in mid-quarter: {} KiB",
            quarters.join(", ")
        );
        if span < Duration::from_secs(60) {
            let last = self.samples[self.samples.len() - 1].1;
            let measured = format!("too short for a slope (use tests/run --soak); {last}");
            return Verdict::TooShort(measured);
        }
        let is_level = is_within(
            resident,
            (1.0 / percent).max(PAGES / span.as_secs_f64() * 3_600.0),
        ) && is_within(descriptors, 0.0)
            && is_within(threads, 0.0);
        match is_level {
            true => Verdict::Level(measured),
            false => Verdict::Grows(measured),
        }
    }
}

impl Line {
    fn through(samples: &[(Duration, Resources)], of: fn(&Resources) -> u64) -> Line {
        let count = samples.len() as f64;
        let points = || {
            samples
                .iter()
                .map(|(time, resources)| (time.as_secs_f64(), of(resources) as f64))
        };
        let middle = points().map(|(time, _)| time).sum::<f64>() / count;
        let mean = points().map(|(_, value)| value).sum::<f64>() / count;
        let spread: f64 = points().map(|(time, _)| (time - middle).powi(2)).sum();
        let product: f64 = points()
            .map(|(time, value)| (time - middle) * (value - mean))
            .sum();
        let slope = product / spread;
        let residues: Vec<f64> = points()
            .map(|(time, value)| value - mean - slope * (time - middle))
            .collect();
        let squares: f64 = residues.iter().map(|residue| residue * residue).sum();
        // Consecutive samples are correlated, so they count as fewer independent ones (first-order
        // autoregression).
        let neighbours: f64 = residues.windows(2).map(|pair| pair[0] * pair[1]).sum();
        let correlation = (neighbours / squares.max(f64::MIN_POSITIVE)).clamp(0.0, 0.99);
        let error = (squares / (count - 2.0) / spread).sqrt()
            * ((1.0 + correlation) / (1.0 - correlation)).sqrt();
        Line { mean, slope, error }
    }
}

#[test]
fn a_leak_is_detected_and_start_up_or_a_short_run_is_not_one() {
    let samples = |seconds: u64, resident: fn(u64) -> u64| Trend {
        samples: (0..seconds)
            .map(|second| {
                let resources = Resources {
                    resident: resident(second),
                    anonymous: resident(second),
                    descriptors: 7,
                    threads: 3,
                };
                (Duration::from_secs(second), resources)
            })
            .collect(),
    };
    let start_up = samples(240, |second| 10_000 + second.min(40) * 100 + second % 3 * 4).verdict();
    assert!(matches!(start_up, Verdict::Level(_)), "{start_up:?}");
    let leak = |second| 10_000 + second / 5 * 4;
    let verdict = samples(240, leak).verdict();
    assert!(matches!(verdict, Verdict::Grows(_)), "{verdict:?}");
    let mut opened = samples(240, |_| 10_000);
    for (time, resources) in &mut opened.samples {
        resources.descriptors += time.as_secs() / 50;
    }
    let opened = opened.verdict();
    assert!(matches!(opened, Verdict::Grows(_)), "{opened:?}");
    // A minute of samples, of which a quarter is left out: neither a pass nor a failure.
    let short = samples(60, leak).verdict();
    assert!(matches!(short, Verdict::TooShort(_)), "{short:?}");
}
