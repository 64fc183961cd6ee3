//! The namespaces of a service, and what handlers get: a client in a namespace, its events, and the
//! targets of events.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, OnceLock, RwLock, RwLockReadGuard};
use std::time::Duration;

use serde_json::Value;

use super::errors::DisconnectReason;
use super::members::{Member, Members, Selection};
use super::packet::{EncodedPacket, PacketKind};
use super::sid::Sid;
use super::value::Args;
use crate::engine::PeerAddress;
use crate::http::BoxFuture;
use crate::lock::{read, write};
use crate::rooms::JoinError;

/// The boxed future of a handler.
pub type Outcome<T = ()> = BoxFuture<T>;

type EventHandler = Arc<dyn Fn(Event) -> Outcome + Send + Sync>;
type Connected = Arc<dyn Fn(Socket, Value) -> Outcome + Send + Sync>;
type Disconnected = Arc<dyn Fn(Socket, DisconnectReason) -> Outcome + Send + Sync>;
type Admit = Arc<dyn Fn(Value) -> Outcome<Result<(), String>> + Send + Sync>;

/// Sends an event for the selected clients of a namespace to other processes.
pub(super) type Elsewhere = Arc<dyn Fn(&Inner, &str, &Args, &Selection) + Send + Sync>;

/// The namespaces of a service. Use it to register handlers and to emit events.
#[derive(Clone, Debug)]
pub struct SocketIo(pub(super) Arc<Namespaces>);

/// The namespaces of a service, by path.
#[derive(Default)]
pub(super) struct Namespaces {
    namespaces: RwLock<HashMap<Box<str>, Arc<Inner>>>,
    /// Set before the first namespace exists.
    pub(super) elsewhere: OnceLock<Elsewhere>,
}

/// A namespace. Use it to register handlers. A handler begins on the worker that received its
/// packet; while the handler waits, other handlers run. The handlers of one client's events begin
/// in the order of the events. At most 16 handlers of one session run at the same time.
#[derive(Clone, Debug)]
pub struct Namespace(pub(super) Arc<Inner>);

/// A namespace: its handlers and its clients.
pub(super) struct Inner {
    pub(super) path: Box<str>,
    elsewhere: Option<Elsewhere>,
    handlers: RwLock<Handlers>,
    pub(super) members: Members,
}

#[derive(Default)]
pub(super) struct Handlers {
    pub(super) admit: Option<Admit>,
    pub(super) connected: Option<Connected>,
    pub(super) disconnected: Option<Disconnected>,
    events: HashMap<Box<str>, EventHandler>,
    fallback: Option<EventHandler>,
}

/// A client in one namespace. A clone refers to the same client. Events to a client that has left
/// are dropped.
#[derive(Clone, Debug)]
pub struct Socket {
    pub(super) namespace: Arc<Inner>,
    pub(super) member: Arc<Member>,
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

impl Namespaces {
    pub(super) fn get(&self, path: &str) -> Option<Arc<Inner>> {
        read(&self.namespaces).get(path).cloned()
    }
}

impl SocketIo {
    /// Returns the namespace at this path, and creates it if it does not exist. A path begins with
    /// `/`.
    pub fn namespace(&self, path: &str) -> Namespace {
        let mut namespaces = write(&self.0.namespaces);
        let namespace = namespaces.entry(path.into()).or_insert_with(|| {
            Arc::new(Inner {
                path: path.into(),
                elsewhere: self.0.elsewhere.get().cloned(),
                handlers: RwLock::default(),
                members: Members::default(),
            })
        });
        Namespace(Arc::clone(namespace))
    }

    /// Returns all clients of the namespace at this path; `None` if the namespace does not exist.
    pub fn of(&self, path: &str) -> Option<Broadcast> {
        self.0.get(path).map(Broadcast::of)
    }
}

/// The future that a handler returns, for example the future of an `async` closure.
pub trait HandlerFuture<T = ()>: Future<Output = T> + Send + 'static {}

impl<T, F: Future<Output = T> + Send + 'static> HandlerFuture<T> for F {}

impl Namespace {
    /// Sets the handler that decides by a client's auth payload (`Null` if the client sent no
    /// payload) whether the client may join. `Err` is the message of the refusal. Default: every
    /// client may join.
    pub fn admitting<F: HandlerFuture<Result<(), String>>>(
        self,
        handler: impl Fn(Value) -> F + Send + Sync + 'static,
    ) -> Namespace {
        self.change(|it| it.admit = Some(Arc::new(move |auth| Box::pin(handler(auth)))))
    }

    /// Sets the handler that is called after a client has joined, with the client's auth payload
    /// (`Null` if the client sent no payload).
    pub fn on_connect<F: HandlerFuture>(
        self,
        handler: impl Fn(Socket, Value) -> F + Send + Sync + 'static,
    ) -> Namespace {
        let connected: Connected = Arc::new(move |socket, auth| Box::pin(handler(socket, auth)));
        self.change(|handlers| handlers.connected = Some(connected))
    }

