//! Jmalloc/echo-server: on any path a WebSocket that first says who serves it, unless it is told
//! not to (then its first message is empty), and an HTTP echo; below paths that end in `.sse` the
//! same as events, in `.ws` a page to try it. `PORT`, `SEND_SERVER_HOSTNAME`, `SEND_HEADER_FOO_BAR`,
//! `LOG_HTTP_HEADERS`, `LOG_HTTP_BODY` and `WEBSOCKET_ROOT` are obeyed.
//!
//! Ours differs in this:
//! - What a client says is escaped in its lines and cut to 256 bytes, of a body the first 128
//!   bytes are dumped, and there are up to 1,000 lines a second. `--log-format json` has them
//!   among ours.
//! - Standard output begins with our own words, where we serve what.
//! - The page is ours.
//! - A body beyond 1 MiB is answered with 413, one that does not bring 16 KiB in 10 s with 408, one
//!   in malformed chunks with 400.
//! - A message beyond `--max-message-size` is answered with Close 1009.
//! - HTTP/2 without TLS is for who begins with it. Who asks for it by Upgrade, which RFC 9113 has
//!   done away with, is answered by HTTP/1.1.

use std::fmt::Write as _;
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
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};

use super::variable;
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
            let query = request.query().map(|query| format!("?{query}"));
            log_request(
                peer,
                &Method::GET,
                &format!("{}{}", request.path(), query.unwrap_or_default()),
                request.headers(),
            );
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

/// What the page connects to first, of this server, if it was said.
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

/// Dumps a body as `hexdump -C` does.
fn log_body(body: &[u8]) {
    const MAX_BYTES: usize = 128;
    const LINE: usize = 16;
    if variable("LOG_HTTP_BODY").is_none() {
        return;
    }
    let shown = body.get(..MAX_BYTES).unwrap_or(body);
    for (line, bytes) in shown.chunks(LINE).enumerate() {
        let (mut digits, mut text) = (String::new(), String::new());
        for place in 0..LINE {
            digits.push_str(if place % 8 == 0 { "  " } else { " " });
            match bytes.get(place) {
                Some(byte) => {
                    let _ = write!(digits, "{byte:02x}");
                    let is_shown = matches!(byte, b' '..=b'~');
                    text.push(if is_shown { char::from(*byte) } else { '.' });
                }
                None => digits.push_str("  "),
            }
        }
        log::compat_line(format_args!("{:08x}{digits}  |{text}|", line * LINE), "");
    }
}

/// Whether the name of this host is told: the request has the last word.
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
    /// Sent first, even if it is empty.
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

/// Plain HTTP requests.
#[derive(Debug)]
struct Http {
    page: Page,
    /// Turns true when the server ends.
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

/// Whether a body without a known end may be the answer.
fn takes_chunks(head: &Parts) -> bool {
    head.method != Method::HEAD && head.version >= Version::HTTP_11
}

fn status(status: StatusCode) -> Response<Full<Bytes>> {
    let mut response = Response::default();
    *response.status_mut() = status;
    response
}

/// `SEND_HEADER_FOO_BAR=x` is a field `FOO-BAR: x` of every response.
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

/// The request as it is told back.
fn request_text(head: &Parts, body: &[u8]) -> Vec<u8> {
    let Parts {
        method,
        uri,
        version,
        headers,
        ..
    } = head;
    let host = headers
        .get(header::HOST)
        .map_or(&b""[..], HeaderValue::as_bytes);
    let mut text = format!("{method} {uri} {version:?}\n\nHost: ").into_bytes();
    text.extend_from_slice(host);
    text.push(b'\n');
    for (name, value) in fields(headers) {
        text.extend_from_slice(name.as_bytes());
        text.extend_from_slice(b": ");
        text.extend_from_slice(value.as_bytes());
        text.push(b'\n');
    }
    if !body.is_empty() {
        text.push(b'\n');
        text.extend_from_slice(body);
    }
    text
}

/// The fields by their names.
fn fields(headers: &HeaderMap) -> Vec<(String, &HeaderValue)> {
    let mut fields: Vec<(String, &HeaderValue)> = headers
        .iter()
        // Go keeps these two apart from the other fields.
        .filter(|(name, _)| !matches!(**name, header::HOST | header::TRANSFER_ENCODING))
        .map(|(name, value)| (canonical(name), value))
        .collect();
    fields.sort_by(|(one, _), (other, _)| one.cmp(other));
    fields
}

/// A field's name as Go writes it: `X-Request-Id`.
fn canonical(name: &HeaderName) -> String {
    let parts = name.as_str().split('-').map(|part| {
        let (first, rest) = part.split_at(part.len().min(1));
        first.to_ascii_uppercase() + rest
    });
    parts.collect::<Vec<_>>().join("-")
}

/// Who serves, what was asked, and then the time each second, until the client goes or the server
/// ends.
fn events(head: &Parts, body: &[u8], mut ending: watch::Receiver<bool>) -> ServiceResponse {
    let mut events = Events::default();
    let mut first = String::new();
    if tells_hostname(&head.headers)
        && let Some(name) = sysinfo::System::host_name()
    {
        first.push_str(&events.next("server", &name));
    }
    let request = request_text(head, body);
    first.push_str(&events.next("request", &String::from_utf8_lossy(&request)));
    let (mut sender, body) = Channel::new(1);
    tokio::spawn(async move {
        const SECOND: Duration = Duration::from_secs(1);
        let mut ticks = interval_at(Instant::now() + SECOND, SECOND);
        let mut event = first;
        // A client that is gone needs nothing more.
        while sender.send_data(Bytes::from(event)).await.is_ok() {
            tokio::select! {
                _ = ending.wait_for(|ending| *ending) => return,
                _ = ticks.tick() => event = events.next("time", &now()),
            }
        }
    });
    let mut response = Response::new(body);
    for (name, value) in [
        (header::CONTENT_TYPE, "text/event-stream"),
        (header::CACHE_CONTROL, "no-cache"),
        (header::CONNECTION, "keep-alive"),
        (header::ACCESS_CONTROL_ALLOW_ORIGIN, "*"),
    ] {
        let value = HeaderValue::from_static(value);
        response.headers_mut().insert(name, value);
    }
    if head.version == Version::HTTP_2 {
        response.headers_mut().remove(header::CONNECTION); // RFC 9113 §8.2.2
    }
    ServiceResponse::Stream(response)
}

/// Events are numbered from 1.
#[derive(Debug, Default)]
struct Events(u64);

impl Events {
    fn next(&mut self, event: &str, data: &str) -> String {
        self.0 += 1;
        let mut text = format!("event: {event}\n");
        for line in data.split('\n') {
            let _ = writeln!(text, "data: {line}");
        }
        let _ = write!(text, "id: {}\n\n", self.0);
        text
    }
}

/// The time as RFC 3339 writes it, to the second.
fn now() -> String {
    let mut text = String::new();
    let _ = SystemTime.format_time(&mut Writer::new(&mut text));
    let seconds = text.split_once('.').map_or(&*text, |(seconds, _)| seconds);
    format!("{seconds}Z")
}
