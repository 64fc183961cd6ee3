//! Fan-out. A message published to a room reaches every member of it.
//!
//! What holds, on one node:
//! - All members of a room see its messages in one order, which keeps each publisher's own.
//! - A member sees a run without a gap, from its join to its leave or its close.
//! - A publisher never waits for a member, nor for another process. A member that takes too little
//!   is closed with 1008 `slow consumer` (see [`SlowConsumer`](crate::engine::SlowConsumer)), or
//!   loses messages where the rooms are [made so](Rooms::with_policy).
//! - A connection is in [`Rooms::MAX_MEMBERSHIPS`] rooms at most, and a room's name has
//!   [`Rooms::MAX_NAME`] bytes at most, so that clients who choose their rooms cannot fill the
//!   memory with them.
//!
//! ```
//! use frameloop::{Message, Rooms};
//!
//! let rooms = Rooms::default();
//! rooms.publish("lobby", Message::Text("nobody is here to read this"));
//! assert_eq!(rooms.members("lobby"), 0);
//! ```

mod channel_layer;
#[cfg(feature = "redis")]
pub mod redis;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::error::Error;
use std::fmt;
use std::sync::{Arc, Mutex, RwLock};

use channel_layer::ChannelLayer;

use crate::engine::{Group, GroupPlace, Peer, PeerId, Publication, Sleeper, SlowConsumerPolicy};
use crate::lock::{lock, read, write};
use crate::protocol::Message;

/// A set of rooms, which exist as long as they have members. Clones are the same set.
#[derive(Clone, Debug, Default)]
pub struct Rooms {
    register: Arc<Register>,
    /// How they are the same rooms as those of other processes; `None` if they are not.
    layer: Option<Arc<dyn ChannelLayer>>,
    policy: SlowConsumerPolicy,
}

#[derive(Debug, Default)]
struct Register {
    /// The rooms by name, in shards: publishers in different rooms wait for no common lock, and
    /// those in one room only for the room's. Bound: as many as there are memberships, with names
    /// of [`Rooms::MAX_NAME`] bytes.
    shards: [Shard; Register::SHARDS],
    /// How many memberships each connection has that has any: [`Rooms::MAX_MEMBERSHIPS`] at most.
    memberships: Mutex<HashMap<PeerId, usize>>,
}

type Shard = RwLock<HashMap<Arc<str>, Arc<Room>>>;

impl Register {
    const SHARDS: usize = 32;

    /// Where the room of that name is, if there is one. Clients who choose names for one shard
    /// gain nothing but to meet there.
    fn shard(&self, name: &str) -> &Shard {
        let end = name.bytes().rev().take(8);
        let hash = end.fold(name.len(), |hash, byte| {
            hash.wrapping_mul(31).wrapping_add(usize::from(byte))
        });
        &self.shards[hash % Register::SHARDS]
    }

    /// Counts one more membership of a connection, if it may have one.
    fn count(&self, member: PeerId) -> Result<(), JoinError> {
        let mut memberships = lock(&self.memberships);
        let count = memberships.entry(member).or_default();
        if *count >= Rooms::MAX_MEMBERSHIPS {
            return Err(JoinError::TooManyRooms);
        }
        *count += 1;
        Ok(())
    }

    fn discount(&self, member: PeerId) {
        if let Entry::Occupied(mut count) = lock(&self.memberships).entry(member) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

#[derive(Debug)]
struct Room {
    name: Arc<str>,
    /// The members by worker. The lock is the room's sequencer: its holder is next.
    groups: Mutex<Vec<Group>>,
}

/// Why a connection cannot join a room.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum JoinError {
    /// The name has more than [`Rooms::MAX_NAME`] bytes.
    NameTooLong,
    /// The connection has [`Rooms::MAX_MEMBERSHIPS`] already.
    TooManyRooms,
}

impl JoinError {
    /// What to say in a Close frame.
    pub fn reason(self) -> &'static str {
        match self {
            JoinError::NameTooLong => "room name too long",
            JoinError::TooManyRooms => "too many rooms",
        }
    }
}

impl fmt::Display for JoinError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.reason())
    }
}

impl Error for JoinError {}

impl Rooms {
    /// Most memberships that one connection has at a time in one set of rooms.
    pub const MAX_MEMBERSHIPS: usize = 128;

    /// Most bytes of a room's name.
    pub const MAX_NAME: usize = 255;

    /// Rooms with another policy than to close members that take too little. To drop messages is
    /// for rooms whose messages are numbered, or a member would not see what it misses.
    pub fn with_policy(policy: SlowConsumerPolicy) -> Rooms {
        Rooms {
            policy,
            ..Rooms::default()
        }
    }

