//! The opening handshake (RFC 6455 §4), as pure functions: a request's head in, a
//! decision out.
//!
//! The order of the checks is fixed, so that a request with several faults has one answer:
//! Host, allowed host, path (the router's), method, body, HTTP version and Upgrade, Connection,
//! version, key, Origin, subprotocols, extensions, token; then what the endpoint itself thinks of it.

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
