//! Maps paths to endpoints, pages and services.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use super::{Endpoint, NestedService, Page};
use crate::engine::{EndpointIndex, Handler, PeerAddress};
use crate::handshake::{self, HandshakeError, Policy, query};

/// Maps paths to endpoints and pages. A path may have both: the endpoint answers requests for an
/// upgrade, the page answers all others.
///
/// Patterns match segment by segment, without normalising: `{name}` matches one segment that is not
/// empty; any other segment must be equal. If several patterns match, the pattern with the fewest
/// parameters wins. The pattern `*` matches every path that no other pattern matches.
///
/// ```
/// use frameloop::{Message, Router, WebSocket};
///
/// fn echo(socket: &mut WebSocket<'_>, message: Message<'_>) {
///     if message.is_data() {
///         socket.send(message);
///     }
/// }
///
/// let router = Router::new()
///     .websocket("/echo", |_| echo)
///     .websocket("/echo/{name}", |request| {
///         let name = request.param("name").to_owned();
///         move |socket: &mut WebSocket<'_>, message: Message<'_>| {
///             if let Message::Text(text) = message {
///                 socket.send(Message::Text(&format!("{name}: {text}")));
///             }
///         }
///     });
/// ```
#[derive(Debug, Default)]
pub struct Router {
    routes: Vec<Route>,
    mounts: Vec<(Box<str>, Arc<dyn NestedService>)>,
    speaks_h2c: bool,
}

/// The endpoint and the page of the paths that match a pattern.
#[derive(Debug)]
pub(super) struct Route {
    /// The route's index in `Router::routes`.
    pub(super) index: EndpointIndex,
    pattern: Box<str>,
    pub(super) endpoint: Option<Endpoint>,
    page: Option<PageMaker>,
}

struct PageMaker {
    make: Box<dyn Fn(&Request<'_>) -> Page + Send + Sync>,
    access: PageAccess,
}

/// What a request for a page must have.
#[derive(PartialEq)]
enum PageAccess {
    Public,
    /// A token is required, if the policy has one.
    Token,
    /// Any Host is accepted.
    Probe,
}

impl Router {
    /// Creates an empty router.
    pub fn new() -> Router {
        Router::default()
    }

