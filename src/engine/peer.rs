//! A handle to a connection that can be kept, cloned and sent to other threads.

use std::sync::Arc;

use super::disconnect::Disconnect;
use super::mailbox::Mailbox;
use super::publication::Publication;
use super::slab::ConnectionKey;
use crate::protocol::{CloseCode, CloseFrame, Message};

/// A connection, seen from anywhere: what is sent through it becomes a command to the connection's
/// worker. Sending to a connection that is gone does nothing.
///
/// Order is kept among everything that goes through handles and
/// [`Rooms`](crate::rooms::Rooms) on one worker; what a handler sends directly by
/// [`WebSocket::send`](super::WebSocket::send) goes ahead of it.
#[derive(Clone, Debug)]
pub struct Peer {
    mailbox: Arc<Mailbox>,
    key: ConnectionKey,
    compresses: bool,
}

/// Which connection a handle is of, among all that are open.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(crate) struct PeerId {
    /// Where its worker's mailbox is. An address is not used again while a handle holds it.
    mailbox: usize,
    key: ConnectionKey,
}

impl Peer {
    /// `compresses`: the connection takes any message that was compressed without context.
    pub(super) fn new(mailbox: Arc<Mailbox>, key: ConnectionKey, compresses: bool) -> Peer {
        Peer {
            mailbox,
            key,
            compresses,
        }
    }

    /// Sends a message, copying it. It waits under the bound of
    /// [`SlowConsumer`](super::SlowConsumer), and while more than 128 MiB wait for all workers
    /// together nothing is kept: a connection that is sent to then is closed as a slow consumer,
    /// which it seems from here. Handlers never come to that, because clients are not read from
    /// beyond 64 MiB; a task that produces without end must keep to a pace of its own.
    pub fn send(&self, message: Message<'_>) {
        match message {
            Message::Close(frame) => self.mailbox.close(self.key, frame),
            message => self.mailbox.send(self.key, self.compresses, message),
        }
    }

    /// Begins the closing handshake.
    pub fn close(&self, frame: CloseFrame<'_>) {
        self.mailbox.close(self.key, Some(frame));
    }

    /// Says that the handler may no longer be [busy](super::Handler::is_busy): a message that waits
    /// for that is handled.
    pub fn resume(&self) {
        self.mailbox.resume(self.key);
    }

    /// Ends the connection with a Close whose answer is not waited for, as a passed deadline does.
    #[allow(dead_code, reason = "Socket.IO is optional")]
    pub(crate) fn end(&self, why: Disconnect, code: CloseCode, reason: &'static str) {
        self.mailbox.end(self.key, why, (code, reason));
    }

    /// Sends what has been encoded already, if it is for one connection only. It waits under the
    /// same bound as [`Peer::send`]'s, except that a message which finds less than that waiting is
    /// let through whatever its size: an answer is not cut off for being long.
    #[allow(dead_code, reason = "Socket.IO is optional")]
    pub(crate) fn publish(&self, publication: &Publication<'_>) {
        self.mailbox.publish(self.key, self.compresses, publication);
    }

    /// Has the connection's [`RawHandler`](super::RawHandler) woken.
    #[cfg(feature = "cli")]
    pub(crate) fn wake(&self) {
        self.mailbox.wake_handler(self.key);
    }

    /// Its own as long as a handle or a group of its worker is held.
    pub(crate) fn id(&self) -> PeerId {
        PeerId {
            mailbox: Arc::as_ptr(&self.mailbox).addr(),
            key: self.key,
        }
    }

    pub(super) fn mailbox(&self) -> &Arc<Mailbox> {
        &self.mailbox
    }

    pub(super) fn key(&self) -> ConnectionKey {
        self.key
    }

    pub(super) fn compresses(&self) -> bool {
        self.compresses
    }
}

#[cfg(test)]
impl Peer {
    /// A handle to a connection of a worker that sleeps, and is not there to do what it is told.
    pub(crate) fn of_sleeper(wake: impl Fn() + Send + Sync + 'static) -> Peer {
        let (congestion, settings) = (super::Congestion::default(), super::Settings::default());
        let mailbox = Mailbox::new(Box::new(wake), congestion, &settings);
        assert!(mailbox.try_sleep());
        let key = super::slab::Slab::default().insert(());
        Peer::new(Arc::new(mailbox), key, false)
    }
}
