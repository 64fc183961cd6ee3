//! Empty log functions: the feature `tracing` is off.

use std::fmt::{self, Display};
use std::io;
use std::time::Duration;

use crate::engine::{Disconnect, PeerAddress, Traffic};
use crate::handshake::HandshakeError;

pub(crate) fn failed(_: &Disconnect, _: &impl Display) {}

pub(crate) fn disconnected(
    _: fmt::Arguments<'_>,
    _: &str,
    _: (PeerAddress, Duration),
    _: [Traffic; 2],
    _: &Disconnect,
) {
}

pub(crate) fn not_proxied(_: &io::Error) {}

pub(crate) fn not_secured(_: &impl Display, _: &impl Display, _: bool, _: &impl Display) {}

pub(crate) fn refused(_: HandshakeError, _: &http::request::Parts, _: PeerAddress) {}

pub(crate) fn bad_request(_: &hyper::Error) {}

pub(crate) fn not_accepted(_: &io::Error) {}

pub(crate) fn exhausted(_: &io::Error, _: u64) {}

#[cfg(feature = "redis")]
pub(crate) fn redis(_: impl Display) {}

pub(crate) fn not_adopted(_: &io::Error) {}
