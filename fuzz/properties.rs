//! Properties that hold for any input, as plain functions. The fuzz targets call them with the
//! fuzzer's inputs, `tests/properties` with inputs from proptest and with the whole corpus.

// Each fuzz target is a crate of its own and calls only one of them.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a property fails by panicking"
)]

#[path = "properties/client.rs"]
pub(crate) mod client;
#[path = "properties/connection.rs"]
pub(crate) mod connection;
#[path = "properties/deflate.rs"]
pub(crate) mod deflate;
#[path = "properties/extensions.rs"]
pub(crate) mod extensions;
#[path = "properties/frame_loop.rs"]
pub(crate) mod frame_loop;
#[path = "properties/handshake.rs"]
pub(crate) mod handshake;
#[path = "properties/headers.rs"]
pub(crate) mod headers;
#[path = "properties/oracle.rs"]
pub(crate) mod oracle;
#[path = "properties/receiver.rs"]
pub(crate) mod receiver;
#[path = "properties/scripted.rs"]
pub(crate) mod scripted;
#[path = "properties/server_session.rs"]
pub(crate) mod server_session;
#[path = "properties/socketio.rs"]
pub(crate) mod socketio;
