//! TLS on a TCP stream, while hyper reads from it.

mod first_bytes;

use std::io::{self, Read};
use std::sync::Arc;

use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

pub(super) use self::first_bytes::FirstBytes;
use self::first_bytes::Recorded;
use super::tcp::Tcp;
use crate::engine::{ClientSocket, PeerAddress};
use crate::tls::ServerConfig;

/// A stream whose TLS handshake is done.
pub(super) type TlsSession = TlsStream<Recorded<Tcp>>;

/// Does the TLS handshake. Records the client's first bytes in `first`.
///
/// # Errors
/// The error, and the stream without TLS. The client has received an alert.
pub(super) async fn secure(
    stream: Tcp,
    config: &Arc<ServerConfig>,
    first: FirstBytes,
) -> Result<TlsSession, (io::Error, Tcp)> {
    let acceptor = TlsAcceptor::from(Arc::clone(config));
    let accepting = acceptor.accept(Recorded::new(stream, first));
    match accepting.into_fallible().await {
        Ok(mut session) => {
            session.get_mut().0.stop();
            Ok(session)
        }
        Err((error, stream)) => Err((error, stream.into_inner())),
    }
}

/// Returns the socket with its session, for the frame loop. Appends input that the session has
/// already read to `early`.
pub(super) fn into_socket(
    session: TlsSession,
    early: &mut Vec<u8>,
    peer: PeerAddress,
) -> io::Result<ClientSocket> {
    let (stream, mut session) = session.into_inner();
    match session.reader().read_to_end(early) {
        Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
        _ => {}
    }
    let stream = stream.into_inner().into_std()?;
    Ok(ClientSocket::secured(stream, session, peer))
}

/// Closes the socket by RST.
pub(super) fn abort(session: TlsSession) {
    session.into_inner().0.into_inner().abort();
}
