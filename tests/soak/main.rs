//! Soak: ordinary load for a long time, in which nothing may be lost and nothing may grow. In a
//! normal run each takes two seconds or so; `tests/run --soak MINUTES` gives them time.

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
