//! Empty types in place of certificates, if the feature `tls` is off.

use std::io;
use std::sync::Arc;

/// A server's certificate. No value exists without the feature `tls`.
#[derive(Clone, Debug)]
pub enum Certificate {}

impl Certificate {
    pub(crate) fn config(&self) -> io::Result<Arc<ServerConfig>> {
        match *self {}
    }
}

/// The TLS configuration. No value exists without the feature `tls`.
#[derive(Debug)]
pub(crate) enum ServerConfig {}
