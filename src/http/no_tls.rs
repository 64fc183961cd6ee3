//! Sockets without TLS: the feature `tls` is off.

use std::fmt::{self, Display};
use std::io;
use std::sync::Arc;

use super::HttpStream;
use crate::tls::ServerConfig;

pub(super) async fn secure(
    _: &mut HttpStream,
    config: &Arc<ServerConfig>,
    _: &FirstBytes,
) -> io::Result<()> {
    match **config {}
}

/// The client's first bytes: without TLS they are not kept.
#[derive(Debug, Default)]
pub(super) struct FirstBytes {}

impl FirstBytes {
    pub(super) fn is_empty(&self) -> bool {
        true
    }
}

impl Display for FirstBytes {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        Ok(())
    }
}
