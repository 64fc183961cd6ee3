//! Raw handlers, which take over tasks of the engine. Only fault injection uses them.

use super::web_socket::WebSocket;
use crate::protocol::CloseFrame;

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
