//! Everything that the library logs, in one place, so that no peer can forge a line or flood the
//! log. Without the feature `tracing` nothing is logged.

#[cfg(feature = "tracing")]
mod events;
#[cfg(not(feature = "tracing"))]
mod none;

#[cfg(feature = "tracing")]
pub(crate) use events::*;
#[cfg(not(feature = "tracing"))]
pub(crate) use none::*;
