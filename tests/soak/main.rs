//! Soak tests: ordinary load for a long time. No message may be lost, and no resource may grow. A
//! normal run takes about two seconds per test; `tests/run --soak MINUTES` sets the time.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

#[path = "../support/mod.rs"]
mod support;

use support::*;

mod broadcast;
mod churn;
mod echo;
mod evidence;
mod idle;
mod trend;
