//! The ConnectionManager of the FastAPI tutorial: a reply to the sender, a broadcast to all
//! clients, and a notice when a client leaves.

use crate::engine::{Disconnect, Handler, Peer, WebSocket};
use crate::handshake::HandshakeError;
use crate::protocol::{CloseCode, Message};
use crate::rooms::{Membership, Rooms};

/// The one room of the tutorial.
const EVERYBODY: &str = "everybody";

/// The handler of one client. Several clients may use the same number.
pub(crate) struct ChatClient {
    id: i64,
    rooms: Rooms,
    joined: Option<(Peer, Membership)>,
}

impl ChatClient {
    /// Accepts an optional minus sign and 1 to 18 digits; leading zeros are dropped, as by Python's
    /// `int`. Any other id gets 403, as in the tutorial.
    pub(crate) fn new(rooms: &Rooms, id: &str) -> Result<ChatClient, HandshakeError> {
        let digits = id.strip_prefix('-').unwrap_or(id);
        let is_number =
            (1..=18).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit());
        if !is_number {
            return Err(HandshakeError::Forbidden);
        }
        Ok(ChatClient {
            id: id.parse().map_err(|_| HandshakeError::Forbidden)?,
            rooms: rooms.clone(),
            joined: None,
        })
    }
}

impl Handler for ChatClient {
    fn open(&mut self, socket: &mut WebSocket<'_>) {
        let peer = socket.peer();
        match self.rooms.join(EVERYBODY, &peer) {
            Ok(membership) => self.joined = Some((peer, membership)),
            Err(error) => socket.close(CloseCode::Policy, error.reason()),
        }
    }

    fn message(&mut self, _: &mut WebSocket<'_>, message: Message<'_>) {
        let (Message::Text(text), Some((peer, membership))) = (message, &self.joined) else {
            return;
        };
        let id = self.id;
        // Both messages go through the peer's mailbox, so the reply stays before the broadcast.
        peer.send(Message::Text(&format!("Client {id}: {text}")));
        membership.publish(Message::Text(&format!("Client {id} says: {text}")));
    }

    fn closed(&mut self, _: &Disconnect) {
        if self.joined.take().is_some() {
            let notice = format!("Client {} left", self.id);
            self.rooms.publish(EVERYBODY, Message::Text(&notice));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_numbers_of_at_most_18_digits() {
        for (id, expected) in [
            ("1", Some(1)),
            ("-1", Some(-1)),
            ("007", Some(7)),
            ("-0", Some(0)),
            ("999999999999999999", Some(999_999_999_999_999_999)),
            ("1999999999999999999", None),
            ("", None),
            ("-", None),
            ("+7", None),
            ("--1", None),
            ("abc", None),
            ("1.0", None),
            ("%31", None),
        ] {
            let client = ChatClient::new(&Rooms::default(), id);
            assert_eq!(client.ok().map(|client| client.id), expected, "{id}");
        }
    }
}
