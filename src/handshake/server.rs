//! A server's side of the opening handshake (RFC 6455 §4.2).

use std::collections::HashSet;

use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, Version, header};

use super::HandshakeError;
use super::accept_key::{accept_key, is_key};
use super::access::Policy;
use super::headers::{Single, elements, has_token, is_token, single, trim};
use super::host::Authority;
use super::{deflate, extensions};
use crate::protocol::{Deflate, DeflateParameters};

/// Which subprotocol of those that a client offers is chosen. The list's grammar is checked
/// whichever it is.
#[derive(Clone, Debug, Default)]
pub enum Subprotocols {
    /// None, whatever is offered.
    #[default]
    None,
    /// The one that the client prefers: for endpoints that work with any.
    FirstOffered,
    /// Of these, the one that the client prefers; none if it offers none of them.
    Supported(Vec<String>),
}

/// A handshake that is in order.
#[derive(Clone, Debug)]
pub struct Accepted {
    accept_key: String,
    subprotocol: Option<String>,
    deflate: Option<deflate::AgreedParameters>,
}

/// Checks whom the request is for, before its path means anything (RFC 9112 §3.2).
///
/// # Errors
/// [`HandshakeError::Host`], [`HandshakeError::TargetForm`] or
/// [`HandshakeError::MisdirectedRequest`].
pub fn check_host(request: &Parts, policy: &Policy) -> Result<(), HandshakeError> {
    let host = match single(&request.headers, &header::HOST) {
        Single::Once(host) => {
            let host = std::str::from_utf8(host).map_err(|_| HandshakeError::Host)?;
            Some(Authority::parse(host).ok_or(HandshakeError::Host)?)
        }
        // HTTP/1.0 does not know Host; what it asks for goes on to be refused for its version.
        Single::Missing if request.version < Version::HTTP_11 => None,
        Single::Missing | Single::Repeated => return Err(HandshakeError::Host), // RFC 9112 §3.2
    };
    let target = &request.uri;
    let is_absolute = target.scheme().is_some();
    let is_origin = target.path().starts_with('/') && target.authority().is_none();
    let fits_method = match request.method {
        Method::CONNECT => target.authority().is_some(),
        Method::OPTIONS => is_origin || is_absolute || target.path() == "*",
        _ => is_origin || is_absolute,
    };
    if !fits_method {
        return Err(HandshakeError::TargetForm); // RFC 9112 §3.2
    }
    // An absolute target overrides Host (RFC 9112 §3.2.2), and must be as sound: http::Uri lets a
    // user name and any port pass (RFC 9110 §4.2.4).
    let authority = match target.authority() {
        Some(authority) => {
            Some(Authority::parse(authority.as_str()).ok_or(HandshakeError::TargetForm)?)
        }
        None => host,
    };
    if policy.allowed_hosts.is_empty() {
        return Ok(());
    }
    let is_ours = authority.is_some_and(|authority| {
        policy
            .allowed_hosts
            .iter()
            .any(|allowed| allowed.admits(&authority))
    });
    is_ours
        .then_some(())
        .ok_or(HandshakeError::MisdirectedRequest) // RFC 9110 §15.5.20
}

/// Whether a request means to become a WebSocket, rightly or wrongly: a path that is both page and
/// endpoint refuses a botched handshake instead of answering it with the page.
///
/// It does if its Upgrade names websocket, or if it has any Sec-WebSocket field: that is what is left
/// when a proxy takes Upgrade and Connection away (RFC 9110 §7.6.1). An Upgrade to anything else is an
/// offer, which a server may pass over (RFC 9110 §7.8): curl and Java's HttpClient offer h2c with
/// every request, and expect the answer that they get without.
pub fn wants_upgrade(request: &Parts) -> bool {
    let mut names = request.headers.keys();
    names.any(|name| name.as_str().starts_with("sec-websocket-"))
        || has_token(&request.headers, &header::UPGRADE, "websocket")
}

/// Checks the opening handshake (RFC 6455 §4.2.1) of a request whose host and path are in order.
/// Without `deflate` every extension is declined.
///
/// # Errors
/// The [`HandshakeError`] of the first rule broken, in the order of the module's documentation.
pub fn accept(
    request: &Parts,
    policy: &Policy,
    subprotocols: &Subprotocols,
    deflate: Option<&Deflate>,
) -> Result<Accepted, HandshakeError> {
    let headers = &request.headers;
    if request.method != Method::GET {
        return Err(HandshakeError::MethodNotAllowed); // §4.2.1, 1
    }
    if has_body(headers) {
        return Err(HandshakeError::Body); // RFC 9112 §6.3
    }
    // HTTP/1.0 has no Upgrade, even if it says so (RFC 9110 §7.8).
    if request.version < Version::HTTP_11 || !has_token(headers, &header::UPGRADE, "websocket") {
        return Err(HandshakeError::Upgrade); // §4.2.1, 3
    }
    if !has_token(headers, &header::CONNECTION, "upgrade") {
        return Err(HandshakeError::Connection); // §4.2.1, 4
    }
    match single(headers, &header::SEC_WEBSOCKET_VERSION) {
        Single::Once(b"13") => {}
        Single::Once(_) | Single::Missing => return Err(HandshakeError::Version), // §4.2.1, 6
        Single::Repeated => return Err(HandshakeError::RepeatedVersion),          // §11.3.5
    }
    let key = match single(headers, &header::SEC_WEBSOCKET_KEY) {
        Single::Once(key) if is_key(key) => key,
        _ => return Err(HandshakeError::Key), // §4.2.1, 5
    };
    check_origin(request, policy, policy.require_origin)?;
    let offered = offered_subprotocols(headers)?;
    let extensions = extensions::offers(headers).map_err(|_| HandshakeError::Extensions)?; // §9.1
    check_token(request, policy)?;
    Ok(Accepted {
        accept_key: accept_key(key),
        subprotocol: subprotocols.choose(&offered).map(str::to_owned),
        deflate: deflate.and_then(|deflate| deflate::accept(&extensions, deflate)),
    })
}

