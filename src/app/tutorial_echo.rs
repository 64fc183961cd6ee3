//! The echo of the FastAPI and aiohttp tutorials.

use crate::engine::WebSocket;
use crate::protocol::Message;

/// Sends `Echo: ` and the text. Binary messages are ignored, as in aiohttp's tutorial; FastAPI's
/// tutorial crashes on them.
pub(crate) fn tutorial_echo(socket: &mut WebSocket<'_>, message: Message<'_>) {
    if let Message::Text(text) = message {
        socket.send_prefixed("Echo: ", text);
    }
}
