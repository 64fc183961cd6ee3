//! The ConnectionManager of the FastAPI tutorial: a reply to the sender, a broadcast to all
//! clients, and a notice when a client leaves.

use std::mem;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::join;
use crate::engine::{Disconnect, Handler, Peer, WebSocket};
use crate::handshake::HandshakeError;
use crate::http::TokenBucket;
use crate::lock::lock;
use crate::protocol::Message;
use crate::rooms::{Membership, Rooms};

/// The one room of the tutorial.
const EVERYBODY: &str = "everybody";

/// The room of all clients, and the notices of those that have left. A clone is the same room.
#[derive(Clone)]
pub(crate) struct ChatRoom {
    rooms: Rooms,
    notices: Arc<Mutex<Notices>>,
    /// Time between two tokens of `Notices::rate`.
    pause: Duration,
}

/// A client that leaves causes a message to all others, at the price of a handshake. So all notices
/// together are held to the rate of one publisher. Notices beyond the rate wait for the next token,
/// and are then published one after the other: each member gets them in one write.
struct Notices {
    /// `None`: no limit.
    rate: Option<TokenBucket>,
    /// Bound: the clients that leave until the next token.
    waiting: Vec<String>,
}

impl ChatRoom {
    /// `max_publish_rate` is in messages a second.
    pub(crate) fn new(rooms: Rooms, max_publish_rate: Option<u32>) -> ChatRoom {
        ChatRoom {
            rooms,
            notices: Arc::new(Mutex::new(Notices {
                rate: max_publish_rate.map(TokenBucket::new),
                waiting: Vec::new(),
            })),
            pause: Duration::from_secs(1) / max_publish_rate.unwrap_or(1).max(1),
        }
    }

    fn announce(&self, notice: String) {
        let mut notices = lock(&self.notices);
        let is_first = notices.waiting.is_empty();
        if is_first && notices.rate.as_mut().is_none_or(TokenBucket::admits) {
            drop(notices);
            return self.publish(&notice);
        }
        notices.waiting.push(notice);
        drop(notices);
        if is_first {
            tokio::spawn(self.clone().announce_later());
        }
    }

    /// Publishes the waiting notices when a token is there.
    async fn announce_later(self) {
        let waiting = loop {
            tokio::time::sleep(self.pause).await;
            let mut notices = lock(&self.notices);
            if notices.rate.as_mut().is_none_or(TokenBucket::admits) {
                break mem::take(&mut notices.waiting);
            }
        };
        waiting.iter().for_each(|notice| self.publish(notice));
    }

    fn publish(&self, notice: &str) {
        self.rooms.publish(EVERYBODY, Message::Text(notice));
    }
}

/// The handler of one client. Several clients may use the same number.
pub(crate) struct ChatClient {
    id: i64,
    room: ChatRoom,
    joined: Option<(Peer, Membership)>,
}

impl ChatClient {
    /// Accepts an optional minus sign and 1 to 18 digits; leading zeros are dropped, as by Python's
    /// `int`. Any other id gets 403, as in the tutorial.
    pub(crate) fn new(room: &ChatRoom, id: &str) -> Result<ChatClient, HandshakeError> {
        let digits = id.strip_prefix('-').unwrap_or(id);
        let is_number =
            (1..=18).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit());
        if !is_number {
            return Err(HandshakeError::NotANumber);
        }
        Ok(ChatClient {
            id: id.parse().map_err(|_| HandshakeError::NotANumber)?,
            room: room.clone(),
            joined: None,
        })
    }
}

impl Handler for ChatClient {
    fn open(&mut self, socket: &mut WebSocket<'_>) {
        let membership = join(&self.room.rooms, EVERYBODY, socket);
        self.joined = membership.map(|membership| (socket.peer(), membership));
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
            self.room.announce(format!("Client {} left", self.id));
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
            let client = ChatClient::new(&ChatRoom::new(Rooms::default(), None), id);
            assert_eq!(client.ok().map(|client| client.id), expected, "{id}");
        }
    }
}
