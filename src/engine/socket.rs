//! The sockets that the frame loop polls.

use std::fmt;
use std::io::{self, IoSlice, Read, Write};
use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::time::Duration;

use mio::event::Source;
use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use rustix::net::{Shutdown, sockopt};

use super::bare::Bare;
use super::tls::TlsSession;

/// A connected, non-blocking stream socket: TCP over IPv4 or IPv6, or a Unix domain socket.
#[derive(Debug)]
pub struct ClientSocket {
    bare: Bare,
    /// The TLS session; `None` without TLS.
    tls: Option<Box<TlsSession>>,
    peer: CompactAddress,
}

/// A [`PeerAddress`] in 24 bytes, without the flow label of IPv6. It is compact because every
/// connection holds one.
#[derive(Clone, Copy, Debug)]
enum CompactAddress {
    /// Address, port, and the scope of IPv6.
    Ip(IpAddr, u16, u32),
    Unix,
    Unknown,
}

impl From<PeerAddress> for CompactAddress {
    fn from(peer: PeerAddress) -> CompactAddress {
        match peer {
            PeerAddress::Ip(SocketAddr::V4(v4)) => {
                CompactAddress::Ip(IpAddr::V4(*v4.ip()), v4.port(), 0)
            }
            PeerAddress::Ip(SocketAddr::V6(v6)) => {
                CompactAddress::Ip(IpAddr::V6(*v6.ip()), v6.port(), v6.scope_id())
            }
            PeerAddress::Unix => CompactAddress::Unix,
            PeerAddress::Unknown => CompactAddress::Unknown,
        }
    }
}

impl From<CompactAddress> for PeerAddress {
    fn from(peer: CompactAddress) -> PeerAddress {
        match peer {
            CompactAddress::Ip(IpAddr::V6(address), port, scope) => {
                PeerAddress::Ip(SocketAddrV6::new(address, port, 0, scope).into())
            }
            CompactAddress::Ip(address, port, _) => PeerAddress::Ip((address, port).into()),
            CompactAddress::Unix => PeerAddress::Unix,
            CompactAddress::Unknown => PeerAddress::Unknown,
        }
    }
}

impl ClientSocket {
    /// A socket without TLS, and the address of its peer.
    pub fn new(socket: impl Into<OwnedFd>, peer: PeerAddress) -> ClientSocket {
        ClientSocket {
            bare: Bare::from(socket.into()),
            tls: None,
            peer: peer.into(),
        }
    }

    /// Puts a TLS session whose handshake is done on the socket.
    #[cfg(feature = "tls")]
    pub(crate) fn secure(&mut self, session: rustls::ServerConnection) {
        self.tls = Some(Box::new(TlsSession::new(session)));
    }

    /// Whether the socket has a TLS session.
    pub(crate) fn is_secured(&self) -> bool {
        self.tls.is_some()
    }

    /// Changes the address of the peer.
    pub(crate) fn set_peer_address(&mut self, peer: PeerAddress) {
        self.peer = peer.into();
    }

    /// Appends the input that the TLS session has decrypted to `input`, because the poller does not
    /// report it.
    ///
    /// # Errors
    /// An error of the TLS session.
    pub(crate) fn take_decrypted(&mut self, input: &mut Vec<u8>) -> io::Result<()> {
        match &mut self.tls {
            None => Ok(()),
            Some(tls) => tls.take_decrypted(input),
        }
    }
}

impl AsFd for ClientSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.bare.as_fd()
    }
}

impl AsRawFd for ClientSocket {
    fn as_raw_fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}

/// A non-blocking byte stream under a connection, which can send FIN.
pub trait Stream: Read + Write {
    /// Sends FIN. Nothing is written after it.
    ///
    /// # Errors
    /// `WouldBlock` while the stream holds written bytes that must be sent first.
    fn shutdown_write(&mut self) -> io::Result<()>;

    /// Whether the stream holds written bytes that `flush` would send. Default: false.
    fn has_unsent(&self) -> bool {
        false
    }

    /// The address of the peer. Default: `PeerAddress::Unknown`.
    fn peer_address(&self) -> PeerAddress {
        PeerAddress::Unknown
    }

    /// Makes a later drop send RST instead of FIN. Bytes that the peer has not received are lost.
    /// Default: does nothing.
    fn reset(&mut self) {}
}

/// The address of a peer: of the accepted socket, or of the client that a proxy reports.
#[derive(Clone, Copy, Debug)]
pub enum PeerAddress {
    /// IP address and port. The port is 0 if a proxy does not report it.
    Ip(SocketAddr),
    /// The peer is connected over a Unix domain socket.
    Unix,
    /// The stream has no address.
    Unknown,
}

impl PeerAddress {
    /// The IP address. `None` for a Unix domain socket or an unknown peer.
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
        Ok(rustix::net::shutdown(&self.bare, Shutdown::Write)?)
    }

    fn peer_address(&self) -> PeerAddress {
        self.peer.into()
    }

    fn has_unsent(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.has_unsent())
    }

    fn reset(&mut self) {
        // If this fails, the socket closes with FIN, as a Unix domain socket always does.
        let _ = sockopt::set_socket_linger(&self.bare, Some(Duration::ZERO));
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
        SourceFd(&self.as_raw_fd()).register(registry, token, interests)
    }

    fn reregister(
        &mut self,
        registry: &Registry,
        token: Token,
        interests: Interest,
    ) -> io::Result<()> {
        SourceFd(&self.as_raw_fd()).reregister(registry, token, interests)
    }

    fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        SourceFd(&self.as_raw_fd()).deregister(registry)
    }
}
