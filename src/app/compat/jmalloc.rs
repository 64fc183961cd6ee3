//! jmalloc/echo-server: on any path a WebSocket echo and an HTTP echo. The first WebSocket message
//! is the server's name, or empty if the name is turned off. A path that ends in `.sse` returns
//! server-sent events, one that ends in `.ws` the test page. The variables `PORT`,
//! `SEND_SERVER_HOSTNAME`, `SEND_HEADER_FOO_BAR`, `LOG_HTTP_HEADERS`, `LOG_HTTP_BODY` and
//! `WEBSOCKET_ROOT` have the same effect.
//!
//! Differences:
//! - In log lines, text from clients is escaped and cut to 256 bytes, and only the first 128 bytes
//!   of a body are dumped. At most 1,000 lines a second are written. With `--log-format json` the
//!   lines are part of this server's log.
//! - Standard output begins with this server's own start-up lines.
//! - The test page is this server's own.
//! - A body over 1 MiB gets 413, a body slower than 16 KiB in 10 s gets 408, and malformed chunks
//!   get 400.
//! - A message over `--max-message-size` gets Close 1009.
//! - HTTP/2 without TLS needs prior knowledge. A request for it by Upgrade, which RFC 9113 has
//!   removed, gets an HTTP/1.1 response. A request that waits too long for the bodies of the
//!   client's other requests gets 503.

use std::future::ready;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::request::Parts;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Version, header,
};
use http_body_util::Full;
use http_body_util::channel::Channel;
use hyper::body::Incoming;
use tokio::sync::watch;
use tokio::time::{Instant, interval_at};

use super::{target, variable};
use crate::app::echo::Echo;
use crate::engine::{Handler, PeerAddress, WebSocket};
use crate::http::{BodyLimits, BoxFuture, NestedService, Page, Router, ServiceResponse};
use crate::log;
use crate::protocol::Message;

const MAX_BODY_SIZE: usize = 1 << 20;
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

pub(super) fn router(page: Page) -> Router {
    Router::new()
        .websocket("*", |request| {
            let peer = request.peer_address();
            let target = target(request);
            log_request(peer, &Method::GET, &target, request.headers());
            GreetingEcho {
                peer,
                greeting: match tells_hostname(request.headers()) {
                    true => greeting(),
                    false => String::new(),
                },
            }
        })
        .mount(
            "/",
            Arc::new(Http {
                page,
                ending: watch::Sender::new(false),
            }),
        )
        .with_h2c()
}

pub(super) fn defaults() -> Vec<(&'static str, String)> {
    vec![
        super::listen("0.0.0.0", "PORT", "8080"),
        ("ping_interval", String::from("0")),
        ("deflate", String::from("off")),
    ]
}

/// The path and query of the page's first connection, if `WEBSOCKET_ROOT` is set.
pub(super) fn page_endpoint() -> Option<String> {
    variable("WEBSOCKET_ROOT")
}

fn log_request(peer: PeerAddress, method: &Method, target: &str, headers: &HeaderMap) {
    let logs_headers = variable("LOG_HTTP_HEADERS").is_some();
    let more_follows = logs_headers || variable("LOG_HTTP_BODY").is_some();
    let mark = if more_follows { "--------  " } else { "" };
    log::compat_line(format_args!("{mark}{peer} | {method} "), target);
    if logs_headers {
        log::compat_line("Headers", "");
        for (name, value) in fields(headers) {
            let value = match name.as_str() {
                "Authorization" | "Proxy-Authorization" => "***".into(),
                _ => String::from_utf8_lossy(value.as_bytes()),
            };
            log::compat_line(format_args!("{name}: "), &value);
        }
    }
}

/// Logs a body in the format of `hexdump -C`.
fn log_body(body: &[u8]) {
    const MAX_BYTES: usize = 128;
    const LINE: usize = 16;
    if variable("LOG_HTTP_BODY").is_none() {
        return;
    }
    let shown = body.get(..MAX_BYTES).unwrap_or(body);
    for (line, bytes) in shown.chunks(LINE).enumerate() {
        let digits = (0..LINE).map(|place| {
            let gap = if place % 8 == 0 { "  " } else { " " };
            let byte = bytes.get(place).map(|byte| format!("{byte:02x}"));
            format!("{gap}{:2}", byte.unwrap_or_default())
        });
        let digits: String = digits.collect();
        let text = bytes.iter().map(|byte| match byte {
            b' '..=b'~' => char::from(*byte),
            _ => '.',
        });
        let text: String = text.collect();
        log::compat_line(format_args!("{:08x}{digits}  |{text}|", line * LINE), "");
    }
}

