//! What only fault injection needs of a connection.

pub(crate) use super::raw::Demand;
use super::turn::{self, Turn};
use super::unsent::Held;
use super::web_socket::WebSocket;
use crate::protocol::{CloseFrame, OpCode};

impl WebSocket<'_> {
    /// Writes bytes unchanged. They count towards the turn like compressed bytes.
    pub(crate) fn send_raw(&mut self, bytes: &[u8]) {
        self.batch.raw(bytes);
        turn::charge(Turn::codec_cost(bytes.len()));
    }

    /// Whether the bytes sent by [`WebSocket::send_raw`] fill a turn. The handler sends the rest
    /// when it is woken again.
    pub(crate) fn has_used_turn(&self) -> bool {
        turn::charged() >= Turn::SHARE
    }

    /// Counts a message that was sent by [`WebSocket::send_raw`]. `size` is in bytes of payload.
    pub(crate) fn count_sent(&mut self, opcode: OpCode, size: usize) {
        self.batch
            .count(opcode.is_control(), opcode == OpCode::Text, size);
    }

    /// Whether the backlog holds anything.
    pub(crate) fn is_blocked(&self) -> bool {
        self.batch.is_blocked()
    }

    /// A counter in the unsent budget for the bytes that the handler keeps for the peer.
    pub(crate) fn hold(&self) -> Held {
        Held::new(0, self.batch.unsent())
    }

    /// Sends the postponed Close, or another one.
    pub(crate) fn release_close(&mut self, frame: Option<CloseFrame<'_>>) {
        self.mailbox.close(self.key, frame);
    }
}
