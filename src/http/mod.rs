//! Hyper reads the request, [`handshake`](crate::handshake) decides, and the socket goes
//! on to the frame loop.
//!
//! Nothing of hyper is kept for the life of a WebSocket: its connection is taken apart when the
//! 101 is out, and what the client sent early becomes the frame loop's first input.

mod body;
mod chunked;
mod connection;
mod context;
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
mod tcp;
mod timer;
#[cfg_attr(not(feature = "tls"), path = "no_tls.rs")]
mod tls;
mod waiting;

pub use body::{Body, BodyLimits};
pub(crate) use connection::serve_connection;
pub(crate) use context::HttpContext;
pub use endpoint::Endpoint;
pub use in_process::{InProcessClient, InProcessServer};
pub use limited::{IpConnectionLimit, IpSlot, TokenBucket};
pub use mount::Admission;
pub use mount::{BoxFuture, NestedService, OnUpgrade, Rejection, ServiceResponse, Upgraded};
pub use pages::Page;
pub use router::{Request, Router};
pub use shutdown::Shutdown;
pub(crate) use shutdown::Stage;
pub(crate) use stream::HttpStream;
pub(crate) use waiting::{HttpPhase, Witness};

use std::time::Duration;

/// What the reading of requests is held to.
#[derive(Clone, Debug)]
pub struct HttpSettings {
    /// From the accepted connection, or the first byte of a later request, to a whole request head:
    /// then the connection is closed without an answer. Zero switches the deadline off.
    pub head_timeout: Duration,
    /// From a response to the first byte of the connection's next request: then it is closed. Under
    /// pressure such a connection is closed before any other. Zero switches the deadline off.
    pub keep_alive_timeout: Duration,
    /// Bytes of a request's head; a larger one is refused with 431.
    pub max_head_size: usize,
    /// Header lines of a request; more are refused with 431.
    pub max_headers: usize,
    /// Whether responses tell the time, in a Date field; refusals and the 101 never do.
    pub date: bool,
}

impl Default for HttpSettings {
    /// 10 s, 75 s, 16 KiB, 100 headers, a date.
    fn default() -> HttpSettings {
        HttpSettings {
            head_timeout: Duration::from_secs(10),
            // Longer than load balancers keep a connection: one that closes first loses requests.
            keep_alive_timeout: Duration::from_secs(75),
            max_head_size: 16 << 10,
            max_headers: 100,
            date: true,
        }
    }
}
