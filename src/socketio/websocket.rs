//! The WebSocket of a session, as a handler of the frame loop. The WebSocket opens a session or
//! takes over a polling session.

use std::mem;
use std::sync::Arc;

use super::errors::{DisconnectReason, EngineResult, EngineViolation, RequestError};
use super::session::{Service, Session};
use crate::engine::{Disconnect, Handler, PeerAddress, PeerId, WebSocket};
use crate::handshake::HandshakeError;
use crate::http::Endpoint;
use crate::protocol::{CloseCode, Message, SizeLimits};

/// The name of the transport in a query.
const TRANSPORT: &str = "websocket";

/// The endpoint of a service's WebSockets.
pub(super) fn endpoint(service: &Arc<Service>) -> Endpoint {
    let max_payload = service.settings.max_payload;
    let (checked, opened) = (Arc::clone(service), Arc::clone(service));
    let endpoint = Endpoint::refusing(move |request| {
        let query = request.query().unwrap_or_default();
        let socket = SessionSocket::new(&opened, query, request.peer_address());
        socket.ok_or(HandshakeError::AtCapacity)
    })
    .choosing(move |request| {
        let query = request.query().unwrap_or_default();
        let session = checked.session_of(query, TRANSPORT);
        session.map(|_| None).map_err(RequestError::page)
    })
    .with_limits(move |_| SizeLimits {
        max_message_size: max_payload,
        max_frame_size: max_payload,
    })
    .publishing();
    match service.settings.compression {
        true => endpoint,
        false => endpoint.uncompressed(),
    }
}

pub(super) struct SessionSocket {
    session: Arc<Session>,
    role: WebSocketRole,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum WebSocketRole {
    /// The WebSocket asks to take over a polling session.
    Candidate,
    /// The WebSocket is taking over a polling session.
    Upgrading(PeerId),
    /// The WebSocket carries the packets of its session.
    Transport,
    /// The WebSocket has no session: another WebSocket has it, or the session has ended.
    Surplus,
}

impl SessionSocket {
    /// `None` if the session has ended since the query was checked, or no session can be opened.
    pub(super) fn new(
        service: &Arc<Service>,
        query: &str,
        address: PeerAddress,
    ) -> Option<SessionSocket> {
        let (session, role) = match service.session_of(query, TRANSPORT).ok()? {
            Some(session) => (session, WebSocketRole::Candidate),
            None => (service.open(address, None)?, WebSocketRole::Transport),
        };
        Some(SessionSocket { session, role })
    }

    fn data(&mut self, socket: &mut WebSocket<'_>, message: Message<'_>) -> EngineResult {
        match (self.role, message) {
            (WebSocketRole::Transport, Message::Text(text)) => self.session.receive(text, false),
            (WebSocketRole::Transport, message) => self.session.message(message),
            (WebSocketRole::Upgrading(peer), Message::Text("2probe"))
                if self.session.probe(peer).is_some() =>
            {
                socket.send(Message::Text("3probe"));
                Ok(())
            }
            (WebSocketRole::Upgrading(peer), Message::Text("5"))
                if self.session.complete_upgrade(peer).is_some() =>
            {
                self.role = WebSocketRole::Transport;
                Ok(())
            }
            (WebSocketRole::Surplus, _) => Ok(()),
            _ => Err(EngineViolation("not a probe")),
        }
    }

    /// Ends the session if this WebSocket carries it. A polling session continues when its upgrade
    /// fails.
    fn end(&mut self, why: DisconnectReason) {
        match mem::replace(&mut self.role, WebSocketRole::Surplus) {
            WebSocketRole::Transport => self.session.end(why),
            WebSocketRole::Upgrading(peer) => self.session.abandon_upgrade(peer),
            WebSocketRole::Candidate | WebSocketRole::Surplus => {}
        }
    }
}

impl Handler for SessionSocket {
    fn open(&mut self, socket: &mut WebSocket<'_>) {
        match self.role {
            WebSocketRole::Transport => {
                self.session.attach(socket.peer());
                socket.send(Message::Text(&self.session.open_packet("")));
            }
            WebSocketRole::Candidate if self.session.begin_upgrade(socket.peer()).is_some() => {
                self.role = WebSocketRole::Upgrading(socket.peer().id());
            }
            _ => {
                self.role = WebSocketRole::Surplus;
                socket.close(CloseCode::Normal, "");
            }
        }
    }

    fn message(&mut self, socket: &mut WebSocket<'_>, message: Message<'_>) {
        socket.heed_charges();
        let handled = match message {
            Message::Text(_) | Message::Binary(_) => self.data(socket, message),
            Message::Close(_) => {
                self.end(DisconnectReason::TransportClose);
                Ok(())
            }
            Message::Ping(_) | Message::Pong(_) => Ok(()),
        };
        if let Err(EngineViolation(reason)) = handled {
            // Does not wait for the Close of a client that violates the protocol.
            let why = Disconnect::ClosedLocally(Some(CloseCode::Policy), None);
            socket.peer().end(why, CloseCode::Policy, reason);
            self.end(DisconnectReason::ParseError);
        }
    }

    fn is_busy(&self) -> bool {
        self.session.is_busy()
    }

    fn has_heartbeat(&self) -> bool {
        true
    }
}

impl Drop for SessionSocket {
    /// Ends the session when the connection has ended, or if the handshake has failed.
    fn drop(&mut self) {
        self.end(DisconnectReason::TransportClose);
    }
}