/// Whether to send the host's name. The request's header takes precedence over the variable.
fn tells_hostname(headers: &HeaderMap) -> bool {
    let asked = headers
        .get("x-send-server-hostname")
        .map(HeaderValue::as_bytes);
    match asked.filter(|asked| !asked.is_empty()) {
        Some(asked) => !asked.eq_ignore_ascii_case(b"false"),
        None => !variable("SEND_SERVER_HOSTNAME")
            .is_some_and(|value| value.eq_ignore_ascii_case("false")),
    }
}

fn greeting() -> String {
    match sysinfo::System::host_name() {
        Some(name) => format!("Request served by {name}"),
        None => String::from("Server hostname unknown: the system has none"),
    }
}

struct GreetingEcho {
    peer: PeerAddress,
    /// The first message; it is sent even if it is empty.
    greeting: String,
}

impl Handler for GreetingEcho {
    fn open(&mut self, socket: &mut WebSocket<'_>) {
        log::compat_line(format_args!("{} | upgraded to websocket", self.peer), "");
        socket.send(Message::Text(&std::mem::take(&mut self.greeting)));
    }

    fn message(&mut self, socket: &mut WebSocket<'_>, message: Message<'_>) {
        match message {
            Message::Text(text) => log::compat_line(format_args!("{} | txt | ", self.peer), text),
            Message::Binary(bytes) => {
                let (peer, length) = (self.peer, bytes.len());
                log::compat_line(format_args!("{peer} | bin | {length} byte(s)"), "");
            }
            _ => {}
        }
        Echo.message(socket, message);
    }
}

/// Answers plain HTTP requests.
#[derive(Debug)]
struct Http {
    page: Page,
    /// Becomes `true` at shutdown.
    ending: watch::Sender<bool>,
}

impl NestedService for Http {
    fn respond(self: Arc<Self>, request: Request<Incoming>) -> BoxFuture<ServiceResponse> {
        Box::pin(async move {
            let (head, body) = request.into_parts();
            let limits = BodyLimits {
                max_size: MAX_BODY_SIZE,
                timeout: BODY_TIMEOUT,
            };
            let body = match limits.read(body, &head.extensions).await {
                Ok(body) => body,
                Err(refused) => return status(refused).into(),
            };
            let body = &*body.bytes;
            let peer = head.extensions.get().copied();
            log_request(
                peer.unwrap_or(PeerAddress::Unknown),
                &head.method,
                &head.uri.to_string(),
                &head.headers,
            );
            log_body(body);
            let path = head.uri.path();
            let mut reply = if path.ends_with(".ws") {
                ServiceResponse::from(self.page.clone().into_response())
            } else if path.ends_with(".sse") && takes_chunks(&head) {
                events(&head, body, self.ending.subscribe())
            } else {
                ServiceResponse::from(http_echo(&head, body))
            };
            add_fields(reply.headers_mut());
            reply
        })
    }

    fn preflight(&self, _: &Parts) -> Response<Full<Bytes>> {
        let mut response = status(StatusCode::NO_CONTENT);
        add_fields(response.headers_mut());
        response
    }

    fn close(self: Arc<Self>) -> BoxFuture<()> {
        self.ending.send_replace(true);
        Box::pin(ready(()))
    }
}

/// Whether the response may have a chunked body.
fn takes_chunks(head: &Parts) -> bool {
    head.method != Method::HEAD && head.version >= Version::HTTP_11
}

fn status(status: StatusCode) -> Response<Full<Bytes>> {
    let mut response = Response::default();
    *response.status_mut() = status;
    response
}

/// Adds the headers of the environment: `SEND_HEADER_FOO_BAR=x` adds `FOO-BAR: x` to every
/// response.
fn add_fields(headers: &mut HeaderMap) {
    for (variable, value) in std::env::vars_os() {
        let name = variable
            .to_str()
            .and_then(|name| name.strip_prefix("SEND_HEADER_"));
        let name = name.map(|name| HeaderName::try_from(name.replace('_', "-")));
        let value = value.to_str().map(HeaderValue::from_str);
        if let (Some(Ok(name)), Some(Ok(value))) = (name, value) {
            headers.append(name, value);
        }
    }
}