    /// Sets the handler that is called after a client has left the namespace.
    pub fn on_disconnect<F: HandlerFuture>(
        self,
        handler: impl Fn(Socket, DisconnectReason) -> F + Send + Sync + 'static,
    ) -> Namespace {
        let disconnected: Disconnected =
            Arc::new(move |socket, why| Box::pin(handler(socket, why)));
        self.change(|handlers| handlers.disconnected = Some(disconnected))
    }

    /// Sets the handler for events with this name.
    pub fn on<F: HandlerFuture>(
        self,
        event: &str,
        handler: impl Fn(Event) -> F + Send + Sync + 'static,
    ) -> Namespace {
        let handler: EventHandler = Arc::new(move |event| Box::pin(handler(event)));
        self.change(|handlers| drop(handlers.events.insert(event.into(), handler)))
    }

    /// Sets the handler for events whose name has no handler.
    pub fn on_any<F: HandlerFuture>(
        self,
        handler: impl Fn(Event) -> F + Send + Sync + 'static,
    ) -> Namespace {
        self.change(|it| it.fallback = Some(Arc::new(move |event| Box::pin(handler(event)))))
    }

    fn change(self, change: impl FnOnce(&mut Handlers)) -> Namespace {
        change(&mut write(&self.0.handlers));
        self
    }
}

impl Inner {
    pub(super) fn handlers(&self) -> RwLockReadGuard<'_, Handlers> {
        read(&self.handlers)
    }

    pub(super) fn handler(&self, event: &str) -> Option<EventHandler> {
        let handlers = self.handlers();
        let handler = handlers.events.get(event).or(handlers.fallback.as_ref());
        handler.cloned()
    }

    /// Emits an event to the selected clients of all processes.
    fn emit(&self, event: &str, args: &Args, to: &Selection) {
        if let Some(elsewhere) = &self.elsewhere {
            elsewhere(self, event, args, to);
        }
        self.emit_here(event, args, to);
    }

    /// Emits an event to the selected clients of this process.
    pub(super) fn emit_here(&self, event: &str, args: &Args, to: &Selection) {
        let packet = EncodedPacket::event(&self.path, None, event, args);
        self.members.deliver(&packet, to);
    }
}

impl Socket {
    /// The client's id in this namespace. It is not the secret id of the session.
    pub fn id(&self) -> Sid {
        self.member.sid
    }

    /// The peer address of the connection that opened the client's session.
    pub fn peer_address(&self) -> PeerAddress {
        self.member.session.peer_address()
    }

    /// Emits an event to this client.
    pub fn emit(&self, event: &str, args: impl Into<Args>) {
        let packet = EncodedPacket::event(&self.namespace.path, None, event, &args.into());
        self.member.session.send_packet(&packet);
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
        let session = &self.member.session;
        let timeout = session.service.settings.ack_timeout;
        let asked = self.member.ask();
        if let Some((id, _)) = &asked {
            let path = &self.namespace.path;
            session.send_packet(&EncodedPacket::event(path, Some(*id), event, &args.into()));
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
        self.namespace.members.join(room, self.id())
    }

    /// Removes this client from a room.
    pub fn leave(&self, room: &str) {
        self.namespace.members.leave(room, self.id());
    }

    /// All clients of the namespace, including this client.
    pub fn everybody(&self) -> Broadcast {
        Broadcast::of(Arc::clone(&self.namespace))
    }

    /// All clients of the namespace except this client.
    pub fn others(&self) -> Broadcast {
        self.everybody().except(self)
    }

    /// Removes this client from the namespace. Its session continues.
    pub fn disconnect(&self) {
        self.leave_for(DisconnectReason::ServerNamespaceDisconnect);
    }

    /// Removes this client from the namespace, and calls the handler. If the server has decided
    /// this, the client receives a Disconnect.
    pub(super) fn leave_for(&self, why: DisconnectReason) {
        let Socket { namespace, member } = self;
        if !member.leave() {
            return;
        }
        if why == DisconnectReason::ServerNamespaceDisconnect {
            let packet = EncodedPacket::plain(PacketKind::Disconnect, &namespace.path, "");
            member.session.send_packet(&packet);
        }
        namespace.members.remove(member.sid);
        let disconnected = namespace.handlers().disconnected.clone();
        if let Some(disconnected) = disconnected {
            member.session.run(disconnected(self.clone(), why));
        }
        member.session.unsettle();
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
            let packet = EncodedPacket::ack(&socket.namespace.path, id, &args.into());
            socket.member.session.send_packet(&packet);
        }
    }
}

/// The target of an event: all clients of a namespace, or the selection that [`Broadcast::to`] and
/// [`Broadcast::except`] make.
#[derive(Clone, Debug)]
#[must_use]
pub struct Broadcast {
    pub(super) namespace: Arc<Inner>,
    pub(super) selection: Selection,
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
        let members = self.namespace.members.select(&self.selection);
        let socket = |member| Socket {
            namespace: Arc::clone(&self.namespace),
            member,
        };
        members.into_iter().map(socket).collect()
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
            while self.0.members.is_congested() {
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
