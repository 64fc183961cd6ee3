//! The accepted stream while hyper reads its requests.

use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::{Sleep, sleep};

use crate::engine::Socket;

/// A connected stream that is tokio's.
#[derive(Debug)]
pub(crate) struct Stream {
    socket: TokioSocket,
    /// The deadline of what the client does not take, while there is such.
    blocked: Option<Pin<Box<Sleep>>>,
    /// How long the client may take nothing; zero is for ever.
    write_stall: Duration,
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

    /// The client's address, if it has one.
    pub(super) fn peer_address(&self) -> Option<IpAddr> {
        match &self.socket {
            TokioSocket::Tcp(stream) => stream.peer_addr().ok().map(|address| address.ip()),
            TokioSocket::Unix(_) => None,
        }
    }

    /// Whether the last that was to be written was not taken.
    pub(super) fn is_blocked(&self) -> bool {
        self.blocked.is_some()
    }

    /// Sets how long the client may take nothing of what waits for it: then writing fails.
    pub(super) fn with_write_stall(self, write_stall: Duration) -> Stream {
        Stream {
            write_stall,
            ..self
        }
    }

    /// What writing to the socket came to, unless it has come to nothing for too long.
    fn in_time(
        &mut self,
        written: Poll<io::Result<usize>>,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        if written.is_ready() {
            self.blocked = None;
            return written;
        }
        let write_stall = match self.write_stall {
            Duration::ZERO => Duration::MAX,
            write_stall => write_stall,
        };
        let deadline = self
            .blocked
            .get_or_insert_with(|| Box::pin(sleep(write_stall)));
        deadline
            .as_mut()
            .poll(context)
            .map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl From<TcpStream> for Stream {
    fn from(stream: TcpStream) -> Stream {
        Stream {
            socket: TokioSocket::Tcp(stream),
            blocked: None,
            write_stall: Duration::ZERO,
        }
    }
}

impl From<UnixStream> for Stream {
    fn from(stream: UnixStream) -> Stream {
        Stream {
            socket: TokioSocket::Unix(stream),
            blocked: None,
            write_stall: Duration::ZERO,
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
        let written = match &mut this.socket {
            TokioSocket::Tcp(stream) => Pin::new(stream).poll_write(context, octets),
            TokioSocket::Unix(stream) => Pin::new(stream).poll_write(context, octets),
        };
        this.in_time(written, context)
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
