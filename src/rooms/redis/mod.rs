//! Rooms shared by several processes through one Redis.
//!
//! A message reaches the members in this process at once. It reaches members in other processes
//! through Redis, at most once and in the order of each publisher. Without Redis, rooms continue
//! within each process. Messages that may be lost are counted and logged as a gap.
//!
//! ```text
//!   workers ── publish, opened, closed ──▶ State ──▶ relay: send ────▶ Redis
//!      ▲                                     │                           │
//!      └────────────── Rooms::publish ◀──────┴────── relay: receive ◀────┘
//! ```

mod channels;
mod link;
#[cfg(test)]
mod tests;
mod wire;

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use redis::RedisResult;
use rmpv::Value;
use tokio::sync::Notify;

use super::channel_layer::ChannelLayer;
use super::{Room, Rooms};
use crate::lock::lock;
use crate::log;
use crate::metrics::Metrics;
use crate::protocol::Message;
use crate::redis_link::Link;
pub use link::RoomsRelay;
use wire::{Published, Sequences};

/// A Redis that connects sets of rooms with those of other processes. Clones share the same state.
#[derive(Clone, Debug)]
pub struct Redis(Arc<RoomsShared>);

/// The channel layer of Django Channels that shares the chat rooms.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum DjangoLayer {
    /// `channels_redis.pubsub.RedisPubSubChannelLayer`
    PubSub,
    /// `channels_redis.core.RedisChannelLayer`
    Core,
}

/// An event of Django Channels: the entries of a MessagePack map.
pub type LayerEvent = Vec<(Value, Value)>;

/// The format in which a set of rooms is shared with other processes.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Format {
    /// Frameloop's own format. The text is the name of the set.
    Own(&'static str),
    /// The groups of Django Channels.
    Groups {
        /// The prefix of a group's name, before the room's name.
        prefix: &'static str,
        /// Converts a text message to an event; `None` if it has no event.
        event: fn(&str) -> Option<LayerEvent>,
        /// Converts an event to a text message; `None` if it is not a message.
        text: fn(LayerEvent) -> Option<String>,
    },
}

struct RoomsShared {
    django: DjangoLayer,
    /// The random number of this process in frameloop's own format.
    node: u64,
    /// The random name of this process in `RedisChannelLayer`.
    process: String,
    state: Mutex<RoomsState>,
    /// Notified when `state` has work for the relay.
    filled: Notify,
    metrics: OnceLock<Metrics>,
}

/// The work for the relay, and the rooms that receive messages from Redis.
#[derive(Default)]
struct RoomsState {
    /// The rooms with members here, by their address on Redis. Bound: the number of memberships
    /// here.
    open: HashMap<Arc<str>, OpenRoom>,
    /// The addresses of rooms that have opened (`true`) or closed since the relay last took work.
    /// Bound: the rooms that are open now, and those that were open when it did.
    changes: HashMap<Arc<str>, bool>,
    /// Messages for Redis. Bound: [`Redis::MAX_WAITING`] for all publishers of this process
    /// together.
    outgoing: VecDeque<OutgoingMessage>,
    outgoing_bytes: usize,
}

struct OpenRoom {
    room: Arc<Room>,
    format: Format,
    /// The number of messages published in this room by this process.
    sequence: u64,
    seen: Sequences,
}

/// A message on its way to Redis.
struct OutgoingMessage {
    /// The room's address on Redis.
    to: Arc<str>,
    bytes: usize,
    content: PublishedContent,
}

enum PublishedContent {
    /// A message in frameloop's own format.
    Own(Vec<u8>),
    /// An event for a group of Django Channels.
    Event(LayerEvent),
}

impl Redis {
    /// Maximum size of a message in either direction, in bytes.
    pub const MAX_SIZE: usize = 16 << 20;

    /// Maximum messages, and bytes of messages, that wait for Redis.
    const MAX_WAITING: (usize, usize) = (16_384, 32 << 20);

    /// Uses the Redis at `url`: `redis://USER:PASSWORD@HOST:PORT/DB`, or `rediss://` for TLS. Redis
    /// must be version 6 or later (RESP3). The connection is made when the relay
    /// [runs](RoomsRelay::run).
    ///
    /// # Errors
    /// When `url` is not a valid Redis URL.
    pub fn new(url: &str, django: DjangoLayer) -> RedisResult<(Redis, RoomsRelay)> {
        let link = Link::new(url)?;
        let shared = Arc::new(RoomsShared {
            django,
            node: fastrand::u64(..),
            process: format!("{:032x}", fastrand::u128(..)),
            state: Mutex::default(),
            filled: Notify::new(),
            metrics: OnceLock::new(),
        });
        let relay = RoomsRelay {
            shared: Arc::clone(&shared),
            link,
            last_score: Duration::ZERO,
        };
        Ok((Redis(shared), relay))
    }

    /// Counts gaps and discarded entries in `metrics`. Only the first call has an effect.
    pub fn count_in(&self, metrics: Metrics) {
        let _ = self.0.metrics.set(metrics);
    }

