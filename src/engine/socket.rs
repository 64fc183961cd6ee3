//! The kinds of bare socket that the frame loop polls.
//!
//! They are read and written by system calls of our own, not by the C library's: of a message's
//! user time its points of cancellation, two locked instructions for each call, are a tenth.

use std::fmt;
use std::io::{self, IoSlice, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr};
use std::os::fd::AsFd;
use std::time::Duration;

use mio::event::Source;
use mio::{Interest, Registry, Token};
use rustix::net::{RecvFlags, SendFlags, sockopt};

#[cfg(feature = "tls")]
use super::tls::TlsSocket;

/// A connected, non-blocking stream socket.
#[derive(Debug)]
pub struct Socket {
    transport: Transport,
    peer: PeerAddress,
}

impl Socket {
    /// A socket, and who is at its other end.
    pub fn new(transport: Transport, peer: PeerAddress) -> Socket {
        Socket { transport, peer }
    }
}

/// What a socket speaks.
#[derive(Debug)]
pub enum Transport {
    /// TCP over IPv4 or IPv6.
    Tcp(mio::net::TcpStream),
    /// A Unix domain socket.
    Unix(mio::net::UnixStream),
    /// TLS over TCP.
    #[cfg(feature = "tls")]
    Tls(Box<TlsSocket>),
}

/// What a connection is driven with: non-blocking reads and writes, and an end to the writing.
pub trait Stream: Read + Write {
    /// Sends FIN: nothing more will be written.
    ///
    /// # Errors
    /// `WouldBlock` while something that was written has to go first.
    fn shutdown_write(&mut self) -> io::Result<()>;

    /// Whether it keeps something that was written to it, which `flush` would send on.
    fn has_unsent(&self) -> bool {
        false
    }

    /// Who is at the other end, as far as it has a name.
    fn peer_address(&self) -> PeerAddress {
        PeerAddress::Unknown
    }

    /// From now on dropping it sends RST instead of FIN, and what the peer has not taken is lost.
    fn reset(&mut self) {}
}

/// The address of a peer: what the socket was accepted from, or whom a proxy speaks for.
#[derive(Clone, Copy, Debug)]
pub enum PeerAddress {
    /// IP address and port, which is 0 where a proxy does not tell it.
    Ip(SocketAddr),
    /// At the other end of a Unix domain socket.
    Unix,
    /// It has none.
    Unknown,
}

impl PeerAddress {
    /// The IP address, if it has one.
    pub fn ip(self) -> Option<IpAddr> {
        match self {
            PeerAddress::Ip(address) => Some(address.ip()),
            PeerAddress::Unix | PeerAddress::Unknown => None,
        }
    }
}

impl fmt::Display for PeerAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PeerAddress::Ip(address) if address.port() == 0 => address.ip().fmt(formatter),
            PeerAddress::Ip(address) => address.fmt(formatter),
            PeerAddress::Unix => formatter.write_str("unix"),
            PeerAddress::Unknown => formatter.write_str("unknown"),
        }
    }
}

impl Stream for Socket {
    fn shutdown_write(&mut self) -> io::Result<()> {
        match &mut self.transport {
            Transport::Tcp(stream) => stream.shutdown(Shutdown::Write),
            Transport::Unix(stream) => stream.shutdown(Shutdown::Write),
            #[cfg(feature = "tls")]
            Transport::Tls(stream) => stream.shutdown_write(),
        }
    }

    fn peer_address(&self) -> PeerAddress {
        self.peer
    }

    fn has_unsent(&self) -> bool {
        match &self.transport {
            Transport::Tcp(_) | Transport::Unix(_) => false,
            #[cfg(feature = "tls")]
            Transport::Tls(stream) => stream.has_unsent(),
        }
    }

    fn reset(&mut self) {
        let stream = match &mut self.transport {
            Transport::Tcp(stream) => stream,
            Transport::Unix(_) => return,
            #[cfg(feature = "tls")]
            Transport::Tls(stream) => stream.stream_mut(),
        };
        let _ = sockopt::set_socket_linger(stream, Some(Duration::ZERO));
    }
}

#[inline]
fn receive(socket: impl AsFd, buffer: &mut [u8]) -> io::Result<usize> {
    let (received, _) = rustix::net::recv(socket, buffer, RecvFlags::empty())?;
    Ok(received)
}

#[inline]
fn send(socket: impl AsFd, octets: &[u8]) -> io::Result<usize> {
    Ok(rustix::net::send(socket, octets, SendFlags::NOSIGNAL)?)
}

impl Read for Socket {
    #[inline]
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match &mut self.transport {
            Transport::Tcp(stream) => receive(stream, buffer),
            Transport::Unix(stream) => receive(stream, buffer),
            #[cfg(feature = "tls")]
            Transport::Tls(stream) => stream.read(buffer),
        }
    }
}

impl Write for Socket {
    #[inline]
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        match &mut self.transport {
            Transport::Tcp(stream) => send(stream, octets),
            Transport::Unix(stream) => send(stream, octets),
            #[cfg(feature = "tls")]
            Transport::Tls(stream) => stream.write(octets),
        }
    }

    #[inline]
    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match &mut self.transport {
            Transport::Tcp(stream) => Ok(rustix::io::writev(stream, slices)?),
            Transport::Unix(stream) => Ok(rustix::io::writev(stream, slices)?),
            #[cfg(feature = "tls")]
            Transport::Tls(stream) => stream.write_vectored(slices),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.transport {
            Transport::Tcp(_) | Transport::Unix(_) => Ok(()),
            #[cfg(feature = "tls")]
            Transport::Tls(stream) => stream.flush(),
        }
    }
}

impl Source for Socket {
    fn register(
        &mut self,
        registry: &Registry,
        token: Token,
        interests: Interest,
    ) -> io::Result<()> {
        match &mut self.transport {
            Transport::Tcp(stream) => stream.register(registry, token, interests),
            Transport::Unix(stream) => stream.register(registry, token, interests),
            #[cfg(feature = "tls")]
            Transport::Tls(stream) => stream.stream_mut().register(registry, token, interests),
        }
    }

    fn reregister(
        &mut self,
        registry: &Registry,
        token: Token,
        interests: Interest,
    ) -> io::Result<()> {
        match &mut self.transport {
            Transport::Tcp(stream) => stream.reregister(registry, token, interests),
            Transport::Unix(stream) => stream.reregister(registry, token, interests),
            #[cfg(feature = "tls")]
            Transport::Tls(stream) => stream.stream_mut().reregister(registry, token, interests),
        }
    }

    fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        match &mut self.transport {
            Transport::Tcp(stream) => stream.deregister(registry),
            Transport::Unix(stream) => stream.deregister(registry),
            #[cfg(feature = "tls")]
            Transport::Tls(stream) => stream.stream_mut().deregister(registry),
        }
    }
}
