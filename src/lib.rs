//! A WebSocket server at the level of hyper.
//!
//! An opening handshake written by hand hands the raw stream to a frame loop, which matches
//! [`Message::Text`], [`Message::Binary`], [`Message::Ping`], [`Message::Pong`] and
//! [`Message::Close`], and routes each to a [`Handler`].
//!
//! ```no_run
//! use frameloop::{CloseCode, Disconnect, Handler, Membership, Message};
//! use frameloop::{Rooms, Router, Server, WebSocket};
//!
//! struct Chat {
//!     rooms: Rooms,
//!     room: String,
//!     membership: Option<Membership>,
//! }
//!
//! impl Handler for Chat {
//!     fn open(&mut self, socket: &mut WebSocket<'_>) {
//!         match self.rooms.join(&self.room, &socket.peer()) {
//!             Ok(membership) => self.membership = Some(membership),
//!             Err(error) => socket.close(CloseCode::Policy, error.reason()),
//!         }
//!     }
//!
//!     fn message(&mut self, socket: &mut WebSocket<'_>, message: Message<'_>) {
//!         match message {
//!             Message::Text(text) => self.rooms.publish(&self.room, Message::Text(text)),
//!             Message::Binary(_) => socket.close(CloseCode::Unsupported, "this room speaks text"),
//!             Message::Ping(_) | Message::Pong(_) => {} // the Pong is already queued
//!             Message::Close(frame) => println!("the peer leaves: {frame:?}"),
//!         }
//!     }
//!
//!     fn closed(&mut self, why: &Disconnect) {
//!         println!("gone: {why}");
//!     }
//! }
//!
//! fn echo(socket: &mut WebSocket<'_>, message: Message<'_>) {
//!     if message.is_data() {
//!         socket.send(message);
//!     }
//! }
//!
//! # async fn serve() -> std::io::Result<()> {
//! let rooms = Rooms::default();
//! let app = Router::new()
//!     .websocket("/echo", |_| echo)
//!     .websocket("/chat/{room}", move |request| Chat {
//!         rooms: rooms.clone(),
//!         room: request.param("room").to_owned(),
//!         membership: None,
//!     });
//! Server::bind("127.0.0.1:8000").await?.serve(app).await
//! # }
//! ```
//!
//! # Floors
//!
//! Imports go down only; `tests/layers.rs` keeps it so.
//!
//! | floor | module | holds |
//! |---|---|---|
//! | 8 | `cli` | command line, logs, exit codes |
//! | 7 | `lab` | tools that are a client: load |
//! | 6 | [`server`], `app`, `socketio` | sockets, workers, drain; the product's endpoints; Socket.IO |
//! | 5 | [`http`] | hyper's service, router, pages |
//! | 3 | [`rooms`] | fan-out |
//! | 2 | [`engine`], `log` | frame loop, peers, deadlines |
//! | 1 | [`handshake`] | request in, response and agreed extensions out |
//! | 0 | [`protocol`] | octets in, messages out, and back |
//!
//! # Features
//!
//! `cli`, on by default, is the binary with its ready-made endpoints, and switches those below on.
//! `lab`, on by default, has the tools that are a client: `frameloop load`.
//! `deflate` is permessage-deflate, `socketio` Socket.IO, `tls` `wss://`, `h2c` HTTP/2 without TLS,
//! `metrics` Prometheus, `redis` rooms over several processes, `simd` vector instructions. Without
//! any feature the library's dependencies are hyper, hyper-util, http-body-util, tokio, mio,
//! tungstenite (its types), sha1, base64, bytes, http, rustix, subtle, ipnet and proxy-header.

#![forbid(unsafe_code)]

#[cfg(feature = "cli")]
pub mod app;
#[cfg(feature = "cli")]
pub mod cli;
#[cfg(feature = "cli")]
mod duration;
pub mod engine;
pub mod handshake;
pub mod http;
#[cfg(feature = "lab")]
pub mod lab;
mod lock;
mod log;
pub mod metrics;
pub mod protocol;
#[cfg(feature = "redis")]
mod redis_link;
pub mod rooms;
pub mod server;
#[cfg(feature = "socketio")]
pub mod socketio;
#[cfg(feature = "tls")]
pub mod tls;

pub use engine::{Disconnect, Handler, Peer, Settings, WebSocket};
pub use http::{Endpoint, Router};
pub use protocol::{CloseCode, CloseFrame, Deflate, Message};
pub use rooms::{JoinError, Membership, Rooms};
pub use server::Server;

/// The README's example compiles, too.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

/// The guide's programs compile.
#[cfg(doctest)]
#[doc = include_str!("../docs/embedding.md")]
struct Embedding;
