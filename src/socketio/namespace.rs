//! A namespace: its handlers, its clients and their rooms.
//!
//! What is emitted to many is encoded once. Clients with a WebSocket sit in [`Group`]s, one for
//! each room and worker, which get it as the members of [`Rooms`] do; the others get it in their
//! sessions' queues, which share it. The lock on the members is the namespace's sequencer: all of
//! them see its broadcasts in one order.
//!
//! [`Rooms`]: crate::rooms::Rooms

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};

use serde_json::Value;

use super::packet::EncodedPacket;
use super::session::DisconnectReason;
use super::sid::Sid;
use super::socket::{Event, Socket, SocketInner};
use super::value::Args;
use crate::engine::{Group, GroupPlace, Peer, SlowConsumerPolicy};
use crate::rooms::{JoinError, Rooms};

/// What is on its way.
pub type Outcome<T = ()> = Pin<Box<dyn Future<Output = T> + Send>>;

type EventHandler = Arc<dyn Fn(Event) -> Outcome + Send + Sync>;
type Connected = Arc<dyn Fn(Socket, Value) -> Outcome + Send + Sync>;
type Disconnected = Arc<dyn Fn(Socket, DisconnectReason) -> Outcome + Send + Sync>;
type AdmitFn = Arc<dyn Fn(Value) -> Outcome<Result<(), String>> + Send + Sync>;

/// Tells other processes of an event that is emitted in a namespace, to those that are meant.
pub(super) type Elsewhere = Arc<dyn Fn(&Inner, &str, &Args, &Selection) + Send + Sync>;

/// The namespaces of a service, by their paths.
#[derive(Default)]
pub(super) struct Namespaces {
    namespaces: RwLock<HashMap<Box<str>, Arc<Inner>>>,
    elsewhere: Option<Elsewhere>,
}

/// A namespace, to register handlers with. A handler begins on the worker that its packet came to,
/// and what it waits for holds up nothing but itself; of one client's events each handler begins
/// after those before it have, and at most 16 are under way.
#[derive(Clone, Debug)]
pub struct Namespace(pub(super) Arc<Inner>);

pub(super) struct Inner {
    path: Box<str>,
    elsewhere: Option<Elsewhere>,
    handlers: RwLock<Handlers>,
    members: Mutex<Members>,
}

#[derive(Default)]
struct Handlers {
    admission: Option<AdmitFn>,
    connected: Option<Connected>,
    disconnected: Option<Disconnected>,
    events: HashMap<Box<str>, EventHandler>,
    fallback: Option<EventHandler>,
}

#[derive(Default)]
struct Members {
    sockets: HashMap<Sid, Member>,
    all: Audience,
    /// Rooms exist as long as they have members.
    rooms: HashMap<Box<str>, NamespaceRoom>,
}

struct Member {
    socket: Arc<SocketInner>,
    seat: Option<Seat>,
    rooms: Vec<Box<str>>,
}

#[derive(Default)]
struct NamespaceRoom {
    audience: Audience,
    members: HashMap<Sid, (Arc<SocketInner>, Option<Seat>)>,
}

/// How the members of a room are reached.
#[derive(Default)]
struct Audience {
    groups: Vec<Group>,
    /// Those that have no seat in a group: they poll, or did when they came.
    others: HashMap<Sid, Arc<SocketInner>>,
}

struct Seat {
    group: Group,
    place: GroupPlace,
}

/// Which clients of a namespace are meant.
#[derive(Clone, Debug, Default)]
pub(super) struct Selection {
    /// The members of any of these, or everybody if there are none. A client is in a room of its
    /// own id's name.
    pub(super) rooms: Vec<Box<str>>,
    /// But not these.
    pub(super) except: Vec<Sid>,
}

impl Namespaces {
    /// None yet, of which other processes are told by `elsewhere`.
    pub(super) fn new(elsewhere: Option<Elsewhere>) -> Namespaces {
        Namespaces {
            elsewhere,
            ..Namespaces::default()
        }
    }

    pub(super) fn get(&self, path: &str) -> Option<Arc<Inner>> {
        let namespaces = self
            .namespaces
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        namespaces.get(path).cloned()
    }

    pub(super) fn get_or_insert(&self, path: &str) -> Arc<Inner> {
        let mut namespaces = self
            .namespaces
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        let namespace = namespaces.entry(path.into()).or_insert_with(|| {
            Arc::new(Inner {
                path: path.into(),
                elsewhere: self.elsewhere.clone(),
                handlers: RwLock::default(),
                members: Mutex::default(),
            })
        });
        Arc::clone(namespace)
    }
}