    /// Makes a connection a member of a room, until what is returned is dropped. A connection
    /// that joins twice receives twice.
    ///
    /// # Errors
    /// When the name is too long or the connection is in too many rooms: nothing has changed then.
    pub fn join(&self, name: &str, peer: &Peer) -> Result<Membership, JoinError> {
        if name.len() > Self::MAX_NAME {
            return Err(JoinError::NameTooLong);
        }
        self.register.count(peer.id())?;
        let mut rooms = write(self.register.shard(name));
        let (room, layer) = match rooms.get(name) {
            Some(room) => (Arc::clone(room), None),
            None => (self.open(name, &mut rooms), self.layer.as_ref()),
        };
        let (group, place) = room.join(peer, self.policy);
        drop(rooms);
        if let Some(layer) = layer {
            layer.wake();
        }
        Ok(Membership {
            rooms: self.clone(),
            room,
            group,
            place,
            member: peer.id(),
        })
    }

    fn open(&self, name: &str, rooms: &mut HashMap<Arc<str>, Arc<Room>>) -> Arc<Room> {
        let name: Arc<str> = name.into();
        let room = Arc::new(Room {
            name: Arc::clone(&name),
            groups: Mutex::default(),
        });
        if let Some(layer) = &self.layer {
            layer.opened(&name);
        }
        rooms.insert(name, Arc::clone(&room));
        room
    }

    /// Sends a data message to every member of a room; control frames are not for rooms and are
    /// left out.
    pub fn publish(&self, name: &str, message: Message<'_>) {
        let room = self.room(name);
        if let Some(room) = room {
            room.publish(message);
        }
        self.publish_beyond(name, message);
    }

    /// Sends a message to the members that other processes have.
    fn publish_beyond(&self, name: &str, message: Message<'_>) {
        if let Some(layer) = &self.layer
            && message.is_data()
        {
            layer.publish(name, message);
        }
    }

    /// How many members a room has.
    pub fn members(&self, name: &str) -> usize {
        let room = self.room(name);
        room.map_or(0, |room| {
            lock(&room.groups).iter().map(|group| group.len()).sum()
        })
    }

    fn room(&self, name: &str) -> Option<Arc<Room>> {
        read(self.register.shard(name)).get(name).map(Arc::clone)
    }
}

impl Room {
    fn publish(&self, message: Message<'_>) {
        if !message.is_data() {
            return;
        }
        let publication = Publication::new(message);
        let groups = lock(&self.groups);
        let deliver = groups
            .iter()
            .filter_map(|group| group.deliver(&publication));
        let sleepers: Vec<Sleeper> = deliver.collect();
        // To wake is a system call, which nobody else in the room has to wait for.
        drop(groups);
        drop(sleepers);
    }

    fn join(&self, peer: &Peer, policy: SlowConsumerPolicy) -> (Group, GroupPlace) {
        let mut groups = lock(&self.groups);
        let group = match groups.iter().find(|group| group.is_of(peer)) {
            Some(group) => group.clone(),
            None => {
                let group = Group::of(peer, policy);
                groups.push(group.clone());
                group
            }
        };
        let place = group.join(peer);
        (group, place)
    }

    /// Takes a member out and says whether nobody is left.
    fn leave(&self, group: &Group, place: GroupPlace) -> bool {
        let mut groups = lock(&self.groups);
        if group.leave(place) {
            groups.retain(|other| !other.is(group));
        }
        groups.is_empty()
    }
}

/// One connection's membership of one room. Dropping it leaves the room.
pub struct Membership {
    rooms: Rooms,
    room: Arc<Room>,
    group: Group,
    place: GroupPlace,
    member: PeerId,
}

impl Membership {
    /// Sends a data message to every member of this room, this one included.
    pub fn publish(&self, message: Message<'_>) {
        self.room.publish(message);
        self.rooms.publish_beyond(&self.room.name, message);
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        let Rooms {
            register, layer, ..
        } = &self.rooms;
        let mut rooms = write(register.shard(&self.room.name));
        let is_over = self.room.leave(&self.group, self.place);
        let layer = layer.as_ref().filter(|_| is_over);
        if is_over {
            rooms.remove(&self.room.name);
        }
        if let Some(layer) = layer {
            layer.closed(&self.room.name);
        }
        drop(rooms);
        register.discount(self.member);
        if let Some(layer) = layer {
            layer.wake();
        }
    }
}

impl fmt::Debug for Membership {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_tuple("Membership")
            .field(&self.room.name)
            .finish()
    }
}

#[cfg(test)]
mod tests;
