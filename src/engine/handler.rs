//! Handlers: the code of an endpoint that handles the messages of its connections.

use std::time::Duration;

use super::disconnect::Disconnect;
use super::raw::RawHandler;
use super::web_socket::WebSocket;
use crate::protocol::{CloseCode, Message, ProtocolError};

/// The code that handles one connection. Each connection has its own handler, and only the
/// connection's worker calls it.
///
/// Calls are synchronous and borrow the message from a buffer that the worker's connections share.
/// For work that must wait, spawn a task and give it [`WebSocket::peer`]. A panic closes this
/// connection with 1011 and affects no other connection.
///
/// A function of `(&mut WebSocket<'_>, Message<'_>)` is a handler.
pub trait Handler: 'static {
    /// Called once, after the opening handshake.
    fn open(&mut self, socket: &mut WebSocket<'_>) {
        let _ = socket;
    }

    /// Called for each message and for each control frame. A Ping has already been answered; a Close
    /// is answered after the call.
    fn message(&mut self, socket: &mut WebSocket<'_>, message: Message<'_>);

    /// Returns how long the client is throttled: the time until its next message is handled.
    /// Called after each data message. A client that is throttled for longer than
    /// [`Deadlines::throttle_timeout`](super::Deadlines::throttle_timeout) is closed.
    /// Default: `None`.
    #[inline]
    fn throttle(&mut self) -> Option<Duration> {
        None
    }

    /// Whether the client's next message must wait for work that the last message has started.
    /// Called after each data message, and again after [`Peer::resume`](super::Peer::resume).
    /// Default: false.
    #[inline]
    fn is_busy(&self) -> bool {
        false
    }

    /// Whether the subprotocol has its own heartbeat. If it has, a silent peer gets no Ping.
    /// Default: false.
    #[inline]
    fn has_heartbeat(&self) -> bool {
        false
    }

    /// The status code of the Close for a client that has broken a rule of the protocol.
    /// Default: the code of that rule (RFC 6455 §7.4.1).
    fn close_code(&self, error: ProtocolError) -> CloseCode {
        error.close_code()
    }

    /// The handler as a `RawHandler`, which takes over tasks of the engine. Default: `None`.
    #[doc(hidden)]
    #[inline]
    fn raw(&mut self) -> Option<&mut dyn RawHandler> {
        None
    }

    /// Called once, after the connection has ended.
    fn closed(&mut self, why: &Disconnect) {
        let _ = why;
    }
}

impl<F> Handler for F
where
    F: FnMut(&mut WebSocket<'_>, Message<'_>) + 'static,
{
    #[inline]
    fn message(&mut self, socket: &mut WebSocket<'_>, message: Message<'_>) {
        self(socket, message);
    }
}
