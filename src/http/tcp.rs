//! A TCP stream that tokio's poller learns of only when it has to be waited for.
//!
//! What a busy server accepts has most often sent its request by then: it is read and answered, and
//! as a WebSocket goes on to the frame loop's poller, and the two system calls of a registration and
//! its end are saved, of seven.

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

/// Bytes that are read at once of a stream that has just come: a request's head has as many at
/// most, most often, and tokio reads without clearing the buffer first.
const FIRST_READ: usize = 2 << 10;

/// A connected, non-blocking stream.
#[derive(Debug)]
pub(super) struct Tcp(TcpState);

#[derive(Debug)]
enum TcpState {
    /// Nothing has been asked of it.
    Fresh(net::TcpStream),
    /// It has been read once, without having been waited for.
    Unregistered(net::TcpStream),
    Registered(TcpStream),
    /// Registering has failed.
    Closed,
}

impl Tcp {
    /// A stream that is non-blocking already.
    pub(super) fn new(stream: net::TcpStream) -> Tcp {
        Tcp(TcpState::Fresh(stream))
    }

    /// The bare stream, which no poller knows.
    pub(super) fn into_std(self) -> io::Result<net::TcpStream> {
        match self.0 {
            TcpState::Fresh(stream) | TcpState::Unregistered(stream) => Ok(stream),
            TcpState::Registered(stream) => stream.into_std(),
            TcpState::Closed => Err(closed()),
        }
    }

    /// The stream as tokio's poller knows it.
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

    /// Has it dropped by RST instead of FIN.
    pub(super) fn abort(self) {
        if let Ok(descriptor) = self.descriptor() {
            // Without it the socket closes by FIN, which nothing here can mend.
            let _ = sockopt::set_socket_linger(descriptor, Some(Duration::ZERO));
        }
    }

    /// Writes at once, whether the poller has said yet that it may or not, else waits.
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

/// Whether it can be done, but later.
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
        Poll::Ready(Ok(())) // a socket keeps nothing back
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

    /// Without a runtime, where registering would panic.
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
        const SIZE: usize = 16 << 20; // more than the buffers on the way hold
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
