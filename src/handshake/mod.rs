//! The opening handshake (RFC 6455 §4) as pure functions from a request's head to a decision.
//!
//! The checks run in a fixed order, so a request with several faults always gets the same answer:
//! Host, allowed host, path (the router's), method, body, HTTP version and Upgrade, Connection,
//! version, key, Origin, subprotocols, extensions, token; then the endpoint's own check.

#![warn(
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    clippy::indexing_slicing
)]

pub mod accept_key;
mod access;
mod deflate;
mod error;
pub mod extensions;
mod forwarded;
mod headers;
mod host;
mod origin;
pub(crate) mod query;
mod server;
#[cfg(test)]
mod tests;

pub use access::{Policy, Token};
pub use error::HandshakeError;
pub use forwarded::{ForwardedHeader, TrustedProxies};
pub use host::AllowedHost;
pub use origin::{AllowOrigin, Origin};
pub use server::{
    Accepted, Subprotocols, accept, check_host, check_page, check_token, is_preflight,
    wants_upgrade,
};