    /// Returns `rooms` connected with the rooms of other processes. Messages published through the
    /// original `rooms` stay in this process.
    pub fn join(&self, rooms: &Rooms, format: Format) -> Rooms {
        let prefix = match format {
            Format::Own(set) => format!("frameloop:{set}:"),
            Format::Groups { prefix, .. } => match self.0.django {
                DjangoLayer::PubSub => [channels::GROUP_CHANNEL, prefix].concat(),
                DjangoLayer::Core => [channels::GROUP_KEY, prefix].concat(),
            },
        };
        let layer = SharedRooms {
            shared: Arc::clone(&self.0),
            prefix,
            format,
        };
        Rooms {
            layer: Some(Arc::new(layer)),
            ..rooms.clone()
        }
    }
}

impl Room {
    /// Whether so many messages wait for the workers that the relay must pause.
    fn is_congested(&self) -> bool {
        lock(&self.groups).is_congested()
    }
}

impl fmt::Debug for RoomsShared {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("RoomsShared")
            .field("django", &self.django)
            .finish_non_exhaustive()
    }
}

/// One set of rooms that is shared through Redis.
#[derive(Debug)]
struct SharedRooms {
    shared: Arc<RoomsShared>,
    /// The address of a room is this text, then the room's name.
    prefix: String,
    format: Format,
}

impl SharedRooms {
    fn address(&self, room: &str) -> Arc<str> {
        format!("{}{room}", self.prefix).into()
    }
}

impl ChannelLayer for SharedRooms {
    fn changed(&self, room: &Arc<Room>, is_open: bool) {
        let address = self.address(&room.name);
        let mut state = lock(&self.shared.state);
        // A room that opens and closes, or closes and opens, leaves nothing to do.
        if state.changes.remove(&address).is_none() {
            state.changes.insert(Arc::clone(&address), is_open);
        }
        if !is_open {
            state.open.remove(&address);
            return;
        }
        let open = OpenRoom {
            room: Arc::clone(room),
            format: self.format,
            sequence: 0,
            seen: Sequences::default(),
        };
        state.open.insert(address, open);
    }

    fn wake(&self) {
        self.shared.filled.notify_one();
    }

    fn publish(&self, room: &str, message: Message<'_>) {
        let bytes = message.frame().map_or(0, |(_, payload)| payload.len());
        let to = self.address(room);
        let mut state = lock(&self.shared.state);
        let content = match (self.format, message) {
            (Format::Own(_), message) => {
                let sequence = state.open.get_mut(&to).map_or(0, |room| {
                    room.sequence += 1;
                    room.sequence
                });
                let published = Published {
                    node: self.shared.node,
                    sequence,
                    message,
                };
                published.encode().map(PublishedContent::Own)
            }
            (Format::Groups { event, .. }, Message::Text(text)) => {
                event(text).map(PublishedContent::Event)
            }
            _ => None,
        };
        let Some(content) = content else {
            return;
        };
        let (max_messages, max_bytes) = Redis::MAX_WAITING;
        if bytes > Redis::MAX_SIZE
            || state.outgoing.len() >= max_messages
            || state.outgoing_bytes + bytes > max_bytes
        {
            drop(state);
            return self
                .shared
                .gap("the queue for Redis is full: a message reaches no other process");
        }
        state.outgoing_bytes += bytes;
        state
            .outgoing
            .push_back(OutgoingMessage { to, bytes, content });
        drop(state);
        self.shared.filled.notify_one();
    }
}

impl RoomsShared {
    /// Counts and logs that messages between processes may be lost.
    fn gap(&self, what: &str) {
        if let Some(metrics) = self.metrics.get() {
            metrics.gap();
        }
        log::redis(what);
    }

    /// Counts and logs an entry from Redis that is not a valid message.
    fn discard(&self, from: &str) {
        if let Some(metrics) = self.metrics.get() {
            metrics.discarded();
        }
        log::redis(format_args!(
            "discarded an invalid message from Redis, channel or key {}",
            from.escape_debug()
        ));
    }

    /// Delivers a message published at this address to the members here. Returns the room, if it is
    /// open here.
    fn deliver(&self, address: &str, bytes: &[u8]) -> Option<Arc<Room>> {
        let mut state = lock(&self.state);
        let open = state.open.get_mut(address)?;
        let Format::Own(_) = open.format else {
            drop(state);
            return self.deliver_event(address, channels::decode(bytes));
        };
        let Some(published) = wire::decode(bytes) else {
            drop(state);
            self.discard(address);
            return None;
        };
        if published.node == self.node {
            return None;
        }
        let left_out = open.seen.see(published.node, published.sequence);
        let room = Arc::clone(&open.room);
        drop(state);
        if left_out > 0 {
            self.gap("messages of another process were lost");
        }
        room.publish(published.message);
        Some(room)
    }

    /// Delivers an event to the members here of the group at this address; `None` is an invalid
    /// event.
    fn deliver_event(&self, address: &str, event: Option<LayerEvent>) -> Option<Arc<Room>> {
        let state = lock(&self.state);
        let open = state.open.get(address)?;
        let Format::Groups { text, .. } = open.format else {
            return None;
        };
        let room = Arc::clone(&open.room);
        drop(state);
        match event.and_then(text) {
            Some(text) => room.publish(Message::Text(&text)),
            None => self.discard(address),
        }
        Some(room)
    }
}
