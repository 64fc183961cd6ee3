//! Rooms: a message published to a room reaches every member.
//!
//! Guarantees within one process:
//! - All members of a room see its messages in the same order. The order of each publisher is kept.
//! - A member receives every message between its join and its leave or close.
//! - A publisher never waits for another process. A connection that publishes is not read from
//!   while the backlog of a member is over its bound
//!   ([`SlowConsumer`](crate::engine::SlowConsumer)). With a policy that drops messages, a publisher
//!   never waits for members.
//! - A member that reads too slowly is closed with 1008 `slow consumer`, or loses messages if the
//!   [policy](Rooms::with_policy) says so. Too slowly means: over the bound, and a second behind
//!   1 MiB a second. So a member that does not read delays its room by about a second in total.
//! - A connection is in at most [`Rooms::MAX_MEMBERSHIPS`] rooms, and the name of a room has at
//!   most [`Rooms::MAX_NAME`] bytes, so that clients that choose their rooms cannot fill the
//!   memory.
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

use crate::engine::{Groups, Peer, PeerId, Publication, Seat, SlowConsumerPolicy};
use crate::lock::{lock, read, write};
use crate::protocol::Message;

/// A set of rooms. A room exists while it has members. Clones share the same set.
#[derive(Clone, Debug, Default)]
pub struct Rooms {
    register: Arc<Register>,
    /// Connects the rooms with those of other processes; `None` keeps them in this process.
    layer: Option<Arc<dyn ChannelLayer>>,
    policy: SlowConsumerPolicy,
}

#[derive(Debug, Default)]
struct Register {
    /// The rooms by name, in shards, so that publishers rarely wait for the lock of another room.
    /// Bound: the number of memberships, each with a name of [`Rooms::MAX_NAME`] bytes.
    shards: [Shard; Register::SHARDS],
    /// The number of memberships of each connection, from 1 to [`Rooms::MAX_MEMBERSHIPS`].
    memberships: Mutex<HashMap<PeerId, usize>>,
}

type Shard = RwLock<HashMap<Arc<str>, Arc<Room>>>;

impl Register {
    const SHARDS: usize = 32;

    /// The shard for a room's name. Clients that choose names of one shard slow down only that
    /// shard.
    fn shard(&self, name: &str) -> &Shard {
        let end = name.bytes().rev().take(8);
        let hash = end.fold(name.len(), |hash, byte| {
            hash.wrapping_mul(31).wrapping_add(usize::from(byte))
        });
        &self.shards[hash % Register::SHARDS]
    }

    /// Counts one more membership of a connection, up to the limit.
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
    /// The members, grouped by worker. This lock decides the order of the room's messages.
    groups: Mutex<Groups>,
}

/// Why a connection cannot join a room.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum JoinError {
    /// The name has more than [`Rooms::MAX_NAME`] bytes.
    NameTooLong,
    /// The connection already has [`Rooms::MAX_MEMBERSHIPS`] memberships.
    TooManyRooms,
}

impl JoinError {
    /// The reason for a Close frame.
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
    /// Maximum memberships of one connection at a time, in one set of rooms.
    pub const MAX_MEMBERSHIPS: usize = 128;

    /// Maximum length of a room's name, in bytes.
    pub const MAX_NAME: usize = 255;

    /// Rooms with a policy for members that read too slowly. Default: they are closed. Drop
    /// messages only where they are numbered, so that a member can see the gap.
    pub fn with_policy(policy: SlowConsumerPolicy) -> Rooms {
        Rooms {
            policy,
            ..Rooms::default()
        }
    }

    /// Makes a connection a member of a room until the returned [`Membership`] is dropped. A
    /// connection that joins twice receives each message twice.
    ///
    /// # Errors
    /// When the name is too long or the connection is in too many rooms. An error changes nothing.
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
        let seat = lock(&room.groups).join(peer, self.policy);
        drop(rooms);
        if let Some(layer) = layer {
            layer.wake();
        }
        Ok(Membership {
            rooms: self.clone(),
            room,
            seat,
            member: peer.id(),
        })
    }

    fn open(&self, name: &str, rooms: &mut HashMap<Arc<str>, Arc<Room>>) -> Arc<Room> {
        let room = Arc::new(Room {
            name: name.into(),
            groups: Mutex::default(),
        });
        if let Some(layer) = &self.layer {
            layer.changed(&room, true);
        }
        rooms.insert(Arc::clone(&room.name), Arc::clone(&room));
        room
    }

    /// Sends a data message to every member of a room. Control frames are ignored.
    pub fn publish(&self, name: &str, message: Message<'_>) {
        if let Some(room) = self.room(name) {
            room.publish(message);
        }
        self.publish_beyond(name, message);
    }

    /// Sends a message to the members in other processes.
    fn publish_beyond(&self, name: &str, message: Message<'_>) {
        if let Some(layer) = &self.layer
            && message.is_data()
        {
            layer.publish(name, message);
        }
    }

    /// The number of members of a room in this process.
    pub fn members(&self, name: &str) -> usize {
        self.room(name).map_or(0, |room| lock(&room.groups).len())
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
        let sleepers = groups.deliver(&publication);
        // Dropping a sleeper wakes its worker, a system call: other publishers need not wait for
        // it.
        drop(groups);
        drop(sleepers);
    }
}

/// The membership of a connection in a room. Dropping it leaves the room.
pub struct Membership {
    rooms: Rooms,
    room: Arc<Room>,
    seat: Seat,
    member: PeerId,
}

impl Membership {
    /// Sends a data message to every member of this room, the sender included. Control frames are
    /// ignored.
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
        let is_over = lock(&self.room.groups).leave(&self.seat);
        let layer = layer.as_ref().filter(|_| is_over);
        if is_over {
            rooms.remove(&self.room.name);
        }
        if let Some(layer) = layer {
            layer.changed(&self.room, false);
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
