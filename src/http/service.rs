//! Answers requests. The checks have a fixed order, so that a request with several faults always
//! gets the same answer.

use std::cell::Cell;
use std::convert::Infallible;
use std::future::pending;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Response, Version, header};
use http_body_util::Full;
use http_body_util::channel::Channel;
use hyper::body::Incoming;
use hyper::service::Service;

use super::body::CountedBytes;
use super::chunked::write_chunks;
use super::context::HttpContext;
use super::endpoint::Admitted;
use super::limited::IpSlot;
use super::mount::given;
use super::pages::forbid_sniffing;
use super::waiting::PhaseProgress;
use super::{Endpoint, NestedService, OnUpgrade, Page, Request, ServiceResponse};
use crate::engine::{ClientSocket, ConnectionDriver, EndpointIndex, PeerAddress};
use crate::handshake::{self, HandshakeError, Policy, Subprotocols};
use crate::log;

/// The hyper service of one connection: answers requests until one opens a WebSocket. hyper never
/// gets an answer to that request; the service stores it in the [`PendingUpgrade`].
#[derive(Clone)]
pub(super) struct HttpService {
    pub(super) context: Rc<HttpContext>,
    pub(super) pending_upgrade: PendingUpgrade,
    /// The peer: a client, or a client's proxy.
    pub(super) peer: PeerAddress,
    pub(super) progress: PhaseProgress,
}

/// Holds an accepted WebSocket until the connection's task takes it.
pub(super) type PendingUpgrade = Rc<Cell<Option<AcceptedUpgrade>>>;

/// A WebSocket that waits for its stream.
pub(super) struct AcceptedUpgrade {
    pub(super) owner: UpgradeTarget,
    /// The client's address.
    pub(super) client: PeerAddress,
    /// The 101. It must not be sent before the connection is open: a client that has it may rely on
    /// being a member of the rooms that the endpoint joins.
    pub(super) response: Response<()>,
}

/// The owner of a WebSocket's stream.
pub(super) enum UpgradeTarget {
    FrameLoop(Box<dyn ConnectionDriver<ClientSocket>>, EndpointIndex),
    /// A mounted service, with the place in the limit of the client's address.
    Mount(OnUpgrade, Option<IpSlot>),
}

impl HttpService {
    fn respond(
        &self,
        head: &Parts,
        client: PeerAddress,
        body: Incoming,
    ) -> Result<Answer, HandshakeError> {
        let context = &self.context;
        let wants_upgrade = handshake::wants_upgrade(head);
        match handshake::check_host(head, &context.policy) {
            Err(HandshakeError::MisdirectedRequest)
                if !wants_upgrade && context.router.is_probe(head.uri.path()) => {}
            checked => checked?,
        }
        if let Some(mount) = context.router.find_mount(head.uri.path(), wants_upgrade) {
            return self.respond_mounted(Arc::clone(mount), client, wants_upgrade, head, body);
        }
        let is_connect = head.method == Method::CONNECT;
        let route = match context.router.find(head.uri.path(), wants_upgrade) {
            Some(route) => route,
            None if is_connect => return Err(HandshakeError::MethodNotAllowed),
            None => return Err(context.router.not_found(head.uri.path(), wants_upgrade)),
        };
        let request = route.request(head, client);
        let page = match &route.endpoint {
            Some(_) if wants_upgrade => None,
            _ => route.page(&request, &context.policy)?,
        };
        if let Some(page) = page {
            let response = page_response(page, &head.method);
            return Ok(match wants_upgrade {
                true => self.refuse(response, head),
                false => Answer::Now(Some(response)),
            });
        }
        let endpoint = route.endpoint.as_ref().ok_or(HandshakeError::NotFound)?;
        self.open(endpoint, &request, route.index, head)
    }

