//! The duration of soak tests.

use std::time::Duration;

/// The duration of a test in `tests/run --soak MINUTES`; `None` in a normal run, where the short
/// form of a test takes about 2 s.
pub(crate) fn duration() -> Option<Duration> {
    let minutes = std::env::var("SOAK_MINUTES").ok()?;
    let minutes: f64 = minutes.parse().expect("SOAK_MINUTES is a number");
    Some(Duration::from_secs_f64(minutes * 60.0))
}
