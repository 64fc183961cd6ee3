//! What an endpoint does with its connections' messages.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::compression::with_deflater;
use super::disconnect::Disconnect;
use super::mailbox::Mailbox;
use super::peer::Peer;
use super::raw::RawHandler;
use super::slab::ConnectionKey;
use super::write_batch::WriteBatch;
use crate::protocol::{CloseCode, CloseFrame, Message, ProtocolError, Sender};

/// One connection's side of an endpoint: made for each connection, called by its worker only.
///
/// Calls are synchronous and borrow the message, which lives in a buffer that the worker's
/// connections share; work that must wait takes [`WebSocket::peer`] along and spawns. A panic ends
/// this connection, with 1011, and no other.
///
/// A function of `(&mut WebSocket<'_>, Message<'_>)` is a handler.
pub trait Handler: 'static {
    /// The opening handshake is done.
    fn open(&mut self, socket: &mut WebSocket<'_>) {
        let _ = socket;
    }

    /// A message has arrived, or a control frame, which has been answered already.
    fn message(&mut self, socket: &mut WebSocket<'_>, message: Message<'_>);

    /// For how long no further message of the client is to be handled. Asked after each data
    /// message: back-pressure on a client that sends too fast. One that goes on for
    /// [`Deadlines::throttle_timeout`](super::Deadlines::throttle_timeout) is closed.
    #[inline]
    fn throttle(&mut self) -> Option<Duration> {
        None
    }

    /// Whether the next message of the client has to wait for work that this one has begun. Asked
    /// after each data message; [`Peer::resume`] says that it may have changed.
    #[inline]
    fn is_busy(&self) -> bool {
        false
    }

    /// Whether the protocol that is spoken has a heartbeat of its own: then silence is not answered
    /// with a Ping.
    #[inline]
    fn has_heartbeat(&self) -> bool {
        false
    }

    /// The status code that the Close is to carry when the client has broken a rule of the
    /// protocol: by default the rule's own (RFC 6455 §7.4.1).
    fn close_code(&self, error: ProtocolError) -> CloseCode {
        error.close_code()
    }

    /// The handler as one that takes over what the engine does by itself, if it is one.
    #[doc(hidden)]
    #[inline]
    fn raw(&mut self) -> Option<&mut dyn RawHandler> {
        None
    }

    /// The connection is over. Called once, after everything else.
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

/// A connection while one of its events is being handled.
///
/// Everything sent during one event leaves in one write. What the socket does not take waits: of one
/// event 16 MiB and a message more at most. A handler that sends more to a client that does not take
/// it ends the connection with 1011 `too much sent at once`; what is longer belongs in a task that
/// sends by [`WebSocket::peer`] at a pace of its own.
pub struct WebSocket<'a> {
    pub(super) sender: &'a mut Sender,
    pub(super) batch: WriteBatch<'a>,
    pub(super) mailbox: &'a Arc<Mailbox>,
    pub(super) key: ConnectionKey,
}

impl WebSocket<'_> {
    /// Sends a message or control frame, in one frame, compressed if that was agreed on and makes
    /// it smaller. After a Close has gone either way this does nothing.
    #[inline]
    pub fn send(&mut self, message: Message<'_>) {
        if self.sender.may_compress() {
            return self.send_compressed(message);
        }
        self.sender.send(message, &mut self.batch);
    }

    /// [`WebSocket::send`], in fragments of at most `max_fragment_size` bytes of payload and not
    /// compressed.
    pub fn send_fragmented(&mut self, message: Message<'_>, max_fragment_size: usize) {
        let mut frames = Vec::new();
        self.sender
            .send_fragmented(message, max_fragment_size, &mut frames);
        self.batch.encoded(&frames, message);
    }

    #[inline(never)]
    fn send_compressed(&mut self, message: Message<'_>) {
        let WebSocket {
            sender,
            batch,
            mailbox,
            ..
        } = self;
        match mailbox.deflate() {
            Some(deflate) => {
                let before = batch.sent_data();
                with_deflater(|deflater| {
                    sender.send_compressed(message, deflate, deflater, batch);
                });
                batch.recount(message, before);
                batch.ask_to_stop();
            }
            None => sender.send(message, batch),
        }
    }

    /// Begins the closing handshake. `reason` is cut to the 123 bytes that a Close can carry.
    pub fn close(&mut self, code: CloseCode, reason: &str) {
        let frame = CloseFrame { code, reason };
        self.sender.close(Some(frame), &mut self.batch);
    }

    /// A handle to this connection, to keep or to send elsewhere.
    pub fn peer(&self) -> Peer {
        let compresses = self.mailbox.deflate().is_some_and(|deflate| {
            self.sender
                .accepts_compressed(deflate.window_bits, usize::MAX)
        });
        Peer::new(Arc::clone(self.mailbox), self.key, compresses)
    }
}

impl fmt::Debug for WebSocket<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("WebSocket")
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}
