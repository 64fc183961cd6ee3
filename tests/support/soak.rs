//! How long the tests may take that are worth a long time.

use std::time::Duration;

/// How long `tests/run --soak MINUTES` lets a test run; `None` in a normal run, which a short form
/// of the test must do for, 2 s or so.
pub(crate) fn duration() -> Option<Duration> {
    let minutes = std::env::var("SOAK_MINUTES").ok()?;
    let minutes: f64 = minutes.parse().expect("SOAK_MINUTES is a number");
    Some(Duration::from_secs_f64(minutes * 60.0))
}
