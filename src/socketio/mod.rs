//! Socket.IO 5 over Engine.IO 4, beside the WebSockets: by HTTP polling and by WebSocket.
//!
//! A session's WebSocket is a connection of the frame loop like any other, with a handler; a
//! session that polls is a queue and the requests that fill and empty it. Both are under the
//! server's limits, deadlines, rates and counts.
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

/// `Debug` for types that refer to each other: their names.
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
mod clock;
mod engine;
mod namespace;
mod packet;
mod service;
mod session;
mod sid;
mod socket;
mod value;
mod websocket;

#[cfg(feature = "redis")]
pub use bus::{Bus, BusRelay, CHANNEL};
pub use namespace::{HandlerFuture, Namespace, Outcome};
pub use serde_json::Value;
pub use service::Service;
pub use session::{DisconnectReason, Session};
pub use sid::{InvalidSid, Sid};
pub use socket::{Ack, Broadcast, Emitted, Event, NoAnswer, Socket};
pub use value::Args;

use std::sync::Arc;
use std::time::Duration;

use client::{Client, MessageProtocol, SocketIoProtocol};
use engine::{Engine, Protocol};
use namespace::{Elsewhere, Inner, Namespaces};
use socket::SocketInner;

use crate::protocol::Message;

/// The namespaces of a service, to register handlers with and to emit to.
#[derive(Clone, Debug)]
pub struct SocketIo(Arc<Namespaces>);

/// The limits and deadlines of sessions. The defaults are those of Flask-SocketIO, where it has any.
#[derive(Clone, Debug)]
pub struct SocketIoSettings {
    /// From one Ping of the server to the next. Default: 25 s.
    pub ping_interval: Duration,
    /// How long a client has to answer a Ping; then its session ends. Default: 20 s.
    pub ping_timeout: Duration,
    /// How long a client may be in no namespace; then its session ends. Default: 10 s.
    pub connect_timeout: Duration,
    /// How long an upgrade to a WebSocket may take; then the WebSocket is closed and the session
    /// polls on. Default: 10 s.
    pub upgrade_timeout: Duration,
    /// The time in which a POST's body must bring 16 KiB or end; else 408. Default: 10 s.
    pub body_timeout: Duration,
    /// How long the attachments of a binary packet may take; then the session ends. Zero: without
    /// a deadline. Default: 60 s.
    pub attachment_timeout: Duration,
    /// How long a client has to acknowledge an event. Default: 5 s.
    pub ack_timeout: Duration,
    /// Maximum bytes of a WebSocket message or of a POST's body; a longer one ends the session.
    /// Default: 1,000,000.
    pub max_payload: usize,
    /// Maximum packets in one POST; more end the session. Default: 1,000.
    pub max_packets: usize,
    /// Maximum attachments of one packet, together at most `max_payload` bytes; more end the
    /// session. Default: 10.
    pub max_attachments: usize,
    /// Maximum bytes that wait for a polling client. Beyond it the client's POSTs wait, and a
    /// broadcast ends its session. Default: 1 MiB.
    pub max_queue_size: usize,
    /// Maximum packets a second in a client's POSTs; more end its session. Default: no limit.
    pub max_message_rate: Option<u32>,
    /// Packets a second of a client's POSTs that are handled; more wait. Default: 1,000.
    pub max_publish_rate: Option<u32>,
    /// Maximum sessions. At most a sixteenth are sessions of one address that have joined no
    /// namespace. More get 503. Default: 65,536.
    pub max_sessions: usize,
    /// Whether WebSockets may be compressed, if the server has compression on. Default: no.
    pub compression: bool,
    /// Joins the clients of other processes. Default: none.
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

/// The client for browsers: `socket.io.min.js` of npm's `socket.io-client` 4.8.4, unchanged.
/// MIT licence: `src/socketio/client/LICENSE`.
pub const BROWSER_CLIENT: &str = include_str!("client/socket.io.min.js");

/// Makes the service that [`Router::mount`](crate::Router::mount) takes, at `/socket.io/` for most
/// clients, and the handle to register handlers with.
pub fn service(settings: SocketIoSettings) -> (Arc<Service>, SocketIo) {
    let namespaces = Arc::new(Namespaces::new(elsewhere(&settings)));
    let io = SocketIo(Arc::clone(&namespaces));
    #[cfg(feature = "redis")]
    if let Some(bus) = &settings.bus {
        bus.serve(&io);
    }
    (engine_of(settings, SocketIoProtocol(namespaces)), io)
}

/// Makes a service of Engine.IO alone, at `/engine.io/` for most clients: `message` is called for
/// each data message of each session, and must not block.
pub fn engine_io(
    settings: SocketIoSettings,
    message: impl Fn(&Arc<Session>, Message<'_>) + Send + Sync + 'static,
) -> Arc<Service> {
    engine_of(settings, MessageProtocol(message))
}

fn engine_of(settings: SocketIoSettings, protocol: impl Protocol + 'static) -> Arc<Service> {
    Arc::new(Service(Arc::new(Engine::new(settings, Box::new(protocol)))))
}

#[cfg(feature = "redis")]
fn elsewhere(settings: &SocketIoSettings) -> Option<Elsewhere> {
    settings.bus.as_ref().map(Bus::elsewhere)
}

#[cfg(not(feature = "redis"))]
fn elsewhere(_: &SocketIoSettings) -> Option<Elsewhere> {
    None
}

opaque!(Client Engine Inner Namespaces Session SocketInner);

impl SocketIo {
    /// The namespace at this path, which begins with `/`. It is created if it does not exist.
    pub fn namespace(&self, path: &str) -> Namespace {
        Namespace(self.0.get_or_insert(path))
    }

    /// All clients of the namespace at this path; `None` if it was not made.
    pub fn of(&self, path: &str) -> Option<Broadcast> {
        self.0.get(path).map(Broadcast::of)
    }
}
