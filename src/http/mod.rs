//! HTTP: hyper reads the request, [`handshake`](crate::handshake) decides, and the frame loop takes
//! over the socket.
//!
//! A WebSocket keeps nothing of hyper: hyper's connection is taken apart for the 101, and the bytes
//! that the client sent early become the frame loop's first input.

mod body;
mod chunked;
mod connection;
mod context;
#[cfg(feature = "socketio")]
mod cors;
mod endpoint;
#[cfg_attr(not(feature = "h2c"), path = "no_h2c.rs")]
mod h2c;
mod in_process;
mod limited;
mod linger;
mod mount;
mod pages;
mod proxy_protocol;
mod router;
mod service;
mod shutdown;
mod stream;
mod timer;
#[cfg_attr(not(feature = "tls"), path = "no_tls.rs")]
mod tls;
mod waiting;

pub use body::{Body, BodyLimits};
pub(crate) use connection::serve_connection;
pub(crate) use context::{HttpContext, HttpShared};
#[cfg(feature = "socketio")]
pub(crate) use cors::cors_headers;
pub use endpoint::Endpoint;
pub use in_process::InProcessServer;
#[cfg(feature = "socketio")]
pub(crate) use limited::RateLimits;
pub use limited::{IpConnectionLimit, IpSlot, TokenBucket};
pub use mount::Admission;
pub use mount::{BoxFuture, NestedService, OnUpgrade, Rejection, ServiceResponse, Upgraded};
pub use pages::Page;
pub use router::{Request, Router};
pub use shutdown::Shutdown;
pub(crate) use shutdown::Stage;
pub(crate) use stream::{HttpStream, register};
pub(crate) use waiting::{HttpPhase, Witness};

use std::time::Duration;

/// The deadlines and limits of requests.
#[derive(Clone, Debug)]
pub struct HttpSettings {
    /// Time from the accepted connection, or from the first byte of a later request, to a complete
    /// request head. After it the connection is closed without an answer. Zero switches the
    /// deadline off.
    pub head_timeout: Duration,
    /// Time from a response to the first byte of the connection's next request. After it the
    /// connection is closed. Under pressure idle connections are closed before all others. Zero
    /// switches the deadline off.
    pub keep_alive_timeout: Duration,
    /// Maximum bytes of a request's head; a larger head is refused with 431.
    pub max_head_size: usize,
    /// Maximum header lines of a request; more are refused with 431.
    pub max_headers: usize,
    /// Whether responses have a Date field; refusals and the 101 never have one.
    pub date: bool,
}

impl Default for HttpSettings {
    /// 10 s, 75 s, 16 KiB, 100 headers, a date.
    fn default() -> HttpSettings {
        HttpSettings {
            head_timeout: Duration::from_secs(10),
            // Longer than load balancers keep idle connections: if the server closes first,
            // requests are lost.
            keep_alive_timeout: Duration::from_secs(75),
            max_head_size: 16 << 10,
            max_headers: 100,
            date: true,
        }
    }
}
