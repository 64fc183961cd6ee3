//! Services that serve all paths below a prefix.

use std::fmt;
use std::future::ready;
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

use super::linger::linger;
use super::{Endpoint, HttpShared, HttpStream, IpConnectionLimit, Shutdown};
use crate::engine::{PeerAddress, UnsentBudget};
use crate::handshake::HandshakeError;

/// A service that answers requests itself and owns the byte streams of its WebSockets, while an
/// [`Endpoint`](super::Endpoint) only sees messages. Its requests have passed the checks of Host,
/// Origin and token; its WebSockets have also passed the opening handshake. The client's address, a
/// [`PeerAddress`](crate::engine::PeerAddress), is in the request's extensions.
pub trait NestedService: fmt::Debug + Send + Sync + 'static {
    /// Answers a request that does not ask for an upgrade.
    fn respond(self: Arc<Self>, request: Request<Incoming>) -> BoxFuture<ServiceResponse>;

    /// Answers a [preflight](crate::handshake::is_preflight), which has no token, if the policy
    /// requires one. The default is an empty 204, so that the browser does not send the request
    /// itself.
    fn preflight(&self, _request: &Parts) -> Response<Full<Bytes>> {
        let mut response = Response::default();
        *response.status_mut() = StatusCode::NO_CONTENT;
        response
    }

    /// Returns the function that receives a WebSocket's stream after the 101, or refuses the
    /// WebSocket. The default is a refusal with 404.
    fn upgrade(self: Arc<Self>, _request: Request<()>) -> BoxFuture<Result<OnUpgrade, Rejection>> {
        let refusal = HandshakeError::NotFound.response().map(Full::from);
        Box::pin(ready(Err(Box::new(refusal))))
    }

    /// The endpoint of the service's WebSockets, at the path that the service is mounted on. The
    /// default, `None`, is for services that take the streams.
    fn endpoint(self: Arc<Self>) -> Option<Endpoint> {
        None
    }

    /// Closes everything that the service has open when the server ends.
    fn close(self: Arc<Self>) -> BoxFuture<()> {
        Box::pin(ready(()))
    }
}

/// The answer of a [`NestedService`] to a request that does not ask for an upgrade.
#[derive(Debug)]
pub enum ServiceResponse {
    /// A whole response. hyper keeps the connection for further requests.
    Response(Response<Full<Bytes>>),
    /// A response whose body has no known end. Over HTTP/1.1 its connection counts as a WebSocket
    /// and ends with the body.
    Stream(Response<Channel<Bytes>>),
}

impl ServiceResponse {
    /// The response's header fields.
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

/// Adds the extensions that mounted services read to a request's head. The origin has been checked.
pub(super) fn given(
    mut head: Parts,
    peer: PeerAddress,
    shared: &HttpShared,
    addresses: Option<IpConnectionLimit>,
) -> Parts {
    head.extensions.insert(peer);
    head.extensions.insert(shared.bounds.unfinished.clone());
    head.extensions.insert(Admission {
        is_trusted: shared.policy.allowed_origins.names(&head.headers),
        addresses,
        unsent: shared.bounds.unsent.clone(),
    });
    head
}

/// The future of a [`NestedService`]'s answer.
pub type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// The limits that a mounted service applies to its client, in the request's extensions.
#[derive(Clone, Debug)]
pub struct Admission {
    /// Whether the policy lists the request's Origin: then it is trusted, not only accepted.
    pub is_trusted: bool,
    /// The limit of WebSockets per client address, if there is one.
    pub addresses: Option<IpConnectionLimit>,
    /// The unsent budget of all clients together.
    pub(crate) unsent: UnsentBudget,
}

impl Admission {
    /// Whether so much waits to be sent to all clients together that a service should queue nothing
    /// for this one.
    pub fn is_unsent_spent(&self) -> bool {
        self.unsent.is_spent()
    }
}

/// Receives a WebSocket's stream, on the runtime of the stream's worker.
pub type OnUpgrade = Box<dyn FnOnce(Upgraded) + Send>;

/// The response to a refused WebSocket, instead of the 101.
pub type Rejection = Box<Response<Full<Bytes>>>;

/// The stream of a WebSocket after the 101. The 101 is sent before the first write, read or flush.
/// If the stream is dropped before the peer has sent FIN, it lingers: the server sends FIN and reads
/// on for a while, so that the peer does not lose the last bytes sent to it.
pub struct Upgraded {
    /// Taken by `abort` and by the drop.
    stream: Option<HttpStream>,
    /// The part of the 101 that is not written yet. Bound: the server's own fields, for one client.
    head: Bytes,
    /// Input that came with the handshake; it is read first. Bound: `max_head_size`, for one
    /// client.
    early: Bytes,
    /// The waker of a read that waits until the peer has read the written bytes.
    reader: Option<Waker>,
    /// Whether a write has failed: then reads fail, too.
    failed: bool,
    /// Whether the peer's FIN has been read.
    ended: bool,
    /// The stream's place in the connection counts, released when the stream is closed.
    place: Option<Box<dyn Send>>,
    /// A value that is dropped with this `Upgraded`.
    held: Option<Box<dyn Send>>,
    shared: Arc<HttpShared>,
}

impl Upgraded {
    pub(super) fn new(
        stream: HttpStream,
        head: Bytes,
        early: Bytes,
        place: Box<dyn Send>,
        shared: Arc<HttpShared>,
    ) -> Upgraded {
        Upgraded {
            stream: Some(stream),
            head,
            early,
            reader: None,
            failed: false,
            ended: false,
            place: Some(place),
            held: None,
            shared,
        }
    }

    /// Keeps a value until this `Upgraded` is dropped.
    #[must_use]
    pub fn holding(mut self, held: impl Send + 'static) -> Upgraded {
        self.held = Some(Box::new(held));
        self
    }

    /// The server's shutdown.
    pub fn shutdown(&self) -> Shutdown {
        self.shared.shutdown.clone()
    }

    /// Resets the connection: the peer gets RST, and unsent bytes are lost.
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

    /// Writes the rest of the 101.
    fn poll_head(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.head.is_empty() {
            let head = self.head.clone();
            let written = Pin::new(self.stream()?).poll_write(context, &head);
            match ready!(self.wrote(written))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => self.head.advance(written),
            }
        }
        Poll::Ready(Ok(()))
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
            // A client that sends requests but does not read the answers must not fill the server's
            // memory: unread input stays with the peer. The writer wakes this reader.
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
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())); // maybe inside a frame
        }
        ready!(this.poll_head(context))?;
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
        let (head, place) = (std::mem::take(&mut self.head), self.place.take());
        let shared = Arc::clone(&self.shared);
        // Without a runtime the server has already ended.
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(async move {
                // The 101 is unsent if the service has neither written nor read.
                let head = stream.write_all(&head);
                if let Ok(Ok(())) = timeout(shared.settings.deadlines.linger, head).await {
                    linger(stream, &shared).await;
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
