//! The doors by which a handler takes over what the engine does by itself: for faults alone.

use super::handler::WebSocket;
#[cfg(feature = "cli")]
use super::unsent::Held;
use crate::protocol::CloseFrame;
#[cfg(feature = "cli")]
use crate::protocol::OpCode;

/// A handler that says when its connection is read from, when a Close goes out and how the
/// connection ends, that answers Pings, and that writes bytes of its own. An ordinary handler has
/// none of these, and pays for none.
pub trait RawHandler {
    /// Called after [`Peer::wake`](super::Peer::wake), and when the socket has taken all that
    /// waited, if [`wants_room`](RawHandler::wants_room).
    fn wake(&mut self, socket: &mut WebSocket<'_>);

    /// What the connection does next. Asked after each event and each data message.
    fn demand(&self) -> Demand;

    /// Whether the Close that is about to go out waits for what the handler keeps. If it does,
    /// the handler gives it back by [`WebSocket::release_close`]. An urgent one is the server's
    /// own, which does not wait for what is late. `None` is an end without a frame.
    fn postpones_close(&mut self, frame: Option<CloseFrame<'_>>, is_urgent: bool) -> bool;

    /// Bytes of payload that the handler keeps for the peer.
    fn kept(&self) -> usize;

    /// Bytes of memory that it keeps for that. They are in the server's budget of what waits to be
    /// sent (see [`WebSocket::hold`]).
    fn held(&self) -> usize;

    /// Drops all that has not begun to go out, because that budget is spent.
    fn drop_kept(&mut self);

    /// Whether the handler waits for the socket to take what was written.
    fn wants_room(&self) -> bool;
}

/// What a [`RawHandler`] wants of its connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Demand {
    /// The peer is read from.
    Read,
    /// The peer is not read from for now.
    Pause,
    /// The peer is never read from again. Its end is noticed all the same.
    Stall,
    /// The connection ends by FIN, without a Close.
    End,
    /// The connection ends by RST.
    Abort,
}

impl WebSocket<'_> {
    /// Writes bytes as they are.
    #[cfg(feature = "cli")]
    pub(crate) fn send_raw(&mut self, bytes: &[u8]) {
        self.batch.raw(bytes);
    }

    /// Counts a message of this type and size, in bytes of payload, that went out by
    /// [`WebSocket::send_raw`].
    #[cfg(feature = "cli")]
    pub(crate) fn count_sent(&mut self, opcode: OpCode, size: usize) {
        self.batch
            .count(opcode.is_control(), opcode == OpCode::Text, size);
    }

    /// Whether the socket has left something that was written.
    #[cfg(feature = "cli")]
    pub(crate) fn is_blocked(&self) -> bool {
        self.batch.is_blocked()
    }

    /// What the handler counts in that it keeps for the peer.
    #[cfg(feature = "cli")]
    pub(crate) fn hold(&self) -> Held {
        Held::new(0, self.batch.unsent())
    }

    /// Has the Close sent that was postponed, or one of the handler's own.
    #[cfg(feature = "cli")]
    pub(crate) fn release_close(&mut self, frame: Option<CloseFrame<'_>>) {
        self.mailbox.close(self.key, frame);
    }
}
