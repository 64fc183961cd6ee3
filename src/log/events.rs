//! Log events, through `tracing`. Text from peers is escaped and cut, and lines about peers' faults
//! are limited to a rate.

#[cfg(feature = "cli")]
mod binary;

use std::fmt::{self, Display};
use std::io;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

#[cfg(feature = "cli")]
pub(crate) use binary::*;

use crate::engine::{Disconnect, PeerAddress, Traffic};
use crate::handshake::HandshakeError;
use crate::lock::lock;

static DETERMINISTIC: AtomicBool = AtomicBool::new(false);

/// Returns a value that differs between runs. `None` if the log is deterministic.
fn varying<T>(value: T) -> Option<T> {
    (!DETERMINISTIC.load(Ordering::Relaxed)).then_some(value)
}

/// Logs that a connection ended because of a fault of its peer.
pub(crate) fn failed(why: &Disconnect, peer: &impl Display) {
    if FAULTS.admits() {
        let peer = varying(tracing::field::display(peer));
        tracing::info!(code_sent = why.code_sent(), peer, "websocket failed: {why}");
    }
}

/// Writes the access log's line about an ended connection, up to a rate.
pub(crate) fn disconnected(
    connection: fmt::Arguments<'_>,
    endpoint: &str,
    (peer, duration): (PeerAddress, Duration),
    [received, sent]: [Traffic; 2],
    why: &Disconnect,
) {
    macro_rules! line {
        ($level:ident) => {
            tracing::$level!(
                %connection,
                peer = varying(tracing::field::display(&peer)),
                endpoint,
                seconds = varying(duration.as_secs_f64()),
                received = received.messages,
                received_bytes = received.bytes,
                sent = sent.messages,
                sent_bytes = sent.bytes,
                code_sent = why.code_sent(),
                code_received = why.code_received(),
                "{why}"
            )
        };
    }
    // A reset before any message looks like a network scan.
    let is_broken = matches!(why, Disconnect::Broken(_));
    match is_broken && received.messages == 0 && sent.messages == 0 {
        true => line!(debug),
        false if ACCESS.admits() => line!(info),
        false => {}
    }
}

/// Logs that a load balancer sent no valid PROXY header.
pub(crate) fn not_proxied(error: &io::Error) {
    if FAULTS.admits() {
        tracing::info!("proxy refused: {error}");
    }
}

/// Logs a failed TLS handshake; `said` describes the client's first bytes. A `silent` client, such
/// as a probe of a load balancer, is logged at `debug`.
pub(crate) fn not_secured(
    why: &impl Display,
    said: &impl Display,
    silent: bool,
    peer: &impl Display,
) {
    if silent {
        tracing::debug!("TLS handshake failed: {why}; {said}");
    } else if FAULTS.admits() {
        let peer = varying(tracing::field::display(peer));
        tracing::info!(peer, "TLS handshake failed: {why}; {said}");
    }
}

/// Logs a refused request.
pub(crate) fn refused(error: HandshakeError, head: &http::request::Parts, peer: PeerAddress) {
    if FAULTS.admits() {
        let status = error.status().as_u16();
        let path = Escaped(head.uri.path());
        let peer = varying(tracing::field::display(peer));
        tracing::info!(status, peer, %path, "request refused: {error}");
    }
}

/// Logs the first query parameter that `/echo` does not know. Such parameters are ignored, as other
/// echo servers do.
#[cfg(feature = "cli")]
pub(crate) fn unknown_parameter(name: &str) {
    tracing::debug!("/echo has no parameter {}: ignored", Escaped(name));
}

/// Logs an invalid request, or a client that closed the connection before its request was complete.
pub(crate) fn bad_request(error: &hyper::Error) {
    tracing::debug!("bad request: {error}");
}

/// Logs a connection that broke before it was accepted.
pub(crate) fn not_accepted(error: &io::Error) {
    tracing::debug!("not accepted: {error}");
}

/// Logs that a resource for accepting connections is exhausted.
pub(crate) fn exhausted(error: &io::Error, turned_away: u64) {
    tracing::warn!(
        turned_away,
        "cannot accept: {error}; raise the limit (ulimit -n) or lower --max-connections"
    );
}

/// Logs that Redis is disconnected, is connected again, or did not get a command.
#[cfg(feature = "redis")]
pub(crate) fn redis(what: impl Display) {
    if FAULTS.admits() {
        // Errors of the library may have several lines.
        tracing::warn!("{}", what.to_string().replace('\n', " "));
    }
}

/// Text from a client, escaped and cut to the length of a log line. The values of tokens are
/// hidden.
struct Escaped<'a>(&'a str);

impl Display for Escaped<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        const MAX_BYTES: usize = 256;
        const TOKEN: &str = "token=";
        let end = self.0.floor_char_boundary(MAX_BYTES);
        let (mut shown, cut) = self.0.split_at(end);
        // Hides the value of each token in a query, wherever the query is in the text.
        while let Some(begin) = shown.find(TOKEN) {
            let (before, rest) = shown.split_at(begin + TOKEN.len());
            write!(formatter, "{}***", before.escape_debug())?;
            let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && !"-._~%".contains(c));
            shown = rest.split_at(end.unwrap_or(rest.len())).1;
        }
        write!(formatter, "{}", shown.escape_debug())?;
        if cut.is_empty() {
            Ok(())
        } else {
            formatter.write_str("...")
        }
    }
}

/// Logs a connection that the frame loop could not adopt.
pub(crate) fn not_adopted(error: &io::Error) {
    tracing::warn!("a connection was dropped: {error}");
}

/// Limits the lines about peers' faults.
static FAULTS: LogThrottle = LogThrottle::new(100, "lines about peers' faults were left out");

/// Limits the access log: one line costs more time than a busy server has left after an opening
/// handshake.
static ACCESS: LogThrottle =
    LogThrottle::new(1_000, "connections ended without a line of their own");

/// Allows at most `lines_per_second` lines; lines left out are counted.
struct LogThrottle {
    lines_per_second: u32,
    /// The message about lines that are left out.
    left_out: &'static str,
    second: Mutex<Second>,
}

struct Second {
    began: Option<Instant>,
    lines: u32,
    left_out: u32,
}

impl LogThrottle {
    const fn new(lines_per_second: u32, left_out: &'static str) -> LogThrottle {
        LogThrottle {
            lines_per_second,
            left_out,
            second: Mutex::new(Second::beginning(None)),
        }
    }

    /// Whether one more line may be written.
    fn admits(&self) -> bool {
        if !tracing::enabled!(tracing::Level::INFO) {
            return false;
        }
        if DETERMINISTIC.load(Ordering::Relaxed) {
            return true;
        }
        let now = Instant::now();
        let mut second = lock(&self.second);
        let began = second.began;
        let mut before = 0;
        if began.is_none_or(|began| now.duration_since(began) >= Duration::from_secs(1)) {
            before = second.left_out;
            *second = Second::beginning(Some(now));
        }
        let admits = second.lines < self.lines_per_second;
        match admits {
            true => second.lines += 1,
            false => second.left_out += 1,
        }
        drop(second);
        if before > 0 {
            tracing::warn!(left_out = before, "{}", self.left_out);
        }
        admits
    }
}

impl Second {
    const fn beginning(began: Option<Instant>) -> Second {
        Second {
            began,
            lines: 0,
            left_out: 0,
        }
    }
}
