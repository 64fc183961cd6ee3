//! The chat consumer of the Django Channels tutorial: JSON in, JSON out to the room.

use rmpv::Value;

use super::{join, python};
use crate::engine::{Handler, WebSocket};
use crate::handshake::HandshakeError;
use crate::protocol::{CloseCode, Message};
use crate::rooms::redis::{Format, LayerEvent};
use crate::rooms::{Membership, Rooms};

/// The handler of one chat connection, like the tutorial's consumer.
pub(crate) struct ChatConsumer {
    rooms: Rooms,
    room_name: Box<str>,
    membership: Option<Membership>,
}

impl ChatConsumer {
    /// Accepts a room name that fits both the tutorial's route (`\w+`) and its group name (`chat_`
    /// and the room, ASCII, shorter than 100 characters).
    pub(crate) fn new(rooms: &Rooms, room_name: &str) -> Result<ChatConsumer, HandshakeError> {
        let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
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

/// Maximum size of a message, as it comes and as members get it, in bytes.
const MAX_SIZE: usize = 1 << 20;

/// Maximum values in a message. A parsed value takes many times the memory and the time of its text.
const MAX_VALUES: usize = 10_000;

impl Handler for ChatConsumer {
    fn open(&mut self, socket: &mut WebSocket<'_>) {
        self.membership = join(&self.rooms, &self.room_name, socket);
    }

    fn message(&mut self, socket: &mut WebSocket<'_>, message: Message<'_>) {
        let text = match message {
            Message::Text(text) if is_too_large(text) => return refuse(socket),
            Message::Text(text) => received(text).and_then(|message| sent(&message)),
            Message::Binary(_) => None,
            Message::Ping(_) | Message::Pong(_) | Message::Close(_) => return,
        };
        match (text, &self.membership) {
            // Escapes make a text longer.
            (Some(text), _) if text.len() > MAX_SIZE => refuse(socket),
            (Some(text), Some(membership)) => membership.publish(Message::Text(&text)),
            // The tutorial's consumer raises an exception, and Channels closes with this code.
            _ => socket.close(CloseCode::Error, ""),
        }
    }
}

fn refuse(socket: &mut WebSocket<'_>) {
    socket.close(CloseCode::Size, "message too big");
}

/// Counts without parsing: every value but the first follows one of these bytes. The same bytes
/// inside strings count, too.
fn is_too_large(text: &str) -> bool {
    let begins = |byte: &u8| matches!(byte, b'[' | b'{' | b',' | b':');
    text.len() > MAX_SIZE || text.as_bytes().iter().filter(|byte| begins(byte)).count() > MAX_VALUES
}

/// The value of `message` in a JSON text; `None` where the tutorial's consumer raises an exception.
fn received(text: &str) -> Option<Value> {
    let Value::Map(data) = python::loads(text)? else {
        return None;
    };
    value_of("message", data)
}

/// The text sent to members for a message; `None` where the tutorial's consumer raises an
/// exception.
fn sent(message: &Value) -> Option<String> {
    Some(format!("{{\"message\": {}}}", python::dumps(message)?))
}

fn value_of(key: &str, entries: Vec<(Value, Value)>) -> Option<Value> {
    let found = entries
        .into_iter()
        .find(|(name, _)| name.as_str() == Some(key));
    found.map(|(_, value)| value)
}

/// The format in which Django processes share these rooms. The tutorial's group is `chat_` and the
/// room's name.
pub(crate) const FORMAT: Format = Format::Groups {
    prefix: "chat_",
    event,
    text,
};

/// The Django Channels event for a text that was sent to members.
fn event(text: &str) -> Option<LayerEvent> {
    Some(vec![
        ("type".into(), "chat_message".into()),
        ("message".into(), received(text)?),
    ])
}

/// The text to send to members for an event; `None` where the tutorial's consumer raises an
/// exception.
fn text(event: LayerEvent) -> Option<String> {
    let is_message = |(key, value): &(Value, Value)| {
        // Channels turns the type into a method's name: a dot becomes an underscore.
        key.as_str() == Some("type")
            && matches!(value.as_str(), Some("chat_message" | "chat.message"))
    };
    if !event.iter().any(is_message) {
        return None;
    }
    sent(&value_of("message", event)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chat_message(text: &str) -> Option<String> {
        sent(&received(text)?)
    }

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
            (r#"{"message":NaN}"#, r#"{"message": NaN}"#),
            (r#"{"message":1,"message":2}"#, r#"{"message": 2}"#),
        ] {
            assert_eq!(chat_message(text).as_deref(), Some(expected), "{text}");
        }
    }

    #[test]
    fn a_text_that_the_consumer_cannot_read_is_an_error() {
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
