//! Handlers: the code of an endpoint that handles the messages of its connections.

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

    /// Called for each message, and for each control frame, which has already been answered.
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
    /// Called after each data message, and again after [`Peer::resume`]. Default: false.
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

/// A connection while one of its events is being handled.
///
/// All frames sent during one event leave in one write. Bytes that the socket does not accept stay
/// in the backlog: at most 16 MiB and one message per event. If a handler sends more, the
/// connection is closed with 1011 `too much sent at once`. Send longer answers from a task, by
/// [`WebSocket::peer`], at a limited rate.
pub struct WebSocket<'a> {
    pub(super) sender: &'a mut Sender,
    pub(super) batch: WriteBatch<'a>,
    pub(super) mailbox: &'a Arc<Mailbox>,
    pub(super) key: ConnectionKey,
}

impl WebSocket<'_> {
    /// Sends a message or control frame in one frame, compressed if compression was negotiated and
    /// makes the message smaller. Does nothing after a Close has been sent or received.
    #[inline]
    pub fn send(&mut self, message: Message<'_>) {
        if self.sender.may_compress() {
            return self.send_compressed(message);
        }
        self.sender.send(message, &mut self.batch);
    }

    /// Like [`WebSocket::send`], but uncompressed and in fragments of at most `max_fragment_size`
    /// bytes of payload.
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

    /// Begins the closing handshake. `reason` is cut to 123 bytes, the maximum in a Close.
    pub fn close(&mut self, code: CloseCode, reason: &str) {
        let frame = CloseFrame { code, reason };
        self.sender.close(Some(frame), &mut self.batch);
    }

    /// A handle to this connection, which can be kept and sent to other threads.
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
