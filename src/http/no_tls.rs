//! Streams without TLS: the feature `tls` is off.

use std::fmt::{self, Display};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::tcp::Tcp;
use crate::engine::{ClientSocket, PeerAddress};
use crate::tls::ServerConfig;

/// Has no values: without the feature `tls` no session exists.
#[derive(Debug)]
pub(super) enum TlsSession {}

pub(super) async fn secure(
    _: Tcp,
    config: &Arc<ServerConfig>,
    _: FirstBytes,
) -> Result<TlsSession, (io::Error, Tcp)> {
    match **config {}
}

pub(super) fn into_socket(
    session: TlsSession,
    _: &mut Vec<u8>,
    _: PeerAddress,
) -> io::Result<ClientSocket> {
    match session {}
}

pub(super) fn abort(session: TlsSession) {
    match session {}
}

impl AsyncRead for TlsSession {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        _: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match *self {}
    }
}

impl AsyncWrite for TlsSession {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
        match *self {}
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        match *self {}
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        match *self {}
    }
}

/// The client's first bytes: without TLS they are not kept.
#[derive(Clone, Debug, Default)]
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
