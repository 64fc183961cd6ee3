//! Every data message back, unchanged: the drop-in echo endpoint.

use crate::engine::WebSocket;
use crate::protocol::Message;

/// Sends a message back.
#[inline]
pub(crate) fn echo(socket: &mut WebSocket<'_>, message: Message<'_>) {
    if message.is_data() {
        socket.send(message);
    }
}
