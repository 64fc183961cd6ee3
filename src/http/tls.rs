//! The TLS handshake (RFC 8446) on a client's socket.

mod first_bytes;

use std::io::{self, Read};
use std::sync::Arc;

use rustls::ServerConnection;
use tokio::io::Interest;

pub(super) use self::first_bytes::FirstBytes;
use super::HttpStream;
use crate::engine::ClientSocket;
use crate::tls::ServerConfig;

/// Does the TLS handshake. Records the client's first bytes in `first`.
///
/// # Errors
/// The socket has no TLS. The client has received an alert.
pub(super) async fn secure(
    stream: &mut HttpStream,
    config: &Arc<ServerConfig>,
    first: &FirstBytes,
) -> io::Result<()> {
    let mut session = ServerConnection::new(Arc::clone(config)).map_err(io::Error::other)?;
    // The poller does not report input that the session has decrypted before the registration.
    stream.registered()?;
    while session.is_handshaking() || session.wants_write() {
        if session.wants_write() {
            let send = |socket: &mut ClientSocket| session.write_tls(socket);
            stream.when(Interest::WRITABLE, send).await?;
        } else {
            let receive = |socket: &mut ClientSocket| receive(&mut session, socket, first);
            stream.when(Interest::READABLE, receive).await?;
        }
    }
    stream.registered()?.1.secure(session);
    Ok(())
}

/// Reads and handles a part of the handshake.
fn receive(
    session: &mut ServerConnection,
    socket: &mut ClientSocket,
    first: &FirstBytes,
) -> io::Result<()> {
    if session.read_tls(&mut Recorded { socket, first })? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    session.process_new_packets().map(drop).map_err(|error| {
        // Sends the alert with the reason; a failure to send it does not matter.
        let _ = session.write_tls(socket);
        io::Error::new(io::ErrorKind::InvalidData, error)
    })
}

/// A socket whose first bytes are recorded.
struct Recorded<'a> {
    socket: &'a mut ClientSocket,
    first: &'a FirstBytes,
}

impl Read for Recorded<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let bytes = self.socket.read(buffer)?;
        self.first.add(&buffer[..bytes]);
        Ok(bytes)
    }
}
