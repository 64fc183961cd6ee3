//! The accepted stream while hyper reads its requests. Its socket is registered with tokio's poller
//! only when a read or write must wait.
//!
//! On a busy server most accepted clients have already sent their request. The server reads and
//! answers it at once, and hands a WebSocket over to the frame loop's poller. This saves two of
//! seven system calls: registering with tokio's poller, and deregistering.

use std::future::poll_fn;
use std::io::{self, IoSlice, Read, Write};
use std::mem;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use ipnet::IpNet;
use rustix::net::RecvFlags;
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::time::{Sleep, sleep};

use super::proxy_protocol;
use super::tls::{self, FirstBytes};
use super::waiting::PhaseProgress;
use crate::engine::{ClientSocket, PeerAddress, Stream};
use crate::tls::ServerConfig;

/// A connected, non-blocking stream, with or without TLS.
#[derive(Debug)]
pub(crate) struct HttpStream {
    /// The registration of the socket's descriptor, dropped before the socket.
    registration: Option<AsyncFd<RawFd>>,
    socket: ClientSocket,
    /// The socket has not been read yet: the first read does not need the poller.
    is_fresh: bool,
    /// The client's address: the peer's, or the address that a proxy reports.
    peer: PeerAddress,
    /// While a write is blocked: its deadline, and the number of bytes that the client must read by
    /// then.
    blocked: Option<(Pin<Box<Sleep>>, usize)>,
    /// Time in which the client must read [`PROGRESS`]; zero switches the deadline off.
    write_stall: Duration,
    /// The phase of the connection's requests.
    progress: PhaseProgress,
    /// Bytes read since a read last had to wait.
    read: usize,
}

/// Bytes after which a read waits until the other tasks of the worker have run: small requests of
/// HTTP/2 cost far more time than their bytes.
const AT_ONCE: usize = 16 << 10;

/// Bytes that a client must read within the write stall, or all that are left if fewer.
const PROGRESS: usize = 16 << 10;

/// Maximum bytes of the first read of a new socket. Most request heads are not larger, and the read
/// must clear its buffer first.
const FIRST_READ: usize = 2 << 10;

/// Registers a descriptor with tokio's poller. The caller drops the result before the descriptor.
#[expect(deprecated, reason = "its successor is an unsafe fn")]
pub(crate) fn register<T: AsRawFd>(source: T, interest: Interest) -> io::Result<AsyncFd<T>> {
    AsyncFd::with_interest(source, interest)
}

impl HttpStream {
    pub(crate) fn new(socket: ClientSocket) -> HttpStream {
        HttpStream {
            registration: None,
            peer: socket.peer_address(),
            socket,
            is_fresh: true,
            blocked: None,
            write_stall: Duration::ZERO,
            progress: PhaseProgress::new(),
            read: 0,
        }
    }

