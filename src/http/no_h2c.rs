//! No HTTP/2: the feature `h2c` is off.

use std::future::{Ready, ready};

use super::Upgraded;
use super::context::HttpContext;
use crate::engine::PeerAddress;

/// Drops the stream, which closes the connection.
pub(super) fn serve(_: Upgraded, _: PeerAddress, _: &HttpContext) -> Ready<()> {
    ready(())
}
