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
mod known;
mod link;
mod wire;

use std::collections::{HashMap, HashSet, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, OnceLock};

use redis::RedisResult;
use rmpv::Value;
use tokio::sync::Notify;

use super::Rooms;
use super::channel_layer::ChannelLayer;
use crate::lock::lock;
use crate::log;
use crate::metrics::Metrics;
use crate::protocol::Message;
use crate::redis_link::Link;
pub use link::RoomsRelay;
use wire::{Published, Sequences};

/// A Redis that connects sets of rooms with those of other processes. Clones share the same state.
#[derive(Clone)]
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
    /// here. The same bound holds for `members` and `changed`.
    open: HashMap<Arc<str>, OpenRoom>,
    /// The address of the room for each member number of `RedisChannelLayer`.
    members: HashMap<u64, Arc<str>>,
    next_member: u64,
    /// Rooms opened or closed since the relay last took work.
    changed: HashSet<Arc<str>>,
    /// Messages for Redis. Bound: [`Redis::MAX_WAITING`] for all publishers of this process
    /// together.
    outgoing: VecDeque<OutgoingMessage>,
    outgoing_bytes: usize,
}

struct OpenRoom {
    rooms: Rooms,
    name: Arc<str>,
    format: Format,
    /// The number of this process's member name in the group.
    member: u64,
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
    /// Published on a channel; every subscriber receives it, this process included.
    Published { body: Vec<u8>, is_own: bool },
    /// Added to the queue of every member of a group.
    Handed(LayerEvent),
}

impl Redis {
    /// Maximum size of a message in either direction, in bytes.
    pub const MAX_SIZE: usize = 16 << 20;

    /// Maximum size of a received Django Channels event, in bytes. It is smaller because decoded
    /// values take more memory.
    const MAX_EVENT_SIZE: usize = 2 << 20;

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
        let relay = RoomsRelay::new(Arc::clone(&shared), link);
        Ok((Redis(shared), relay))
    }

    /// Counts gaps and discarded entries in `metrics`. Only the first call has an effect.
    pub fn count_in(&self, metrics: Metrics) {
        let _ = self.0.metrics.set(metrics);
    }

    /// Returns `rooms` connected with the rooms of other processes. Messages published through the
    /// original `rooms` stay in this process.
    pub fn join(&self, rooms: &Rooms, format: Format) -> Rooms {
        let layer = SharedRooms {
            shared: Arc::clone(&self.0),
            rooms: rooms.clone(),
            format,
        };
        Rooms {
            layer: Some(Arc::new(layer)),
            ..rooms.clone()
        }
    }
}

impl Rooms {
    /// Whether so many messages wait for the workers that the relay must pause.
    fn is_congested(&self, name: &str) -> bool {
        let room = self.room(name);
        room.is_some_and(|room| lock(&room.groups).iter().any(|group| group.is_congested()))
    }
}

impl fmt::Debug for Redis {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Redis")
            .field("django", &self.0.django)
            .finish_non_exhaustive()
    }
}

/// One set of rooms that is shared through Redis.
struct SharedRooms {
    shared: Arc<RoomsShared>,
    /// The rooms of this process, without the layer.
    rooms: Rooms,
    format: Format,
}

impl SharedRooms {
    fn address(&self, room: &str) -> Arc<str> {
        match (self.format, self.shared.django) {
            (Format::Own(set), _) => format!("frameloop:{set}:{room}"),
            (Format::Groups { prefix, .. }, DjangoLayer::PubSub) => {
                channels::group_channel(&format!("{prefix}{room}"))
            }
            (Format::Groups { prefix, .. }, DjangoLayer::Core) => {
                channels::group_key(&format!("{prefix}{room}"))
            }
        }
        .into()
    }

