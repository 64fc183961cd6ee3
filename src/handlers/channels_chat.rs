//! The chat consumer of the Django Channels tutorial: JSON in, JSON out to the room.

use serde_json::Value;

use super::python_json;
use crate::engine::{Handler, WebSocket};
use crate::handshake::HandshakeError;
use crate::protocol::{CloseCode, Message};
use crate::rooms::{Membership, Rooms};

/// One consumer.
pub(crate) struct ChatConsumer {
    rooms: Rooms,
    room_name: Box<str>,
    membership: Option<Membership>,
}

impl ChatConsumer {
    /// Takes what the tutorial's route (`\w+`) and its group name (`chat_` and the room, ASCII,
    /// shorter than 100) both take.
    pub(crate) fn new(rooms: &Rooms, room_name: &str) -> Result<ChatConsumer, HandshakeError> {
        let is_word = |octet: u8| octet.is_ascii_alphanumeric() || octet == b'_';
        if room_name.len() > 94 || !room_name.bytes().all(is_word) {
            return Err(HandshakeError::NotFound);
        }
        Ok(ChatConsumer {
            rooms: rooms.clone(),
            room_name: room_name.into(),
            membership: None,
        })
    }
}

impl Handler for ChatConsumer {
    fn open(&mut self, socket: &mut WebSocket<'_>) {
        match self.rooms.join(&self.room_name, &socket.peer()) {
            Ok(membership) => self.membership = Some(membership),
            Err(error) => socket.close(CloseCode::Policy, error.reason()),
        }
    }

    fn message(&mut self, socket: &mut WebSocket<'_>, message: Message<'_>) {
        let event = match message {
            Message::Text(text) => chat_message(text),
            Message::Binary(_) => None,
            Message::Ping(_) | Message::Pong(_) | Message::Close(_) => return,
        };
        match (event, &self.membership) {
            (Some(event), Some(membership)) => membership.publish(Message::Text(&event)),
            // The tutorial's consumer raises, and Channels closes with this code.
            _ => socket.close(CloseCode::Error, ""),
        }
    }
}

/// What the room receives of what a client sent; `None` where the tutorial's consumer raises.
fn chat_message(text: &str) -> Option<String> {
    let Value::Object(mut data) = serde_json::from_str(text).ok()? else {
        return None;
    };
    let mut event = serde_json::Map::new();
    event.insert("message".into(), data.remove("message")?);
    python_json::dumps(&Value::Object(event))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_room_receives_what_django_would_send() {
        for (text, expected) in [
            (r#"{"message": "hi"}"#, r#"{"message": "hi"}"#),
            (
                r#"{"message": "你好 😀", "user": "u"}"#,
                r#"{"message": "\u4f60\u597d \ud83d\ude00"}"#,
            ),
            (
                r#"{"message": {"b":1,"a":[true,"é"]}}"#,
                r#"{"message": {"b": 1, "a": [true, "\u00e9"]}}"#,
            ),
            (r#"{"message":null}"#, r#"{"message": null}"#),
            (r#"{"message":1.50}"#, r#"{"message": 1.5}"#),
        ] {
            assert_eq!(chat_message(text).as_deref(), Some(expected), "{text}");
        }
    }

    #[test]
    fn what_the_consumer_cannot_read_is_an_error() {
        for text in [
            "",
            "hello",
            "[1]",
            r#"{"msg":1}"#,
            r#""message""#,
            r#"{"message":18446744073709551616}"#,
            r#"{"message":"\ud800"}"#,
            r#"{"message":1} x"#,
        ] {
            assert_eq!(chat_message(text), None, "{text}");
        }
    }

    #[test]
    fn rooms_are_words_of_at_most_94_characters() {
        let rooms = Rooms::default();
        assert!(ChatConsumer::new(&rooms, &"a".repeat(94)).is_ok());
        for name in [&"a".repeat(95), "a%20b", "a-b", "中"] {
            assert!(ChatConsumer::new(&rooms, name).is_err(), "{name}");
        }
    }
}