impl Namespace {
    /// Has `handler` decide whether a client may join, by the payload that it has sent: `Err` is
    /// the message that it is refused with. By default every client may.
    pub fn admitting<F>(self, handler: impl Fn(Value) -> F + Send + Sync + 'static) -> Namespace
    where
        F: Future<Output = Result<(), String>> + Send + 'static,
    {
        self.change(|handlers| {
            handlers.admission = Some(Arc::new(move |auth| Box::pin(handler(auth))));
        })
    }

    /// Has `handler` called when a client has joined and has been told so, with the payload that
    /// it has sent: `Null` if none.
    pub fn on_connect<F>(
        self,
        handler: impl Fn(Socket, Value) -> F + Send + Sync + 'static,
    ) -> Namespace
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.change(|handlers| {
            handlers.connected = Some(Arc::new(move |socket, auth| {
                Box::pin(handler(socket, auth))
            }));
        })
    }

    /// Has `handler` called when a client is no longer in the namespace.
    pub fn on_disconnect<F>(
        self,
        handler: impl Fn(Socket, DisconnectReason) -> F + Send + Sync + 'static,
    ) -> Namespace
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.change(|handlers| {
            handlers.disconnected =
                Some(Arc::new(move |socket, why| Box::pin(handler(socket, why))));
        })
    }

    /// Has `handler` called for each event of this name.
    pub fn on<F>(
        self,
        event: &str,
        handler: impl Fn(Event) -> F + Send + Sync + 'static,
    ) -> Namespace
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.change(|handlers| {
            let handler: EventHandler = Arc::new(move |event| Box::pin(handler(event)));
            handlers.events.insert(event.into(), handler);
        })
    }

    /// Has `handler` called for each event that has no handler of its own.
    pub fn on_any<F>(self, handler: impl Fn(Event) -> F + Send + Sync + 'static) -> Namespace
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.change(|handlers| {
            handlers.fallback = Some(Arc::new(move |event| Box::pin(handler(event))));
        })
    }

    fn change(self, change: impl FnOnce(&mut Handlers)) -> Namespace {
        let handlers = &self.0.handlers;
        change(&mut handlers.write().unwrap_or_else(PoisonError::into_inner));
        self
    }
}

impl Inner {
    pub(super) fn path(&self) -> &str {
        &self.path
    }

    pub(super) fn admission(&self) -> Option<AdmitFn> {
        self.handlers().admission.clone()
    }

    pub(super) fn connected(&self) -> Option<Connected> {
        self.handlers().connected.clone()
    }

    pub(super) fn disconnected(&self) -> Option<Disconnected> {
        self.handlers().disconnected.clone()
    }

    pub(super) fn handler(&self, event: &str) -> Option<EventHandler> {
        let handlers = self.handlers();
        let handler = handlers.events.get(event).or(handlers.fallback.as_ref());
        handler.cloned()
    }

    /// Adds a client. `joined` tells it so, before anything that is emitted to all.
    pub(super) fn add(&self, socket: &Arc<SocketInner>, joined: &Arc<EncodedPacket>) {
        let mut members = self.members();
        socket.session.send_packet(joined);
        let seat = members.all.add(socket, socket.session.peer().as_ref());
        let member = Member {
            socket: Arc::clone(socket),
            seat,
            rooms: Vec::new(),
        };
        members.sockets.insert(socket.sid, member);
    }

    /// Takes a client out, and of all its rooms.
    pub(super) fn remove(&self, socket: &SocketInner) {
        let mut members = self.members();
        let Some(member) = members.sockets.remove(&socket.sid) else {
            return;
        };
        members.all.remove(socket.sid, member.seat);
        for room in member.rooms {
            members.leave(&room, socket.sid);
        }
    }

    /// Gives a client that has a WebSocket now its seats.
    pub(super) fn seat(&self, socket: &Arc<SocketInner>) {
        let mut members = self.members();
        let Some(peer) = socket.session.peer() else {
            return;
        };
        let Members {
            sockets,
            all,
            rooms,
        } = &mut *members;
        let Some(member) = sockets.get_mut(&socket.sid) else {
            return;
        };
        all.seat(socket, &mut member.seat, &peer);
        for name in &member.rooms {
            if let Some(room) = rooms.get_mut(name)
                && let Some((_, seat)) = room.members.get_mut(&socket.sid)
            {
                room.audience.seat(socket, seat, &peer);
            }
        }
    }

    /// Adds a client to a room.
    pub(super) fn join(&self, name: &str, sid: Sid) -> Result<(), JoinError> {
        if name.len() > Rooms::MAX_NAME {
            return Err(JoinError::NameTooLong);
        }
        let mut members = self.members();
        let Members { sockets, rooms, .. } = &mut *members;
        let Some(member) = sockets.get_mut(&sid) else {
            return Ok(()); // it is about to end
        };
        if member.rooms.iter().any(|room| **room == *name) {
            return Ok(());
        }
        if member.rooms.len() >= Rooms::MAX_MEMBERSHIPS {
            return Err(JoinError::TooManyRooms);
        }
        member.rooms.push(name.into());
        let room = rooms.entry(name.into()).or_default();
        let peer = member.socket.session.peer();
        let seat = room.audience.add(&member.socket, peer.as_ref());
        room.members.insert(sid, (Arc::clone(&member.socket), seat));
        Ok(())
    }