    /// Takes the socket from tokio, for the frame loop's own poller. Appends input that is already
    /// read to `early`.
    pub(super) fn into_socket(self, early: &mut Vec<u8>) -> io::Result<ClientSocket> {
        let mut socket = self.socket;
        socket.set_peer_address(self.peer);
        socket.take_decrypted(early)?;
        Ok(socket)
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
    pub(super) async fn proxied(&mut self, proxies: &[IpNet]) -> io::Result<()> {
        let peer = self.peer.ip().map(|peer| peer.to_canonical());
        if let Some(peer) = peer
            && proxies.iter().any(|proxies| proxies.contains(&peer))
            && let Some(client) = proxy_protocol::receive(self).await?
        {
            self.peer = PeerAddress::Ip(client);
        }
        Ok(())
    }

    /// Does the TLS handshake on a TCP stream; a Unix stream stays as it is. Records the client's
    /// first bytes in `first`.
    ///
    /// # Errors
    /// The stream has no TLS. The client has received an alert.
    pub(super) async fn secure(
        &mut self,
        config: &Arc<ServerConfig>,
        first: &FirstBytes,
    ) -> io::Result<()> {
        match self.peer {
            PeerAddress::Ip(_) => tls::secure(self, config, first).await,
            PeerAddress::Unix | PeerAddress::Unknown => Ok(()),
        }
    }

    /// The phase of the connection's requests.
    pub(super) fn progress(&self) -> &PhaseProgress {
        &self.progress
    }

    /// Closes the socket by RST; a Unix socket has no RST.
    pub(super) fn abort(mut self) {
        self.socket.reset();
    }

    /// Whether closing the socket is a clean end for a peer that has sent FIN. TLS must send its
    /// own end first.
    pub(super) fn ends_by_close(&self) -> bool {
        !self.is_secured()
    }

    fn is_secured(&self) -> bool {
        self.socket.is_secured()
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

    /// Registers the socket if it is not registered yet.
    pub(super) fn registered(&mut self) -> io::Result<(&AsyncFd<RawFd>, &mut ClientSocket)> {
        let registration = match self.registration.take() {
            Some(registration) => registration,
            None => {
                let interest = Interest::READABLE | Interest::WRITABLE;
                register(self.socket.as_raw_fd(), interest)?
            }
        };
        Ok((self.registration.insert(registration), &mut self.socket))
    }

    /// Does an operation on the socket as soon as it does not return `WouldBlock`.
    pub(super) async fn when<T>(
        &mut self,
        ready: Interest,
        mut operation: impl FnMut(&mut ClientSocket) -> io::Result<T>,
    ) -> io::Result<T> {
        poll_fn(|context| self.poll_when(ready, context, &mut operation)).await
    }

    /// Returns the first bytes of the input, and leaves them in the socket.
    pub(super) async fn peek(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let peeked = |socket: &mut ClientSocket| {
            let (bytes, _) = rustix::net::recv(socket.as_fd(), &mut *buffer, RecvFlags::PEEK)?;
            Ok(bytes)
        };
        self.when(Interest::READABLE, peeked).await
    }

    fn poll_when<T>(
        &mut self,
        is_ready: Interest,
        context: &mut Context<'_>,
        mut operation: impl FnMut(&mut ClientSocket) -> io::Result<T>,
    ) -> Poll<io::Result<T>> {
        // Most writes need no wait. The poller reports the input of a registered socket, so a read
        // without a report would be a wasted system call.
        if is_ready.is_writable() || self.registration.is_none() {
            match operation(&mut self.socket) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return Poll::Ready(result),
            }
        }
        let (registration, socket) = self.registered()?;
        loop {
            let mut guard = ready!(match is_ready.is_readable() {
                true => registration.poll_read_ready(context),
                false => registration.poll_write_ready(context),
            })?;
            if let Ok(result) = guard.try_io(|_| operation(socket)) {
                return Poll::Ready(result);
            }
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

impl AsyncRead for HttpStream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let read_before = mem::take(&mut this.read);
        if read_before >= AT_ONCE {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let mut length = buffer.remaining();
        if mem::take(&mut this.is_fresh) {
            length = length.min(FIRST_READ);
        } else {
            this.registered()?;
        }
        let space = buffer.initialize_unfilled_to(length);
        let read = this.poll_when(Interest::READABLE, context, |socket| socket.read(space));
        let bytes = ready!(read)?;
        buffer.advance(bytes);
        if bytes > 0 {
            this.progress.heard();
        }
        this.read = read_before + bytes;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for HttpStream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = this.poll_when(Interest::WRITABLE, context, |socket| socket.write(bytes));
        this.in_time(bytes.len(), written, context)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let write = |socket: &mut ClientSocket| socket.write_vectored(parts);
        let written = this.poll_when(Interest::WRITABLE, context, write);
        let wanted = parts.iter().map(|part| part.len()).sum();
        this.in_time(wanted, written, context)
    }

    /// True, so that hyper does not copy the bodies of responses.
    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.is_secured() {
            return Poll::Ready(Ok(())); // a socket has nothing to flush
        }
        // The TLS session buffers records that the socket has not accepted.
        let flushed = this.poll_when(Interest::WRITABLE, context, ClientSocket::flush);
        this.in_time(0, flushed.map_ok(|()| 0), context)
            .map_ok(drop)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut()
            .poll_when(Interest::WRITABLE, context, ClientSocket::shutdown_write)
    }
}

#[cfg(test)]
mod tests {
    use std::net;
    use std::os::unix::net::UnixStream;
    use std::task::Waker;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// Attack 79: returns how many of 30 writes succeed before the timeout. Each writes `taken`
    /// bytes and takes a tenth of the write stall.
    async fn writes(taken: usize) -> usize {
        const STALL: Duration = Duration::from_millis(300);
        let (stream, _peer) = UnixStream::pair().unwrap();
        let socket = ClientSocket::new(stream, PeerAddress::Unix);
        let mut stream = HttpStream::new(socket).with_write_stall(STALL);
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

    /// Attack 73: however much a client has sent, the task of its connection reads a part of it
    /// between two looks at the sockets.
    #[tokio::test]
    async fn attack_73_a_task_reads_16_kib_at_once() {
        const SENT: usize = 128 << 10;
        let (stream, mut peer) = UnixStream::pair().unwrap();
        stream.set_nonblocking(true).unwrap();
        peer.write_all(&[7; SENT]).unwrap();
        let mut stream = HttpStream::new(ClientSocket::new(stream, PeerAddress::Unix));
        let (mut total, mut most) = (0, 0);
        while total < SENT {
            let read = poll_fn(|context| {
                let (mut read, mut bytes) = (0, [0; 1 << 10]);
                let mut buffer = ReadBuf::new(&mut bytes);
                while Pin::new(&mut stream)
                    .poll_read(context, &mut buffer)
                    .is_ready()
                {
                    read += buffer.filled().len();
                    buffer.clear();
                }
                Poll::Ready(read)
            });
            let read = read.await;
            (total, most) = (total + read, most.max(read));
            tokio::task::yield_now().await;
        }
        assert_eq!(most, AT_ONCE);
    }

    fn pair() -> (net::TcpStream, HttpStream) {
        let listener = net::TcpListener::bind("127.0.0.1:0").unwrap();
        let client = net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (stream, peer) = listener.accept().unwrap();
        stream.set_nonblocking(true).unwrap();
        let socket = ClientSocket::new(stream, PeerAddress::Ip(peer));
        (client, HttpStream::new(socket))
    }

    /// The test has no runtime, so registering would panic.
    #[test]
    fn what_has_come_is_read_and_answered_without_a_poller() {
        let (mut client, mut stream) = pair();
        client.write_all(b"request").unwrap();
        let context = &mut Context::from_waker(Waker::noop());
        let mut bytes = [0; 16];
        let mut buffer = ReadBuf::new(&mut bytes);
        let read = Pin::new(&mut stream).poll_read(context, &mut buffer);
        assert!(matches!(read, Poll::Ready(Ok(()))), "{read:?}");
        assert_eq!(buffer.filled(), b"request");
        let written = Pin::new(&mut stream).poll_write(context, b"response");
        assert!(matches!(written, Poll::Ready(Ok(8))), "{written:?}");
        drop(stream.socket);
        let mut response = String::new();
        client.read_to_string(&mut response).unwrap();
        assert_eq!(response, "response");
    }

    #[tokio::test]
    async fn what_has_not_come_and_is_not_taken_is_waited_for() {
        const SIZE: usize = 16 << 20; // more than the socket buffers hold
        let (mut client, mut stream) = pair();
        let client = std::thread::spawn(move || {
            client.read_exact(&mut vec![0; SIZE]).unwrap();
            client.write_all(b"all of it").unwrap();
            client
        });
        stream.write_all(&vec![7; SIZE]).await.unwrap();
        let mut bytes = [0; 9];
        stream.read_exact(&mut bytes).await.unwrap();
        assert_eq!(&bytes, b"all of it");
        drop(client.join().unwrap());
        assert_eq!(stream.read(&mut bytes).await.unwrap(), 0);
    }
}
