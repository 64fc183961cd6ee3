//! What a request is answered with: the fixed order of checks, so that a request with several
//! faults has one answer.

use std::cell::Cell;
use std::convert::Infallible;
use std::future::{Ready, ready};
use std::rc::Rc;

use bytes::Bytes;
use http::request::Parts;
use http::{Method, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::Service;

use super::Page;
use super::connection::Site;
use crate::engine::Drive;
use crate::handshake::{self, HandshakeError};
use crate::log;

/// hyper's view of one client: answers requests until one of them becomes a WebSocket, which it
/// then holds until hyper has let go of the stream.
pub(super) struct HttpService {
    site: Rc<Site>,
    accepted: Cell<Option<Box<dyn Drive>>>,
}

impl HttpService {
    pub(super) fn new(site: Rc<Site>) -> HttpService {
        HttpService {
            site,
            accepted: Cell::new(None),
        }
    }

    /// The connection of the request that was answered with 101.
    pub(super) fn into_accepted(self) -> Option<Box<dyn Drive>> {
        self.accepted.into_inner()
    }

    fn respond(&self, head: &Parts) -> Result<Response<Full<Bytes>>, HandshakeError> {
        let site = &self.site;
        handshake::check_host(head, &site.policy)?;
        let is_connect = head.method == Method::CONNECT;
        let matched = match site.router.find(head.uri.path()) {
            Some(matched) => matched,
            None if is_connect => return Err(HandshakeError::MethodNotAllowed),
            None => return Err(HandshakeError::NotFound),
        };
        let request = matched.request(head);
        let endpoint = match matched.endpoint {
            Some(endpoint) if handshake::wants_upgrade(head) => endpoint,
            endpoint => match (matched.page(&request), endpoint) {
                (Some(page), _) => return page_response(page, &head.method),
                (None, Some(endpoint)) => endpoint,
                (None, None) => return Err(HandshakeError::NotFound),
            },
        };
        let accepted = handshake::accept(head, &site.policy, endpoint.subprotocols())?;
        let request = request.with_subprotocol(accepted.subprotocol());
        let connection = endpoint.connection(&request, &site.settings)?;
        (site.admission)()?;
        self.accepted.set(Some(connection));
        Ok(accepted.response().map(|()| Full::default()))
    }
}

impl Service<http::Request<Incoming>> for HttpService {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn call(&self, request: http::Request<Incoming>) -> Self::Future {
        // The body goes unread: no page wants one, and a handshake with one is refused.
        let (head, _body) = request.into_parts();
        let response = self.respond(&head).unwrap_or_else(|error| {
            log::refused(error, &head);
            let mut refusal = error.response().map(Full::from);
            // To a response of HTTP/1.1 hyper adds the keep-alive that an HTTP/1.0 client asks for.
            *refusal.version_mut() = head.version;
            refusal
        });
        ready(Ok(response))
    }
}

fn page_response(page: Page, method: &Method) -> Result<Response<Full<Bytes>>, HandshakeError> {
    // hyper leaves the body out of the answer to a HEAD.
    match *method {
        Method::GET | Method::HEAD => Ok(page.into_response()),
        _ => Err(HandshakeError::MethodNotAllowed),
    }
}
