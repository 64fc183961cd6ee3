//! Black-box tests: literal octets through a socket, to a server on the loopback interface.
//!
//! One binary, one module a topic. The numbers in the names of cases are those of the rows of the
//! project's tables of wire behaviour.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

mod client;
#[cfg(feature = "cli")]
#[path = "../support/process.rs"]
mod process;
#[cfg(feature = "proxy-protocol")]
mod proxy_protocol;
#[path = "../support/report.rs"]
mod report;
mod server;
#[cfg(feature = "cli")]
#[path = "../support/socket.rs"]
mod socket;

mod access;
mod attacks;
#[cfg(feature = "cli")]
mod attacks_http;
#[cfg(all(feature = "cli", feature = "socketio"))]
mod attacks_socketio;
mod closing;
#[cfg(feature = "cli")]
mod compat;
mod deadlines;
#[cfg(feature = "deflate")]
mod deflate;
mod embedding;
mod endpoints;
#[cfg(feature = "cli")]
mod faults_in_time;
#[cfg(feature = "cli")]
mod faults_on_demand;
mod fragmentation;
mod frames;
#[cfg(feature = "cli")]
mod h2c;
mod handshake;
mod handshake_extensions;
mod handshake_fields;
mod handshake_requests;
mod handshake_streams;
mod handshake_syntax;
mod keep_alive;
mod limits;
mod origins;
mod publish_rate;
mod real_clients;
mod shutdown;
mod slow_consumer;
#[cfg(feature = "socketio")]
mod socketio;
#[cfg(feature = "socketio")]
mod socketio_fan_out;
#[cfg(feature = "tls")]
mod tls;
mod utf8;
mod workers;
