//! HTTP/2 without TLS, for clients that begin with it (RFC 9113 §3.3): what is mounted, and no
//! WebSockets.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, Response, header};
use http_body_util::channel::Channel;
use http_body_util::{Either, Full};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};

use super::mount::given;
use super::pages::forbid_sniffing;
use super::service::client;
use super::timer::Timer;
use super::{Reply, Router, Upgraded};
use crate::engine::PeerAddress;
use crate::handshake::{self, HandshakeError, Policy};
use crate::log;
use crate::protocol::AssemblyBudget;

/// Requests of one client at a time: each may have a body in memory.
const MAX_CONCURRENT_STREAMS: u32 = 32;

/// Octets of a request's fields.
const MAX_HEADER_LIST_SIZE: u32 = 16 << 10;

/// A client that is silent for this long is asked for a sign of life, and has as long to give it.
const SILENCE: Duration = Duration::from_secs(20);

type Body = Either<Full<Bytes>, Channel<Bytes>>;

/// Answers requests until the client goes or the server ends. The stream's first octets are the
/// client's preface.
pub(super) async fn serve(
    stream: Upgraded,
    peer: PeerAddress,
    router: Arc<Router>,
    policy: Arc<Policy>,
    budget: AssemblyBudget,
) {
    let shutdown = stream.shutdown();
    let service = service_fn(move |request| {
        let (router, policy) = (Arc::clone(&router), Arc::clone(&policy));
        let budget = budget.clone();
        async move { Ok::<_, Infallible>(respond(request, peer, &router, &policy, &budget).await) }
    });
    let connection = http2::Builder::new(TokioExecutor::new())
        .timer(Timer)
        .max_concurrent_streams(MAX_CONCURRENT_STREAMS)
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

async fn respond(
    request: Request<Incoming>,
    peer: PeerAddress,
    router: &Router,
    policy: &Policy,
    budget: &AssemblyBudget,
) -> Response<Body> {
    let mut response = match mounted(request, peer, router, policy, budget).await {
        Ok(Reply::Response(response)) => response.map(Either::Left),
        Ok(Reply::Stream(response)) => response.map(Either::Right),
        Err(error) => {
            let mut refusal = error.response().map(Full::from);
            // It is the connection's, which has other requests (RFC 9113 §8.2.2).
            refusal.headers_mut().remove(header::CONNECTION);
            refusal.map(Either::Left)
        }
    };
    forbid_sniffing(response.headers_mut());
    response
}

async fn mounted(
    request: Request<Incoming>,
    peer: PeerAddress,
    router: &Router,
    policy: &Policy,
    budget: &AssemblyBudget,
) -> Result<Reply, HandshakeError> {
    let (mut head, body) = request.into_parts();
    // What :authority says is Host's (RFC 9113 §8.3.1), and the target is the rest.
    if let Some(authority) = head.uri.authority() {
        let host = HeaderValue::from_str(authority.as_str()).map_err(|_| HandshakeError::Host)?;
        head.headers.insert(header::HOST, host);
    }
    handshake::check_host(&head, policy)?;
    handshake::check_page(&head, policy)?;
    if let Some(target) = head.uri.path_and_query() {
        head.uri = target.clone().into();
    }
    let mount = router.find_mount(head.uri.path(), false);
    let mount = mount.ok_or(HandshakeError::NotFound)?;
    let peer = client(peer, policy, &head.headers);
    let head = given(head, peer, policy, budget, None);
    if policy.token.is_some() && handshake::is_preflight(&head) {
        return Ok(mount.preflight(&head).into());
    }
    Ok(Arc::clone(mount)
        .respond(Request::from_parts(head, body))
        .await)
}
