//! `/websocket/echo` of go-httpbin: echoes come in fragments of at most `max_fragment_size`. `HOST`,
//! `PORT`, `MAX_BODY_SIZE` and `MAX_DURATION` are obeyed.
//!
//! Ours differs in this:
//! - A value of those that cannot be read counts as not set, where theirs does not start.
//! - The body of a refused handshake is our advice, where theirs is JSON.
//! - A frame that is too big gets Close 1009, where theirs says 1002: such a frame breaks no rule
//!   of the protocol.
//! - At the end of `MAX_DURATION` comes Close 1000.
//! - A code point may be split over two fragments, which theirs refuses.
//! - None of its other paths is there, nor `/sse`.

use std::ops::RangeInclusive;
use std::time::Duration;

use http::StatusCode;
use tokio::task::JoinHandle;

use super::variable;
use crate::engine::{Disconnect, Handler, WebSocket};
use crate::http::{Endpoint, Page, Request, Router};
use crate::protocol::{CloseCode, CloseFrame, Limits, Message};

pub(super) fn router() -> Router {
    let max_body_size = max_body_size();
    let max_duration = max_duration();
    let limits = move |request: &Request<'_>| limits(request, max_body_size);
    let endpoint = Endpoint::new(move |request| Echo {
        max_fragment_size: limits(request).map_or(1, |limits| limits.max_frame_size),
        max_duration,
        deadline: None,
    })
    .diverting(move |request, _| match limits(request) {
        Ok(_) => Ok(None),
        Err(detail) => Err(bad_request(&detail)),
    })
    .with_limits(move |request| limits(request).unwrap_or_default())
    .refusing_all_with(StatusCode::BAD_REQUEST);
    super::health(Router::new().endpoint("/websocket/echo", endpoint))
}

pub(super) fn defaults() -> Vec<(&'static str, String)> {
    let host = variable("HOST").unwrap_or_else(|| String::from("0.0.0.0"));
    vec![
        super::listen(&host, "PORT", "8080"),
        ("deflate", String::from("off")),
    ]
}

/// Octets of the largest message, and so of the largest fragment.
fn max_body_size() -> i32 {
    let size = variable("MAX_BODY_SIZE").and_then(|size| size.parse().ok());
    size.filter(|size| *size > 0).unwrap_or(1 << 20)
}

/// How long a connection may last.
fn max_duration() -> Duration {
    let duration = variable("MAX_DURATION").and_then(|duration| go_duration(&duration));
    duration.unwrap_or(Duration::from_secs(10))
}

/// A duration as Go writes it: `500ms`, `1.5h`, `1m30s`.
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

/// What the query asks for.
fn limits(request: &Request<'_>, max_body_size: i32) -> Result<Limits, String> {
    let query = request.query().unwrap_or_default();
    let range = 1..=max_body_size;
    let max_fragment_size = size(
        query,
        "max_fragment_size",
        &range,
        (max_body_size / 2).max(1),
    )?;
    let max_message_size = size(query, "max_message_size", &range, max_body_size)?;
    if max_fragment_size > max_message_size {
        return Err(format!(
            "max_fragment_size {max_fragment_size} must be less than or equal to \
             max_message_size {max_message_size}"
        ));
    }
    Ok(Limits {
        max_message_size,
        max_frame_size: max_fragment_size,
    })
}

fn size(
    query: &str,
    name: &str,
    range: &RangeInclusive<i32>,
    default: i32,
) -> Result<usize, String> {
    let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let number = match pairs.find(|(key, _)| *key == name) {
        None | Some((_, "")) => default,
        Some((_, value)) => value.parse().map_err(|_| {
            format!("invalid {name}: strconv.ParseInt: parsing \"{value}\": invalid syntax")
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

fn bad_request(detail: &str) -> Page {
    let detail = serde_json::Value::from(detail);
    Page::text(format!(
        "{{\n  \"status_code\": 400,\n  \"error\": \"Bad Request\",\n  \"detail\": {detail}\n}}\n"
    ))
    .with_content_type("application/json; charset=utf-8")
    .with_status(StatusCode::BAD_REQUEST)
}

struct Echo {
    max_fragment_size: usize,
    max_duration: Duration,
    /// Ends the connection, unless it ends before.
    deadline: Option<JoinHandle<()>>,
}

impl Handler for Echo {
    fn open(&mut self, socket: &mut WebSocket<'_>) {
        let peer = socket.peer();
        let max_duration = self.max_duration;
        self.deadline = Some(tokio::spawn(async move {
            tokio::time::sleep(max_duration).await;
            peer.close(CloseFrame {
                code: CloseCode::Normal,
                reason: "",
            });
        }));
    }

    fn message(&mut self, socket: &mut WebSocket<'_>, message: Message<'_>) {
        if message.is_data() {
            socket.send_fragmented(message, self.max_fragment_size);
        }
    }

    fn closed(&mut self, _: &Disconnect) {
        if let Some(deadline) = &self.deadline {
            deadline.abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_go_writes_them() {
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
