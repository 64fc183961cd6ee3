//! Errors of clients: violations of Engine.IO and Socket.IO, and refused requests.

use http::StatusCode;

use crate::http::Page;

/// A violation of the protocol by a client. Ends the client's session.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct EngineViolation(pub(super) &'static str);

/// The errors of Engine.IO servers, with their codes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum RequestError {
    TransportUnknown = 0,
    UnknownSession = 1,
    BadMethod = 2,
    BadRequest = 3,
    UnsupportedVersion = 5,
}

impl RequestError {
    pub(super) fn page(self) -> Page {
        let message = match self {
            RequestError::TransportUnknown => "Transport unknown",
            RequestError::UnknownSession => "Session ID unknown",
            RequestError::BadMethod => "Bad handshake method",
            RequestError::BadRequest => "Bad request",
            RequestError::UnsupportedVersion => "Unsupported protocol version",
        };
        let code = self as u8;
        Page::text(format!(r#"{{"code":{code},"message":"{message}"}}"#))
            .with_content_type("application/json")
            .with_status(StatusCode::BAD_REQUEST)
    }
}
