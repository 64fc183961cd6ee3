//! A handle to a connection that can be kept, cloned and sent to other threads.

use std::sync::Arc;

use super::mailbox::Mailbox;
use super::publication::Publication;
use super::slab::ConnectionKey;
use crate::protocol::{CloseFrame, Message};

/// A handle to a connection, usable from any thread. Each call queues a command for the
/// connection's worker. Sending to a connection that has ended does nothing.
///
/// Messages sent by handles and [`Rooms`](crate::rooms::Rooms) on one worker keep their order.
/// Messages that a handler sends directly by [`WebSocket::send`](super::WebSocket::send) overtake
/// them.
#[derive(Clone, Debug)]
pub struct Peer {
    pub(super) mailbox: Arc<Mailbox>,
    pub(super) key: ConnectionKey,
    /// The connection accepts messages compressed without context takeover.
    pub(super) compresses: bool,
}

/// The identity of a handle's connection, unique among open connections.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(crate) struct PeerId {
    /// Address of the worker's mailbox. It is not reused while a handle holds the mailbox.
    mailbox: usize,
    key: ConnectionKey,
}

impl Peer {
    /// Sends a copy of a message. The bound of [`SlowConsumer`](super::SlowConsumer) applies to the
    /// connection's backlog.
    ///
    /// While the mailboxes of all workers hold more than 128 MiB, the message is dropped and its
    /// connection is closed as a slow consumer. Handlers cannot cause that, because reading from
    /// clients stops at 64 MiB; a task that sends without end must limit its own rate.
    pub fn send(&self, message: Message<'_>) {
        match message {
            Message::Close(frame) => self.mailbox.close(self.key, frame),
            message => {
                let publication = Publication::new(message);
                self.mailbox
                    .send(self.key, self.compresses, &publication, false);
            }
        }
    }

    /// Begins the closing handshake.
    pub fn close(&self, frame: CloseFrame<'_>) {
        self.mailbox.close(self.key, Some(frame));
    }

    /// Asks the handler again whether it is [busy](super::Handler::is_busy). If it is not, the
    /// client's next message is handled.
    pub fn resume(&self) {
        self.mailbox.wake_connection(self.key);
    }

    /// An identity that stays unique while a handle or a group of the connection's worker exists.
    pub(crate) fn id(&self) -> PeerId {
        PeerId {
            mailbox: Arc::as_ptr(&self.mailbox).addr(),
            key: self.key,
        }
    }
}

#[cfg(test)]
impl Peer {
    /// A handle to a connection of a sleeping worker that never carries out commands.
    pub(crate) fn of_sleeper(wake: impl Fn() + Send + Sync + 'static) -> Peer {
        let (congestion, settings) = (super::Congestion::default(), super::Settings::default());
        let mailbox = Mailbox::new(Box::new(wake), congestion, &settings);
        assert!(mailbox.try_sleep());
        let key = super::slab::Slab::default().insert(());
        Peer {
            mailbox: Arc::new(mailbox),
            key,
            compresses: false,
        }
    }
}
