//! `/echo`: sends every data message back unchanged.

use crate::engine::{Handler, WebSocket};
use crate::protocol::Message;

/// Sends every data message back.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Echo;

impl Handler for Echo {
    // Inlined into the receiver's loop, the message stays in registers. In a call it goes through
    // memory, and the load waits for the store.
    #[inline(always)]
    fn message(&mut self, socket: &mut WebSocket<'_>, message: Message<'_>) {
        if message.is_data() {
            socket.send(message);
        }
    }
}
