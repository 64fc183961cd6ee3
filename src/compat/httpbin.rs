//! `/websocket/echo` of go-httpbin: echoes come in fragments of at most `max_fragment_size`. Ours
//! refuses a botched handshake as every endpoint does, where theirs says 400, and a frame that is
//! too big with 1009, where theirs says 1002: such a frame breaks no rule of the protocol.

use std::ops::RangeInclusive;
use std::time::Duration;

use http::StatusCode;
use tokio::task::JoinHandle;

use super::variable;
use crate::engine::{Disconnect, Handler, WebSocket};
use crate::http::{Endpoint, Page, Request, Router};
use crate::protocol::{CloseCode, CloseFrame, Limits, Message};

/// Octets of the largest message, and so of the largest fragment (`MAX_BODY_SIZE`).
const MAX_BODY_SIZE: usize = 1 << 20;

/// How long a connection may last (`MAX_DURATION`).
const MAX_DURATION: Duration = Duration::from_secs(10);

pub(super) fn router() -> Router {
    let endpoint = Endpoint::new(|request| Echo {
        max_fragment_size: limits(request).map_or(MAX_BODY_SIZE, |limits| limits.max_frame_size),
        deadline: None,
    })
    .diverting(|request, _| match limits(request) {
        Ok(_) => Ok(None),
        Err(detail) => Err(bad_request(&detail)),
    })
    .with_limits(|request| limits(request).unwrap_or_default());
    super::health(Router::new().endpoint("/websocket/echo", endpoint))
}

pub(super) fn defaults() -> Vec<(&'static str, String)> {
    let host = variable("HOST").unwrap_or_else(|| String::from("0.0.0.0"));
    vec![
        super::listen(&host, "PORT", "8080"),
        ("deflate", String::from("off")),
    ]
}

/// What the query asks for.
fn limits(request: &Request<'_>) -> Result<Limits, String> {
    let query = request.query().unwrap_or_default();
    let max_fragment_size = size(query, "max_fragment_size", MAX_BODY_SIZE / 2)?;
    let max_message_size = size(query, "max_message_size", MAX_BODY_SIZE)?;
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

fn size(query: &str, name: &str, default: usize) -> Result<usize, String> {
    const RANGE: RangeInclusive<i32> = 1..=MAX_BODY_SIZE as i32;
    let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let value = match pairs.find(|(key, _)| *key == name) {
        None | Some((_, "")) => return Ok(default),
        Some((_, value)) => value,
    };
    let number: i32 = value.parse().map_err(|_| {
        format!("invalid {name}: strconv.ParseInt: parsing \"{value}\": invalid syntax")
    })?;
    match usize::try_from(number) {
        Ok(size) if RANGE.contains(&number) => Ok(size),
        _ => Err(format!(
            "invalid {name}: {number} not in range [{}, {}]",
            RANGE.start(),
            RANGE.end()
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
    /// Ends the connection, unless it ends before.
    deadline: Option<JoinHandle<()>>,
}

impl Handler for Echo {
    fn open(&mut self, socket: &mut WebSocket<'_>) {
        let peer = socket.peer();
        self.deadline = Some(tokio::spawn(async move {
            tokio::time::sleep(MAX_DURATION).await;
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
