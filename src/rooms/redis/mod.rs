//! Rooms that several processes have, over one Redis.
//!
//! A message reaches this process's members at once, and other processes' by way of Redis: at most
//! once, in each publisher's own order. While Redis is away rooms go on within each process. What
//! that may have cost is a gap: counted and logged.
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

/// A Redis over which sets of rooms are joined with those of other processes. Clones are the same.
#[derive(Clone)]
pub struct Redis(Arc<RoomsShared>);

/// Which of Django Channels' layers the chat rooms are shared by.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum DjangoLayer {
    /// `channels_redis.pubsub.RedisPubSubChannelLayer`
    PubSub,
    /// `channels_redis.core.RedisChannelLayer`
    Core,
}

/// What Django Channels' layers carry: the entries of a MessagePack map.
pub type LayerEvent = Vec<(Value, Value)>;

/// How a set of rooms is known to other processes.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Format {
    /// As frameloop's own, by this name.
    Own(&'static str),
    /// As Django Channels' groups.
    Groups {
        /// What a group's name begins with, before the room's.
        prefix: &'static str,
        /// The event that stands for a text.
        event: fn(&str) -> Option<LayerEvent>,
        /// The text that an event stands for.
        text: fn(LayerEvent) -> Option<String>,
    },
}

struct RoomsShared {
    django: DjangoLayer,
    /// This process among frameloop's.
    node: u64,
    /// This process among those of `RedisChannelLayer`.
    process: String,
    state: Mutex<RoomsState>,
    /// There is something in `state` for the relay.
    filled: Notify,
    metrics: OnceLock<Metrics>,
}

/// What the relay is to do, and to whom what comes is to go.
#[derive(Default)]
struct RoomsState {
    /// The rooms with members here, by what they are called on Redis. Bound: as many as there are
    /// memberships here; so are the two below.
    open: HashMap<Arc<str>, OpenRoom>,
    /// What names in `RedisChannelLayer` stand for.
    members: HashMap<u64, Arc<str>>,
    next_member: u64,
    /// Rooms that were opened or closed since the relay last looked.
    changed: HashSet<Arc<str>>,
    /// Bound: [`Redis::MAX_WAITING`], in messages and bytes, shared with all publishers here.
    outgoing: VecDeque<OutgoingMessage>,
    outgoing_bytes: usize,
}

struct OpenRoom {
    rooms: Rooms,
    name: Arc<str>,
    format: Format,
    /// This process's name in the group.
    member: u64,
    /// How much was published here.
    sequence: u64,
    seen: Sequences,
}

/// A message on its way to Redis.
struct OutgoingMessage {
    /// The room, as it is called on Redis.
    to: Arc<str>,
    bytes: usize,
    content: PublishedContent,
}

enum PublishedContent {
    /// To be published, and to come back to all that have subscribed.
    Published { body: Vec<u8>, is_own: bool },
    /// To be handed to every member of a group.
    Handed(LayerEvent),
}

impl Redis {
    /// Bytes of the largest message that is passed on either way.
    pub const MAX_SIZE: usize = 16 << 20;

    /// Bytes of the largest event of Django Channels that is read: values are larger in memory.
    const MAX_EVENT_SIZE: usize = 2 << 20;

    /// What waits for Redis at most: messages, and bytes of them.
    const MAX_WAITING: (usize, usize) = (16_384, 32 << 20);

    /// The Redis at `url`, `redis://USER:PASSWORD@HOST:PORT/DB` or `rediss://` with TLS. Nothing
    /// is connected before the relay [runs](RoomsRelay::run). It must be version 6 or later (RESP3).
    ///
    /// # Errors
    /// When `url` is none.
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

    /// Counts gaps, and what was discarded, there, if nothing else does yet.
    pub fn count_in(&self, metrics: Metrics) {
        let _ = self.0.metrics.set(metrics);
    }

    /// The same rooms, joined with those of other processes. What is published in `rooms` itself
    /// stays in this process.
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
    /// Whether so much waits for the workers that a publisher has to wait, too.
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

/// One set of rooms.
struct SharedRooms {
    shared: Arc<RoomsShared>,
    /// This process's alone.
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
                .gap("too much waits for Redis: a message reaches no other process");
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
    /// Messages between processes may have been lost.
    fn gap(&self, what: &str) {
        if let Some(metrics) = self.metrics.get() {
            metrics.gap();
        }
        log::redis(what);
    }

    /// Something came from Redis that nobody here could have written.
    fn discard(&self, from: &str) {
        if let Some(metrics) = self.metrics.get() {
            metrics.discarded();
        }
        log::redis(format_args!(
            "discarded an entry that is not a message, from {}",
            from.escape_debug()
        ));
    }

    /// Gives what was published under this address to the members here. Says in which room, if
    /// there is one.
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
                self.gap("messages of another process were lost on their way");
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

    /// Gives an event to the members here of the group under this address.
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

    /// The address of the group in which this process has that name.
    fn address_of(&self, member: &str) -> Option<Arc<str>> {
        let (_, number) = member.split_once('!')?;
        let state = lock(&self.state);
        state.members.get(&number.parse().ok()?).map(Arc::clone)
    }
}
