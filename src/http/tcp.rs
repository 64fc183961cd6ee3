//! A TCP stream that is registered with tokio's poller only when a read or write must wait.
//!
//! On a busy server most accepted clients have already sent their request. The server reads and
//! answers it at once, and hands a WebSocket over to the frame loop's poller. This saves two of
//! seven system calls: registering with tokio's poller, and deregistering.

use std::io::{self, IoSlice, Read};
use std::mem;
use std::net;
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use rustix::net::{SendFlags, Shutdown, sockopt};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// Maximum bytes of the first read of a new stream. Most request heads are not larger. This read
/// must clear its buffer first; tokio's reads need not.
const FIRST_READ: usize = 2 << 10;

/// A connected, non-blocking stream.
#[derive(Debug)]
pub(super) struct Tcp(TcpState);

#[derive(Debug)]
enum TcpState {
    /// It has not been read yet.
    Fresh(net::TcpStream),
    /// It has been read once, without the poller.
    Unregistered(net::TcpStream),
    Registered(TcpStream),
    /// Registering has failed.
    Closed,
}

impl Tcp {
    /// Wraps a stream that is already non-blocking.
    pub(super) fn new(stream: net::TcpStream) -> Tcp {
        Tcp(TcpState::Fresh(stream))
    }

    /// Returns the standard library's stream, which no poller has registered.
    pub(super) fn into_std(self) -> io::Result<net::TcpStream> {
        match self.0 {
            TcpState::Fresh(stream) | TcpState::Unregistered(stream) => Ok(stream),
            TcpState::Registered(stream) => stream.into_std(),
            TcpState::Closed => Err(closed()),
        }
    }

    /// Returns tokio's stream; registers it if it is not registered yet.
    pub(super) fn registered(&mut self) -> io::Result<&mut TcpStream> {
        if let TcpState::Fresh(_) | TcpState::Unregistered(_) = self.0
            && let TcpState::Fresh(stream) | TcpState::Unregistered(stream) =
                mem::replace(&mut self.0, TcpState::Closed)
        {
            self.0 = TcpState::Registered(TcpStream::from_std(stream)?);
        }
        match &mut self.0 {
            TcpState::Registered(stream) => Ok(stream),
            TcpState::Fresh(_) | TcpState::Unregistered(_) | TcpState::Closed => Err(closed()),
        }
    }

    fn descriptor(&self) -> io::Result<BorrowedFd<'_>> {
        match &self.0 {
            TcpState::Fresh(stream) | TcpState::Unregistered(stream) => Ok(stream.as_fd()),
            TcpState::Registered(stream) => Ok(stream.as_fd()),
            TcpState::Closed => Err(closed()),
        }
    }

    /// Closes the connection by RST instead of FIN.
    pub(super) fn abort(self) {
        if let Ok(descriptor) = self.descriptor() {
            // If this fails, the socket closes by FIN, which cannot be changed here.
            let _ = sockopt::set_socket_linger(descriptor, Some(Duration::ZERO));
        }
    }

    /// Writes at once, without waiting for the poller; waits only if the socket is not writable.
    fn poll_write_by(
        &mut self,
        at_once: impl FnOnce(BorrowedFd<'_>) -> rustix::io::Result<usize>,
        wait: impl FnOnce(Pin<&mut TcpStream>) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        match at_once(self.descriptor()?).map_err(io::Error::from) {
            Err(error) if is_not_yet(&error) => wait(Pin::new(self.registered()?)),
            result => Poll::Ready(result),
        }
    }
}

/// Whether the operation can succeed later.
fn is_not_yet(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
    )
}

fn closed() -> io::Error {
    io::ErrorKind::NotConnected.into()
}

impl AsyncRead for Tcp {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if let TcpState::Fresh(_) = this.0
            && let TcpState::Fresh(mut stream) = mem::replace(&mut this.0, TcpState::Closed)
        {
            let length = buffer.remaining().min(FIRST_READ);
            let read = stream.read(buffer.initialize_unfilled_to(length));
            this.0 = TcpState::Unregistered(stream);
            match read {
                Ok(bytes) => {
                    buffer.advance(bytes);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if is_not_yet(&error) => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        Pin::new(this.registered()?).poll_read(context, buffer)
    }
}

impl AsyncWrite for Tcp {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.get_mut().poll_write_by(
            |descriptor| rustix::net::send(descriptor, bytes, SendFlags::NOSIGNAL),
            |stream| stream.poll_write(context, bytes),
        )
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.get_mut().poll_write_by(
            |descriptor| rustix::io::writev(descriptor, parts),
            |stream| stream.poll_write_vectored(context, parts),
        )
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(())) // a socket has nothing to flush
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let end = rustix::net::shutdown(self.descriptor()?, Shutdown::Write);
        Poll::Ready(end.map_err(io::Error::from))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::task::Waker;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    fn pair() -> (net::TcpStream, Tcp) {
        let listener = net::TcpListener::bind("127.0.0.1:0").unwrap();
        let client = net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (stream, _) = listener.accept().unwrap();
        stream.set_nonblocking(true).unwrap();
        (client, Tcp::new(stream))
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
        drop(stream.into_std().unwrap());
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
