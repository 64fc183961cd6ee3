//! A WebSocket server built on hyper's HTTP/1 connections.
//!
//! The crate answers the opening handshake itself and takes the raw stream from hyper. A frame loop
//! reads the stream and passes each [`Message::Text`], [`Message::Binary`], [`Message::Ping`],
//! [`Message::Pong`] and [`Message::Close`] to a [`Handler`].
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
//! # Modules
//!
//! A module imports only the modules in the last column of its row. `tests/layers.rs` reads this
//! table and checks every source file against it.
//!
//! | module | what it holds | imports |
//! |---|---|---|
//! | `main` | the program's entry | - |
//! | `cli` | flags, exit codes, subcommands | app, lab, server, socketio, http, rooms, metrics, log, tls, engine, handshake, protocol, duration, lock |
//! | `app` | the product's endpoints: table, page, tutorials, chat, broadcast, faults, other echo services | socketio, http, rooms, log, engine, handshake, protocol, duration, lock |
//! | `lab` | client tools | handshake, protocol, lock |
//! | [`server`] | listen, accept, workers, shutdown | http, metrics, log, tls, engine, handshake, protocol |
//! | [`socketio`] | Engine.IO 4 and Socket.IO 5 over the frame loop | http, rooms, redis_link, log, engine, handshake, protocol, lock |
//! | [`http`] | hyper's service, router, endpoints, pages, mounts | log, tls, engine, handshake, protocol, lock |
//! | [`rooms`] | fan-out, within a process and over Redis | redis_link, metrics, log, engine, protocol, lock |
//! | `redis_link` | one reconnecting Redis connection | - |
//! | [`metrics`] | metrics for Prometheus | engine, lock |
//! | `log` | log events | engine, handshake, lock |
//! | [`tls`] | certificates and their reload | lock |
//! | [`engine`] | the frame loop, which owns the sockets | protocol, lock |
//! | [`handshake`] | request in, response and agreed extensions out | protocol |
//! | [`protocol`] | bytes in, messages out, and back | - |
//! | `duration` | durations as text | - |
//! | `lock` | locks that a panic does not poison | - |
//!
//! # Features
//!
//! `cli`, on by default, is the binary with its ready-made endpoints; it enables all features
//! below. `lab`, on by default, is the client tools, such as `frameloop load`. `deflate` is
//! permessage-deflate, `socketio` Socket.IO, `tls` `wss://`, `h2c` HTTP/2 without TLS, `metrics`
//! Prometheus, `redis` rooms shared by several processes, `simd` vector instructions. Without
//! features the library depends on hyper, hyper-util, http-body-util, tokio, mio, tungstenite (its
//! types), sha1, base64, bytes, http, rustix, subtle, ipnet and proxy-header.

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
pub mod tls;

pub use engine::{Disconnect, Handler, Peer, Settings, WebSocket};
pub use http::{Endpoint, Router};
pub use protocol::{CloseCode, CloseFrame, Deflate, Message};
pub use rooms::{JoinError, Membership, Rooms};
pub use server::Server;

/// Compiles the README's example.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

/// Compiles the programs of the embedding guide.
#[cfg(doctest)]
#[doc = include_str!("../docs/embedding.md")]
struct Embedding;
