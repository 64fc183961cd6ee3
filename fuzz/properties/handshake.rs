//! Raw bytes through hyper and our service: the output is valid HTTP, the status is 101 if and only
//! if a naive checker agrees, and a refused connection gets one response.

use frameloop::http::{HttpSettings, InProcessServer};
use frameloop::{Message, Router, Settings, WebSocket};
use http::request::Parts;
use http::{HeaderName, HeaderValue, Version};

use super::client::read_frames;
use super::headers::{NaivePolicy, naive_status};

thread_local! {
    static SERVER: InProcessServer = server();
}

fn server() -> InProcessServer {
    let echo = |socket: &mut WebSocket<'_>, message: Message<'_>| {
        if message.is_data() {
            socket.send(message);
        }
    };
    let router = Router::new().websocket("/ws", move |_| echo);
    let mut settings = Settings::default();
    settings.limits.max_message_size = 100_000;
    InProcessServer::new(router, settings, HttpSettings::default()).expect("a server")
}

pub(crate) fn check(bytes: &[u8]) {
    let answer = SERVER
        .with(|server| server.exchange(bytes))
        .expect("an answer");
    let mut rest = answer.as_slice();
    let mut statuses = Vec::new();
    while !rest.is_empty() {
        let is_head = request(bytes).is_some_and(|head| head.method == http::Method::HEAD);
        let (status, is_last) = response(&mut rest, is_head);
        statuses.push(status);
        if status == 101 {
            // Output before the client's FIN consists of whole frames.
            assert!(!read_frames(rest).1, "a truncated frame");
            break;
        }
        assert!(
            !is_last || rest.is_empty(),
            "more than one response to {statuses:?}"
        );
    }
    if let Some(head) = request(bytes) {
        let expected = naive_status(&head, &NaivePolicy::default());
        let is_endpoint = head.uri.path() == "/ws";
        let accepts = expected == 101 && is_endpoint;
        assert_eq!(
            statuses.first() == Some(&101),
            accepts,
            "{head:?} {statuses:?}"
        );
    } else {
        assert!(
            statuses.first() != Some(&101),
            "a 101 for a malformed request"
        );
    }
}

/// Removes a response from the front. Returns its status and whether it announces the end of the
/// connection.
fn response(rest: &mut &[u8], is_head: bool) -> (u16, bool) {
    let mut headers = [httparse::EMPTY_HEADER; 32];
    let mut response = httparse::Response::new(&mut headers);
    let parsed = response.parse(rest).expect("valid HTTP");
    let httparse::Status::Complete(length) = parsed else {
        panic!("a truncated response");
    };
    let status = response.code.expect("a status");
    let value = |name: &str| {
        let mut values = response
            .headers
            .iter()
            .filter(|header| header.name.eq_ignore_ascii_case(name));
        let value = values
            .next()
            .map(|header| std::str::from_utf8(header.value).expect("text"));
        assert!(values.next().is_none(), "{name} twice");
        value
    };
    let content_length: usize =
        value("content-length").map_or(0, |length| length.parse().expect("a length"));
    let closes =
        value("connection").is_some_and(|value| value.to_ascii_lowercase().contains("close"));
    if status == 101 {
        assert_eq!(value("upgrade"), Some("websocket"));
        assert_eq!(value("sec-websocket-accept").map(str::len), Some(28));
        assert!(value("content-length").is_none() && value("transfer-encoding").is_none());
    } else {
        // hyper refuses input that it cannot parse with an empty response, and closes.
        assert!((200..=599).contains(&status));
        assert!(status != 426 || value("sec-websocket-version") == Some("13"));
    }
    *rest = &rest[length..];
    if !is_head {
        let (_, after) = rest
            .split_at_checked(content_length)
            .expect("the whole body");
        *rest = after;
    }
    (status, closes)
}

/// The first request, if it is valid for hyper.
fn request(bytes: &[u8]) -> Option<Parts> {
    let mut headers = [httparse::EMPTY_HEADER; 100];
    let mut request = httparse::Request::new(&mut headers);
    let httparse::Status::Complete(length) = request.parse(bytes).ok()? else {
        return None;
    };
    if length > 16 << 10 {
        return None;
    }
    let mut builder = http::Request::builder()
        .method(request.method?)
        .uri(request.path?)
        .version(match request.version? {
            0 => Version::HTTP_10,
            _ => Version::HTTP_11,
        });
    for header in request.headers.iter() {
        let name = HeaderName::from_bytes(header.name.as_bytes()).ok()?;
        builder = builder.header(name, HeaderValue::from_bytes(header.value).ok()?);
    }
    Some(builder.body(()).ok()?.into_parts().0)
}
