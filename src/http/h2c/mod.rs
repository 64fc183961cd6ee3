//! HTTP/2 without TLS, for clients that begin with the HTTP/2 preface (RFC 9113 §3.3). It serves
//! mounted services, without WebSockets.

mod outgoing;
mod streams;

use std::convert::Infallible;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{HeaderName, HeaderValue, Request, Response, header};
use http_body_util::{Either, Full};
use hyper::body::{Body, Incoming};
use hyper::rt::{Sleep, Timer};
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use self::outgoing::Outgoing;
use self::streams::Streams;
use super::mount::given;
use super::pages::forbid_sniffing;
use super::service::client;
use super::timer::CoarseSleep;
use super::{HttpShared, ServiceResponse, Upgraded};
use crate::engine::PeerAddress;
use crate::handshake::{self, HandshakeError};
use crate::log;

/// Maximum concurrent requests of one client.
const MAX_CONCURRENT_STREAMS: u32 = 100;

/// Maximum requests with a body that are read or answered at a time for one client. Further
/// requests wait, each as long as a request head may take; then they get 503.
const MAX_BODIES: usize = 8;

/// Maximum unread bytes of a request's body. Bound: this number for each stream of a connection.
const STREAM_WINDOW: u32 = 16 << 10;

/// Maximum bytes of a request's header fields.
const MAX_HEADER_LIST_SIZE: u32 = 16 << 10;

/// A client that is silent for this long gets a PING, and has the same time to answer it.
const SILENCE: Duration = Duration::from_secs(20);

/// The state that the requests of one connection share. Requests and responses count in the budgets
/// of all clients of the server.
struct Client {
    peer: PeerAddress,
    shared: Arc<HttpShared>,
    /// Bound: [`MAX_BODIES`].
    bodies: Arc<Semaphore>,
}

/// Answers requests until the client disconnects or the server ends. The stream's first bytes are
/// the client's preface.
pub(super) async fn serve(stream: Upgraded, peer: PeerAddress, shared: Arc<HttpShared>) {
    let shutdown = shared.shutdown.clone();
    let write_stall = shared.settings.deadlines.write_stall;
    let client = Arc::new(Client {
        peer,
        shared,
        bodies: Arc::new(Semaphore::new(MAX_BODIES)),
    });
    let service = service_fn(move |request| {
        let client = Arc::clone(&client);
        async move { Ok::<_, Infallible>(client.respond(request).await) }
    });
    let connection = http2::Builder::new(Streams { write_stall })
        .timer(CoarseTimer)
        .max_concurrent_streams(MAX_CONCURRENT_STREAMS)
        .initial_stream_window_size(STREAM_WINDOW)
        // Waiting requests must not block the input of the others.
        .initial_connection_window_size(STREAM_WINDOW * MAX_CONCURRENT_STREAMS)
        .max_header_list_size(MAX_HEADER_LIST_SIZE)
        .keep_alive_interval(SILENCE)
        .keep_alive_timeout(SILENCE)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    let served = tokio::select! {
        served = connection.as_mut() => served,
        () = shutdown.draining() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = served {
        log::bad_request(&error);
    }
}

impl Client {
    async fn respond(&self, request: Request<Incoming>) -> Response<Outgoing> {
        let bounds = &self.shared.bounds;
        let mut loan = bounds.unfinished.loan();
        let (answer, place) = match loan.extend(head_size(&request)) {
            Ok(()) => match self.place(request.body()).await {
                Ok(place) => (self.mounted(request).await, place),
                Err(error) => (Err(error), None),
            },
            Err(_) => (Err(HandshakeError::AtCapacity), None),
        };
        let mut response = match answer {
            Ok(ServiceResponse::Response(response)) => response.map(Either::Left),
            Ok(ServiceResponse::Stream(response)) => response.map(Either::Right),
            Err(error) => {
                let mut refusal = error.response().map(Full::from);
                // HTTP/2 forbids this field (RFC 9113 §8.2.2), and the connection has other
                // requests.
                refusal.headers_mut().remove(header::CONNECTION);
                refusal.map(Either::Left)
            }
        };
        forbid_sniffing(response.headers_mut());
        response.map(|body| Outgoing::new(body, &bounds.unsent, streams::in_flight(), place))
    }

    /// Waits for a place among the requests with a body. `None` for a request without a body.
    async fn place(&self, body: &Incoming) -> Result<Option<OwnedSemaphorePermit>, HandshakeError> {
        let place = match body.is_end_stream() {
            true => None,
            false => {
                let place = Arc::clone(&self.bodies).acquire_owned();
                let patience = self.shared.head_timeout().unwrap_or(Duration::MAX);
                let place = timeout(patience, place).await;
                place.map_err(|_| HandshakeError::AtCapacity)?.ok()
            }
        };
        match self.shared.bounds.unsent.is_spent() {
            true => Err(HandshakeError::AtCapacity),
            false => Ok(place),
        }
    }

    async fn mounted(&self, request: Request<Incoming>) -> Result<ServiceResponse, HandshakeError> {
        let (mut head, body) = request.into_parts();
        let HttpShared { router, policy, .. } = &*self.shared;
        // Moves :authority to Host (RFC 9113 §8.3.1); the target keeps path and query.
        if let Some(authority) = head.uri.authority() {
            let host =
                HeaderValue::from_str(authority.as_str()).map_err(|_| HandshakeError::Host)?;
            head.headers.insert(header::HOST, host);
        }
        handshake::check_host(&head, policy)?;
        handshake::check_page(&head, policy)?;
        if let Some(target) = head.uri.path_and_query() {
            head.uri = target.clone().into();
        }
        let mount = router.find_mount(head.uri.path(), false);
        let mount = mount.ok_or(HandshakeError::NotFound)?;
        let peer = client(self.peer, policy, &head.headers);
        let head = given(head, peer, &self.shared, None);
        if policy.token.is_some() && handshake::is_preflight(&head) {
            return Ok(mount.preflight(&head).into());
        }
        Ok(Arc::clone(mount)
            .respond(Request::from_parts(head, body))
            .await)
    }
}

/// Bytes of memory that a request's head takes at most: names, values, and their places in the
/// map, which has room for up to twice as many.
fn head_size(request: &Request<Incoming>) -> usize {
    const FIELD: usize = 2 * (size_of::<HeaderName>() + size_of::<HeaderValue>() + 32);
    let fields = request.headers().iter();
    let fields = fields.map(|(name, value)| FIELD + name.as_str().len() + value.len());
    request.uri().path().len() + fields.sum::<usize>()
}

/// hyper's clock, with [`CoarseSleep`].
#[derive(Clone, Copy, Debug)]
struct CoarseTimer;

impl Timer for CoarseTimer {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Sleep>> {
        self.sleep_until(Instant::now() + duration)
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn Sleep>> {
        Box::pin(CoarseSleep::until(deadline))
    }
}
