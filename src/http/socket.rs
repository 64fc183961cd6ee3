//! A client's socket that is registered with tokio's poller only when a read or write must wait.
//!
//! On a busy server most accepted clients have already sent their request. The server reads and
//! answers it at once, and hands a WebSocket over to the frame loop's poller. This saves two of
//! seven system calls: registering with tokio's poller, and deregistering.

use std::future::poll_fn;
use std::io::{self, Read, Write};
use std::mem;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use rustix::net::RecvFlags;
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};

use crate::engine::{ClientSocket, Stream};

/// Maximum bytes of the first read of a new socket. Most request heads are not larger, and the read
/// must clear its buffer first.
const FIRST_READ: usize = 2 << 10;

/// A client's socket, with or without TLS.
#[derive(Debug)]
pub(super) struct AsyncSocket {
    /// The registration of the socket's descriptor, dropped before the socket.
    registration: Option<AsyncFd<RawFd>>,
    socket: ClientSocket,
    /// The socket has not been read yet: the first read does not need the poller.
    is_fresh: bool,
}

/// Registers a descriptor with tokio's poller. The caller drops the result before the descriptor.
#[expect(deprecated, reason = "its successor is an unsafe fn")]
pub(crate) fn register<T: AsRawFd>(source: T, interest: Interest) -> io::Result<AsyncFd<T>> {
    AsyncFd::with_interest(source, interest)
}

impl AsyncSocket {
    pub(super) fn new(socket: ClientSocket) -> AsyncSocket {
        AsyncSocket {
            registration: None,
            socket,
            is_fresh: true,
        }
    }

    /// Returns the socket, which no poller has registered.
    pub(super) fn into_inner(self) -> ClientSocket {
        self.socket
    }

    pub(super) fn get_ref(&self) -> &ClientSocket {
        &self.socket
    }

    pub(super) fn get_mut(&mut self) -> &mut ClientSocket {
        &mut self.socket
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
}

impl AsyncRead for AsyncSocket {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let mut length = buffer.remaining();
        if mem::take(&mut this.is_fresh) {
            length = length.min(FIRST_READ);
        } else {
            this.registered()?;
        }
        let space = buffer.initialize_unfilled_to(length);
        let read = this.poll_when(Interest::READABLE, context, |socket| socket.read(space));
        buffer.advance(ready!(read)?);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for AsyncSocket {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.get_mut()
            .poll_when(Interest::WRITABLE, context, |socket| socket.write(bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.get_mut()
            .poll_when(Interest::WRITABLE, context, |socket| {
                socket.write_vectored(parts)
            })
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut()
            .poll_when(Interest::WRITABLE, context, |socket| socket.flush())
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut()
            .poll_when(Interest::WRITABLE, context, |socket| {
                socket.shutdown_write()
            })
    }
}
#[cfg(test)]
mod tests {
    use std::net;
    use std::task::Waker;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::engine::PeerAddress;

    fn pair() -> (net::TcpStream, AsyncSocket) {
        let listener = net::TcpListener::bind("127.0.0.1:0").unwrap();
        let client = net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (stream, peer) = listener.accept().unwrap();
        stream.set_nonblocking(true).unwrap();
        let socket = ClientSocket::new(stream, PeerAddress::Ip(peer));
        (client, AsyncSocket::new(socket))
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
        drop(stream.into_inner());
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
