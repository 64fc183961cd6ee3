//! No certificates: the feature `tls` is off.

use std::io;
use std::sync::Arc;

/// A server's certificate. There is none without the feature `tls`.
#[derive(Clone, Debug)]
pub enum Certificate {}

impl Certificate {
    pub(crate) fn config(&self) -> io::Result<Arc<ServerConfig>> {
        match *self {}
    }
}

/// How TLS is spoken, which it is not.
#[derive(Debug)]
pub(crate) enum ServerConfig {}
