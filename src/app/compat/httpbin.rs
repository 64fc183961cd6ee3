//! `/websocket/echo` of go-httpbin: sends echoes in fragments of at most `max_fragment_size` bytes.
//! The variables `HOST`, `PORT`, `MAX_BODY_SIZE` and `MAX_DURATION` have the same effect.
//!
//! Differences:
//! - A handshake that go-httpbin accepts and this server refuses, such as POST or a key of the
//!   wrong length, gets this server's advice.
//! - A frame that is too big gets Close 1002, as in go-httpbin, but as soon as its header arrives
//!   and without the sizes in the reason.
//! - After `MAX_DURATION` the server sends Close 1000.
//! - A code point may be split over two fragments; go-httpbin refuses that.
//! - go-httpbin's other paths and `/sse` do not exist.

use std::num::{IntErrorKind, ParseIntError};
use std::ops::RangeInclusive;
use std::time::Duration;

use http::{HeaderValue, StatusCode, header};
use serde_json::json;
use tokio::task::JoinSet;

use super::{close_later, variable};
use crate::engine::{Handler, WebSocket};
use crate::handshake::HandshakeError;
use crate::http::{Endpoint, Page, Request, Router};
use crate::protocol::{CloseCode, Message, ProtocolError, SizeLimits};

pub(super) fn router() -> Router {
    let max_body_size = max_body_size().unwrap_or(MAX_BODY_SIZE);
    let max_duration = max_duration().unwrap_or(MAX_DURATION);
    let limits = move |request: &Request<'_>| limits(request, max_body_size);
    let endpoint = Endpoint::new(move |request| HttpbinEcho {
        max_fragment_size: limits(request).map_or(1, |limits| limits.max_frame_size),
        max_duration,
        deadline: JoinSet::new(),
    })
    .choosing(move |request| match limits(request) {
        Ok(_) => Ok(None),
        Err(detail) => Err(bad_request(&detail)),
    })
    .with_limits(move |request| limits(request).unwrap_or_default())
    .refusing_with(move |request, error| {
        let fault = || fault(request, error);
        bad_request(&limits(request).map_or_else(|detail| detail, |_| fault()))
    });
    super::health(Router::new().endpoint("/websocket/echo", endpoint))
}

pub(super) fn defaults() -> Vec<(&'static str, String)> {
    let host = variable("HOST").unwrap_or_else(|| String::from("0.0.0.0"));
    vec![
        super::listen(&host, "PORT", "8080"),
        ("deflate", String::from("off")),
    ]
}

pub(super) fn check_variables() -> Result<(), String> {
    max_body_size().and(max_duration()).map(drop)
}

const MAX_BODY_SIZE: i32 = 1 << 20;
const MAX_DURATION: Duration = Duration::from_secs(10);

/// Maximum size of a message, and so of a fragment, in bytes.
fn max_body_size() -> Result<i32, String> {
    let Some(value) = variable("MAX_BODY_SIZE") else {
        return Ok(MAX_BODY_SIZE);
    };
    let size = value.parse().ok().filter(|size| *size > 0);
    size.ok_or_else(|| {
        format!("invalid MAX_BODY_SIZE {value:?}: use a number of bytes, such as 1048576")
    })
}

/// Maximum duration of a connection.
fn max_duration() -> Result<Duration, String> {
    let Some(value) = variable("MAX_DURATION") else {
        return Ok(MAX_DURATION);
    };
    go_duration(&value)
        .ok_or_else(|| format!("invalid MAX_DURATION {value:?}: use 10s, 500ms or 1m30s"))
}

/// Parses a duration in Go's format: `500ms`, `1.5h`, `1m30s`.
fn go_duration(text: &str) -> Option<Duration> {
    let mut seconds = 0.0;
    let mut rest = text;
    while !rest.is_empty() {
        let (number, after) = rest.split_at(rest.find(|c: char| !is_of_number(c))?);
        let (unit, after) = after.split_at(after.find(is_of_number).unwrap_or(after.len()));
        let in_seconds = match unit {
            "ns" => 1e-9,
            "us" | "\u{B5}s" | "\u{3BC}s" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3_600.0,
            _ => return None,
        };
        seconds += number.parse::<f64>().ok()? * in_seconds;
        rest = after;
    }
    Duration::try_from_secs_f64(seconds).ok()
}

