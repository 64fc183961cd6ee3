//! The arguments of handlers: a client in a namespace, its events, and the targets of events.

use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::oneshot;

use super::namespace::{Inner, Outcome, Selection};
use super::packet::{EncodedPacket, PacketKind};
use super::session::{DisconnectReason, Session};
use super::sid::Sid;
use super::value::Args;
use crate::engine::PeerAddress;
use crate::lock::lock;
use crate::rooms::JoinError;

/// A client in one namespace. A clone refers to the same client. Events to a client that has left
/// are dropped.
#[derive(Clone, Debug)]
pub struct Socket(pub(super) Arc<SocketInner>);

pub(super) struct SocketInner {
    pub(super) sid: Sid,
    pub(super) namespace: Arc<Inner>,
    pub(super) session: Arc<Session>,
    asked: Mutex<Asked>,
}

/// The Socket.IO state of a session's client.
#[derive(Default)]
pub(super) struct Client {
    /// One socket for each namespace that the client has joined.
    pub(super) sockets: Vec<Arc<SocketInner>>,
    /// A binary packet that still lacks attachments.
    pub(super) partial: Option<Box<Partial>>,
}

/// An incomplete binary packet. Bounds: `max_payload` bytes in total, and `attachment_timeout`, of
/// [`SocketIoSettings`](super::SocketIoSettings).
pub(super) struct Partial {
    pub(super) packet: String,
    pub(super) attachments: Vec<Bytes>,
    /// Bytes of the packet and its attachments.
    pub(super) size: usize,
    /// The number of attachments of the complete packet.
    pub(super) due: usize,
}

/// The events that wait for an acknowledgement. Bound: [`Asked::MAX`].
#[derive(Default)]
struct Asked {
    next: u64,
    waiting: Vec<(u64, oneshot::Sender<Args>)>,
}

impl Asked {
    const MAX: usize = 128;
}

/// An event from a client.
#[derive(Debug)]
pub struct Event {
    /// The client.
    pub socket: Socket,
    /// The event's name.
    pub name: String,
    /// The event's arguments. A handler should drop unneeded arguments before it waits.
    pub args: Args,
    /// Acknowledges the event.
    pub ack: Ack,
}

/// Acknowledges an event, if the client asked for an acknowledgement.
#[derive(Debug)]
pub struct Ack(pub(super) Option<(Socket, u64)>);

/// The error if a client has not acknowledged an event: the client has left, or the time was up.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct NoAnswer;

impl Client {
    pub(super) fn socket(&self, namespace: &str) -> Option<Arc<SocketInner>> {
        let mut sockets = self.sockets.iter();
        let socket = sockets.find(|socket| socket.namespace.path() == namespace);
        socket.cloned()
    }
}

impl SocketInner {
    pub(super) fn new(sid: Sid, namespace: Arc<Inner>, session: Arc<Session>) -> SocketInner {
        SocketInner {
            sid,
            namespace,
            session,
            asked: Mutex::default(),
        }
    }

    pub(super) fn acknowledged(&self, id: u64, args: Args) {
        let mut asked = lock(&self.asked);
        let place = asked.waiting.iter().position(|(asked, _)| *asked == id);
        if let Some(place) = place {
            // An error means that the handler has stopped waiting.
            let _ = asked.waiting.swap_remove(place).1.send(args);
        }
    }

    /// Removes a client from a namespace. If the server has decided this, the client receives a
    /// Disconnect.
    pub(super) fn leave(self: &Arc<Self>, why: DisconnectReason) {
        let mut client = lock(&self.session.client);
        let before = client.sockets.len();
        client.sockets.retain(|other| !Arc::ptr_eq(other, self));
        if client.sockets.len() == before {
            return;
        }
        let has_none = client.sockets.is_empty();
        drop(client);
        if why == DisconnectReason::ServerNamespaceDisconnect {
            let packet = EncodedPacket::plain(PacketKind::Disconnect, self.namespace.path(), "");
            self.session.send_packet(&Arc::new(packet));
        }
        self.left(why);
        if has_none {
            self.session.unsettle();
        }
    }

    /// Calls the handler of a client that has left.
    pub(super) fn left(self: &Arc<Self>, why: DisconnectReason) {
        self.namespace.remove(self);
        lock(&self.asked).waiting = Vec::new();
        let disconnected = self.namespace.handlers().disconnected.clone();
        if let Some(disconnected) = disconnected {
            let gone = Socket(Arc::clone(self));
            self.session.run(disconnected(gone, why));
        }
    }

    /// Returns an id for an event, and the receiver of its acknowledgement. `None` if too many
    /// events wait for an acknowledgement or the session has ended.
    fn ask(&self) -> Option<(u64, oneshot::Receiver<Args>)> {
        let mut asked = lock(&self.asked);
        asked.waiting.retain(|(_, answer)| !answer.is_closed());
        if asked.waiting.len() >= Asked::MAX || self.session.is_closed() {
            return None;
        }
        let id = asked.next;
        asked.next += 1;
        let (sender, receiver) = oneshot::channel();
        asked.waiting.push((id, sender));
        Some((id, receiver))
    }
}

