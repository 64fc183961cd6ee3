//! Raw handlers, which take over tasks of the engine. Only fault injection uses them.

#[cfg(feature = "cli")]
use super::compression;
use super::handler::WebSocket;
#[cfg(feature = "cli")]
use super::turn::Turn;
#[cfg(feature = "cli")]
use super::unsent::Held;
use crate::protocol::CloseFrame;
#[cfg(feature = "cli")]
use crate::protocol::OpCode;

/// A handler that controls when its connection is read from, when a Close is sent and how the
/// connection ends, that answers Pings itself, and that writes raw bytes. Ordinary handlers do not
/// pay for these features.
pub trait RawHandler {
    /// Called after [`Peer::resume`](super::Peer::resume), and when the backlog becomes empty if
    /// [`wants_room`](RawHandler::wants_room) returns true.
    fn wake(&mut self, socket: &mut WebSocket<'_>);

    /// What the connection does next. Called after each event and each data message.
    fn demand(&self) -> Demand;

    /// Whether the next Close must wait for the bytes that the handler keeps. If true, the handler
    /// later sends the Close by [`WebSocket::release_close`]. An urgent Close is the server's own,
    /// and does not wait for delayed bytes. `None` is an end without a frame.
    fn postpones_close(&mut self, frame: Option<CloseFrame<'_>>, is_urgent: bool) -> bool;

    /// Bytes of payload that the handler keeps for the peer.
    fn kept(&self) -> usize;

    /// Bytes of memory that the handler uses for that payload. They count in the server's unsent
    /// budget (see [`WebSocket::hold`]).
    fn held(&self) -> usize;

    /// Drops all kept bytes except a partly sent frame, because the unsent budget is spent.
    fn drop_kept(&mut self);

    /// Whether the handler waits for an empty backlog.
    fn wants_room(&self) -> bool;
}

/// What a [`RawHandler`] wants its connection to do.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Demand {
    /// The peer is read from.
    Read,
    /// The peer is not read from for now.
    Pause,
    /// The peer is never read from again. A FIN or RST from the peer is still noticed.
    Stall,
    /// The connection ends by FIN, without a Close.
    End,
    /// The connection ends by RST.
    Abort,
}

impl WebSocket<'_> {
    /// Writes bytes unchanged. They count towards the turn like compressed bytes.
    #[cfg(feature = "cli")]
    pub(crate) fn send_raw(&mut self, bytes: &[u8]) {
        self.batch.raw(bytes);
        self.batch.ask_to_stop();
        compression::count_encoded(bytes.len());
    }

    /// Whether the bytes sent by [`WebSocket::send_raw`] fill a turn. The handler sends the rest
    /// when it is woken again.
    #[cfg(feature = "cli")]
    pub(crate) fn has_used_turn(&self) -> bool {
        compression::deflated() >= Turn::CODEC_SHARE
    }

    /// Counts a message that was sent by [`WebSocket::send_raw`]. `size` is in bytes of payload.
    #[cfg(feature = "cli")]
    pub(crate) fn count_sent(&mut self, opcode: OpCode, size: usize) {
        self.batch
            .count(opcode.is_control(), opcode == OpCode::Text, size);
    }

    /// Whether the backlog holds anything.
    #[cfg(feature = "cli")]
    pub(crate) fn is_blocked(&self) -> bool {
        self.batch.is_blocked()
    }

    /// A counter in the unsent budget for the bytes that the handler keeps for the peer.
    #[cfg(feature = "cli")]
    pub(crate) fn hold(&self) -> Held {
        Held::new(0, self.batch.unsent())
    }

    /// Sends the postponed Close, or another one.
    #[cfg(feature = "cli")]
    pub(crate) fn release_close(&mut self, frame: Option<CloseFrame<'_>>) {
        self.mailbox.close(self.key, frame);
    }
}
