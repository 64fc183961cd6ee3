//! Why a request is refused, with the status, headers and body of the refusal.

use std::fmt;

use http::{HeaderValue, Response, StatusCode, header};

/// The reason why a request is refused: a broken rule of the opening handshake, or a limit of this
/// server.
///
/// | variant | status | further headers |
/// |---|---|---|
/// | `Host`, `TargetForm`, `Body`, `Connection`, `RepeatedVersion`, `Key`, `RepeatedOrigin`, `Subprotocols`, `Extensions` | 400 | |
/// | `Unauthorized` | 401 | `WWW-Authenticate` |
/// | `Origin`, `Forbidden`, `NotANumber` | 403 | |
/// | `NotFound`, `FinalSlash` | 404 | |
/// | `MethodNotAllowed` | 405 | `Allow` |
/// | `MisdirectedRequest` | 421 | |
/// | `Upgrade`, `Version` | 426 | `Upgrade`, `Sec-WebSocket-Version` |
/// | `ShuttingDown`, `AtCapacity`, `AddressAtCapacity` | 503 | `Retry-After` |
///
/// Every refusal closes the connection, so that no byte after the request is read as another
/// request.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum HandshakeError {
    /// Host is missing, repeated or invalid (RFC 9112 §3.2).
    Host,
    /// The form of the request target is not allowed for the method (RFC 9112 §3.2).
    TargetForm,
    /// The request names a host that this server does not serve (RFC 9110 §15.5.20).
    MisdirectedRequest,
    /// No endpoint has this path.
    NotFound,
    /// No endpoint has this path, but one has it with a slash added to its end or taken from it.
    FinalSlash,
    /// The method is not GET (RFC 6455 §4.1).
    MethodNotAllowed,
    /// The request has a body; it would be read as frames.
    Body,
    /// Upgrade is missing or does not name websocket, or HTTP is older than 1.1 (RFC 6455 §4.2.1).
    Upgrade,
    /// Connection does not name Upgrade (RFC 6455 §4.2.1).
    Connection,
    /// Sec-WebSocket-Version is missing or not 13 (RFC 6455 §4.2.2).
    Version,
    /// Sec-WebSocket-Version is repeated (RFC 6455 §11.3.5).
    RepeatedVersion,
    /// Sec-WebSocket-Key is missing, repeated, or not the base64 of 16 bytes (RFC 6455 §4.2.1).
    Key,
    /// Origin is repeated.
    RepeatedOrigin,
    /// Origin is not allowed, or is missing where the policy requires one (RFC 6455 §10.2).
    Origin,
    /// Sec-WebSocket-Protocol is not a list of different tokens (RFC 6455 §4.1).
    Subprotocols,
    /// Sec-WebSocket-Extensions breaks its grammar (RFC 6455 §9.1).
    Extensions,
    /// The token is missing or wrong.
    Unauthorized,
    /// The endpoint refuses this request, with or without credentials.
    Forbidden,
    /// A part of the path must be a number, and is not.
    NotANumber,
    /// The server is stopping.
    ShuttingDown,
    /// The server has reached its maximum number of connections.
    AtCapacity,
    /// The client's address has reached its maximum number of connections.
    AddressAtCapacity,
}

impl HandshakeError {
    /// All variants, for tests and tables.
    pub const ALL: [HandshakeError; 22] = [
        HandshakeError::Host,
        HandshakeError::TargetForm,
        HandshakeError::MisdirectedRequest,
        HandshakeError::NotFound,
        HandshakeError::FinalSlash,
        HandshakeError::MethodNotAllowed,
        HandshakeError::Body,
        HandshakeError::Upgrade,
        HandshakeError::Connection,
        HandshakeError::Version,
        HandshakeError::RepeatedVersion,
        HandshakeError::Key,
        HandshakeError::RepeatedOrigin,
        HandshakeError::Origin,
        HandshakeError::Subprotocols,
        HandshakeError::Extensions,
        HandshakeError::Unauthorized,
        HandshakeError::Forbidden,
        HandshakeError::NotANumber,
        HandshakeError::ShuttingDown,
        HandshakeError::AtCapacity,
        HandshakeError::AddressAtCapacity,
    ];

