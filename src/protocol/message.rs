//! Messages and control frames.

use super::{CloseFrame, OpCode};

/// A message or control frame. The payload of a received message borrows from the buffer that holds
/// it.
///
/// The receiver assembles fragmented messages: a handler never sees fragments.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Message<'a> {
    /// A text message, valid UTF-8.
    Text(&'a str),
    /// A binary message.
    Binary(&'a [u8]),
    /// A Ping, at most 125 bytes. For a received Ping, the Pong is already queued.
    Ping(&'a [u8]),
    /// A Pong, at most 125 bytes, solicited or not.
    Pong(&'a [u8]),
    /// A Close, `None` if it has no status code. The server itself answers a received Close.
    Close(Option<CloseFrame<'a>>),
}

impl<'a> Message<'a> {
    /// The opcode and the payload as sent. `None` for a Close, whose payload must be encoded first.
    #[inline]
    pub(crate) fn frame(&self) -> Option<(OpCode, &'a [u8])> {
        match *self {
            Message::Text(text) => Some((OpCode::Text, text.as_bytes())),
            Message::Binary(payload) => Some((OpCode::Binary, payload)),
            Message::Ping(payload) => Some((OpCode::Ping, payload)),
            Message::Pong(payload) => Some((OpCode::Pong, payload)),
            Message::Close(_) => None,
        }
    }

    /// Size of the payload in bytes, uncompressed.
    pub(crate) fn size(&self) -> usize {
        match self {
            Message::Close(frame) => frame.map_or(0, |frame| frame.reason.len().saturating_add(2)),
            _ => self.frame().map_or(0, |(_, payload)| payload.len()),
        }
    }

    /// Whether this is a data message and not a control frame.
    pub const fn is_data(&self) -> bool {
        matches!(self, Message::Text(_) | Message::Binary(_))
    }
}

impl From<Message<'_>> for tungstenite::Message {
    /// An owned copy, for code that uses tungstenite's types.
    fn from(message: Message<'_>) -> tungstenite::Message {
        match message {
            Message::Text(text) => tungstenite::Message::text(text),
            Message::Binary(payload) => tungstenite::Message::binary(payload.to_vec()),
            Message::Ping(payload) => tungstenite::Message::Ping(payload.to_vec().into()),
            Message::Pong(payload) => tungstenite::Message::Pong(payload.to_vec().into()),
            Message::Close(frame) => {
                tungstenite::Message::Close(frame.map(|frame| tungstenite::protocol::CloseFrame {
                    code: frame.code,
                    reason: frame.reason.into(),
                }))
            }
        }
    }
}
