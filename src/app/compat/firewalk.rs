//! Firewalk, Alamofire's test server: one or more replies that describe the request, then a Close;
//! an echo; and a Close after a number of Pings. This server sends at most 1 MiB of replies.

use std::mem;
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Map, Value, json};
use tokio::task::JoinSet;

use super::{close_later, target};
use crate::app::any_subprotocol;
use crate::app::echo::Echo;
use crate::engine::{Handler, PeerAddress, WebSocket};
use crate::handshake::HandshakeError;
use crate::http::{Endpoint, Request, Router};
use crate::protocol::{CloseCode, Message, close};

/// Pause between the last reply and the Close, unless the query has `closeDelay`.
const CLOSE_DELAY: Duration = Duration::from_millis(30);

/// Maximum size of all replies together, in bytes.
const MAX_REPLIES_SIZE: usize = 1 << 20;

pub(super) fn router() -> Router {
    let router = Router::new()
        .endpoint(
            "/websocket",
            any_subprotocol(Endpoint::refusing(|request| CannedReplies::new(request, 1))),
        )
        .endpoint(
            "/websocket/payloads/{count}",
            any_subprotocol(Endpoint::refusing(|request| {
                CannedReplies::new(request, count(request))
            })),
        )
        .endpoint("/websocket/echo", any_subprotocol(Endpoint::new(|_| Echo)))
        .endpoint(
            "/websocket/ping/{count}",
            any_subprotocol(Endpoint::new(|request| CloseAfterPings {
                left: count(request),
            })),
        );
    super::health(router)
}

fn count(request: &Request<'_>) -> i64 {
    request.param("count").parse().unwrap_or(1)
}

/// Sends the replies, waits, and closes.
struct CannedReplies {
    reply: Vec<u8>,
    count: usize,
    close_code: CloseCode,
    close_delay: Duration,
    closing: JoinSet<()>,
}

impl CannedReplies {
    fn new(request: &Request<'_>, count: i64) -> Result<CannedReplies, HandshakeError> {
        let reply = reply(request).to_string().into_bytes();
        let count = usize::try_from(count).unwrap_or(0);
        if reply.len().saturating_mul(count) > MAX_REPLIES_SIZE {
            return Err(HandshakeError::Forbidden);
        }
        let number = |name: &str| request.query_param(name)?.parse::<u64>().ok();
        let code = number("closeCode").and_then(|code| u16::try_from(code).ok());
        Ok(CannedReplies {
            reply,
            count,
            close_code: code
                .filter(|code| close::may_travel(*code))
                .map_or(CloseCode::Normal, CloseCode::from),
            close_delay: number("closeDelay").map_or(CLOSE_DELAY, Duration::from_millis),
            closing: JoinSet::new(),
        })
    }
}

impl Handler for CannedReplies {
    fn open(&mut self, socket: &mut WebSocket<'_>) {
        let reply = mem::take(&mut self.reply);
        for _ in 0..self.count {
            socket.send(Message::Binary(&reply));
        }
        self.closing = close_later(socket.peer(), self.close_delay, self.close_code);
    }

    fn message(&mut self, _: &mut WebSocket<'_>, _: Message<'_>) {}
}

struct CloseAfterPings {
    left: i64,
}

impl Handler for CloseAfterPings {
    fn message(&mut self, socket: &mut WebSocket<'_>, message: Message<'_>) {
        if let Message::Ping(_) = message {
            self.left = self.left.saturating_sub(1);
            if self.left == 0 {
                socket.close(CloseCode::Away, "");
            }
        }
    }
}

/// The description of a request.
fn reply(request: &Request<'_>) -> Value {
    let mut headers = Map::new();
    for name in request.headers().keys() {
        let values = request.headers().get_all(name).iter();
        let values: Vec<_> = values
            .map(|value| String::from_utf8_lossy(value.as_bytes()))
            .collect();
        headers.insert(name.to_string(), values.join(", ").into());
    }
    let host = headers.get("host").and_then(Value::as_str);
    let url = format!("http://{}{}", host.unwrap_or_default(), target(request));
    let arguments: Map<String, Value> = request
        .query_params()
        .map(|(key, value)| (key.to_owned(), value.into()))
        .collect();
    json!({
        "url": url,
        "origin": origin(request.peer_address()),
        "headers": headers,
        "args": arguments,
    })
}

/// The client's address in SwiftNIO's format.
fn origin(peer: PeerAddress) -> String {
    match peer {
        PeerAddress::Ip(SocketAddr::V4(address)) => format!("[IPv4]{address}"),
        PeerAddress::Ip(SocketAddr::V6(address)) => {
            format!("[IPv6]{}:{}", address.ip(), address.port())
        }
        PeerAddress::Unix | PeerAddress::Unknown => String::from("No remote address."),
    }
}