    /// Opens a WebSocket, if the handshake is valid and the endpoint accepts it.
    fn open(
        &self,
        endpoint: &Endpoint,
        request: &Request<'_>,
        index: EndpointIndex,
        head: &Parts,
    ) -> Result<Answer, HandshakeError> {
        let (context, client) = (&self.context, request.peer_address());
        let accept =
            |deflate| handshake::accept(head, &context.policy, &endpoint.subprotocols, deflate);
        if let Some(page) = &endpoint.refusal
            && let Err(error) = accept(None)
        {
            log::refused(error, head, client);
            return Ok(self.refuse(page(request, error).into_response(), head));
        }
        let chosen = match endpoint.choose(request) {
            Ok(chosen) => chosen,
            Err(page) => {
                accept(None)?;
                return Ok(self.refuse(page.into_response(), head));
            }
        };
        let endpoint = chosen.as_ref().unwrap_or(endpoint);
        // Compression keeps a window for the client, so it is declined while memory is scarce.
        let compresses = endpoint.compresses && !context.bounds.unfinished.is_scarce();
        let deflate = context.settings.deflate.as_ref();
        let accepted = accept(deflate.filter(|_| compresses))?;
        let deflate = accepted.deflate();
        let request = request.with_subprotocol(accepted.subprotocol());
        let admitted = Admitted {
            settings: &context.settings,
            deflate: deflate.as_ref(),
            place: context.address_place(client)?,
        };
        let connection = endpoint.connection(&request, admitted)?;
        context.admit()?;
        context.observer.answered(101);
        let response = endpoint.changed(accepted.response());
        self.hand_over(
            UpgradeTarget::FrameLoop(connection, index),
            client,
            response,
        );
        Ok(Answer::Now(None))
    }

    fn hand_over(&self, owner: UpgradeTarget, client: PeerAddress, response: Response<()>) {
        self.pending_upgrade.set(Some(AcceptedUpgrade {
            owner,
            client,
            response,
        }));
    }

    fn refuse(&self, refusal: Response<Full<Bytes>>, head: &Parts) -> Answer {
        Answer::Now(Some(refused(&self.context, refusal, head.version)))
    }

    fn respond_mounted(
        &self,
        mount: Arc<dyn NestedService>,
        client: PeerAddress,
        wants_upgrade: bool,
        head: &Parts,
        body: Incoming,
    ) -> Result<Answer, HandshakeError> {
        let context = &self.context;
        let given = || given(head.clone(), client, context, context.addresses.clone());
        let (service, version) = (self.clone(), head.version);
        if wants_upgrade {
            let accepted = handshake::accept(head, &context.policy, &Subprotocols::None, None)?;
            let response = accepted.response();
            let place = context.admit_from(client)?;
            let upgrading = mount.upgrade(http::Request::from_parts(given(), ()));
            return Ok(Answer::Later(Box::pin(async move {
                match upgrading.await {
                    Ok(adopt) => {
                        service.context.observer.answered(101);
                        service.hand_over(UpgradeTarget::Mount(adopt, place), client, response);
                        pending().await
                    }
                    Err(refusal) => refused(&service.context, *refusal, version),
                }
            })));
        }
        handshake::check_page(head, &context.policy)?;
        if context.policy.token.is_some() && handshake::is_preflight(head) {
            return Ok(Answer::Now(Some(mount.preflight(&given()))));
        }
        let replying = mount.respond(http::Request::from_parts(given(), body));
        Ok(Answer::Later(Box::pin(async move {
            match replying.await {
                ServiceResponse::Response(response) => response,
                ServiceResponse::Stream(response) => service.stream(response, client).await,
            }
        })))
    }

    /// Sends a body that has no known end: it takes over the connection.
    async fn stream(
        &self,
        response: Response<Channel<Bytes>>,
        client: PeerAddress,
    ) -> Response<Full<Bytes>> {
        let place = match self.context.admit_from(client) {
            Ok(place) => place,
            Err(error) => return error.response().map(Full::from),
        };
        let (mut head, body) = response.into_parts();
        forbid_sniffing(&mut head.headers);
        let chunked = HeaderValue::from_static("chunked");
        head.headers.insert(header::TRANSFER_ENCODING, chunked);
        let unsent = self.context.bounds.unsent.clone();
        let adopt: OnUpgrade = Box::new(|stream| {
            // An error means that the client is gone: nothing is left to do.
            tokio::spawn(async { write_chunks(stream, body, unsent).await.ok() });
        });
        let response = Response::from_parts(head, ());
        self.hand_over(UpgradeTarget::Mount(adopt, place), client, response);
        pending().await
    }
}

