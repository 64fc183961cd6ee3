//! HTTP/2 without TLS, for clients that begin with it (RFC 9113 §3.3): what is mounted, and no
//! WebSockets.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, Response, header};
use http_body_util::channel::Channel;
use http_body_util::{BodyExt, Either, Full};
use hyper::body::{Frame, Incoming};
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};

use super::mount::given;
use super::pages::forbid_sniffing;
use super::service::client;
use super::timer::CoarseTimer;
use super::{Router, ServiceResponse, Upgraded};
use crate::engine::{Held, PeerAddress, UnsentBudget};
use crate::handshake::{self, HandshakeError, Policy};
use crate::log;
use crate::protocol::AssemblyBudget;

/// Requests of one client at a time. The body of each, and its answer, count in the budgets that all
/// clients of the server share.
const MAX_CONCURRENT_STREAMS: u32 = 32;

/// Bytes of a request's fields.
const MAX_HEADER_LIST_SIZE: u32 = 16 << 10;

/// A client that is silent for this long is asked for a sign of life, and has as long to give it.
const SILENCE: Duration = Duration::from_secs(20);

type EitherBody = Either<Full<Bytes>, Channel<Bytes>>;

/// Counts what is kept of a body until the client takes it.
type Counting = Box<dyn FnMut(Frame<Bytes>) -> Frame<Bytes> + Send>;

/// What of a body is kept, in the budget of what waits to be sent.
struct CountedChunk {
    data: Bytes,
    _held: Held,
}

impl AsRef<[u8]> for CountedChunk {
    fn as_ref(&self) -> &[u8] {
        &self.data
    }
}

fn counting(unsent: &UnsentBudget) -> Counting {
    let unsent = unsent.clone();
    Box::new(move |frame| {
        frame.map_data(|data| {
            let _held = Held::new(data.len(), &unsent);
            Bytes::from_owner(CountedChunk { data, _held })
        })
    })
}

/// Answers requests until the client goes or the server ends. The stream's first bytes are the
/// client's preface.
pub(super) async fn serve(
    stream: Upgraded,
    peer: PeerAddress,
    router: Arc<Router>,
    policy: Arc<Policy>,
    (budget, unsent): (AssemblyBudget, UnsentBudget),
) {
    let shutdown = stream.shutdown();
    let service = service_fn(move |request| {
        let (router, policy) = (Arc::clone(&router), Arc::clone(&policy));
        let (budget, unsent) = (budget.clone(), unsent.clone());
        async move {
            let response = respond(request, peer, &router, &policy, &budget, &unsent).await;
            Ok::<_, Infallible>(response.map(|body| body.map_frame(counting(&unsent))))
        }
    });
    let connection = http2::Builder::new(TokioExecutor::new())
        .timer(CoarseTimer)
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
    unsent: &UnsentBudget,
) -> Response<EitherBody> {
    let answer = match unsent.is_spent() {
        true => Err(HandshakeError::AtCapacity),
        false => mounted(request, peer, router, policy, budget).await,
    };
    let mut response = match answer {
        Ok(ServiceResponse::Response(response)) => response.map(Either::Left),
        Ok(ServiceResponse::Stream(response)) => response.map(Either::Right),
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
) -> Result<ServiceResponse, HandshakeError> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_of_a_body_is_counted_until_it_has_gone() {
        let unsent = UnsentBudget::new(1_000);
        let kept = counting(&unsent)(Frame::data(Bytes::from_static(&[7; 1_001])));
        assert!(unsent.is_spent());
        assert_eq!(kept.data_ref().unwrap(), &[7; 1_001][..]);
        drop(kept);
        assert_eq!(unsent.bytes(), 0);
    }
}
