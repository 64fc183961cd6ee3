//! The connection as its handler sees it.

use std::fmt;
use std::sync::Arc;

use super::compression::with_deflater;
use super::mailbox::Mailbox;
use super::peer::Peer;
use super::slab::ConnectionKey;
use super::write_batch::WriteBatch;
use crate::protocol::{CloseCode, CloseFrame, Deflate, LongCompression, Message, Sender};

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

    /// Sends a text message whose text begins with `prefix`, without a copy of a large `text`.
    /// Otherwise like [`WebSocket::send`].
    pub fn send_prefixed(&mut self, prefix: &str, text: &str) {
        if self.sender.may_compress() && text.len() <= Deflate::MAX_SIZE {
            self.send_compressed(Message::Text(&[prefix, text].concat()));
        } else if self.sender.is_open() {
            self.batch.prefixed_text(prefix, text);
        }
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
        // A long message waits in the backlog while it is compressed.
        let size = message.size();
        let may_wait = size <= LongCompression::STEP || batch.unsent().has_room(size);
        match mailbox.deflate().filter(|_| may_wait) {
            Some(deflate) => {
                let before = batch.data;
                let long = with_deflater(|deflater| {
                    sender.send_compressed(message, deflate, deflater, batch)
                });
                match long {
                    Some(long) => batch.long(long, message),
                    None => batch.recount(message, before),
                }
                batch.may_stop = true;
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
        Peer {
            mailbox: Arc::clone(self.mailbox),
            key: self.key,
            compresses,
        }
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
