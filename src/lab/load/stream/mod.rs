//! A socket that does not block.

#[cfg(not(feature = "tls"))]
#[path = "no_tls.rs"]
mod tls;
#[cfg(feature = "tls")]
mod tls;

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr};

use mio::net::{TcpStream, UnixStream};
use mio::{Interest, Registry, Token};
use rustix::net::{AddressFamily, SocketType, bind, connect, socket};

use crate::lab::load::target::Remote;
pub(in crate::lab::load) use tls::Connector;
use tls::Secured;

#[derive(Debug)]
pub(in crate::lab::load) enum LoadStream {
    Tcp(TcpStream),
    Unix(UnixStream),
    Tls(Box<Secured>),
}

impl LoadStream {
    /// Begins to connect.
    pub(in crate::lab::load) fn connect(
        endpoint: &Remote,
        source: Option<IpAddr>,
    ) -> io::Result<LoadStream> {
        match endpoint {
            Remote::Unix(path) => Ok(LoadStream::Unix(UnixStream::connect(path)?)),
            Remote::Tcp(address) => {
                let stream = match source {
                    None => TcpStream::connect(*address)?,
                    Some(source) => connect_from(source, *address)?,
                };
                stream.set_nodelay(true)?;
                Ok(LoadStream::Tcp(stream))
            }
        }
    }

    /// Whether it is connected by now.
    ///
    /// # Errors
    /// Why it will not be.
    pub(in crate::lab::load) fn is_connected(&mut self) -> io::Result<bool> {
        let (error, peer) = match self {
            LoadStream::Tcp(stream) => (stream.take_error()?, stream.peer_addr().map(drop)),
            LoadStream::Unix(stream) => (stream.take_error()?, stream.peer_addr().map(drop)),
            LoadStream::Tls(stream) => {
                let socket = stream.socket();
                (socket.take_error()?, socket.peer_addr().map(drop))
            }
        };
        match (error, peer) {
            (Some(error), _) => Err(error),
            (None, Ok(())) => Ok(true),
            (None, Err(error)) if error.kind() == io::ErrorKind::NotConnected => Ok(false),
            (None, Err(error)) => Err(error),
        }
    }

    /// Begins TLS.
    pub(in crate::lab::load) fn secure(self, connector: &Connector) -> io::Result<LoadStream> {
        match self {
            LoadStream::Tcp(socket) => Ok(LoadStream::Tls(Box::new(connector.secure(socket)?))),
            other => Ok(other),
        }
    }

    /// Whether the TLS handshake is done, where there is one.
    pub(in crate::lab::load) fn is_secured(&mut self) -> io::Result<bool> {
        match self {
            LoadStream::Tls(stream) => stream.handshake(),
            _ => Ok(true),
        }
    }

    /// Whether bytes that were accepted wait to be written.
    #[inline]
    pub(in crate::lab::load) fn is_blocked(&self) -> bool {
        match self {
            LoadStream::Tls(stream) => stream.is_blocked(),
            _ => false,
        }
    }

    #[inline]
    pub(in crate::lab::load) fn is_tls(&self) -> bool {
        matches!(self, LoadStream::Tls(_))
    }

    pub(in crate::lab::load) fn register(
        &mut self,
        registry: &Registry,
        token: Token,
    ) -> io::Result<()> {
        let both = Interest::READABLE | Interest::WRITABLE;
        match self {
            LoadStream::Tcp(stream) => registry.register(stream, token, both),
            LoadStream::Unix(stream) => registry.register(stream, token, both),
            LoadStream::Tls(stream) => registry.register(stream.socket(), token, both),
        }
    }
}

impl Read for LoadStream {
    #[inline]
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            LoadStream::Tcp(stream) => stream.read(buffer),
            LoadStream::Unix(stream) => stream.read(buffer),
            LoadStream::Tls(stream) => stream.read(buffer),
        }
    }
}

impl Write for LoadStream {
    #[inline]
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            LoadStream::Tcp(stream) => stream.write(bytes),
            LoadStream::Unix(stream) => stream.write(bytes),
            LoadStream::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            LoadStream::Tls(stream) => stream.flush(),
            _ => Ok(()),
        }
    }
}

fn connect_from(source: IpAddr, address: SocketAddr) -> io::Result<TcpStream> {
    let family = match source {
        IpAddr::V4(_) => AddressFamily::INET,
        IpAddr::V6(_) => AddressFamily::INET6,
    };
    let socket = socket(family, SocketType::STREAM, None)?;
    rustix::io::fcntl_setfd(&socket, rustix::io::FdFlags::CLOEXEC)?;
    rustix::io::ioctl_fionbio(&socket, true)?;
    bind(&socket, &SocketAddr::new(source, 0))?;
    match connect(&socket, &address) {
        Ok(()) | Err(rustix::io::Errno::INPROGRESS) => {}
        Err(error) => return Err(error.into()),
    }
    Ok(TcpStream::from_std(std::net::TcpStream::from(socket)))
}
