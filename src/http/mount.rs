//! A service that has all paths below one to itself.

use std::fmt;
use std::future::ready;
use std::io::IoSlice;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use bytes::{Buf, Bytes};
use http::request::Parts;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::Full;
use http_body_util::channel::Channel;
use hyper::body::Incoming;
use tokio::io::{self, AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::runtime::Handle;
use tokio::time::timeout;

use super::linger::{Linger, linger};
use super::{Endpoint, HttpStream, IpConnectionLimit, Shutdown};
use crate::engine::{PeerAddress, UnsentBudget};
use crate::handshake::{HandshakeError, Policy};
use crate::protocol::AssemblyBudget;

/// A service that answers requests by itself, and takes the streams of its WebSockets whole, where
/// an [`Endpoint`](super::Endpoint) only sees messages. What reaches it has passed the checks of
/// Host, Origin and token, and WebSockets those of the opening handshake, too. The client's address is
/// among a request's extensions, a [`PeerAddress`](crate::engine::PeerAddress).
pub trait NestedService: fmt::Debug + Send + Sync + 'static {
    /// Answers a request that does not ask for an upgrade.
    fn respond(self: Arc<Self>, request: Request<Incoming>) -> BoxFuture<ServiceResponse>;

    /// Answers a [preflight](crate::handshake::is_preflight) that comes without the token, where one
    /// is asked for: by default says nothing, so that the browser asks no further.
    fn preflight(&self, request: &Parts) -> Response<Full<Bytes>> {
        let _ = request;
        let mut response = Response::default();
        *response.status_mut() = StatusCode::NO_CONTENT;
        response
    }

    /// Says what happens to a WebSocket's stream after the 101, or refuses it: by
    /// default with 404.
    fn upgrade(self: Arc<Self>, request: Request<()>) -> BoxFuture<Result<OnUpgrade, Rejection>> {
        let _ = request;
        let refusal = HandshakeError::NotFound.response().map(Full::from);
        Box::pin(ready(Err(Box::new(refusal))))
    }

    /// What its WebSockets are, where it does not take their streams: they open at the path that
    /// the service is mounted on.
    fn endpoint(self: Arc<Self>) -> Option<Endpoint> {
        None
    }

    /// Ends all that it has, because the server ends.
    fn close(self: Arc<Self>) -> BoxFuture<()> {
        Box::pin(ready(()))
    }
}

/// What a [`NestedService`] answers a request that does not ask for an upgrade.
pub enum ServiceResponse {
    /// A response, after which the connection is hyper's as before.
    Response(Response<Full<Bytes>>),
    /// A response whose body has no known end. By HTTP/1.1 its connection counts as a WebSocket
    /// does, and ends with the body.
    Stream(Response<Channel<Bytes>>),
}

impl ServiceResponse {
    /// The response's fields.
    pub fn headers_mut(&mut self) -> &mut HeaderMap {
        match self {
            ServiceResponse::Response(response) => response.headers_mut(),
            ServiceResponse::Stream(response) => response.headers_mut(),
        }
    }
}

impl From<Response<Full<Bytes>>> for ServiceResponse {
    fn from(response: Response<Full<Bytes>>) -> ServiceResponse {
        ServiceResponse::Response(response)
    }
}

impl fmt::Debug for ServiceResponse {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ServiceResponse::Response(response) => {
                formatter.debug_tuple("Response").field(response).finish()
            }
            ServiceResponse::Stream(response) => {
                let head = response.headers();
                formatter.debug_tuple("Stream").field(head).finish()
            }
        }
    }
}

/// A request's head as mounted services are given it. Its origin has been checked.
pub(super) fn given(
    mut head: Parts,
    peer: PeerAddress,
    policy: &Policy,
    (budget, unsent): (&AssemblyBudget, &UnsentBudget),
    addresses: Option<IpConnectionLimit>,
) -> Parts {
    head.extensions.insert(peer);
    head.extensions.insert(budget.clone());
    head.extensions.insert(Admission {
        is_trusted: policy.allowed_origins.names(&head.headers),
        addresses,
        unsent: unsent.clone(),
    });
    head
}

/// What a [`NestedService`] is about to say.
pub type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Where a mounted service finds, among a request's extensions, what it may hold its client to.
#[derive(Clone, Debug)]
pub struct Admission {
    /// The Origin is one that the policy names: it is trusted, not only let in.
    pub is_trusted: bool,
    /// The places of its address, if they are limited.
    pub addresses: Option<IpConnectionLimit>,
    /// What may wait to be sent to all clients.
    #[allow(dead_code, reason = "Socket.IO is optional")]
    pub(crate) unsent: UnsentBudget,
}

/// Takes a WebSocket's stream, on the runtime of the worker that it belongs to.
pub type OnUpgrade = Box<dyn FnOnce(Upgraded) + Send>;

/// What a WebSocket that is not to be gets instead of the 101.
pub type Rejection = Box<Response<Full<Bytes>>>;

