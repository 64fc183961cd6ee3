//! Soak: ordinary load for a long time, in which nothing may be lost and nothing may grow. In a
//! normal run each takes two seconds or so; `tests/run --soak MINUTES` gives them time.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

#[path = "../support/checker.rs"]
mod checker;
#[path = "../support/load.rs"]
mod load;
#[path = "../support/process.rs"]
mod process;
#[path = "../support/report.rs"]
mod report;
#[path = "../support/soak.rs"]
mod soak;
#[path = "../support/socket.rs"]
mod socket;

mod broadcast;
mod churn;
mod echo;
mod idle;
mod trend;