/// Checks a request that speaks for a client all the same, without becoming a WebSocket: one of
/// Socket.IO's polling. An Origin is not missed in a GET, where browsers leave it out (Fetch §3.2),
/// nor a token in a [preflight](is_preflight).
///
/// # Errors
/// [`HandshakeError::Origin`], [`HandshakeError::RepeatedOrigin`] or
/// [`HandshakeError::Unauthorized`].
pub fn check_page(request: &Parts, policy: &Policy) -> Result<(), HandshakeError> {
    let sends_origin = request.method != Method::GET;
    check_origin(request, policy, policy.require_origin && sends_origin)?;
    match is_preflight(request) {
        true => Ok(()),
        false => check_token(request, policy),
    }
}

/// Whether a browser asks if it may send another request, with which it would show a token
/// (Fetch §4.8).
pub fn is_preflight(request: &Parts) -> bool {
    request.method == Method::OPTIONS
        && request.headers.contains_key(header::ORIGIN)
        && request
            .headers
            .contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
}

fn check_origin(request: &Parts, policy: &Policy, required: bool) -> Result<(), HandshakeError> {
    match single(&request.headers, &header::ORIGIN) {
        Single::Missing if required => Err(HandshakeError::Origin),
        Single::Missing => Ok(()),
        Single::Once(origin) if policy.allowed_origins.admits(origin) => Ok(()),
        Single::Once(_) => Err(HandshakeError::Origin), // §10.2
        Single::Repeated => Err(HandshakeError::RepeatedOrigin),
    }
}

/// Checks the token alone, where the policy has one.
///
/// # Errors
/// [`HandshakeError::Unauthorized`].
pub fn check_token(request: &Parts, policy: &Policy) -> Result<(), HandshakeError> {
    match &policy.token {
        Some(token) if !token.admits(request) => Err(HandshakeError::Unauthorized),
        _ => Ok(()),
    }
}

impl Accepted {
    /// The subprotocol that was chosen.
    pub fn subprotocol(&self) -> Option<&str> {
        self.subprotocol.as_deref()
    }

    /// The parameters of permessage-deflate, if it is in use (RFC 7692 §5).
    pub fn deflate(&self) -> Option<DeflateParameters> {
        self.deflate.map(|answer| answer.parameters)
    }

    /// The 101 (§4.2.2).
    pub fn response(&self) -> Response<()> {
        let mut response = Response::new(());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = response.headers_mut();
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        let mut add = |name, text: &str| {
            // Base64 and tokens are always header values.
            if let Ok(value) = HeaderValue::from_str(text) {
                headers.insert(name, value);
            }
        };
        add(header::SEC_WEBSOCKET_ACCEPT, &self.accept_key);
        if let Some(subprotocol) = &self.subprotocol {
            add(header::SEC_WEBSOCKET_PROTOCOL, subprotocol);
        }
        if let Some(deflate) = &self.deflate {
            add(header::SEC_WEBSOCKET_EXTENSIONS, &deflate.header());
        }
        response
    }
}

impl Subprotocols {
    fn choose<'a>(&self, offered: &[&'a str]) -> Option<&'a str> {
        let mut offered = offered.iter().copied();
        match self {
            Subprotocols::None => None,
            Subprotocols::FirstOffered => offered.next(),
            Subprotocols::Supported(supported) => {
                offered.find(|offer| supported.iter().any(|supported| supported == offer))
            }
        }
    }
}

/// Whether bytes follow the head that are not frames. hyper would upgrade all the same, and hand
/// them over as if they were.
fn has_body(headers: &HeaderMap) -> bool {
    headers.contains_key(header::TRANSFER_ENCODING)
        || headers
            .get_all(header::CONTENT_LENGTH)
            .iter()
            .any(|length| trim(length.as_bytes()) != b"0")
}

/// The subprotocols that the client offers, the one that it prefers first (§4.1, 10).
fn offered_subprotocols(headers: &HeaderMap) -> Result<Vec<&str>, HandshakeError> {
    let name = header::SEC_WEBSOCKET_PROTOCOL;
    let mut seen = HashSet::new();
    let offered = elements(headers, &name)
        .map(|offer| {
            let is_new_token = is_token(offer) && seen.insert(offer);
            std::str::from_utf8(offer).ok().filter(|_| is_new_token)
        })
        .collect::<Option<Vec<_>>>()
        .ok_or(HandshakeError::Subprotocols)?; // §4.1, 10: tokens, all different
    if offered.is_empty() && headers.contains_key(&name) {
        return Err(HandshakeError::Subprotocols); // §11.3.4: at least one element
    }
    Ok(offered)
}