    fn content(
        &self,
        state: &mut RoomsState,
        to: &str,
        message: Message<'_>,
    ) -> Option<PublishedContent> {
        match (self.format, message) {
            (Format::Own(_), message) => {
                let sequence = state.open.get_mut(to).map_or(0, |room| {
                    room.sequence += 1;
                    room.sequence
                });
                let published = Published {
                    node: self.shared.node,
                    sequence,
                    message,
                };
                let (body, is_own) = (published.encode()?, true);
                Some(PublishedContent::Published { body, is_own })
            }
            (Format::Groups { event, .. }, Message::Text(text)) => {
                let event = event(text)?;
                Some(match self.shared.django {
                    DjangoLayer::PubSub => PublishedContent::Published {
                        body: channels::encode(event),
                        is_own: false,
                    },
                    DjangoLayer::Core => PublishedContent::Handed(event),
                })
            }
            _ => None,
        }
    }
}

impl ChannelLayer for SharedRooms {
    fn opened(&self, room: &Arc<str>) {
        let address = self.address(room);
        let mut state = lock(&self.shared.state);
        state.next_member += 1;
        let member = state.next_member;
        state.members.insert(member, Arc::clone(&address));
        state.changed.insert(Arc::clone(&address));
        let open = OpenRoom {
            rooms: self.rooms.clone(),
            name: Arc::clone(room),
            format: self.format,
            member,
            sequence: 0,
            seen: Sequences::default(),
        };
        state.open.insert(address, open);
    }

    fn closed(&self, room: &str) {
        let address = self.address(room);
        let mut state = lock(&self.shared.state);
        if let Some(open) = state.open.remove(&address) {
            state.members.remove(&open.member);
        }
        state.changed.insert(address);
    }

    fn wake(&self) {
        self.shared.filled.notify_one();
    }

    fn publish(&self, room: &str, message: Message<'_>) {
        let bytes = message.frame().map_or(0, |(_, payload)| payload.len());
        let to = self.address(room);
        let mut state = lock(&self.shared.state);
        let Some(content) = self.content(&mut state, &to, message) else {
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

impl fmt::Debug for SharedRooms {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_tuple("SharedRooms")
            .field(&self.format)
            .finish()
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
    fn deliver(&self, address: &str, bytes: &[u8]) -> Option<(Rooms, Arc<str>)> {
        let mut state = lock(&self.state);
        let room = state.open.get_mut(address)?;
        if let Format::Own(_) = room.format {
            let Some(published) = wire::decode(bytes) else {
                drop(state);
                self.discard(address);
                return None;
            };
            if published.node == self.node {
                return None;
            }
            let left_out = room.seen.see(published.node, published.sequence);
            let (rooms, name) = (room.rooms.clone(), Arc::clone(&room.name));
            drop(state);
            if left_out > 0 {
                self.gap("messages of another process were lost");
            }
            rooms.publish(&name, published.message);
            return Some((rooms, name));
        }
        drop(state);
        let bytes = Some(bytes).filter(|bytes| bytes.len() <= Redis::MAX_EVENT_SIZE);
        match bytes.and_then(channels::decode) {
            Some(event) => self.deliver_event(address, event),
            None => {
                self.discard(address);
                None
            }
        }
    }

    /// Delivers an event to the members here of the group at this address.
    fn deliver_event(&self, address: &str, event: LayerEvent) -> Option<(Rooms, Arc<str>)> {
        let state = lock(&self.state);
        let room = state.open.get(address)?;
        let Format::Groups { text, .. } = room.format else {
            return None;
        };
        let (rooms, name) = (room.rooms.clone(), Arc::clone(&room.name));
        drop(state);
        match text(event) {
            Some(text) => rooms.publish(&name, Message::Text(&text)),
            None => self.discard(address),
        }
        Some((rooms, name))
    }

    /// The address of the group for this member name, if it is one of this process's.
    fn address_of(&self, member: &str) -> Option<Arc<str>> {
        let (_, number) = member.split_once('!')?;
        let state = lock(&self.state);
        state.members.get(&number.parse().ok()?).map(Arc::clone)
    }
}
