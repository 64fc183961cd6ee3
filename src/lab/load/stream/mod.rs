//! A non-blocking socket, with or without TLS.

#[cfg(not(feature = "tls"))]
#[path = "no_tls.rs"]
mod tls;
#[cfg(feature = "tls")]
mod tls;

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};

use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketType, bind, connect, socket, sockopt};

use crate::lab::load::target::Remote;
pub(crate) use tls::Connector;
use tls::Secured;

#[derive(Debug)]
pub(crate) enum LoadStream {
    Plain(LoadSocket),
    Tls(Box<Secured>),
}

/// A TCP or Unix domain socket.
#[derive(Debug)]
pub(crate) struct LoadSocket(OwnedFd);

impl LoadSocket {
    fn connect(remote: &Remote, source: Option<IpAddr>) -> io::Result<LoadSocket> {
        let family = match remote {
            Remote::Unix(_) => AddressFamily::UNIX,
            Remote::Tcp(SocketAddr::V4(_)) => AddressFamily::INET,
            Remote::Tcp(SocketAddr::V6(_)) => AddressFamily::INET6,
        };
        let socket = socket(family, SocketType::STREAM, None)?;
        rustix::io::fcntl_setfd(&socket, rustix::io::FdFlags::CLOEXEC)?;
        rustix::io::ioctl_fionbio(&socket, true)?;
        let begun = match remote {
            Remote::Unix(path) => connect(&socket, &SocketAddrUnix::new(path)?),
            Remote::Tcp(address) => {
                sockopt::set_tcp_nodelay(&socket, true)?;
                if let Some(source) = source {
                    bind(&socket, &SocketAddr::new(source, 0))?;
                }
                connect(&socket, address)
            }
        };
        match begun {
            Ok(()) | Err(Errno::INPROGRESS) => Ok(LoadSocket(socket)),
            Err(error) => Err(error.into()),
        }
    }
}

impl Read for LoadSocket {
    #[inline]
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        Ok(rustix::io::read(&self.0, buffer)?)
    }
}

impl Write for LoadSocket {
    #[inline]
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(rustix::io::write(&self.0, bytes)?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl LoadStream {
    /// Starts to connect.
    pub(crate) fn connect(remote: &Remote, source: Option<IpAddr>) -> io::Result<LoadStream> {
        Ok(LoadStream::Plain(LoadSocket::connect(remote, source)?))
    }

    fn socket(&self) -> &LoadSocket {
        match self {
            LoadStream::Plain(socket) => socket,
            LoadStream::Tls(stream) => stream.socket(),
        }
    }

    /// Whether the socket is connected.
    ///
    /// # Errors
    /// The connection failed.
    pub(crate) fn is_connected(&self) -> io::Result<bool> {
        let LoadSocket(socket) = self.socket();
        sockopt::socket_error(socket)??;
        match rustix::net::getpeername(socket) {
            Ok(_) => Ok(true),
            Err(Errno::NOTCONN) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Starts TLS.
    pub(crate) fn secure(self, connector: &Connector) -> io::Result<LoadStream> {
        match self {
            LoadStream::Plain(socket) => Ok(LoadStream::Tls(Box::new(connector.secure(socket)?))),
            secured => Ok(secured),
        }
    }

    /// Advances the TLS handshake. Returns whether it is complete; always true without TLS.
    pub(crate) fn is_secured(&mut self) -> io::Result<bool> {
        match self {
            LoadStream::Tls(stream) => stream.handshake(),
            LoadStream::Plain(_) => Ok(true),
        }
    }

    /// Whether accepted bytes have not been written to the socket.
    #[inline]
    pub(crate) fn is_blocked(&self) -> bool {
        match self {
            LoadStream::Tls(stream) => stream.is_blocked(),
            LoadStream::Plain(_) => false,
        }
    }

    #[inline]
    pub(crate) fn is_tls(&self) -> bool {
        matches!(self, LoadStream::Tls(_))
    }

    pub(crate) fn register(&self, registry: &Registry, token: Token) -> io::Result<()> {
        let both = Interest::READABLE | Interest::WRITABLE;
        let LoadSocket(socket) = self.socket();
        registry.register(&mut SourceFd(&socket.as_raw_fd()), token, both)
    }
}

impl Read for LoadStream {
    #[inline]
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            LoadStream::Plain(socket) => socket.read(buffer),
            LoadStream::Tls(stream) => stream.read(buffer),
        }
    }
}

impl Write for LoadStream {
    #[inline]
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            LoadStream::Plain(socket) => socket.write(bytes),
            LoadStream::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            LoadStream::Plain(_) => Ok(()),
            LoadStream::Tls(stream) => stream.flush(),
        }
    }
}
