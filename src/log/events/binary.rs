//! Log functions that only the binary uses.

use std::fmt::Display;
use std::sync::atomic::Ordering;

use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};

use super::{DETERMINISTIC, Escaped, FAULTS, LogThrottle};

/// Makes the log deterministic: lines have no addresses and times, and no rate limit applies.
pub(crate) fn make_deterministic() {
    DETERMINISTIC.store(true, Ordering::Relaxed);
}

/// The time as log lines have it: RFC 3339, to the microsecond.
pub(crate) fn timestamp() -> String {
    let mut text = String::new();
    // Writing to a String does not fail.
    let _ = SystemTime.format_time(&mut Writer::new(&mut text));
    text
}

/// Logs that a client entered or left a namespace of Socket.IO.
pub(crate) fn socketio(what: impl Display, sid: impl Display) {
    if FAULTS.admits() {
        tracing::info!(%sid, "socket.io: {what}");
    }
}

/// Logs a request or a message as a compatible service logs it.
pub(crate) fn compat_line(what: impl Display, said: &str) {
    if ECHOES.admits() {
        tracing::info!(target: COMPAT_TARGET, "{what}{}", Escaped(said));
    }
}

/// The target of lines in the format of a compatible service, which its users expect unchanged.
pub(crate) const COMPAT_TARGET: &str = "compat";

/// Limits the lines about requests and messages of a compatible service.
static ECHOES: LogThrottle = LogThrottle::new(1_000, "requests and messages were left out");
