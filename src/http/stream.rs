//! The accepted stream while hyper reads its requests.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

use crate::engine::Socket;

/// A connected stream that is tokio's.
#[derive(Debug)]
pub(crate) struct Stream {
    socket: TokioSocket,
    is_blocked: bool,
}

#[derive(Debug)]
enum TokioSocket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Stream {
    /// Takes the socket from tokio, for the frame loop's own poller.
    pub(super) fn into_socket(self) -> io::Result<Socket> {
        Ok(match self.socket {
            TokioSocket::Tcp(stream) => {
                Socket::Tcp(mio::net::TcpStream::from_std(stream.into_std()?))
            }
            TokioSocket::Unix(stream) => {
                Socket::Unix(mio::net::UnixStream::from_std(stream.into_std()?))
            }
        })
    }

    /// Whether the last that was to be written was not taken.
    pub(super) fn is_blocked(&self) -> bool {
        self.is_blocked
    }
}

impl From<TcpStream> for Stream {
    fn from(stream: TcpStream) -> Stream {
        Stream {
            socket: TokioSocket::Tcp(stream),
            is_blocked: false,
        }
    }
}

impl From<UnixStream> for Stream {
    fn from(stream: UnixStream) -> Stream {
        Stream {
            socket: TokioSocket::Unix(stream),
            is_blocked: false,
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut self.get_mut().socket {
            TokioSocket::Tcp(stream) => Pin::new(stream).poll_read(context, buffer),
            TokioSocket::Unix(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        octets: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let result = match &mut this.socket {
            TokioSocket::Tcp(stream) => Pin::new(stream).poll_write(context, octets),
            TokioSocket::Unix(stream) => Pin::new(stream).poll_write(context, octets),
        };
        this.is_blocked = result.is_pending();
        result
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().socket {
            TokioSocket::Tcp(stream) => Pin::new(stream).poll_flush(context),
            TokioSocket::Unix(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().socket {
            TokioSocket::Tcp(stream) => Pin::new(stream).poll_shutdown(context),
            TokioSocket::Unix(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