/// The stream of a WebSocket from after the 101, which goes out with the first that is written, but
/// before anything is read or flushed. Dropped before the peer has sent FIN, it lingers: our FIN goes
/// out and what still comes is read for a while, so that the peer does not lose the last that was
/// sent to it.
pub struct Upgraded {
    /// Taken by the drop only.
    stream: Option<HttpStream>,
    /// The rest of the 101 that is not written yet. Bound: our own fields, for this client alone.
    head: Bytes,
    /// What came with the handshake, before anything else. Bound: `max_head_size`, for this client
    /// alone.
    early: Bytes,
    /// The reader that waits until the peer takes what was written.
    reader: Option<Waker>,
    /// Whether writing has failed: then there is nothing more to read either.
    failed: bool,
    /// Whether all has been read that the peer will ever send.
    ended: bool,
    /// Bound: `linger_size`, in bytes read and thrown away, and `Deadlines::linger`.
    linger: Linger,
    /// Given back when the stream is closed.
    place: Option<Box<dyn Send>>,
    /// Dropped with this.
    held: Option<Box<dyn Send>>,
    shutdown: Shutdown,
}

impl Upgraded {
    pub(super) fn new(
        stream: HttpStream,
        head: Bytes,
        early: Bytes,
        linger: Linger,
        place: Box<dyn Send>,
        shutdown: Shutdown,
    ) -> Upgraded {
        Upgraded {
            stream: Some(stream),
            head,
            early,
            reader: None,
            failed: false,
            ended: false,
            linger,
            place: Some(place),
            held: None,
            shutdown,
        }
    }

    /// Keeps something until this is dropped.
    #[must_use]
    pub fn holding(mut self, held: impl Send + 'static) -> Upgraded {
        self.held = Some(Box::new(held));
        self
    }

    /// Tells when the server is to end.
    pub fn shutdown(&self) -> Shutdown {
        self.shutdown.clone()
    }

    /// Resets the connection: the peer gets RST, and what was not sent yet is lost.
    pub fn abort(mut self) {
        if let Some(stream) = self.stream.take() {
            stream.abort();
        }
    }

    fn stream(&mut self) -> io::Result<&mut HttpStream> {
        self.stream
            .as_mut()
            .ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    /// Writes what is left of the 101 and, by the same write, of these bytes: how many of them.
    fn poll_write_head(
        &mut self,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        loop {
            let head = self.head.clone();
            let parts = [IoSlice::new(&head), IoSlice::new(bytes)];
            let written = Pin::new(self.stream()?).poll_write_vectored(context, &parts);
            let written = ready!(self.wrote(written))?;
            self.head.advance(written.min(head.len()));
            if written > head.len() || (bytes.is_empty() && self.head.is_empty()) {
                return Poll::Ready(Ok(written - head.len()));
            }
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
        }
    }

    fn poll_head(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.head.is_empty() {
            return Poll::Ready(Ok(()));
        }
        self.poll_write_head(context, &[]).map_ok(drop)
    }

    fn wrote(&mut self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(result) = &written {
            self.failed |= result.is_err();
            if let Some(reader) = self.reader.take() {
                reader.wake();
            }
        }
        written
    }
}

impl AsyncRead for Upgraded {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.failed {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        ready!(this.poll_head(context))?;
        if !this.early.is_empty() {
            let bytes = this.early.len().min(buffer.remaining());
            buffer.put_slice(&this.early.split_to(bytes));
            return Poll::Ready(Ok(()));
        }
        if this.stream()?.is_blocked() {
            // A client that asks without taking the answers must not make us store them: what is
            // not read stays with the peer. The writer wakes this reader.
            this.reader = Some(context.waker().clone());
            return Poll::Pending;
        }
        let before = buffer.remaining();
        ready!(Pin::new(this.stream()?).poll_read(context, buffer))?;
        this.ended = before > 0 && buffer.remaining() == before;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Upgraded {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.failed {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())); // amid a frame, maybe
        }
        if !this.head.is_empty() {
            return this.poll_write_head(context, bytes);
        }
        let written = Pin::new(this.stream()?).poll_write(context, bytes);
        this.wrote(written)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_head(context))?;
        let flushed = Pin::new(this.stream()?).poll_flush(context).map_ok(|()| 0);
        this.wrote(flushed).map_ok(drop)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_head(context))?;
        Pin::new(this.stream()?).poll_shutdown(context)
    }
}

impl Drop for Upgraded {
    fn drop(&mut self) {
        let Some(mut stream) = self.stream.take() else {
            return;
        };
        if self.ended && self.head.is_empty() && stream.ends_by_close() {
            return;
        }
        let (head, place, lingering) = (
            std::mem::take(&mut self.head),
            self.place.take(),
            self.linger,
        );
        // Without a runtime the server is gone already.
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(async move {
                // The service may have written and read nothing.
                let head = stream.write_all(&head);
                if let Ok(Ok(())) = timeout(lingering.timeout, head).await {
                    linger(stream, lingering).await;
                }
                drop(place);
            });
        }
    }
}

impl fmt::Debug for Upgraded {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Upgraded")
            .field("stream", &self.stream)
            .finish_non_exhaustive()
    }
}
