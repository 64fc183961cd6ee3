//! Faults of clients, links, the machine and the server's own process, each under an echo and
//! broadcast load whose every message is checked. Row numbers refer to `tests/tables/faults.md`. If
//! a tool or a right is missing, the test prints that it is skipped.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

#[path = "../support/mod.rs"]
mod support;

mod clients;
mod clock;
mod freeze;
mod handlers;
mod links;
mod logs;
mod namespace;
mod proxy;
mod restart;
mod slow_members;
mod system_calls;

use std::fmt::Display;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use load::Load;
use process::ServerProcess;
use report::{Kind, figure};
use support::*;

/// Injects a fault under load. The other clients must lose nothing, and afterwards the server must
/// hold the same resources as before.
#[track_caller]
fn under_load<T: Display>(
    row: u32,
    what: &str,
    server: &mut ServerProcess,
    fault: impl FnOnce(&mut ServerProcess) -> T,
) {
    let load = Load::start(server.address);
    let before = server.settled();
    let note = fault(server);
    server.lives();
    let after = server.returns_to(before);
    let tally = load.finish_clean();
    tell(
        row,
        what,
        format_args!("{note}; others: {tally}; {before} before, {after} after"),
    );
}

/// For tests that open 10,000 connections: two of them at once would exceed the descriptors of a
/// process.
fn alone_with_many_connections() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn tell(row: u32, what: &str, measured: impl Display) {
    let bound = "others lose nothing, resources return";
    figure(Kind::Fault, row, what, bound, measured);
}

/// How long a fault lasts: `long` with `tests/run --soak`, `short` otherwise.
fn lasting(long: Duration, short: Duration) -> Duration {
    if soak::duration().is_some() {
        long
    } else {
        short
    }
}

/// How often a fault happens, likewise.
fn times(long: u32, short: u32) -> u32 {
    if soak::duration().is_some() {
        long
    } else {
        short
    }
}
