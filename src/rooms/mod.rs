//! Floor 3: fan-out. A message published to a room reaches every member of it.
//!
//! What holds, on one node:
//! - All members of a room see its messages in one order, which keeps each publisher's own.
//! - A member sees a run without a gap, from its join to its leave or its close.
//! - A publisher never waits for a member. A member that takes too little is closed with 1008
//!   `slow consumer` (see [`SlowConsumer`](crate::engine::SlowConsumer)).
//!
//! ```
//! use frameloop::{Message, Rooms};
//!
//! let rooms = Rooms::default();
//! rooms.publish("lobby", Message::Text("nobody is here to read this"));
//! assert_eq!(rooms.members("lobby"), 0);
//! ```

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::engine::{Group, GroupPlace, Peer, Publication};
use crate::protocol::Message;

/// A set of rooms, which exist as long as they have members. Clones are the same set.
#[derive(Clone, Debug, Default)]
pub struct Rooms {
    rooms: Arc<Mutex<HashMap<Arc<str>, Arc<Room>>>>,
}

#[derive(Debug)]
struct Room {
    name: Arc<str>,
    /// The members by worker. The lock is the room's sequencer: whoever holds it is next.
    groups: Mutex<Vec<Arc<Group>>>,
}

impl Rooms {
    /// Makes a connection a member of a room, until what is returned is dropped. A connection
    /// that joins twice receives twice.
    pub fn join(&self, name: &str, peer: &Peer) -> Membership {
        let mut rooms = lock(&self.rooms);
        let room = match rooms.get(name) {
            Some(room) => Arc::clone(room),
            None => {
                let name: Arc<str> = name.into();
                let room = Arc::new(Room {
                    name: Arc::clone(&name),
                    groups: Mutex::default(),
                });
                rooms.insert(name, Arc::clone(&room));
                room
            }
        };
        let mut groups = lock(&room.groups);
        let group = match groups.iter().find(|group| group.is_of(peer)) {
            Some(group) => Arc::clone(group),
            None => {
                let group = Arc::new(Group::of(peer));
                groups.push(Arc::clone(&group));
                group
            }
        };
        let place = group.join(peer);
        drop(groups);
        Membership {
            rooms: self.clone(),
            room,
            group,
            place,
        }
    }

    /// Sends a data message to every member of a room; control frames are not for rooms and are
    /// left out.
    pub fn publish(&self, name: &str, message: Message<'_>) {
        let room = lock(&self.rooms).get(name).map(Arc::clone);
        if let Some(room) = room {
            room.publish(message);
        }
    }

    /// How many members a room has.
    pub fn members(&self, name: &str) -> usize {
        let room = lock(&self.rooms).get(name).map(Arc::clone);
        room.map_or(0, |room| {
            lock(&room.groups).iter().map(|group| group.len()).sum()
        })
    }
}

impl Room {
    fn publish(&self, message: Message<'_>) {
        if !message.is_data() {
            return;
        }
        let publication = Publication::new(message);
        for group in lock(&self.groups).iter() {
            group.deliver(&publication);
        }
    }
}

/// One connection's membership of one room. Dropping it leaves the room.
pub struct Membership {
    rooms: Rooms,
    room: Arc<Room>,
    group: Arc<Group>,
    place: GroupPlace,
}

impl Membership {
    /// Sends a data message to every member of this room, this one included.
    pub fn publish(&self, message: Message<'_>) {
        self.room.publish(message);
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        let mut rooms = lock(&self.rooms.rooms);
        let mut groups = lock(&self.room.groups);
        if self.group.leave(self.place) {
            groups.retain(|group| !Arc::ptr_eq(group, &self.group));
            if groups.is_empty() {
                rooms.remove(&self.room.name);
            }
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

/// A poisoned lock is taken all the same: what it guards is whole between any two statements.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
