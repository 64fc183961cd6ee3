//! No HTTP/2: the feature `h2c` is off.

use std::sync::Arc;

use super::{HttpShared, Upgraded};
use crate::engine::PeerAddress;

/// Drops the stream, which closes the connection.
pub(super) async fn serve(_: Upgraded, _: PeerAddress, _: Arc<HttpShared>) {}