impl Service<http::Request<Incoming>> for HttpService {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = ResponseFuture;

    fn call(&self, request: http::Request<Incoming>) -> Self::Future {
        // Only mounted services read a body: pages ignore it, and a handshake with a body is
        // refused.
        let (head, body) = request.into_parts();
        self.progress.asked();
        let client = client(self.peer, &self.context.policy, &head.headers);
        let answer = self.respond(&head, client, body).unwrap_or_else(|error| {
            log::refused(error, &head, client);
            self.refuse(error.response().map(Full::from), &head)
        });
        ResponseFuture {
            answer,
            context: Rc::clone(&self.context),
        }
    }
}

/// The future of hyper's answer.
pub(super) struct ResponseFuture {
    answer: Answer,
    context: Rc<HttpContext>,
}

enum Answer {
    /// This response, once. `None` never completes: the stream is about to be taken from hyper.
    Now(Option<Response<Full<Bytes>>>),
    /// The response of a mounted service; never completes if the service takes the stream.
    Later(Pin<Box<dyn Future<Output = Response<Full<Bytes>>>>>),
}

impl Future for ResponseFuture {
    type Output = Result<Response<Full<Bytes>>, Infallible>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let response = match &mut this.answer {
            Answer::Now(response) => response.take().map_or(Poll::Pending, Poll::Ready),
            Answer::Later(answering) => answering.as_mut().poll(context),
        };
        response.map(|response| {
            let mut response = counted(&this.context, response);
            forbid_sniffing(response.headers_mut());
            Ok(response)
        })
    }
}

/// Counts a response's body in the unsent budget until it is written. If the budget is spent, the
/// answer is a 503 instead. A body of at most 4 KiB is not counted, nor is a body whose memory is
/// shared: hyper keeps no copy of it.
fn counted(context: &HttpContext, response: Response<Full<Bytes>>) -> Response<Full<Bytes>> {
    const SMALL: usize = 4 << 10;
    let (head, body) = response.into_parts();
    let body = body.into_inner().unwrap_or_default();
    if body.len() <= SMALL || !body.is_unique() {
        return Response::from_parts(head, Full::new(body));
    }
    if context.bounds.unsent.is_spent() {
        let refusal = HandshakeError::AtCapacity.response().map(Full::from);
        return refused(context, refusal, head.version);
    }
    let body = Bytes::from_owner(CountedBytes::new(body, &context.bounds.unsent));
    Response::from_parts(head, Full::new(body))
}

/// Completes a refusal: counts it, and closes the connection, so that later bytes are not read as
/// another request.
fn refused(
    context: &HttpContext,
    mut refusal: Response<Full<Bytes>>,
    version: Version,
) -> Response<Full<Bytes>> {
    context.observer.answered(refusal.status().as_u16());
    // hyper adds the keep-alive that an HTTP/1.0 client asks for only to an HTTP/1.1 response.
    *refusal.version_mut() = version;
    let close = HeaderValue::from_static("close");
    refusal
        .headers_mut()
        .entry(header::CONNECTION)
        .or_insert(close);
    refusal
}

fn page_response(page: Page, method: &Method) -> Response<Full<Bytes>> {
    // hyper omits the body in the answer to a HEAD.
    match *method {
        Method::GET | Method::HEAD => page.into_response(),
        _ => {
            let mut refusal = HandshakeError::MethodNotAllowed.response().map(Full::from);
            refusal
                .headers_mut()
                .insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
            refusal
        }
    }
}

/// Whether the peer is a proxy whose forwarded addresses are trusted.
pub(super) fn is_trusted(peer: PeerAddress, policy: &Policy) -> bool {
    match peer {
        PeerAddress::Ip(address) => policy.trusted_proxies.contains(address.ip()),
        PeerAddress::Unix => policy.trusted_proxies.unix,
        PeerAddress::Unknown => false,
    }
}

/// The client's address: the peer's, or the address that a trusted proxy forwards.
pub(super) fn client(peer: PeerAddress, policy: &Policy, headers: &HeaderMap) -> PeerAddress {
    is_trusted(peer, policy)
        .then(|| policy.trusted_proxies.client(headers))
        .flatten()
        .map_or(peer, PeerAddress::Ip)
}