fn is_of_number(character: char) -> bool {
    character.is_ascii_digit() || character == '.'
}

/// The size limits in the query.
fn limits(request: &Request<'_>, max_body_size: i32) -> Result<SizeLimits, String> {
    let range = 1..=max_body_size;
    let max_fragment_size = size(
        request,
        "max_fragment_size",
        &range,
        (max_body_size / 2).max(1),
    )?;
    let max_message_size = size(request, "max_message_size", &range, max_body_size)?;
    if max_fragment_size > max_message_size {
        return Err(format!(
            "max_fragment_size {max_fragment_size} must be less than or equal to \
             max_message_size {max_message_size}"
        ));
    }
    Ok(SizeLimits {
        max_message_size,
        max_frame_size: max_fragment_size,
    })
}

fn size(
    request: &Request<'_>,
    name: &str,
    range: &RangeInclusive<i32>,
    default: i32,
) -> Result<usize, String> {
    let value = request.query_param(name).unwrap_or_default();
    let number = match &*value {
        "" => default,
        value => value.parse().map_err(|error: ParseIntError| {
            let fault = match error.kind() {
                IntErrorKind::PosOverflow | IntErrorKind::NegOverflow => "value out of range",
                _ => "invalid syntax",
            };
            format!("invalid {name}: strconv.ParseInt: parsing \"{value}\": {fault}")
        })?,
    };
    match usize::try_from(number) {
        Ok(size) if range.contains(&number) => Ok(size),
        _ => Err(format!(
            "invalid {name}: {number} not in range [{}, {}]",
            range.start(),
            range.end()
        )),
    }
}

/// The fault of a handshake: go-httpbin's text if it has one, else this server's advice.
fn fault(request: &Request<'_>, error: HandshakeError) -> String {
    let field = |name| request.headers().get(name).map(HeaderValue::as_bytes);
    let text = match error {
        HandshakeError::Upgrade if field(header::CONNECTION).is_none() => {
            "missing required `Connection: upgrade` header"
        }
        HandshakeError::Connection => "missing required `Connection: upgrade` header",
        HandshakeError::Upgrade => "missing required `Upgrade: websocket` header",
        HandshakeError::Key if field(header::SEC_WEBSOCKET_KEY).is_none() => {
            "missing required `Sec-Websocket-Key` header"
        }
        HandshakeError::Version => {
            let version = field(header::SEC_WEBSOCKET_VERSION).unwrap_or_default();
            let version = String::from_utf8_lossy(version);
            return format!("only websocket version \"13\" is supported, got \"{version}\"");
        }
        error => error.advice(),
    };
    String::from(text)
}

fn bad_request(detail: &str) -> Page {
    let error = json!({"status_code": 400, "error": "Bad Request", "detail": detail});
    Page::text(format!("{error:#}\n"))
        .with_content_type("application/json; charset=utf-8")
        .with_status(StatusCode::BAD_REQUEST)
}

struct HttpbinEcho {
    max_fragment_size: usize,
    max_duration: Duration,
    /// The task that closes the connection after `max_duration`.
    deadline: JoinSet<()>,
}

impl Handler for HttpbinEcho {
    fn open(&mut self, socket: &mut WebSocket<'_>) {
        self.deadline = close_later(socket.peer(), self.max_duration, CloseCode::Normal);
    }

    fn message(&mut self, socket: &mut WebSocket<'_>, message: Message<'_>) {
        if message.is_data() {
            socket.send_fragmented(message, self.max_fragment_size);
        }
    }

    fn close_code(&self, error: ProtocolError) -> CloseCode {
        match error {
            ProtocolError::FrameTooBig => CloseCode::Protocol,
            error => error.close_code(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_gos_format() {
        for (text, milliseconds) in [
            ("10s", Some(10_000)),
            ("500ms", Some(500)),
            ("1m30s", Some(90_000)),
            ("1.5h", Some(5_400_000)),
            ("2000us", Some(2)),
            ("10", None),
            ("s", None),
            ("1d", None),
            ("-1s", None),
        ] {
            let expected = milliseconds.map(Duration::from_millis);
            assert_eq!(go_duration(text), expected, "{text}");
        }
    }
}
