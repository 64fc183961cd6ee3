//! The echoes: everything back, and the one of the FastAPI and aiohttp tutorials.

use crate::engine::WebSocket;
use crate::protocol::Message;

/// Every data message back, unchanged.
#[inline]
pub(crate) fn echo(socket: &mut WebSocket<'_>, message: Message<'_>) {
    if message.is_data() {
        socket.send(message);
    }
}

/// `Echo: ` and the text. Binary messages are passed over, as aiohttp's tutorial does; FastAPI's
/// would crash.
pub(crate) fn tutorial(socket: &mut WebSocket<'_>, message: Message<'_>) {
    if let Message::Text(text) = message {
        socket.send(Message::Text(&format!("Echo: {text}")));
    }
}