    /// Adds an endpoint. `make` creates one handler for each connection.
    #[must_use]
    pub fn websocket<H: Handler>(
        self,
        pattern: &str,
        make: impl Fn(&Request<'_>) -> H + Send + Sync + 'static,
    ) -> Router {
        self.endpoint(pattern, Endpoint::new(make))
    }

    /// Adds an endpoint.
    #[must_use]
    pub fn endpoint(mut self, pattern: &str, endpoint: Endpoint) -> Router {
        self.route(pattern).endpoint = Some(endpoint);
        self
    }

    /// Adds a page for GET and HEAD.
    #[must_use]
    pub fn page(
        self,
        pattern: &str,
        make: impl Fn(&Request<'_>) -> Page + Send + Sync + 'static,
    ) -> Router {
        self.page_for(PageAccess::Public, pattern, Box::new(make))
    }

    /// Adds a page for GET and HEAD that requires the token of the server's [`Policy`], if the
    /// policy has one.
    #[must_use]
    pub fn private_page(
        self,
        pattern: &str,
        make: impl Fn(&Request<'_>) -> Page + Send + Sync + 'static,
    ) -> Router {
        self.page_for(PageAccess::Token, pattern, Box::new(make))
    }

    /// Adds a page that answers any Host, even one that [`Policy::allowed_hosts`] does not list:
    /// probes name the server by its address. The page should contain nothing secret.
    ///
    /// [`Policy::allowed_hosts`]: crate::handshake::Policy::allowed_hosts
    #[must_use]
    pub fn probe(
        self,
        path: &str,
        make: impl Fn(&Request<'_>) -> Page + Send + Sync + 'static,
    ) -> Router {
        self.page_for(PageAccess::Probe, path, Box::new(make))
    }

    fn page_for(
        mut self,
        access: PageAccess,
        pattern: &str,
        make: Box<dyn Fn(&Request<'_>) -> Page + Send + Sync>,
    ) -> Router {
        self.route(pattern).page = Some(PageMaker { make, access });
        self
    }

    /// Serves all paths that begin with `prefix` by a service. Exceptions are paths with a page,
    /// and requests for an upgrade on paths with an endpoint. The service's
    /// [endpoint](NestedService::endpoint), if any, is added at `prefix`.
    #[must_use]
    pub fn mount(mut self, prefix: &str, service: Arc<dyn NestedService>) -> Router {
        if let Some(endpoint) = Arc::clone(&service).endpoint() {
            self = self.endpoint(prefix, endpoint);
        }
        self.mounts.push((prefix.into(), service));
        self
    }

    /// Also serves mounted services over HTTP/2, to clients that begin with the HTTP/2 preface (RFC
    /// 9113 §3.3). Clients that ask for HTTP/2 by Upgrade get an HTTP/1.1 answer.
    #[cfg(feature = "h2c")]
    #[must_use]
    pub fn with_h2c(mut self) -> Router {
        self.speaks_h2c = true;
        self
    }

    pub(super) fn speaks_h2c(&self) -> bool {
        self.speaks_h2c
    }

    /// Closes the mounted services when the server ends.
    pub(crate) async fn close(&self) {
        for (_, mount) in &self.mounts {
            Arc::clone(mount).close().await;
        }
    }

    fn route(&mut self, pattern: &str) -> &mut Route {
        let index = self
            .routes
            .iter()
            .position(|route| *route.pattern == *pattern)
            .unwrap_or_else(|| {
                self.routes.push(Route {
                    index: EndpointIndex(u16::try_from(self.routes.len()).unwrap_or(u16::MAX)),
                    pattern: pattern.into(),
                    endpoint: None,
                    page: None,
                });
                self.routes.len() - 1
            });
        &mut self.routes[index]
    }

    /// Returns the mounted service of this path, unless a page or an endpoint has priority.
    pub(super) fn find_mount(
        &self,
        path: &str,
        wants_upgrade: bool,
    ) -> Option<&Arc<dyn NestedService>> {
        let mut mounts = self.mounts.iter();
        let (_, mount) = mounts.find(|(prefix, _)| path.starts_with(&**prefix))?;
        let has_route = self.routes.iter().any(|route| {
            let takes_upgrade = wants_upgrade && route.endpoint.is_some();
            let has_page = route.page.is_some() && *route.pattern == *path;
            has_page || (takes_upgrade && matches(&route.pattern, path))
        });
        (!has_route).then_some(mount)
    }

    /// Whether this path has a page for probes.
    pub(super) fn is_probe(&self, path: &str) -> bool {
        let is_probe = |page: &PageMaker| page.access == PageAccess::Probe;
        let mut routes = self.routes.iter();
        routes.any(|route| *route.pattern == *path && route.page.as_ref().is_some_and(is_probe))
    }

    /// The pattern of an endpoint, for metrics and logs.
    pub(crate) fn pattern(&self, endpoint: EndpointIndex) -> &str {
        let route = self.routes.get(usize::from(endpoint.0));
        route.map_or("", |route| &route.pattern)
    }

    /// Finds the route of a path. A page does not hide an endpoint from a request that wants a
    /// WebSocket.
    pub(super) fn find(&self, path: &str, wants_upgrade: bool) -> Option<&Route> {
        let exact = self.routes.iter().find(|route| *route.pattern == *path);
        exact
            .filter(|route| !wants_upgrade || route.endpoint.is_some())
            .or_else(|| self.find_with_parameters(path, wants_upgrade))
            .or(exact)
            .or_else(|| self.find_with_parameters(path, false))
    }

    /// Why a path without a route is refused.
    #[cold]
    pub(super) fn not_found(&self, path: &str, wants_upgrade: bool) -> HandshakeError {
        let other = match path.strip_suffix('/') {
            Some(shorter) => shorter.to_owned(),
            None => format!("{path}/"),
        };
        match self.find(&other, wants_upgrade) {
            Some(_) => HandshakeError::FinalSlash,
            None => HandshakeError::NotFound,
        }
    }

    /// The matching route with the fewest parameters.
    fn find_with_parameters(&self, path: &str, wants_upgrade: bool) -> Option<&Route> {
        self.routes
            .iter()
            .filter(|route| !wants_upgrade || route.endpoint.is_some())
            .filter(|route| matches(&route.pattern, path))
            .min_by_key(|route| match &*route.pattern {
                ANY => usize::MAX,
                pattern => pattern.matches('{').count(),
            })
    }
}

impl Route {
    pub(super) fn request<'a>(
        &'a self,
        head: &'a http::request::Parts,
        peer: PeerAddress,
    ) -> Request<'a> {
        Request {
            head,
            peer,
            pattern: &self.pattern,
            subprotocol: None,
        }
    }

    /// Returns this route's page, or `None` if it has no page. The error is a missing or wrong
    /// token.
    pub(super) fn page(
        &self,
        request: &Request<'_>,
        policy: &Policy,
    ) -> Result<Option<Page>, HandshakeError> {
        let Some(page) = &self.page else {
            return Ok(None);
        };
        if page.access == PageAccess::Token {
            handshake::check_token(request.head, policy)?;
        }
        Ok(Some((page.make)(request)))
    }
}

impl fmt::Debug for PageMaker {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Page")
    }
}

/// A request as endpoints and pages see it.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    head: &'a http::request::Parts,
    peer: PeerAddress,
    pattern: &'a str,
    subprotocol: Option<&'a str>,
}

impl<'a> Request<'a> {
    /// The segment of the path that matches `{name}` in the route's pattern, as the client sent it;
    /// empty if the pattern has no such parameter.
    pub fn param(&self, name: &str) -> &'a str {
        let pattern = self.pattern.split('/');
        pattern
            .zip(self.path().split('/'))
            .find(|(pattern, _)| parameter(pattern) == Some(name))
            .map_or("", |(_, segment)| segment)
    }

