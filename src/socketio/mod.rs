//! Socket.IO (Engine.IO 4, Socket.IO 5) beside the WebSockets, over HTTP polling and
//! over WebSocket.
//!
//! Sessions, packets, namespaces, rooms and acks are [`socketioxide`]'s, whose documentation holds
//! for the [`SocketIo`] here. This module mounts it on the router: requests come from our own HTTP
//! service, a WebSocket's stream from our own opening handshake, and both within limits.
//! Broadcasts to 16 clients or more are written past the engine's queues, at the price of plain
//! fan-out: whoever awaits them sees its emits arrive in their order, but those of two handlers
//! have none.
//!
//! ```no_run
//! use frameloop::socketio::{self, AckSender, Args, Settings, SocketRef};
//! use frameloop::{Router, Server};
//!
//! # async fn serve() -> std::io::Result<()> {
//! let (service, io) = socketio::service(Settings::default());
//! io.ns("/", async |socket: SocketRef| {
//!     socket.on("join", async |socket: SocketRef, Args(args): Args| {
//!         if let Some(room) = args.first().and_then(|room| room.as_str()) {
//!             socket.join(room.to_owned());
//!         }
//!     });
//!     socket.on("echo", async |args: Args, ack: AckSender| ack.send(&args).unwrap_or_default());
//! });
//! let app = Router::new().mount("/socket.io/", service);
//! Server::bind("127.0.0.1:8000").await?.serve(app).await
//! # }
//! ```

mod adapter;
mod arguments;
#[cfg(feature = "redis")]
mod bus;
mod engine;
mod fan_out;
mod first_ping;
mod service;
mod session_stream;
mod sessions;

pub use adapter::{Adapter, AdapterState};
pub use arguments::{Args, InvalidArguments, Value};
#[cfg(feature = "redis")]
pub use bus::{Bus, CHANNEL, Relay};
pub use first_ping::Transport;
pub use service::{Engine, Service};
pub use socketioxide::extract::{Event, TryData};
pub use socketioxide::handler::ConnectHandler;
pub use socketioxide::socket::{DisconnectReason, Sid};

use std::sync::Arc;
use std::time::Duration;

use engine::{Elsewhere, SocketIoEngine};
use fan_out::FanOut;
use socketioxide::ParserConfig;

/// The server of all namespaces: registers handlers, and emits to whom they concern.
pub type SocketIo = socketioxide::SocketIo<Adapter>;

/// A client in one namespace.
pub type SocketRef = socketioxide::extract::SocketRef<Adapter>;

/// Answers an event, if its sender asked for that.
pub type AckSender = socketioxide::extract::AckSender<Adapter>;

/// What sessions are held to. The defaults are those of Flask-SocketIO, where it has such.
#[derive(Clone, Debug)]
pub struct Settings {
    /// From one Ping of ours to the next.
    pub ping_interval: Duration,
    /// How long a client may take over its Pong: then its session ends.
    pub ping_timeout: Duration,
    /// How long a client may take to join a namespace: then its session ends.
    pub connect_timeout: Duration,
    /// From a WebSocket that takes a polling session over to the end of that.
    pub upgrade_timeout: Duration,
    /// A POST's body must bring 16 KiB in each such time, or end: else 408.
    pub body_timeout: Duration,
    /// Octets of a WebSocket message, or of a POST's body: beyond it the session ends.
    pub max_payload: usize,
    /// Packets in one POST: beyond it the session ends.
    pub max_packets: usize,
    /// Binary attachments of one packet, together at most `max_payload` octets: beyond it the
    /// session ends.
    pub max_attachments: usize,
    /// Packets that may wait for one client; those beyond are lost, and at the next Ping the
    /// session ends.
    pub max_queue_packets: usize,
    /// Sessions there may be: beyond it 503.
    pub max_sessions: usize,
    /// Joins the clients of other processes.
    #[cfg(feature = "redis")]
    pub bus: Option<Bus>,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            ping_interval: Duration::from_secs(25),
            ping_timeout: Duration::from_secs(20),
            connect_timeout: Duration::from_secs(45),
            upgrade_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(10),
            max_payload: 1_000_000,
            max_packets: 1_000,
            max_attachments: 10,
            max_queue_packets: 1_024,
            max_sessions: 65_536,
            #[cfg(feature = "redis")]
            bus: None,
        }
    }
}

/// The client for browsers, `socket.io.min.js` of npm's `socket.io-client` 4.8.4, as it is there.
/// MIT licence: `src/socketio/client/LICENSE`.
pub const BROWSER_CLIENT: &str = include_str!("client/socket.io.min.js");

/// Makes the service that [`Router::mount`](crate::Router::mount) takes, and the handle to register
/// handlers with. The path that it is mounted on must be `/socket.io/`.
pub fn service(settings: Settings) -> (Arc<Service>, SocketIo) {
    let parser = ParserConfig::common()
        .max_incoming_binaries(settings.max_attachments)
        .max_incoming_binary_buf_size(settings.max_payload);
    let adapter = AdapterState {
        #[cfg(feature = "redis")]
        bus: settings.bus.clone(),
        fan_out: FanOut::default(),
    };
    let fan_out = adapter.fan_out.clone();
    let (service, io) = socketioxide::SocketIo::builder()
        .ping_interval(settings.ping_interval)
        .ping_timeout(settings.ping_timeout)
        .connect_timeout(settings.connect_timeout)
        .upgrade_timeout(settings.upgrade_timeout)
        .max_payload(u64::try_from(settings.max_payload).unwrap_or(u64::MAX))
        .ws_max_message_size(settings.max_payload)
        .ws_max_frame_size(settings.max_payload)
        .max_buffer_size(settings.max_queue_packets)
        .with_parser(parser)
        .with_adapter::<Adapter>(adapter)
        .build_with_inner_svc(Elsewhere);
    let engine = SocketIoEngine {
        service,
        io: io.clone(),
        fan_out,
    };
    (Arc::new(Service::new(engine, settings)), io)
}
