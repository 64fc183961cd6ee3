//! The clients of a namespace, and their rooms.
//!
//! A broadcast is encoded once. Clients with a WebSocket are in [`Groups`], and receive the
//! broadcast in the same way as members of [`Rooms`]. The queues of polling clients share the
//! encoded broadcast. The lock on the members ensures that all clients receive the broadcasts in
//! the same order.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};

use tokio::sync::oneshot;

use super::packet::EncodedPacket;
use super::session::Session;
use super::sid::Sid;
use super::value::Args;
use crate::engine::for_socketio::{Sleeper, charge};
use crate::engine::{Groups, Seat, SlowConsumerPolicy};
use crate::lock::lock;
use crate::rooms::{JoinError, Rooms};

/// A client in one namespace.
pub(super) struct Member {
    pub(super) sid: Sid,
    pub(super) session: Arc<Session>,
    /// `None` after the client has left the namespace.
    asked: Mutex<Option<Asked>>,
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

impl Member {
    pub(super) fn new(sid: Sid, session: Arc<Session>) -> Member {
        Member {
            sid,
            session,
            asked: Mutex::new(Some(Asked::default())),
        }
    }

    /// Records that the client has left the namespace. Returns `false` if it had already left.
    pub(super) fn leave(&self) -> bool {
        lock(&self.asked).take().is_some()
    }

    pub(super) fn has_left(&self) -> bool {
        lock(&self.asked).is_none()
    }

    /// Returns an id for an event, and the receiver of its acknowledgement. `None` if too many
    /// events wait for an acknowledgement or the client has left.
    pub(super) fn ask(&self) -> Option<(u64, oneshot::Receiver<Args>)> {
        let mut asked = lock(&self.asked);
        let asked = asked.as_mut()?;
        asked.waiting.retain(|(_, answer)| !answer.is_closed());
        if asked.waiting.len() >= Asked::MAX {
            return None;
        }
        let id = asked.next;
        asked.next += 1;
        let (sender, receiver) = oneshot::channel();
        asked.waiting.push((id, sender));
        Some((id, receiver))
    }

    /// Delivers an acknowledgement. `None` if nothing waits for it any more.
    pub(super) fn acknowledged(&self, id: u64, args: Args) -> Option<()> {
        let mut asked = lock(&self.asked);
        let waiting = &mut asked.as_mut()?.waiting;
        let place = waiting.iter().position(|(asked, _)| *asked == id)?;
        waiting.swap_remove(place).1.send(args).ok()
    }
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

/// The clients of a namespace.
#[derive(Default)]
pub(super) struct Members(Mutex<MembersState>);

#[derive(Default)]
struct MembersState {
    all: Audience,
    /// The rooms by name. A room exists as long as it has members.
    rooms: HashMap<Box<str>, Audience>,
    /// The names of the rooms of each client. A client without an entry is in no room.
    joined: HashMap<Sid, Vec<Box<str>>>,
}

/// The members of a room or of the whole namespace.
#[derive(Default)]
struct Audience {
    /// A member has a seat in the groups unless it polled when it was added.
    members: HashMap<Sid, (Arc<Member>, Option<Seat>)>,
    groups: Groups,
}

impl Members {
    /// Adds a client, which receives `joined` before any broadcast.
    pub(super) fn add(&self, member: &Arc<Member>, joined: &Arc<EncodedPacket>) {
        let mut state = lock(&self.0);
        member.session.send_packet(joined);
        state.all.add(member);
    }

    /// Removes a client from the namespace and from its rooms.
    pub(super) fn remove(&self, sid: Sid) {
        let mut state = lock(&self.0);
        state.all.remove(sid);
        for name in state.joined.remove(&sid).unwrap_or_default() {
            state.leave(&name, sid);
        }
    }

    /// Moves a client whose session now has a WebSocket into the groups.
    pub(super) fn seat(&self, sid: Sid) {
        let mut state = lock(&self.0);
        let MembersState { all, rooms, joined } = &mut *state;
        all.seat(sid);
        for name in joined.get(&sid).into_iter().flatten() {
            if let Some(room) = rooms.get_mut(name) {
                room.seat(sid);
            }
        }
    }

