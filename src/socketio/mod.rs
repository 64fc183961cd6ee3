//! Socket.IO 5 over Engine.IO 4, by HTTP polling and by WebSocket.
//!
//! The WebSocket of a session is an ordinary connection of the frame loop, with a handler. A
//! polling session has a queue of packets: a GET fetches the queue, and a POST brings packets from
//! the client. The server's limits, deadlines, rates and counts apply to both transports.
//!
//! ```no_run
//! use frameloop::socketio::{self, DisconnectReason, Event, SocketIoSettings, Socket, Value};
//! use frameloop::{Router, Server};
//!
//! # async fn serve() -> std::io::Result<()> {
//! let (service, io) = socketio::service(SocketIoSettings::default());
//! io.namespace("/")
//!     .on_connect(async |socket: Socket, _: Value| socket.emit("response", "hello"))
//!     .on("join", async |event: Event| {
//!         if let Some(room) = event.args.values.first().and_then(Value::as_str) {
//!             event.ack.send(event.socket.join(room).is_ok());
//!         }
//!     })
//!     .on("message", async |event: Event| {
//!         event.socket.everybody().emit("response", event.args);
//!     })
//!     .on_disconnect(async |socket: Socket, why: DisconnectReason| {
//!         println!("{} has gone: {why:?}", socket.id());
//!     });
//! let app = Router::new().mount("/socket.io/", service);
//! Server::bind("127.0.0.1:8000").await?.serve(app).await
//! # }
//! ```

/// Implements `Debug` as the name of the type, because these types refer to each other.
macro_rules! opaque {
    ($($type:ident)+) => {$(
        impl std::fmt::Debug for $type {
            fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                formatter.write_str(stringify!($type))
            }
        }
    )+};
}

#[cfg(feature = "redis")]
mod bus;
mod client;
mod errors;
mod members;
mod namespace;
mod packet;
mod requests;
mod session;
mod sid;
mod value;

mod websocket;

#[cfg(feature = "redis")]
pub use bus::{Bus, BusRelay, CHANNEL};
pub use errors::DisconnectReason;
pub use namespace::{
    Ack, Broadcast, Emitted, Event, HandlerFuture, Namespace, NoAnswer, Outcome, Socket, SocketIo,
};
pub use serde_json::Value;
pub use session::{Service, Session};
pub use sid::Sid;
pub use value::Args;

use std::sync::Arc;
use std::time::Duration;

use client::Client;
use members::Member;
use namespace::{Inner, Namespaces};
use session::Protocol;

use crate::protocol::Message;

/// The limits and deadlines of sessions. Settings that exist in Flask-SocketIO have the same
/// default.
#[derive(Clone, Debug)]
pub struct SocketIoSettings {
    /// Time from one Ping of the server to the next. Default: 25 s.
    pub ping_interval: Duration,
    /// Time limit for a client to answer a Ping; then its session ends. Default: 20 s.
    pub ping_timeout: Duration,
    /// Maximum time that a client is in no namespace; then its session ends. Default: 10 s.
    pub connect_timeout: Duration,
    /// Maximum duration of an upgrade to a WebSocket; then the WebSocket is closed and the session
    /// continues to poll. Default: 10 s.
    pub upgrade_timeout: Duration,
    /// A POST's body must bring 16 KiB in each period of this length, or end; otherwise the
    /// response is 408. Default: 10 s.
    pub body_timeout: Duration,
    /// Time limit for all attachments of a binary packet to arrive; then the session ends. Zero: no
    /// time limit. Default: 60 s.
    pub attachment_timeout: Duration,
    /// Time limit for a client to acknowledge an event. Default: 5 s.
    pub ack_timeout: Duration,
    /// Maximum bytes of a WebSocket message or of a POST's body; a longer one ends the session.
    /// Default: 1,000,000.
    pub max_payload: usize,
    /// Maximum packets in one POST; a POST with more ends the session. Default: 1,000.
    pub max_packets: usize,
    /// Maximum attachments of one packet; more end the session. The packet and its attachments
    /// have at most `max_payload` bytes in total. Default: 10.
    pub max_attachments: usize,
    /// Maximum bytes in the queue of a polling client. Above this size, the client's POSTs wait,
    /// and a broadcast ends its session. Default: 1 MiB.
    pub max_queue_size: usize,
    /// Maximum packets per second in a client's POSTs; more end its session. Default: unlimited.
    pub max_message_rate: Option<u32>,
    /// Maximum packets per second of a client's POSTs that are handled; further packets wait.
    /// Default: 1,000.
    pub max_publish_rate: Option<u32>,
    /// Maximum sessions; further sessions are refused with 503. Sessions of one address that have
    /// joined no namespace may be at most a sixteenth of the maximum. Default: 65,536.
    pub max_sessions: usize,
    /// Whether WebSockets may be compressed, if compression is on in the server. Default: no.
    pub compression: bool,
    /// Shares emitted events with other processes. Default: no bus.
    #[cfg(feature = "redis")]
    pub bus: Option<Bus>,
}

impl Default for SocketIoSettings {
    fn default() -> SocketIoSettings {
        SocketIoSettings {
            ping_interval: Duration::from_secs(25),
            ping_timeout: Duration::from_secs(20),
            connect_timeout: Duration::from_secs(10),
            upgrade_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(10),
            attachment_timeout: Duration::from_secs(60),
            ack_timeout: Duration::from_secs(5),
            max_payload: 1_000_000,
            max_packets: 1_000,
            max_attachments: 10,
            max_queue_size: 1 << 20,
            max_message_rate: None,
            max_publish_rate: Some(1_000),
            max_sessions: 65_536,
            compression: false,
            #[cfg(feature = "redis")]
            bus: None,
        }
    }
}

impl SocketIoSettings {
    /// Joins the bus, if there is one.
    #[cfg(feature = "redis")]
    fn join_bus(&self, namespaces: &Arc<Namespaces>) {
        if let Some(bus) = &self.bus {
            bus.serve(namespaces);
        }
    }

    /// Does nothing: the bus needs Redis.
    #[cfg(not(feature = "redis"))]
    fn join_bus(&self, _: &Arc<Namespaces>) {}
}

/// The client for browsers: `socket.io.min.js` of npm's `socket.io-client` 4.8.4, unchanged.
/// MIT licence: `src/socketio/client/LICENSE`.
pub const BROWSER_CLIENT: &str = include_str!("client/socket.io.min.js");

/// Returns the service for [`Router::mount`](crate::Router::mount), and the handle that registers
/// handlers. Most clients expect the service at `/socket.io/`.
pub fn service(settings: SocketIoSettings) -> (Arc<Service>, SocketIo) {
    let namespaces = Arc::new(Namespaces::default());
    settings.join_bus(&namespaces);
    let io = SocketIo(Arc::clone(&namespaces));
    let client = move || Arc::new(Client::new(&namespaces)) as Arc<dyn Protocol>;
    (Service::new(settings, client), io)
}

/// Returns a service of Engine.IO without Socket.IO. Most clients expect it at `/engine.io/`.
/// `message` is called for each data message of each session, and must not block.
pub fn engine_io(
    settings: SocketIoSettings,
    message: impl Fn(&Arc<Session>, Message<'_>) + Send + Sync + 'static,
) -> Arc<Service> {
    let protocol: Arc<dyn Protocol> = Arc::new(message);
    Service::new(settings, move || Arc::clone(&protocol))
}

opaque!(Inner Member Namespaces Service Session);
