//! Code that the test binaries share. Each includes all of it with `#[path = "../support/mod.rs"]
//! mod support;` and `use support::*;`.

#![allow(dead_code, reason = "not every test binary needs all of it")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

pub(crate) mod checker;
pub(crate) mod client;
pub(crate) mod load;
pub(crate) mod nginx;
pub(crate) mod process;
pub(crate) mod report;
pub(crate) mod resources;
pub(crate) mod server;
pub(crate) mod soak;
mod through_tls;
pub(crate) mod tls_client;