    /// The request's path, as the client sent it.
    pub fn path(&self) -> &'a str {
        self.head.uri.path()
    }

    /// The query: the part of the request's target after `?`, as the client sent it.
    pub fn query(&self) -> Option<&'a str> {
        self.head.uri.query()
    }

    /// The first value of a query parameter, with percent escapes and plus signs decoded; empty for
    /// a name without a value.
    pub fn query_param(&self, name: &str) -> Option<Cow<'a, str>> {
        query::parameter(self.query().unwrap_or_default(), name)
    }

    /// All parameters of the query: the names as the client sent them, the values decoded as in
    /// [`Request::query_param`].
    pub fn query_params(&self) -> impl Iterator<Item = (&'a str, Cow<'a, str>)> + use<'a> {
        query::parameters(self.query().unwrap_or_default())
    }

    /// The request's header fields.
    pub fn headers(&self) -> &'a http::HeaderMap {
        &self.head.headers
    }

    /// The client's address: the peer's address, or the address that a trusted proxy sends by the
    /// PROXY protocol or in the field of
    /// [`Policy::trusted_proxies`](crate::handshake::Policy::trusted_proxies).
    pub fn peer_address(&self) -> PeerAddress {
        self.peer
    }

    /// The chosen subprotocol.
    pub fn subprotocol(&self) -> Option<&'a str> {
        self.subprotocol
    }

    pub(super) fn with_subprotocol(self, subprotocol: Option<&'a str>) -> Request<'a> {
        Request {
            subprotocol,
            ..self
        }
    }
}

fn parameter(pattern: &str) -> Option<&str> {
    pattern.strip_prefix('{')?.strip_suffix('}')
}

/// The pattern for paths that no other pattern matches.
const ANY: &str = "*";

fn matches(pattern: &str, path: &str) -> bool {
    if pattern == ANY {
        return true;
    }
    let mut path = path.split('/');
    let all = pattern.split('/').all(|pattern| {
        path.next().is_some_and(|segment| match parameter(pattern) {
            Some(_) => is_parameter_value(segment),
            None => pattern == segment,
        })
    });
    all && path.next().is_none()
}

/// Whether a segment may be the value of a parameter: 1 to 255 bytes of visible ASCII in which each
/// percent sign begins an escape (RFC 3986 §2.1).
fn is_parameter_value(segment: &str) -> bool {
    let is_escape = |text: &str| {
        let digits = text.as_bytes().get(..2);
        digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    };
    (1..=255).contains(&segment.len())
        && segment.bytes().all(|byte| byte.is_ascii_graphic())
        && segment.split('%').skip(1).all(is_escape)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::WebSocket;
    use crate::protocol::Message;

    #[test]
    fn patterns_match_segment_by_segment_without_normalising() {
        for (pattern, path, expected) in [
            ("/ws", "/ws", true),
            ("/ws", "/ws/", false),
            ("/ws", "/WS", false),
            ("/ws", "/%77s", false),
            ("/ws", "/ws/../ws", false),
            ("/ws/{id}", "/ws/7", true),
            ("/ws/{id}", "/ws/", false),
            ("/ws/{id}", "/ws/7/", false),
            ("/ws/{id}", "/ws/%31", true),
            ("/ws/{id}", "/ws/%3", false),
            ("/ws/{id}", "/ws/%zz", false),
            ("/ws/{id}", "/ws/中", false),
            ("/ws/chat/{room}/", "/ws/chat/lobby/", true),
            ("/ws/chat/{room}/", "/ws/chat/lobby", false),
            ("/", "/", true),
            ("/", "", false),
            ("*", "/a/b", true),
        ] {
            assert_eq!(matches(pattern, path), expected, "{pattern} {path}");
        }
        assert!(matches("/{name}", &format!("/{}", "a".repeat(255))));
        assert!(!matches("/{name}", &format!("/{}", "a".repeat(256))));
    }

    #[test]
    fn the_route_with_the_fewest_parameters_wins() {
        let router = Router::new()
            .page("/{any}", |_| Page::text("any"))
            .page("/fixed", |_| Page::text("fixed"))
            .page("*", |_| Page::text("no other"));
        assert_eq!(&*router.find("/fixed", false).unwrap().pattern, "/fixed");
        assert_eq!(&*router.find("/other", false).unwrap().pattern, "/{any}");
        assert_eq!(&*router.find("/a/b", false).unwrap().pattern, "*");
        assert!(Router::new().find("/a/b", false).is_none());
    }

    #[test]
    fn a_page_hides_no_endpoint() {
        let router = Router::new()
            .websocket("*", |_| |_: &mut WebSocket<'_>, _: Message<'_>| {})
            .page("/page", |_| Page::text(""));
        assert_eq!(&*router.find("/page", false).unwrap().pattern, "/page");
        assert_eq!(&*router.find("/page", true).unwrap().pattern, "*");
        let pages = Router::new().page("/page", |_| Page::text(""));
        assert_eq!(&*pages.find("/page", true).unwrap().pattern, "/page");
    }
}