    /// The status of the refusal.
    pub const fn status(self) -> StatusCode {
        match self {
            HandshakeError::Host
            | HandshakeError::TargetForm
            | HandshakeError::Body
            | HandshakeError::Connection
            | HandshakeError::RepeatedVersion
            | HandshakeError::Key
            | HandshakeError::RepeatedOrigin
            | HandshakeError::Subprotocols
            | HandshakeError::Extensions => StatusCode::BAD_REQUEST,
            HandshakeError::Unauthorized => StatusCode::UNAUTHORIZED,
            HandshakeError::Origin | HandshakeError::Forbidden | HandshakeError::NotANumber => {
                StatusCode::FORBIDDEN
            }
            HandshakeError::NotFound | HandshakeError::FinalSlash => StatusCode::NOT_FOUND,
            HandshakeError::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            HandshakeError::MisdirectedRequest => StatusCode::MISDIRECTED_REQUEST,
            HandshakeError::Upgrade | HandshakeError::Version => StatusCode::UPGRADE_REQUIRED,
            HandshakeError::ShuttingDown
            | HandshakeError::AtCapacity
            | HandshakeError::AddressAtCapacity => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// What the client should do, in one sentence. The text never contains parts of the request.
    pub const fn advice(self) -> &'static str {
        match self {
            HandshakeError::Host => "Send one Host header with a valid host.",
            HandshakeError::TargetForm => "Send the path of an endpoint as the request target.",
            HandshakeError::MisdirectedRequest => "Send a Host that this server is configured for.",
            HandshakeError::NotFound => "No endpoint has this path: check the URL.",
            HandshakeError::FinalSlash => {
                "No endpoint has this path as it is: add the slash at its end, or leave it out."
            }
            HandshakeError::MethodNotAllowed => "Use the method GET.",
            HandshakeError::Body => "Send the request without a body.",
            HandshakeError::Upgrade => {
                "This is a WebSocket endpoint: send HTTP/1.1 with Upgrade: websocket and Connection: Upgrade."
            }
            HandshakeError::Connection => "Send Connection: Upgrade.",
            HandshakeError::Version => "Send Sec-WebSocket-Version: 13.",
            HandshakeError::RepeatedVersion => "Send Sec-WebSocket-Version once.",
            HandshakeError::Key => {
                "Send Sec-WebSocket-Key once, with the base64 of 16 random bytes."
            }
            HandshakeError::RepeatedOrigin => "Send Origin once.",
            HandshakeError::Origin => "Connect from an Origin that this server is configured for.",
            HandshakeError::Subprotocols => {
                "Send Sec-WebSocket-Protocol as a list of different tokens, or not at all."
            }
            HandshakeError::Extensions => {
                "Send Sec-WebSocket-Extensions as RFC 6455 section 9.1 writes it, or not at all."
            }
            HandshakeError::Unauthorized => {
                "Send valid credentials: Authorization: Bearer TOKEN, or ?token=TOKEN."
            }
            HandshakeError::Forbidden => "This endpoint does not accept this path: check the URL.",
            HandshakeError::NotANumber => {
                "The last part of this path must be a number of 1 to 18 digits: check the URL."
            }
            HandshakeError::ShuttingDown => "The server is stopping: try again in a moment.",
            HandshakeError::AtCapacity => "The server is full: try again in a moment.",
            HandshakeError::AddressAtCapacity => {
                "Your address has too many connections: close one first."
            }
        }
    }

    /// The refusal as a response, with the advice as its body. It closes the connection (RFC 9112
    /// §9.6).
    pub fn response(self) -> Response<&'static str> {
        let mut response = Response::new(self.advice());
        *response.status_mut() = self.status();
        let headers = response.headers_mut();
        let mut add = |name, value| headers.insert(name, HeaderValue::from_static(value));
        add(header::CONTENT_TYPE, "text/plain; charset=utf-8");
        add(header::CONNECTION, "close");
        let further: &[_] = match self.status() {
            StatusCode::UNAUTHORIZED => &[(header::WWW_AUTHENTICATE, "Bearer")], // RFC 9110 §15.5.2
            StatusCode::METHOD_NOT_ALLOWED => &[(header::ALLOW, "GET")],         // RFC 9110 §15.5.6
            StatusCode::UPGRADE_REQUIRED => &[
                (header::CONNECTION, "Upgrade, close"), // RFC 9110 §7.8
                (header::UPGRADE, "websocket"),         // RFC 9110 §15.5.22
                (header::SEC_WEBSOCKET_VERSION, "13"),  // RFC 6455 §4.4
            ],
            StatusCode::SERVICE_UNAVAILABLE => &[(header::RETRY_AFTER, "1")], // RFC 9110 §10.2.3
            _ => &[],
        };
        for (name, value) in further {
            add(name.clone(), value);
        }
        let length = HeaderValue::from(self.advice().len());
        headers.insert(header::CONTENT_LENGTH, length);
        response
    }
}

impl fmt::Display for HandshakeError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.advice())
    }
}

impl std::error::Error for HandshakeError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_closes_and_says_what_to_do() {
        for error in HandshakeError::ALL {
            let response = error.response();
            assert_eq!(error.to_string(), error.advice());
            assert!(!error.advice().is_empty());
            let further: &[(&str, &str)] = match response.status().as_u16() {
                400 | 403 | 404 | 421 => &[("connection", "close")],
                401 => &[("connection", "close"), ("www-authenticate", "Bearer")],
                405 => &[("connection", "close"), ("allow", "GET")],
                426 => &[
                    ("connection", "Upgrade, close"),
                    ("upgrade", "websocket"),
                    ("sec-websocket-version", "13"),
                ],
                503 => &[("connection", "close"), ("retry-after", "1")],
                status => panic!("{error:?} has the status {status}"),
            };
            let length = response.body().len().to_string();
            let mut expected = vec![
                ("content-length", length.as_str()),
                ("content-type", "text/plain; charset=utf-8"),
            ];
            expected.extend(further);
            expected.sort_unstable();
            let mut sent: Vec<_> = response
                .headers()
                .iter()
                .map(|(name, value)| (name.as_str(), value.to_str().unwrap()))
                .collect();
            sent.sort_unstable();
            assert_eq!(sent, expected, "{error:?}");
            assert!(response.body().ends_with('.'), "{error:?}");
        }
    }
}
