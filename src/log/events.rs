//! Events of `tracing`. What a peer said is escaped and cut, and peers' faults are limited to a rate.

#[cfg(feature = "cli")]
mod binary;

use std::fmt::Display;
use std::io;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

#[cfg(feature = "cli")]
pub(crate) use binary::*;

use crate::engine::{ConnectionRecord, Disconnect};
use crate::handshake::HandshakeError;
use crate::lock::lock;

static DETERMINISTIC: AtomicBool = AtomicBool::new(false);

/// What differs from one run to the next, where that may be logged.
fn varying<T>(value: T) -> Option<T> {
    (!DETERMINISTIC.load(Ordering::Relaxed)).then_some(value)
}

/// A connection ended because of what its peer did or did not do.
pub(crate) fn failed(why: &Disconnect, peer: &impl Display) {
    if FAULTS.admits() {
        let peer = varying(tracing::field::display(peer));
        tracing::info!(code_sent = why.code_sent(), peer, "websocket failed: {why}");
    }
}

/// A connection is over: the access log, a line each, up to a rate.
pub(crate) fn disconnected(worker: usize, endpoint: &str, record: &ConnectionRecord<'_>) {
    macro_rules! line {
        ($level:ident) => {
            tracing::$level!(
                connection = %format_args!("{worker}-{}", record.number),
                peer = varying(tracing::field::display(&record.peer)),
                endpoint,
                seconds = varying(record.duration.as_secs_f64()),
                received = record.received.messages,
                received_bytes = record.received.bytes,
                sent = record.sent.messages,
                sent_bytes = record.sent.bytes,
                code_sent = record.why.code_sent(),
                code_received = record.why.code_received(),
                "{}",
                record.why
            )
        };
    }
    match is_scan(record) {
        true => line!(debug),
        false if ACCESS.admits() => line!(info),
        false => {}
    }
}

/// A network scanner resets its connections before a message passes: that is not worth a line.
fn is_scan(record: &ConnectionRecord<'_>) -> bool {
    let is_broken = matches!(record.why, Disconnect::Broken(_));
    is_broken && record.received.messages == 0 && record.sent.messages == 0
}

/// A load balancer sent no valid header of the PROXY protocol.
pub(crate) fn not_proxied(error: &io::Error) {
    if FAULTS.admits() {
        tracing::info!("proxy refused: {error}");
    }
}

/// A TLS handshake failed; `said` describes the client's first bytes. A `silent` client, such as a
/// probe of a load balancer, is logged at `debug`.
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

/// A request was refused.
pub(crate) fn refused(error: HandshakeError, head: &http::request::Parts) {
    if FAULTS.admits() {
        let status = error.status().as_u16();
        let path = Escaped(head.uri.path());
        tracing::info!(status, %path, "request refused: {error}");
    }
}

/// A client sent an invalid request, or left.
pub(crate) fn bad_request(error: &hyper::Error) {
    tracing::debug!("bad request: {error}");
}

/// A connection broke before it was accepted.
pub(crate) fn not_accepted(error: &io::Error) {
    tracing::debug!("not accepted: {error}");
}

/// Something that accepting needs is exhausted.
pub(crate) fn exhausted(error: &io::Error, turned_away: u64) {
    tracing::warn!(
        turned_away,
        "cannot accept: {error}; raise the limit (ulimit -n) or lower --max-connections"
    );
}

/// Redis has gone, or come back, or cannot be told something.
#[cfg(feature = "redis")]
pub(crate) fn redis(what: impl Display) {
    if FAULTS.admits() {
        // Errors of the library may have several lines.
        tracing::warn!("{}", what.to_string().replace('\n', " "));
    }
}

/// What a client said, escaped, and cut to a length that a line can hold.
struct Escaped<'a>(&'a str);

impl Display for Escaped<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        const MAX_BYTES: usize = 256;
        const TOKEN: &str = "token=";
        let end = self.0.floor_char_boundary(MAX_BYTES);
        let (mut shown, cut) = self.0.split_at(end);
        // What a query shows as the token, wherever a query stands.
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

/// A socket could not be given to the poller.
pub(crate) fn not_adopted(error: &io::Error) {
    tracing::warn!("a connection was dropped: {error}");
}

/// Lines about peers' faults.
static FAULTS: LogThrottle = LogThrottle::new(100, "lines about peers' faults were left out");

/// The access log: one line costs more than an opening handshake leaves over.
static ACCESS: LogThrottle =
    LogThrottle::new(1_000, "connections ended without a line of their own");

/// At most so many lines a second; those left out are counted.
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
            second: Mutex::new(Second {
                began: None,
                lines: 0,
                left_out: 0,
            }),
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
        if second
            .began
            .is_none_or(|began| now.duration_since(began) >= Duration::from_secs(1))
        {
            let left_out = second.left_out;
            *second = Second {
                began: Some(now),
                lines: 0,
                left_out: 0,
            };
            drop(second);
            if left_out > 0 {
                tracing::warn!(left_out, "{}", self.left_out);
            }
            return self.admits();
        }
        if second.lines < self.lines_per_second {
            second.lines += 1;
            true
        } else {
            second.left_out += 1;
            false
        }
    }
}