    /// Adds a client to a room.
    pub(super) fn join(&self, name: &str, sid: Sid) -> Result<(), JoinError> {
        if name.len() > Rooms::MAX_NAME {
            return Err(JoinError::NameTooLong);
        }
        let mut state = lock(&self.0);
        let MembersState { all, rooms, joined } = &mut *state;
        let Some(member) = all.get(sid) else {
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
        rooms.entry(name.into()).or_default().add(member);
        Ok(())
    }

    /// Removes a client from a room.
    pub(super) fn leave(&self, name: &str, sid: Sid) {
        let mut state = lock(&self.0);
        if let Some(names) = state.joined.get_mut(&sid) {
            names.retain(|known| **known != *name);
            if names.is_empty() {
                state.joined.remove(&sid);
            }
            state.leave(name, sid);
        }
    }

    /// Sends a packet to the selected clients.
    pub(super) fn deliver(&self, packet: &Arc<EncodedPacket>, to: &Selection) {
        let state = lock(&self.0);
        let room = to.rooms.first().and_then(|name| state.rooms.get(name));
        let sleepers = match (&*to.rooms, &*to.except, room) {
            ([], [], _) => state.all.deliver(packet),
            ([_], [], Some(room)) => room.deliver(packet),
            // Any other selection needs an audience for this event alone.
            _ => {
                let mut audience = Audience::default();
                let selected = state.select(to);
                charge(selected.len() * Audience::ADDED);
                selected.iter().for_each(|member| audience.add(member));
                audience.deliver(packet)
            }
        };
        // Dropping a sleeper wakes its worker, a system call: the lock is free before.
        drop(state);
        drop(sleepers);
    }

    pub(super) fn select(&self, to: &Selection) -> Vec<Arc<Member>> {
        lock(&self.0).select(to)
    }

    /// Whether the mailbox of any worker of these clients is so full that the sender should
    /// wait.
    pub(super) fn is_congested(&self) -> bool {
        lock(&self.0).all.groups.is_full()
    }
}

impl MembersState {
    fn leave(&mut self, name: &str, sid: Sid) {
        if let Some(room) = self.rooms.get_mut(name) {
            room.remove(sid);
            if room.members.is_empty() {
                self.rooms.remove(name);
            }
        }
    }

    fn select(&self, to: &Selection) -> Vec<Arc<Member>> {
        let mut seen: HashSet<Sid> = to.except.iter().copied().collect();
        let rooms = to.rooms.iter().flat_map(|name| {
            let room = self.rooms.get(name).into_iter();
            let own = Sid::parse(name).and_then(|sid| self.all.get(sid));
            room.flat_map(Audience::members).chain(own)
        });
        let everybody = self.all.members().filter(|_| to.rooms.is_empty());
        let selected = everybody.chain(rooms);
        let selected = selected.filter(|member| seen.insert(member.sid));
        selected.cloned().collect()
    }
}

impl Audience {
    /// The [charge] for each member of an audience that exists for one event.
    const ADDED: usize = 512;
    /// The charge for each polling member that receives an event.
    const QUEUED: usize = 320;

    fn members(&self) -> impl Iterator<Item = &Arc<Member>> {
        self.members.values().map(|(member, _)| member)
    }

    fn get(&self, sid: Sid) -> Option<&Arc<Member>> {
        self.members.get(&sid).map(|(member, _)| member)
    }

    fn add(&mut self, member: &Arc<Member>) {
        let peer = member.session.peer();
        let seat = peer.map(|peer| self.groups.join(&peer, SlowConsumerPolicy::Close));
        let added = (Arc::clone(member), seat);
        self.members.insert(member.sid, added);
    }

    /// Moves a member whose session now has a WebSocket into a group.
    fn seat(&mut self, sid: Sid) {
        if let Some((member, None)) = self.members.get(&sid) {
            let member = Arc::clone(member);
            self.add(&member);
        }
    }

    fn remove(&mut self, sid: Sid) {
        if let Some((_, Some(seat))) = self.members.remove(&sid) {
            self.groups.leave(&seat);
        }
    }

    /// Returns the workers to wake.
    fn deliver(&self, packet: &Arc<EncodedPacket>) -> Vec<Sleeper> {
        let polling = self.members.len().saturating_sub(self.groups.len());
        let sleepers = match polling < self.members.len() {
            true => self.groups.deliver(&packet.publication()),
            false => Vec::new(),
        };
        if polling > 0 {
            charge(polling * Self::QUEUED);
            let polling = self.members.values().filter(|(_, seat)| seat.is_none());
            polling.for_each(|(member, _)| member.session.deliver(packet));
        }
        sleepers
    }
}