impl Socket {
    /// The client's id in this namespace. It is not the secret id of the session.
    pub fn id(&self) -> Sid {
        self.0.sid
    }

    /// The peer address of the connection that opened the client's session.
    pub fn peer_address(&self) -> PeerAddress {
        self.0.session.peer_address()
    }

    /// Emits an event to this client.
    pub fn emit(&self, event: &str, args: impl Into<Args>) {
        let path = self.0.namespace.path();
        let packet = EncodedPacket::event(path, None, event, &args.into());
        self.0.session.send_packet(&Arc::new(packet));
    }

    /// Emits an event to this client and waits for its acknowledgement.
    ///
    /// # Errors
    /// If the acknowledgement does not arrive within `ack_timeout` of
    /// [`SocketIoSettings`](super::SocketIoSettings), the client leaves, or 128 events to this
    /// client already wait for an acknowledgement.
    pub fn emit_with_ack(
        &self,
        event: &str,
        args: impl Into<Args>,
    ) -> Outcome<Result<Args, NoAnswer>> {
        let timeout: Duration = self.0.session.engine.settings.ack_timeout;
        let asked = self.0.ask();
        if let Some((id, _)) = &asked {
            let path = self.0.namespace.path();
            let packet = EncodedPacket::event(path, Some(*id), event, &args.into());
            self.0.session.send_packet(&Arc::new(packet));
        }
        Box::pin(async move {
            let (_, answer) = asked.ok_or(NoAnswer)?;
            match tokio::time::timeout(timeout, answer).await {
                Ok(Ok(args)) => Ok(args),
                _ => Err(NoAnswer),
            }
        })
    }

    /// Adds this client to a room.
    ///
    /// # Errors
    /// If the room's name has more than 255 bytes, or the client is already in 128 rooms.
    pub fn join(&self, room: &str) -> Result<(), JoinError> {
        self.0.namespace.join(room, self.0.sid)
    }

    /// Removes this client from a room.
    pub fn leave(&self, room: &str) {
        self.0.namespace.leave(room, self.0.sid);
    }

    /// All clients of the namespace, including this client.
    pub fn everybody(&self) -> Broadcast {
        Broadcast::of(Arc::clone(&self.0.namespace))
    }

    /// All clients of the namespace except this client.
    pub fn others(&self) -> Broadcast {
        self.everybody().except(self)
    }

    /// Removes this client from the namespace. Its session continues.
    pub fn disconnect(&self) {
        self.0.leave(DisconnectReason::ServerNamespaceDisconnect);
    }
}

impl Ack {
    /// Whether the client has asked for an acknowledgement.
    pub fn is_wanted(&self) -> bool {
        self.0.is_some()
    }

    /// Sends the acknowledgement, if the client has asked for it.
    pub fn send(self, args: impl Into<Args>) {
        if let Some((socket, id)) = self.0 {
            let packet = EncodedPacket::ack(socket.0.namespace.path(), id, &args.into());
            socket.0.session.send_packet(&Arc::new(packet));
        }
    }
}

/// The target of an event: all clients of a namespace, or the selection that [`Broadcast::to`] and
/// [`Broadcast::except`] make.
#[derive(Clone, Debug)]
#[must_use]
pub struct Broadcast {
    namespace: Arc<Inner>,
    selection: Selection,
}

impl Broadcast {
    pub(super) fn of(namespace: Arc<Inner>) -> Broadcast {
        let selection = Selection::default();
        Broadcast {
            namespace,
            selection,
        }
    }

    /// Adds a room. The event is sent only to the members of the added rooms. The id of a client is
    /// also the name of a room with only this client.
    pub fn to(mut self, room: &str) -> Broadcast {
        self.selection.rooms.push(room.into());
        self
    }

    /// Excludes this client.
    pub fn except(mut self, socket: &Socket) -> Broadcast {
        self.selection.except.push(socket.id());
        self
    }

    /// The selected clients of this process.
    pub fn sockets(&self) -> Vec<Socket> {
        let sockets = self.namespace.select(&self.selection);
        sockets.into_iter().map(Socket).collect()
    }

    /// Emits an event to the selected clients of this process and of the other processes of the
    /// bus. A handler with many events should await the result, which is ready when no worker has a
    /// full mailbox.
    pub fn emit(&self, event: &str, args: impl Into<Args>) -> Emitted {
        self.namespace.emit(event, &args.into(), &self.selection);
        Emitted(Arc::clone(&self.namespace))
    }
}

/// A broadcast in delivery. Await it to wait until no worker of its clients has a full mailbox.
#[derive(Debug)]
pub struct Emitted(Arc<Inner>);

impl IntoFuture for Emitted {
    type Output = ();
    type IntoFuture = Outcome;

    fn into_future(self) -> Self::IntoFuture {
        const LOOK_AGAIN: Duration = Duration::from_millis(1);
        Box::pin(async move {
            while self.0.is_congested() {
                tokio::time::sleep(LOOK_AGAIN).await;
            }
        })
    }
}

impl fmt::Display for NoAnswer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("the client has not acknowledged the event")
    }
}

impl std::error::Error for NoAnswer {}
