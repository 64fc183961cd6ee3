//! All log lines of the library, in one place, so that no peer can forge a line or flood the log.
//! Without the feature `tracing` nothing is logged.

#[cfg_attr(not(feature = "tracing"), path = "none.rs")]
mod events;

pub(crate) use events::*;
