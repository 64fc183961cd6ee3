//! What only the binary logs, or asks of the log.

use std::fmt::Display;
use std::sync::atomic::Ordering;

use super::{DETERMINISTIC, Escaped, FAULTS, LogThrottle};

/// From now on the same events are logged in the same lines, all of them: without addresses and
/// times, and at any rate.
pub(crate) fn make_deterministic() {
    DETERMINISTIC.store(true, Ordering::Relaxed);
}

/// A client entered or left a namespace of Socket.IO.
pub(crate) fn socketio(what: impl Display, sid: impl Display) {
    if FAULTS.admits() {
        tracing::info!(%sid, "socket.io: {what}");
    }
}

/// A server that stands in for one which logs its requests and messages logs them, too.
pub(crate) fn compat_line(what: impl Display, said: &str) {
    if ECHOES.admits() {
        tracing::info!(target: COMPAT_TARGET, "{what}{}", Escaped(said));
    }
}

/// The target of lines that are another server's: its users know them as they are.
pub(crate) const COMPAT_TARGET: &str = "compat";

/// Requests and messages of a service in whose stead this one logs them.
static ECHOES: LogThrottle = LogThrottle::new(1_000, "requests and messages were left out");
