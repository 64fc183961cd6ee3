//! Figures for `tests/RELIABILITY.md`: each test prints its figures as lines, and `tests/run
//! --report` collects them.

#![allow(dead_code, reason = "not every test binary has rows of every table")]

use std::fmt::{self, Display};
use std::time::Duration;

/// The table that a row number belongs to.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    Attack,
    Fault,
    Soak,
}

impl Display for Kind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Kind::Attack => "attack",
            Kind::Fault => "fault",
            Kind::Soak => "soak",
        })
    }
}

/// Reports a measurement: `what` was done, the `bound`, and what was `measured`, with units. A
/// longer run replaces the figure of a shorter one with the same `what`.
pub(crate) fn figure(
    kind: Kind,
    row: u32,
    what: impl Display,
    bound: impl Display,
    measured: impl Display,
) {
    println!("{}", line(kind, row, &what, &bound, &measured));
}

/// Reports that a row was not tested, and what was missing.
pub(crate) fn skip(kind: Kind, row: u32, what: impl Display, why: impl Display) {
    println!(
        "{}",
        line(kind, row, &what, &"-", &format_args!("skipped: {why}"))
    );
}

/// Tells how long the echoes of an innocent client took beside the attack of a row, and those of an
/// idle TCP echo meanwhile: the median and the 99th percentile.
pub(crate) fn innocent(row: u32, what: &str, echo: [Duration; 2], idle: [Duration; 2]) {
    let [[p50, p99], [idle_p50, idle_p99]] = [echo, idle];
    println!(
        "reliability: innocent {row} | {what} | {p50:.1?}, {p99:.1?} | {idle_p50:.1?}, {idle_p99:.1?}"
    );
}

/// Tells why no innocent client is beside the attack of a row.
pub(crate) fn no_innocent(row: u32, why: &str) {
    println!("reliability: innocent {row} | -: {why}");
}

pub(crate) fn line(
    kind: Kind,
    row: u32,
    what: &dyn Display,
    bound: &dyn Display,
    measured: &dyn Display,
) -> String {
    let cell = |text: &dyn Display| text.to_string().replace(['|', '\n'], "/");
    format!(
        "reliability: {kind} {row} | {} | {} | {}",
        cell(what),
        cell(bound),
        cell(measured)
    )
}
