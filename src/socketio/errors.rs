//! Errors of clients: violations of Engine.IO and Socket.IO, refused requests, and why a session
//! ends.

use http::StatusCode;

use crate::engine::{Disconnect, Peer, Timeout};
use crate::http::Page;
use crate::protocol::{CloseCode, CloseFrame};

/// A violation of the protocol by a client. Ends the client's session.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct EngineViolation(pub(super) &'static str);

pub(super) type EngineResult<T = ()> = Result<T, EngineViolation>;

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

/// Why a session, or the membership of a client in a namespace, has ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum DisconnectReason {
    /// The client has left the namespace.
    ClientNamespaceDisconnect,
    /// The server has ended the session or the membership.
    ServerNamespaceDisconnect,
    /// The server is shutting down.
    ServerShuttingDown,
    /// The client has closed the transport, or the connection is lost.
    TransportClose,
    /// The client has violated the protocol.
    ParseError,
    /// The client did not answer a Ping in time.
    PingTimeout,
    /// The client did not join a namespace, or did not complete a binary packet, in time.
    Timeout,
    /// The backlog of the client was too large.
    SlowConsumer,
}

impl DisconnectReason {
    /// Closes the WebSocket of a session that has ended. After a timeout, does not wait for the
    /// client's Close.
    pub(super) fn hang_up(self, peer: &Peer) {
        let (code, reason, timeout) = match self {
            DisconnectReason::PingTimeout => {
                (CloseCode::Policy, "ping timeout", Some(Timeout::Ping))
            }
            DisconnectReason::Timeout => (
                CloseCode::Policy,
                "not finished in time",
                Some(Timeout::Message),
            ),
            DisconnectReason::ParseError => (CloseCode::Policy, "parse error", None),
            DisconnectReason::SlowConsumer => (Disconnect::OVERRUN.0, Disconnect::OVERRUN.1, None),
            DisconnectReason::ServerShuttingDown => (CloseCode::Away, "", None),
            DisconnectReason::ClientNamespaceDisconnect
            | DisconnectReason::ServerNamespaceDisconnect
            | DisconnectReason::TransportClose => (CloseCode::Normal, "", None),
        };
        match timeout {
            Some(timeout) => peer.end(Disconnect::TimedOut(timeout), code, reason),
            None => peer.close(CloseFrame { code, reason }),
        }
    }
}
