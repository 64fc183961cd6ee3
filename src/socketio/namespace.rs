//! A namespace: its handlers, its clients and their rooms.
//!
//! A broadcast is encoded once. Clients with a WebSocket are in [`Group`]s, one for each room and
//! worker, and receive the broadcast in the same way as members of [`Rooms`]. The queues of polling
//! clients share the encoded broadcast. The lock on the members ensures that all clients receive
//! the broadcasts in the same order.
//!
//! [`Rooms`]: crate::rooms::Rooms

use std::collections::{HashMap, HashSet};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, RwLock, RwLockReadGuard};

use serde_json::Value;

use super::packet::EncodedPacket;
use super::session::DisconnectReason;
use super::sid::Sid;
use super::socket::{Event, Socket, SocketInner};
use super::value::Args;
use crate::engine::for_socketio::charge;
use crate::engine::{Group, GroupPlace, SlowConsumerPolicy};
use crate::lock::{lock, read, write};
use crate::rooms::{JoinError, Rooms};

/// The boxed future of a handler.
pub type Outcome<T = ()> = Pin<Box<dyn Future<Output = T> + Send>>;

type EventHandler = Arc<dyn Fn(Event) -> Outcome + Send + Sync>;
type Connected = Arc<dyn Fn(Socket, Value) -> Outcome + Send + Sync>;
type Disconnected = Arc<dyn Fn(Socket, DisconnectReason) -> Outcome + Send + Sync>;
type Admit = Arc<dyn Fn(Value) -> Outcome<Result<(), String>> + Send + Sync>;

/// Sends an event for the selected clients of a namespace to other processes.
pub(super) type Elsewhere = Arc<dyn Fn(&Inner, &str, &Args, &Selection) + Send + Sync>;

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

pub(super) struct Inner {
    path: Box<str>,
    elsewhere: Option<Elsewhere>,
    handlers: RwLock<Handlers>,
    members: Mutex<Members>,
}

#[derive(Default)]
pub(super) struct Handlers {
    pub(super) admit: Option<Admit>,
    pub(super) connected: Option<Connected>,
    pub(super) disconnected: Option<Disconnected>,
    events: HashMap<Box<str>, EventHandler>,
    fallback: Option<EventHandler>,
}

#[derive(Default)]
struct Members {
    all: Audience,
    /// The rooms by name. A room exists as long as it has members.
    rooms: HashMap<Box<str>, Audience>,
    /// The names of the rooms of each client. A client without an entry is in no room.
    joined: HashMap<Sid, Vec<Box<str>>>,
}

/// The members of a room or of the whole namespace, and the groups that deliver to them.
#[derive(Default)]
struct Audience {
    members: HashMap<Sid, Member>,
    groups: Vec<Group>,
    /// Members that are in no group, because they polled when they joined.
    others: HashSet<Sid>,
}

struct Member {
    socket: Arc<SocketInner>,
    seat: Option<(Group, GroupPlace)>,
}

/// A selection of a namespace's clients.
#[derive(Clone, Debug, Default)]
pub(super) struct Selection {
    /// Selects the members of any of these rooms; if empty, all clients. The id of a client is also
    /// the name of a room with only this client.
    pub(super) rooms: Vec<Box<str>>,
    /// Excludes these clients.
    pub(super) except: Vec<Sid>,
}

impl Namespaces {
    pub(super) fn get(&self, path: &str) -> Option<Arc<Inner>> {
        read(&self.namespaces).get(path).cloned()
    }

    pub(super) fn get_or_insert(&self, path: &str) -> Arc<Inner> {
        let mut namespaces = write(&self.namespaces);
        let namespace = namespaces.entry(path.into()).or_insert_with(|| {
            Arc::new(Inner {
                path: path.into(),
                elsewhere: self.elsewhere.get().cloned(),
                handlers: RwLock::default(),
                members: Mutex::default(),
            })
        });
        Arc::clone(namespace)
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
        let admit: Admit = Arc::new(move |auth| Box::pin(handler(auth)));
        self.change(|handlers| handlers.admit = Some(admit))
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
        let handler: EventHandler = Arc::new(move |event| Box::pin(handler(event)));
        self.change(|handlers| handlers.fallback = Some(handler))
    }

    fn change(self, change: impl FnOnce(&mut Handlers)) -> Namespace {
        change(&mut write(&self.0.handlers));
        self
    }
}

impl Inner {
    pub(super) fn path(&self) -> &str {
        &self.path
    }

