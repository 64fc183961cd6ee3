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

/// An error of Engine.IO servers: its code and its message.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct RequestError(u8, &'static str);

impl RequestError {
    pub(super) const TRANSPORT_UNKNOWN: RequestError = RequestError(0, "Transport unknown");
    pub(super) const UNKNOWN_SESSION: RequestError = RequestError(1, "Session ID unknown");
    pub(super) const BAD_METHOD: RequestError = RequestError(2, "Bad handshake method");
    pub(super) const BAD_REQUEST: RequestError = RequestError(3, "Bad request");
    pub(super) const BAD_VERSION: RequestError = RequestError(5, "Unsupported protocol version");

    pub(super) fn page(self) -> Page {
        let RequestError(code, message) = self;
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
        let close = |code, reason| peer.close(CloseFrame { code, reason });
        let end = |timeout, reason| {
            peer.end(Disconnect::TimedOut(timeout), CloseCode::Policy, reason);
        };
        match self {
            DisconnectReason::PingTimeout => end(Timeout::Ping, "ping timeout"),
            DisconnectReason::Timeout => end(Timeout::Message, "not finished in time"),
            DisconnectReason::ParseError => close(CloseCode::Policy, "parse error"),
            DisconnectReason::SlowConsumer => close(Disconnect::OVERRUN.0, Disconnect::OVERRUN.1),
            DisconnectReason::ServerShuttingDown => close(CloseCode::Away, ""),
            DisconnectReason::ClientNamespaceDisconnect
            | DisconnectReason::ServerNamespaceDisconnect
            | DisconnectReason::TransportClose => close(CloseCode::Normal, ""),
        }
    }
}
