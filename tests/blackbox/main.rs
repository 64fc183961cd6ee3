//! Black-box tests: literal bytes through a socket, to a server on the loopback interface.
//!
//! One binary, one module per topic. The numbers in test names are rows of the tables in
//! `tests/tables`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

#[path = "../support/mod.rs"]
mod support;

use support::*;
mod proxy_protocol;

mod access;
mod attacks;
mod attacks_http;
mod attacks_socketio;
mod closing;
mod compat;
mod deadlines;
mod deflate;
mod embedding;
mod endpoints;
mod fairness;
mod fan_out_turns;
mod faults_in_time;
mod faults_on_demand;
mod forwarded;
mod fragmentation;
mod frames;
mod h2c;
mod handshake;
mod handshake_extensions;
mod handshake_fields;
mod handshake_requests;
mod handshake_streams;
mod handshake_syntax;
mod keep_alive;
mod keeping;
mod limits;
mod origins;
mod publish_rate;
mod real_clients;
mod shutdown;
mod slow_consumer;
mod socketio;
mod socketio_bounds;
mod socketio_fan_out;
mod socketio_turns;
mod tls;
mod utf8;
mod workers;