fn http_echo(head: &Parts, body: &[u8]) -> Response<Full<Bytes>> {
    let mut text = Vec::new();
    if tells_hostname(&head.headers) {
        text.extend_from_slice(greeting().as_bytes());
        text.extend_from_slice(b"\n\n");
    }
    text.extend(request_text(head, body));
    let mut response = Response::new(Full::new(text.into()));
    let plain = HeaderValue::from_static("text/plain");
    response.headers_mut().insert(header::CONTENT_TYPE, plain);
    response
}

/// The text of a request for the HTTP echo.
fn request_text(head: &Parts, body: &[u8]) -> Vec<u8> {
    let host = head.headers.get(header::HOST);
    let mut text = format!("{} {} {:?}\n\n", head.method, head.uri, head.version).into_bytes();
    let mut write = |name: &str, value: &[u8]| {
        text.extend([name.as_bytes(), b": ", value, b"\n"].concat());
    };
    write("Host", host.map_or(b"", HeaderValue::as_bytes));
    for (name, value) in fields(&head.headers) {
        write(&name, value.as_bytes());
    }
    if !body.is_empty() {
        text.push(b'\n');
        text.extend_from_slice(body);
    }
    text
}

/// The headers, sorted by name.
fn fields(headers: &HeaderMap) -> Vec<(String, &HeaderValue)> {
    let mut fields: Vec<(String, &HeaderValue)> = headers
        .iter()
        // Go keeps these two apart from the other headers.
        .filter(|(name, _)| !matches!(**name, header::HOST | header::TRANSFER_ENCODING))
        .map(|(name, value)| (canonical(name), value))
        .collect();
    fields.sort_by(|(one, _), (other, _)| one.cmp(other));
    fields
}

/// A header's name in Go's format: `X-Request-Id`.
fn canonical(name: &HeaderName) -> String {
    let parts = name.as_str().split('-').map(|part| {
        let (first, rest) = part.split_at(part.len().min(1));
        first.to_ascii_uppercase() + rest
    });
    parts.collect::<Vec<_>>().join("-")
}

/// Server-sent events: the server's name, the request, and then the time each second, until the
/// client leaves or the server shuts down.
fn events(head: &Parts, body: &[u8], mut ending: watch::Receiver<bool>) -> ServiceResponse {
    let mut id = 0; // the first event has 1
    let mut event = move |name: &str, data: &str| {
        id += 1;
        let data: String = data
            .split('\n')
            .map(|line| format!("data: {line}\n"))
            .collect();
        format!("event: {name}\n{data}id: {id}\n\n")
    };
    let mut first = String::new();
    if tells_hostname(&head.headers)
        && let Some(name) = sysinfo::System::host_name()
    {
        first.push_str(&event("server", &name));
    }
    let request = request_text(head, body);
    first.push_str(&event("request", &String::from_utf8_lossy(&request)));
    let (mut sender, body) = Channel::new(1);
    tokio::spawn(async move {
        const SECOND: Duration = Duration::from_secs(1);
        let mut ticks = interval_at(Instant::now() + SECOND, SECOND);
        let mut next = first;
        // Sending fails once the client is gone.
        while sender.send_data(Bytes::from(next)).await.is_ok() {
            tokio::select! {
                _ = ending.wait_for(|ending| *ending) => return,
                _ = ticks.tick() => next = event("time", &now()),
            }
        }
    });
    let mut response = Response::new(body);
    *response.headers_mut() = HeaderMap::from_iter([
        (
            header::CONTENT_TYPE,
            HeaderValue::from_static("text/event-stream"),
        ),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
        (header::CONNECTION, HeaderValue::from_static("keep-alive")),
        (
            header::ACCESS_CONTROL_ALLOW_ORIGIN,
            HeaderValue::from_static("*"),
        ),
    ]);
    if head.version == Version::HTTP_2 {
        response.headers_mut().remove(header::CONNECTION); // RFC 9113 §8.2.2
    }
    ServiceResponse::Stream(response)
}

/// The time in RFC 3339 format, to the second.
fn now() -> String {
    let time = log::timestamp();
    let seconds = time.split_once('.').map_or(&*time, |(seconds, _)| seconds);
    format!("{seconds}Z")
}
