//! The sockets that the frame loop polls, by their descriptors.
//!
//! They are read and written by system calls of our own, not by the C library's: of a message's
//! user time its points of cancellation, two locked instructions for each call, are a tenth.

use std::fmt;
use std::io::{self, IoSlice, Read, Write};
use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use mio::event::Source;
use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use rustix::net::{RecvFlags, SendFlags, Shutdown, sockopt};

use super::tls::TlsSession;

/// A connected, non-blocking stream socket: TCP over IPv4 or IPv6, or a Unix domain socket.
#[derive(Debug)]
pub struct ClientSocket {
    bare: Bare,
    /// The TLS that is spoken on it, if any is.
    tls: Option<Box<TlsSession>>,
    peer: CompactAddress,
}

/// A [`PeerAddress`] in 24 bytes, as every connection has one: without IPv6's flow label.
#[derive(Clone, Copy, Debug)]
enum CompactAddress {
    Ip {
        address: IpAddr,
        port: u16,
        scope: u32,
    },
    Unix,
    Unknown,
}

impl From<PeerAddress> for CompactAddress {
    fn from(peer: PeerAddress) -> CompactAddress {
        match peer {
            PeerAddress::Ip(address) => CompactAddress::Ip {
                address: address.ip(),
                port: address.port(),
                scope: match address {
                    SocketAddr::V4(_) => 0,
                    SocketAddr::V6(address) => address.scope_id(),
                },
            },
            PeerAddress::Unix => CompactAddress::Unix,
            PeerAddress::Unknown => CompactAddress::Unknown,
        }
    }
}

impl From<CompactAddress> for PeerAddress {
    fn from(peer: CompactAddress) -> PeerAddress {
        match peer {
            CompactAddress::Ip {
                address: IpAddr::V6(address),
                port,
                scope,
            } => PeerAddress::Ip(SocketAddrV6::new(address, port, 0, scope).into()),
            CompactAddress::Ip { address, port, .. } => PeerAddress::Ip((address, port).into()),
            CompactAddress::Unix => PeerAddress::Unix,
            CompactAddress::Unknown => PeerAddress::Unknown,
        }
    }
}

impl ClientSocket {
    /// A socket, and who is at its other end.
    pub fn new(socket: impl Into<OwnedFd>, peer: PeerAddress) -> ClientSocket {
        ClientSocket {
            bare: Bare(socket.into()),
            tls: None,
            peer: peer.into(),
        }
    }

    /// A socket on which TLS is spoken, whose handshake is done. What the session has read and
    /// decrypted must have been taken from it: the poller does not tell of that.
    #[cfg(feature = "tls")]
    pub fn secured(
        socket: impl Into<OwnedFd>,
        session: rustls::ServerConnection,
        peer: PeerAddress,
    ) -> ClientSocket {
        ClientSocket {
            tls: Some(Box::new(TlsSession::new(session))),
            ..ClientSocket::new(socket, peer)
        }
    }
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

impl Stream for ClientSocket {
    fn shutdown_write(&mut self) -> io::Result<()> {
        if let Some(tls) = &mut self.tls {
            tls.send_goodbye(&mut self.bare)?;
        }
        Ok(rustix::net::shutdown(&self.bare.0, Shutdown::Write)?)
    }

    fn peer_address(&self) -> PeerAddress {
        self.peer.into()
    }

    fn has_unsent(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.has_unsent())
    }

    fn reset(&mut self) {
        // Without it the socket closes by FIN, as a Unix domain socket always does.
        let _ = sockopt::set_socket_linger(&self.bare.0, Some(Duration::ZERO));
    }
}

impl Read for ClientSocket {
    #[inline]
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match &mut self.tls {
            None => self.bare.read(buffer),
            Some(tls) => tls.read(&mut self.bare, buffer),
        }
    }
}

impl Write for ClientSocket {
    #[inline]
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.tls {
            None => self.bare.write(bytes),
            Some(tls) => tls.write(&mut self.bare, bytes),
        }
    }

    #[inline]
    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match &mut self.tls {
            None => self.bare.write_vectored(slices),
            Some(tls) => tls.write_vectored(&mut self.bare, slices),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.tls {
            None => Ok(()),
            Some(tls) => tls.flush(&mut self.bare),
        }
    }
}

impl Source for ClientSocket {
    fn register(
        &mut self,
        registry: &Registry,
        token: Token,
        interests: Interest,
    ) -> io::Result<()> {
        SourceFd(&self.bare.0.as_raw_fd()).register(registry, token, interests)
    }

    fn reregister(
        &mut self,
        registry: &Registry,
        token: Token,
        interests: Interest,
    ) -> io::Result<()> {
        SourceFd(&self.bare.0.as_raw_fd()).reregister(registry, token, interests)
    }

    fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        SourceFd(&self.bare.0.as_raw_fd()).deregister(registry)
    }
}

/// A socket without TLS.
#[derive(Debug)]
pub(super) struct Bare(OwnedFd);

impl Read for Bare {
    #[inline]
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let (received, _) = rustix::net::recv(&self.0, buffer, RecvFlags::empty())?;
        Ok(received)
    }
}

impl Write for Bare {
    #[inline]
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(rustix::net::send(&self.0, bytes, SendFlags::NOSIGNAL)?)
    }

    #[inline]
    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        Ok(rustix::io::writev(&self.0, slices)?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
