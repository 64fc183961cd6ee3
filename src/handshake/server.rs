//! The server's side of the opening handshake (RFC 6455 §4.2).

use std::collections::HashSet;

use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, Version, header};

use super::HandshakeError;
use super::accept_key::{accept_key, is_key};
use super::access::Policy;
use super::headers::{Single, has_token, is_token, list, single};
use super::host::Authority;
use super::{deflate, extensions};
use crate::protocol::{Deflate, DeflateParameters};

/// How the server chooses one of the subprotocols that a client offers. The client's list must be
/// well formed in every case. Default: `None`.
#[derive(Clone, Debug, Default)]
pub enum Subprotocols {
    /// Chooses no subprotocol.
    #[default]
    None,
    /// Chooses the first offer, the client's preference: for endpoints that work with any.
    FirstOffered,
    /// Chooses the first offer that is in this list; without a match, no subprotocol.
    Supported(Vec<String>),
}

/// A valid handshake and the server's answer to it.
#[derive(Clone, Debug)]
pub struct Accepted {
    accept_key: String,
    subprotocol: Option<String>,
    deflate: Option<deflate::Answer>,
}

/// Checks Host and the form of the request target (RFC 9112 §3.2). This check comes before the
/// router.
///
/// # Errors
/// [`HandshakeError::Host`], [`HandshakeError::TargetForm`] or
/// [`HandshakeError::MisdirectedRequest`].
pub fn check_host(request: &Parts, policy: &Policy) -> Result<(), HandshakeError> {
    let host = match single(&request.headers, &header::HOST) {
        Single::Once(host) => {
            let host = std::str::from_utf8(host).ok().and_then(Authority::parse);
            Some(host.ok_or(HandshakeError::Host)?)
        }
        // HTTP/1.0 has no Host. A later check refuses the request for its version.
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
    // An absolute target overrides Host (RFC 9112 §3.2.2) and is checked in the same way: http::Uri
    // accepts a user name and any port (RFC 9110 §4.2.4).
    let authority = match target.authority() {
        Some(authority) => {
            Some(Authority::parse(authority.as_str()).ok_or(HandshakeError::TargetForm)?)
        }
        None => host,
    };
    let allowed = &policy.allowed_hosts;
    let is_ours = |host| allowed.iter().any(|allowed| allowed.admits(&host));
    match allowed.is_empty() || authority.is_some_and(is_ours) {
        true => Ok(()),
        false => Err(HandshakeError::MisdirectedRequest), // RFC 9110 §15.5.20
    }
}

/// Whether a request tries to open a WebSocket, correctly or not. A path that serves both a page
/// and an endpoint refuses a faulty handshake and does not answer it with the page.
///
/// True if Upgrade names websocket, or if the request has any Sec-WebSocket header: those headers
/// remain when a proxy removes Upgrade and Connection (RFC 9110 §7.6.1). A server may ignore an
/// Upgrade to any other protocol (RFC 9110 §7.8): curl and Java's HttpClient offer h2c with every
/// request and accept a plain answer.
pub fn wants_upgrade(request: &Parts) -> bool {
    let mut names = request.headers.keys();
    names.any(|name| name.as_str().starts_with("sec-websocket-"))
        || has_token(&request.headers, &header::UPGRADE, "websocket")
}

/// Checks the opening handshake (RFC 6455 §4.2.1) of a request whose host and path are already
/// checked. `deflate` is the server's setting for permessage-deflate; with `None` every extension
/// is declined.
///
/// # Errors
/// The [`HandshakeError`] of the first broken rule, in the order of the module's documentation.
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
    // An Upgrade in an HTTP/1.0 request is ignored (RFC 9110 §7.8).
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

/// Checks Origin and token of a request that acts for a client without opening a WebSocket, such as
/// Socket.IO's polling. A GET needs no Origin, because browsers leave it out (Fetch §3.2), and a
/// [preflight](is_preflight) needs no token.
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

/// Whether the request is a CORS preflight (Fetch §4.8). A browser sends no token with it.
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

/// Checks the token, if the policy has one.
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
    /// The chosen subprotocol, if any.
    pub fn subprotocol(&self) -> Option<&str> {
        self.subprotocol.as_deref()
    }

    /// The agreed parameters of permessage-deflate, `None` without compression (RFC 7692 §5).
    pub fn deflate(&self) -> Option<DeflateParameters> {
        self.deflate.as_ref().map(|answer| answer.parameters)
    }

    /// The 101 response (§4.2.2).
    pub fn response(&self) -> Response<()> {
        let mut response = Response::new(());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = response.headers_mut();
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        let mut add = |name, text: &str| {
            // Base64 and tokens are always valid header values.
            if let Ok(value) = HeaderValue::from_str(text) {
                headers.insert(name, value);
            }
        };
        add(header::SEC_WEBSOCKET_ACCEPT, &self.accept_key);
        if let Some(subprotocol) = &self.subprotocol {
            add(header::SEC_WEBSOCKET_PROTOCOL, subprotocol);
        }
        if let Some(deflate) = &self.deflate {
            add(header::SEC_WEBSOCKET_EXTENSIONS, &deflate.header);
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

/// Whether the request has a body. hyper would upgrade the connection anyway and pass on the body
/// as frames.
fn has_body(headers: &HeaderMap) -> bool {
    headers.contains_key(header::TRANSFER_ENCODING)
        || headers
            .get_all(header::CONTENT_LENGTH)
            .iter()
            .any(|length| length.as_bytes().trim_ascii() != b"0")
}

/// The subprotocols that the client offers, in its order of preference (§4.1, 10).
fn offered_subprotocols(headers: &HeaderMap) -> Result<Vec<&str>, HandshakeError> {
    let mut seen = HashSet::new();
    // §4.1, 10: tokens, all different; §11.3.4: at least one
    list(headers, &header::SEC_WEBSOCKET_PROTOCOL, |offer| {
        let is_new_token = is_token(offer) && seen.insert(offer);
        std::str::from_utf8(offer).ok().filter(|_| is_new_token)
    })
    .ok_or(HandshakeError::Subprotocols)
}
