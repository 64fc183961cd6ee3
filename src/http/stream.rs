//! The accepted stream while hyper reads its requests.

use std::io::{self, IoSlice};
use std::net::{self, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use super::proxy_protocol;
use super::tcp::Tcp;
use super::tls::{self, FirstBytes, TlsSession};
use super::waiting::PhaseProgress;
use crate::engine::{ClientSocket, PeerAddress};
use crate::tls::ServerConfig;
use ipnet::IpNet;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::UnixStream;
use tokio::time::{Sleep, sleep};

/// A connected, non-blocking stream. tokio's poller registers a TCP stream only when it must wait.
#[derive(Debug)]
pub(crate) struct HttpStream {
    socket: TokioSocket,
    /// The client's address: the peer's, or the address that a proxy reports.
    peer: PeerAddress,
    /// While a write is blocked: its deadline, and the number of bytes that the client must read by
    /// then.
    blocked: Option<(Pin<Box<Sleep>>, usize)>,
    /// Time in which the client must read [`PROGRESS`]; zero switches the deadline off.
    write_stall: Duration,
    /// The phase of the connection's requests.
    progress: PhaseProgress,
}

/// Bytes that a client must read within the write stall, or all that are left if fewer.
const PROGRESS: usize = 16 << 10;

#[derive(Debug)]
enum TokioSocket {
    Tcp(Tcp),
    Unix(UnixStream),
    Tls(Box<TlsSession>),
}

impl HttpStream {
    /// Takes the socket from tokio, for the frame loop's own poller. Appends input that is already
    /// read to `early`.
    pub(super) fn into_socket(self, early: &mut Vec<u8>) -> io::Result<ClientSocket> {
        Ok(match self.socket {
            TokioSocket::Tcp(stream) => ClientSocket::new(stream.into_std()?, self.peer),
            TokioSocket::Unix(stream) => ClientSocket::new(stream.into_std()?, self.peer),
            TokioSocket::Tls(session) => tls::into_socket(*session, early, self.peer)?,
        })
    }

    /// The client's address.
    pub(super) fn peer(&self) -> PeerAddress {
        self.peer
    }

    /// Replaces the client's address by the address that a proxy reports.
    pub(super) fn with_peer(self, peer: PeerAddress) -> HttpStream {
        HttpStream { peer, ..self }
    }

    /// Reads the PROXY header from the stream, if the peer is one of these proxies.
    ///
    /// # Errors
    /// If a proxy sends no valid header, or closes the connection.
    pub(super) async fn proxied(mut self, proxies: &[IpNet]) -> io::Result<HttpStream> {
        let peer = self.peer.ip().map(|peer| peer.to_canonical());
        if let (TokioSocket::Tcp(stream), Some(peer)) = (&mut self.socket, peer)
            && proxies.iter().any(|proxies| proxies.contains(&peer))
            && let Some(client) = proxy_protocol::receive(stream.registered()?).await?
        {
            self.peer = PeerAddress::Ip(client);
        }
        Ok(self)
    }

    /// Does the TLS handshake on a TCP stream; a Unix stream stays as it is. Records the client's
    /// first bytes in `first`.
    ///
    /// # Errors
    /// The error, and the stream without TLS. The client has received an alert.
    pub(super) async fn secured(
        self,
        config: &Arc<ServerConfig>,
        first: FirstBytes,
    ) -> Result<HttpStream, (io::Error, HttpStream)> {
        let TokioSocket::Tcp(stream) = self.socket else {
            return Ok(self);
        };
        match tls::secure(stream, config, first).await {
            Ok(session) => Ok(HttpStream::new(
                TokioSocket::Tls(Box::new(session)),
                self.peer,
            )),
            Err((error, stream)) => {
                let stream = HttpStream::new(TokioSocket::Tcp(stream), self.peer);
                Err((error, stream))
            }
        }
    }

    fn new(socket: TokioSocket, peer: PeerAddress) -> HttpStream {
        HttpStream {
            socket,
            peer,
            blocked: None,
            write_stall: Duration::ZERO,
            progress: PhaseProgress::new(),
        }
    }

    /// The phase of the connection's requests.
    pub(super) fn progress(&self) -> &PhaseProgress {
        &self.progress
    }

    /// Closes the socket by RST; a Unix socket has no RST.
    pub(super) fn abort(self) {
        match self.socket {
            TokioSocket::Tcp(stream) => stream.abort(),
            TokioSocket::Unix(_) => {}
            TokioSocket::Tls(session) => tls::abort(*session),
        }
    }

    /// Whether closing the socket is a clean end for a peer that has sent FIN. TLS must send its
    /// own end first.
    pub(super) fn ends_by_close(&self) -> bool {
        match self.socket {
            TokioSocket::Tcp(_) | TokioSocket::Unix(_) => true,
            TokioSocket::Tls(_) => false,
        }
    }

    /// Whether the last write is blocked.
    pub(super) fn is_blocked(&self) -> bool {
        self.blocked.is_some()
    }

    /// Sets the time in which a blocked client must read [`PROGRESS`]; after it, writes fail.
    pub(super) fn with_write_stall(self, write_stall: Duration) -> HttpStream {
        HttpStream {
            write_stall,
            ..self
        }
    }

    /// Returns the result of writing `wanted` bytes, or `TimedOut` if the client has read too
    /// little for too long.
    fn in_time(
        &mut self,
        wanted: usize,
        written: Poll<io::Result<usize>>,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        if let Poll::Ready(written) = written {
            let taken = *written.as_ref().unwrap_or(&wanted);
            self.blocked = self.blocked.take().and_then(|(deadline, due)| {
                let is_blocked = taken < wanted && taken < due;
                is_blocked.then(|| (deadline, due - taken))
            });
            return Poll::Ready(written);
        }
        let write_stall = match self.write_stall {
            Duration::ZERO => Duration::MAX,
            write_stall => write_stall,
        };
        let (deadline, _) = self
            .blocked
            .get_or_insert_with(|| (Box::pin(sleep(write_stall)), PROGRESS));
        deadline
            .as_mut()
            .poll(context)
            .map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl From<(net::TcpStream, SocketAddr)> for HttpStream {
    fn from((stream, peer): (net::TcpStream, SocketAddr)) -> HttpStream {
        HttpStream::new(TokioSocket::Tcp(Tcp::new(stream)), PeerAddress::Ip(peer))
    }
}

impl From<UnixStream> for HttpStream {
    fn from(stream: UnixStream) -> HttpStream {
        HttpStream::new(TokioSocket::Unix(stream), PeerAddress::Unix)
    }
}

impl AsyncRead for HttpStream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        let read = match &mut this.socket {
            TokioSocket::Tcp(stream) => Pin::new(stream).poll_read(context, buffer),
            TokioSocket::Unix(stream) => Pin::new(stream).poll_read(context, buffer),
            TokioSocket::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        };
        if buffer.filled().len() > before {
            this.progress.heard();
        }
        read
    }
}

impl AsyncWrite for HttpStream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = match &mut this.socket {
            TokioSocket::Tcp(stream) => Pin::new(stream).poll_write(context, bytes),
            TokioSocket::Unix(stream) => Pin::new(stream).poll_write(context, bytes),
            TokioSocket::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        };
        this.in_time(bytes.len(), written, context)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = match &mut this.socket {
            TokioSocket::Tcp(stream) => Pin::new(stream).poll_write_vectored(context, parts),
            TokioSocket::Unix(stream) => Pin::new(stream).poll_write_vectored(context, parts),
            TokioSocket::Tls(stream) => Pin::new(stream).poll_write_vectored(context, parts),
        };
        let wanted = parts.iter().map(|part| part.len()).sum();
        this.in_time(wanted, written, context)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        match &mut this.socket {
            TokioSocket::Tcp(stream) => Pin::new(stream).poll_flush(context),
            TokioSocket::Unix(stream) => Pin::new(stream).poll_flush(context),
            TokioSocket::Tls(stream) => {
                // The TLS session buffers records that the socket has not accepted.
                let flushed = Pin::new(stream).poll_flush(context).map_ok(|()| 0);
                this.in_time(0, flushed, context).map_ok(drop)
            }
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().socket {
            TokioSocket::Tcp(stream) => Pin::new(stream).poll_shutdown(context),
            TokioSocket::Unix(stream) => Pin::new(stream).poll_shutdown(context),
            TokioSocket::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    /// Attack 79: returns how many of 30 writes succeed before the timeout. Each writes `taken`
    /// bytes and takes a tenth of the write stall.
    async fn writes(taken: usize) -> usize {
        const STALL: Duration = Duration::from_millis(300);
        let (stream, _peer) = UnixStream::pair().unwrap();
        let mut stream = HttpStream::from(stream).with_write_stall(STALL);
        for count in 0..30 {
            let wrote = poll_fn(|context| stream.in_time(1 << 20, Poll::Ready(Ok(taken)), context));
            assert_eq!(wrote.await.unwrap(), taken);
            let blocked = poll_fn(|context| stream.in_time(1 << 20, Poll::Pending, context));
            if tokio::time::timeout(STALL / 10, blocked).await.is_ok() {
                return count;
            }
        }
        30
    }

    #[tokio::test]
    async fn attack_79_a_client_takes_16_kib_in_the_write_stall_or_is_cut() {
        assert!(writes(1 << 10).await < 16);
        assert_eq!(writes(16 << 10).await, 30);
        assert_eq!(writes(8 << 10).await, 30, "in two writes");
    }
}
