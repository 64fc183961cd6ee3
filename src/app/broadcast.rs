//! `/broadcast`: sends every data message to every member of the topic, the sender included.

use super::join;
use crate::engine::{Handler, WebSocket};
use crate::protocol::Message;
use crate::rooms::{Membership, Rooms};

/// The handler of a member of a topic.
pub(crate) struct BroadcastHandler {
    rooms: Rooms,
    topic: Box<str>,
    membership: Option<Membership>,
}

impl BroadcastHandler {
    pub(crate) fn new(rooms: &Rooms, topic: &str) -> BroadcastHandler {
        BroadcastHandler {
            rooms: rooms.clone(),
            topic: topic.into(),
            membership: None,
        }
    }
}

impl Handler for BroadcastHandler {
    fn open(&mut self, socket: &mut WebSocket<'_>) {
        self.membership = join(&self.rooms, &self.topic, socket);
    }

    fn message(&mut self, _: &mut WebSocket<'_>, message: Message<'_>) {
        if let Some(membership) = &self.membership {
            membership.publish(message);
        }
    }
}