    /// Takes a client out of a room.
    pub(super) fn leave(&self, name: &str, sid: Sid) {
        let mut members = self.members();
        if let Some(member) = members.sockets.get_mut(&sid) {
            member.rooms.retain(|room| **room != *name);
            members.leave(name, sid);
        }
    }

    /// Emits an event to those that are meant, here and elsewhere.
    pub(super) fn emit(&self, event: &str, args: &Args, to: &Selection) {
        if let Some(elsewhere) = &self.elsewhere {
            elsewhere(self, event, args, to);
        }
        self.emit_here(event, args, to);
    }

    /// Emits an event to those that are meant, in this process.
    pub(super) fn emit_here(&self, event: &str, args: &Args, to: &Selection) {
        let packet = EncodedPacket::event(&self.path, None, event, args);
        self.deliver(&Arc::new(packet), to);
    }

    fn deliver(&self, packet: &Arc<EncodedPacket>, to: &Selection) {
        let members = self.members();
        match (&*to.rooms, &*to.except) {
            ([], []) => members.all.deliver(packet),
            ([name], []) if members.rooms.contains_key(name) => {
                if let Some(room) = members.rooms.get(name) {
                    room.audience.deliver(packet);
                }
            }
            // An audience of a moment.
            _ => {
                let mut audience = Audience::default();
                for socket in members.select(to) {
                    audience.add(&socket, socket.session.peer().as_ref());
                }
                audience.deliver(packet);
            }
        }
    }

    /// Those that are meant, of this process.
    pub(super) fn select(&self, to: &Selection) -> Vec<Arc<SocketInner>> {
        self.members().select(to)
    }

    /// Whether a worker of these clients has so much to deliver that more should wait.
    pub(super) fn is_congested(&self) -> bool {
        let members = self.members();
        let mut groups = members.all.groups.iter();
        groups.any(|group| group.is_full())
    }

    fn handlers(&self) -> RwLockReadGuard<'_, Handlers> {
        self.handlers.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// A poisoned lock is taken all the same: a member is in whole, or not at all.
    fn members(&self) -> MutexGuard<'_, Members> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Members {
    fn leave(&mut self, name: &str, sid: Sid) {
        if let Some(room) = self.rooms.get_mut(name)
            && let Some((_, seat)) = room.members.remove(&sid)
        {
            room.audience.remove(sid, seat);
            if room.members.is_empty() {
                self.rooms.remove(name);
            }
        }
    }

    fn select(&self, to: &Selection) -> Vec<Arc<SocketInner>> {
        let mut seen: HashSet<Sid> = to.except.iter().copied().collect();
        let mut selected = Vec::new();
        let mut add = |socket: &Arc<SocketInner>| {
            if seen.insert(socket.sid) {
                selected.push(Arc::clone(socket));
            }
        };
        if to.rooms.is_empty() {
            self.sockets.values().for_each(|member| add(&member.socket));
        }
        for name in &to.rooms {
            if let Some(room) = self.rooms.get(name) {
                room.members.values().for_each(|(socket, _)| add(socket));
            }
            if let Some(member) = name.parse().ok().and_then(|sid| self.sockets.get(&sid)) {
                add(&member.socket);
            }
        }
        selected
    }
}

impl Audience {
    fn add(&mut self, socket: &Arc<SocketInner>, peer: Option<&Peer>) -> Option<Seat> {
        let Some(peer) = peer else {
            self.others.insert(socket.sid, Arc::clone(socket));
            return None;
        };
        let group = match self.groups.iter().find(|group| group.is_of(peer)) {
            Some(group) => group.clone(),
            None => {
                let group = Group::of(peer, SlowConsumerPolicy::Close);
                self.groups.push(group.clone());
                group
            }
        };
        let place = group.join(peer);
        Some(Seat { group, place })
    }

    fn seat(&mut self, socket: &Arc<SocketInner>, seat: &mut Option<Seat>, peer: &Peer) {
        if seat.is_none() {
            self.others.remove(&socket.sid);
            *seat = self.add(socket, Some(peer));
        }
    }

    fn remove(&mut self, sid: Sid, seat: Option<Seat>) {
        let Some(Seat { group, place }) = seat else {
            self.others.remove(&sid);
            return;
        };
        if group.leave(place) {
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
        for socket in self.others.values() {
            socket.deliver(packet);
        }
    }
}

impl fmt::Debug for Inner {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Namespace")
            .field("path", &self.path)
            .field("sockets", &self.members().sockets.len())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Namespaces {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let namespaces = self.namespaces.read();
        let namespaces = namespaces.unwrap_or_else(PoisonError::into_inner);
        formatter.debug_set().entries(namespaces.values()).finish()
    }
}
