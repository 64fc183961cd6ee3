//! Every data message back, unchanged: the drop-in echo endpoint.

use crate::engine::{Handler, WebSocket};
use crate::protocol::Message;

/// Sends every message back.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Echo;

impl Handler for Echo {
    // Within the loop of the receiver the message stays in registers; passed on in memory it is
    // read sooner than the processor has it written.
    #[inline(always)]
    fn message(&mut self, socket: &mut WebSocket<'_>, message: Message<'_>) {
        if message.is_data() {
            socket.send(message);
        }
    }
}