    pub(super) fn handlers(&self) -> RwLockReadGuard<'_, Handlers> {
        read(&self.handlers)
    }

    pub(super) fn handler(&self, event: &str) -> Option<EventHandler> {
        let handlers = self.handlers();
        let handler = handlers.events.get(event).or(handlers.fallback.as_ref());
        handler.cloned()
    }

    /// Adds a client, which receives `joined` before any broadcast.
    pub(super) fn add(&self, socket: &Arc<SocketInner>, joined: &Arc<EncodedPacket>) {
        let mut members = self.members();
        socket.session.send_packet(joined);
        members.all.add(socket);
    }

    /// Removes a client from the namespace and from its rooms.
    pub(super) fn remove(&self, socket: &SocketInner) {
        let mut members = self.members();
        members.all.remove(socket.sid);
        for name in members.joined.remove(&socket.sid).unwrap_or_default() {
            members.leave(&name, socket.sid);
        }
    }

    /// Moves a client whose session now has a WebSocket into the groups.
    pub(super) fn seat(&self, socket: &Arc<SocketInner>) {
        let mut members = self.members();
        let Members { all, rooms, joined } = &mut *members;
        all.seat(socket);
        for name in joined.get(&socket.sid).into_iter().flatten() {
            if let Some(room) = rooms.get_mut(name) {
                room.seat(socket);
            }
        }
    }

    /// Adds a client to a room.
    pub(super) fn join(&self, name: &str, sid: Sid) -> Result<(), JoinError> {
        if name.len() > Rooms::MAX_NAME {
            return Err(JoinError::NameTooLong);
        }
        let mut members = self.members();
        let Members { all, rooms, joined } = &mut *members;
        let Some(member) = all.members.get(&sid) else {
            return Ok(()); // the client has left the namespace
        };
        let names = joined.entry(sid).or_default();
        if names.iter().any(|known| **known == *name) {
            return Ok(());
        }
        if names.len() >= Rooms::MAX_MEMBERSHIPS {
            return Err(JoinError::TooManyRooms);
        }
        names.push(name.into());
        rooms.entry(name.into()).or_default().add(&member.socket);
        Ok(())
    }

    /// Removes a client from a room.
    pub(super) fn leave(&self, name: &str, sid: Sid) {
        let mut members = self.members();
        if let Some(names) = members.joined.get_mut(&sid) {
            names.retain(|known| **known != *name);
            if names.is_empty() {
                members.joined.remove(&sid);
            }
            members.leave(name, sid);
        }
    }

    /// Emits an event to the selected clients of all processes.
    pub(super) fn emit(&self, event: &str, args: &Args, to: &Selection) {
        if let Some(elsewhere) = &self.elsewhere {
            elsewhere(self, event, args, to);
        }
        self.emit_here(event, args, to);
    }

    /// Emits an event to the selected clients of this process.
    pub(super) fn emit_here(&self, event: &str, args: &Args, to: &Selection) {
        let packet = EncodedPacket::event(&self.path, None, event, args);
        self.deliver(&Arc::new(packet), to);
    }

    fn deliver(&self, packet: &Arc<EncodedPacket>, to: &Selection) {
        let members = self.members();
        let room = to.rooms.first().and_then(|name| members.rooms.get(name));
        match (&*to.rooms, &*to.except, room) {
            ([], [], _) => members.all.deliver(packet),
            ([_], [], Some(room)) => room.deliver(packet),
            // Any other selection needs an audience for this event alone.
            _ => {
                let mut audience = Audience::default();
                let selected = members.select(to);
                charge(selected.len() * Audience::ADDED);
                for socket in selected {
                    audience.add(&socket);
                }
                audience.deliver(packet);
            }
        }
    }

    /// The selected clients of this process.
    pub(super) fn select(&self, to: &Selection) -> Vec<Arc<SocketInner>> {
        self.members().select(to)
    }

    /// Whether the mailbox of any worker of these clients is so full that the sender should
    /// wait.
    pub(super) fn is_congested(&self) -> bool {
        let members = self.members();
        let mut groups = members.all.groups.iter();
        groups.any(|group| group.is_full())
    }

    fn members(&self) -> MutexGuard<'_, Members> {
        lock(&self.members)
    }
}

impl Members {
    fn leave(&mut self, name: &str, sid: Sid) {
        if let Some(room) = self.rooms.get_mut(name) {
            room.remove(sid);
            if room.members.is_empty() {
                self.rooms.remove(name);
            }
        }
    }

    fn select(&self, to: &Selection) -> Vec<Arc<SocketInner>> {
        let mut seen: HashSet<Sid> = to.except.iter().copied().collect();
        let mut selected = Vec::new();
        let mut add = |member: &Member| {
            if seen.insert(member.socket.sid) {
                selected.push(Arc::clone(&member.socket));
            }
        };
        if to.rooms.is_empty() {
            self.all.members.values().for_each(&mut add);
        }
        for name in &to.rooms {
            let room = self.rooms.get(name);
            room.into_iter()
                .flat_map(|room| room.members.values())
                .for_each(&mut add);
            let own = Sid::parse(name).and_then(|sid| self.all.members.get(&sid));
            own.into_iter().for_each(&mut add);
        }
        selected
    }
}

impl Audience {
    /// The [charge] for each member of an audience that exists for one event.
    const ADDED: usize = 512;
    /// The charge for each polling member that receives an event.
    const QUEUED: usize = 320;

    fn add(&mut self, socket: &Arc<SocketInner>) {
        let seat = socket.session.peer().map(|peer| {
            let group = self.groups.iter().find(|group| group.is_of(&peer)).cloned();
            let group = group.unwrap_or_else(|| {
                let group = Group::of(&peer, SlowConsumerPolicy::Close);
                self.groups.push(group.clone());
                group
            });
            let place = group.join(&peer);
            (group, place)
        });
        if seat.is_none() {
            self.others.insert(socket.sid);
        }
        let socket = Arc::clone(socket);
        self.members.insert(socket.sid, Member { socket, seat });
    }

    /// Moves a member whose session now has a WebSocket into a group.
    fn seat(&mut self, socket: &Arc<SocketInner>) {
        if self.others.contains(&socket.sid) {
            self.remove(socket.sid);
            self.add(socket);
        }
    }

    fn remove(&mut self, sid: Sid) {
        self.others.remove(&sid);
        let seat = self.members.remove(&sid).and_then(|member| member.seat);
        if let Some((group, place)) = seat
            && group.leave(place)
        {
            self.groups.retain(|other| !other.is(&group));
        }
    }

    fn deliver(&self, packet: &Arc<EncodedPacket>) {
        if !self.groups.is_empty() {
            let publication = packet.publication();
            for group in &self.groups {
                group.deliver(&publication);
            }
        }
        charge(self.others.len() * Self::QUEUED);
        for member in self.others.iter().filter_map(|sid| self.members.get(sid)) {
            member.socket.session.deliver(packet);
        }
    }
}
