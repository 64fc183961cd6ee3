//! websocket-echo.com: echoes on any path and answers plain HTTP with 426.
//!
//! Differences:
//! - A faulty handshake gets this server's usual refusal.
//! - A client that does not answer Pings is closed with 1008; the original drops the connection.
//! - Reading stops as soon as an echo waits to be sent. `HIGH_WATER_MARK` does not change that.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;

use super::variable;
use crate::app::echo::Echo;
use crate::http::{BoxFuture, NestedService, Router, ServiceResponse};

pub(super) fn router() -> Router {
    let router = Router::new()
        .websocket("*", |_| Echo)
        .mount("/", Arc::new(UpgradeRequired));
    super::health(router)
}

pub(super) fn defaults() -> Vec<(&'static str, String)> {
    let host = variable("BIND_ADDRESS").unwrap_or_else(|| String::from("::"));
    let host = match host.contains(':') {
        true => format!("[{host}]"),
        false => host,
    };
    let number = |name, default: &str| variable(name).unwrap_or_else(|| default.to_owned());
    let heartbeat = format!("{}ms", number("HEARTBEAT_INTERVAL", "30000"));
    let max_message_size = number("MAX_MESSAGE_SIZE", "65536");
    let high_water_mark = number("HIGH_WATER_MARK", "16384");
    vec![
        super::listen(&host, "BIND_PORT", "1337"),
        ("ping_interval", heartbeat.clone()),
        ("ping_timeout", heartbeat),
        ("max_message_size", max_message_size.clone()),
        ("max_frame_size", max_message_size),
        ("high_water_mark", high_water_mark),
        ("deflate", String::from("off")),
    ]
}

/// Answers plain HTTP requests.
#[derive(Debug)]
struct UpgradeRequired;

impl NestedService for UpgradeRequired {
    fn respond(self: Arc<Self>, _: Request<Incoming>) -> BoxFuture<ServiceResponse> {
        let mut response = Response::new(Full::new(Bytes::from_static(b"Upgrade Required")));
        *response.status_mut() = StatusCode::UPGRADE_REQUIRED;
        let headers = response.headers_mut();
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        let text = HeaderValue::from_static("text/plain");
        headers.insert(header::CONTENT_TYPE, text);
        Box::pin(async move { ServiceResponse::Response(response) })
    }
}
