//! Shared code of the benches: the servers under test, plans of `frameloop load`, and the report.
//!
//! A run puts one server process on the server's core and the generator, one thread, on
//! another core. Servers take turns within one run (A B C A B C), and each is started anew,
//! so that a noisy minute affects all of them. Ratios are computed within a round.
#![allow(dead_code, reason = "each bench uses its part")]

pub(crate) mod bare_loop;
pub(crate) mod contestants;
pub(crate) mod cores;
pub(crate) mod lab;
pub(crate) mod machine;
pub(crate) mod measurement;
pub(crate) mod options;
pub(crate) mod process;
pub(crate) mod report;
pub(crate) mod socketio_load;
pub(crate) mod starting;
pub(crate) mod statistics;
pub(crate) mod turns;
pub(crate) mod wire;
