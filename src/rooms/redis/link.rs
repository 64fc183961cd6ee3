//! The relay between the rooms of this process and Redis.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::convert::Infallible;
use std::mem;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, UNIX_EPOCH};

use redis::aio::MultiplexedConnection;
use redis::{
    AsyncCommands, Pipeline, PushInfo, PushKind, RedisError, RedisResult, cmd, from_redis_value_ref,
};
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::time::{Instant, sleep, timeout};

use super::wire::Sequences;
use super::{
    DjangoLayer, LayerEvent, OutgoingMessage, PublishedContent, Redis, RoomsShared, RoomsState,
    channels,
};
use crate::lock::lock;
use crate::log;
use crate::redis_link::{self, Link, LinkSession, PATIENCE, gone, in_time};
use crate::rooms::Room;

/// Sends published messages to Redis and delivers messages from Redis to the rooms. It works only
/// while [`run`](RoomsRelay::run) is polled.
#[derive(Debug)]
pub struct RoomsRelay {
    pub(super) shared: Arc<RoomsShared>,
    pub(super) link: Link,
    /// The last score sent to Redis.
    pub(super) last_score: Duration,
}

/// Idle time after which a PING checks the connection.
const ALIVE: Duration = Duration::from_secs(5);

/// Maximum bytes that frameloop's own format adds to a payload.
const MORE: usize = 64;

/// Maximum messages, or channels, in one pipeline.
const BATCH: usize = 1_024;

/// A message from Redis: its channel and its bytes.
type Incoming = (Arc<str>, Vec<u8>);

/// The messages from Redis for the rooms. A queue of [`Inbox::MAX_BYTES`] lies between the
/// connection and the rooms.
pub(crate) struct Inbox {
    /// Receives `None` when the connection is lost.
    queue: UnboundedSender<Option<Incoming>>,
    bytes: AtomicUsize,
    /// The messages that this process publishes in a format that does not name the publisher. If it
    /// subscribes to the channel, each comes back once. Bound: one batch.
    echoes: Mutex<HashMap<Incoming, usize>>,
    shared: Arc<RoomsShared>,
}

impl RoomsRelay {
    /// Runs the relay for as long as this future is polled. It reconnects after each loss of the
    /// connection.
    pub async fn run(self) -> Infallible {
        redis_link::keep(self).await
    }

    /// Makes all open rooms new to Redis: a new connection has no registrations. The lost messages
    /// are already reported as a gap.
    fn register_anew(&self) {
        let mut state = lock(&self.shared.state);
        let RoomsState { open, changes, .. } = &mut *state;
        changes.clear();
        for (address, room) in open {
            changes.insert(Arc::clone(address), true);
            room.seen = Sequences::default();
        }
    }

    /// Registers the open rooms with Redis and sends the messages published in them.
    async fn send(
        &mut self,
        mut connection: MultiplexedConnection,
        inbox: &Inbox,
    ) -> RedisResult<Infallible> {
        const RENEWAL: Duration = Duration::from_secs(3_600);
        let mut groups = HashSet::<Arc<str>>::new();
        let mut renewal = Instant::now() + RENEWAL;
        loop {
            let (mut changes, outgoing) = self.work();
            if renewal <= Instant::now() {
                renewal = Instant::now() + RENEWAL;
                for group in &groups {
                    changes.entry(Arc::clone(group)).or_insert(true);
                }
            }
            if changes.is_empty() && outgoing.is_empty() {
                let filled = timeout(ALIVE, self.shared.filled.notified()).await;
                if filled.is_err() {
                    cmd("PING").exec_async(&mut connection).await?;
                }
                continue;
            }
            self.change(changes, &mut groups, &mut connection).await?;
            self.publish(outgoing, &mut connection, inbox).await?;
        }
    }

    /// Takes the changes and a batch of messages.
    pub(super) fn work(&self) -> (HashMap<Arc<str>, bool>, Vec<OutgoingMessage>) {
        let mut state = lock(&self.shared.state);
        let batch = state.outgoing.len().min(BATCH);
        let outgoing: Vec<_> = state.outgoing.drain(..batch).collect();
        let bytes: usize = outgoing.iter().map(|outgoing| outgoing.bytes).sum();
        state.outgoing_bytes -= bytes;
        (mem::take(&mut state.changes), outgoing)
    }

    /// Subscribes to opened rooms and unsubscribes from closed ones. `groups` is the groups of which
    /// this process is a member.
    async fn change(
        &self,
        changes: HashMap<Arc<str>, bool>,
        groups: &mut HashSet<Arc<str>>,
        connection: &mut MultiplexedConnection,
    ) -> RedisResult<()> {
        let (mut subscribe, mut unsubscribe) = (Vec::new(), Vec::new());
        let mut memberships = Pipeline::new();
        for (address, is_open) in &changes {
            let member = channels::member(&self.shared.process, address);
            match (member, is_open) {
                (None, true) => subscribe.push(&**address),
                (None, false) => unsubscribe.push(&**address),
                (Some(member), true) => {
                    groups.insert(Arc::clone(address));
                    let now = since_1970().as_secs_f64();
                    memberships.zadd(&**address, member, now).ignore();
                    let expiry = channels::GROUP_EXPIRY;
                    memberships.expire(&**address, expiry).ignore();
                }
                (Some(member), false) => {
                    groups.remove(address);
                    memberships.zrem(&**address, member).ignore();
                }
            }
        }
        run(&memberships, connection).await?;
        for channels in subscribe.chunks(BATCH) {
            connection.subscribe(channels).await?;
        }
        for channels in unsubscribe.chunks(BATCH) {
            connection.unsubscribe(channels).await?;
        }
        Ok(())
    }

    async fn publish(
        &mut self,
        outgoing: Vec<OutgoingMessage>,
        connection: &mut MultiplexedConnection,
        inbox: &Inbox,
    ) -> RedisResult<()> {
        let (mut publish, mut handed) = (Pipeline::new(), Vec::new());
        for OutgoingMessage { to, content, .. } in outgoing {
            match (content, self.shared.django) {
                (PublishedContent::Own(body), _) => {
                    publish.publish(&*to, body).ignore();
                }
                (PublishedContent::Event(event), DjangoLayer::PubSub) => {
                    let body = channels::encode(event);
                    publish.publish(&*to, &body[..]).ignore();
                    *lock(&inbox.echoes).entry((to, body)).or_default() += 1;
                }
                (PublishedContent::Event(event), DjangoLayer::Core) => handed.push((to, event)),
            }
        }
        if !lock(&inbox.echoes).is_empty() {
            // Redis may send the last echo after the answer to its PUBLISH, but before this answer.
            publish.cmd("PING").ignore();
        }
        run(&publish, connection).await?;
        // All echoes have come back.
        lock(&inbox.echoes).clear();
        self.hand(handed, connection).await
    }

    /// Adds events to the queues of group members in other processes.
    async fn hand(
        &mut self,
        events: Vec<(Arc<str>, LayerEvent)>,
        connection: &mut MultiplexedConnection,
    ) -> RedisResult<()> {
        if events.is_empty() {
            return Ok(());
        }
        let groups: BTreeSet<Arc<str>> = events.iter().map(|(to, _)| Arc::clone(to)).collect();
        let mut ask = Pipeline::new();
        for group in &groups {
            let expired = since_1970().as_secs_f64() - channels::GROUP_EXPIRY as f64;
            ask.zrembyscore(&**group, 0, expired).ignore();
            ask.zrange(&**group, 0, -1);
        }
        let members: Vec<Vec<String>> = ask.query_async(connection).await?;
        let own = channels::queue(&self.shared.process);
        let processes = members.into_iter().map(|members| {
            let mut processes = channels::by_process(members);
            processes.remove(&own);
            processes
        });
        let processes: HashMap<_, _> = groups.into_iter().zip(processes).collect();
        let mut send = Pipeline::new();
        for (to, event) in events {
            let Some(processes) = processes.get(&to).filter(|some| !some.is_empty()) else {
                continue;
            };
            let (queues, members): (Vec<_>, Vec<_>) = processes.iter().unzip();
            let bodies: Vec<_> = members
                .into_iter()
                .map(|members| channels::body(&event, members, fastrand::u128(..)))
                .collect();
            self.last_score = channels::next_score(self.last_score, since_1970());
            send.cmd("EVAL")
                .arg(channels::SEND)
                .arg(queues.len())
                .arg(queues)
                .arg(bodies)
                .arg(channels::CAPACITY)
                .arg(channels::seconds(self.last_score))
                .arg(channels::EXPIRY);
        }
        if send.is_empty() {
            return Ok(());
        }
        let left_out: Vec<u64> = send.query_async(connection).await?;
        if left_out.iter().any(|left_out| *left_out > 0) {
            self.shared
                .gap("the queue of a Django Channels process is full: it reads too slowly");
        }
        Ok(())
    }
}

impl LinkSession for RoomsRelay {
    async fn carry(&mut self, is_connected: &mut bool) -> RedisResult<Infallible> {
        let (queue, incoming) = mpsc::unbounded_channel();
        let inbox = Arc::new(Inbox {
            queue,
            bytes: AtomicUsize::new(0),
            echoes: Mutex::default(),
            shared: Arc::clone(&self.shared),
        });
        let pushes = Arc::clone(&inbox);
        let connection = self.link.connect(move |push| pushes.take(push)).await?;
        *is_connected = true;
        log::redis("connected to Redis: rooms are shared");
        self.register_anew();
        let (shared, link) = (Arc::clone(&self.shared), self.link.clone());
        tokio::select! {
            lost = inbox.deliver(incoming) => lost,
            lost = receive_bodies(&shared, &link), if shared.django == DjangoLayer::Core => lost,
            lost = self.send(connection, &inbox) => lost,
        }
    }

    fn failed(&mut self, error: &RedisError, was_connected: bool) {
        match was_connected {
            true => self.shared.gap(&format!(
                "lost the connection to Redis ({error}): rooms are not shared"
            )),
            false => log::redis(format_args!("cannot connect to Redis: {error}")),
        }
    }
}

impl Inbox {
    /// Maximum bytes in the queue.
    const MAX_BYTES: usize = 64 << 20;

    /// Queues a message from the connection.
    fn take(&self, push: PushInfo) -> Result<(), ()> {
        let (from, body) = match (push.kind, &push.data[..]) {
            (PushKind::Message, [from, redis::Value::BulkString(body)]) => (from, body),
            (PushKind::Disconnection, _) => return self.queue.send(None).map_err(drop),
            _ => return Ok(()),
        };
        let from: Arc<str> = from_redis_value_ref::<String>(from).map_err(drop)?.into();
        let (message, bytes) = ((from, body.clone()), body.len());
        if bytes > Redis::MAX_SIZE + MORE {
            self.shared.discard(&message.0);
        } else if let Some(count @ 1..) = lock(&self.echoes).get_mut(&message) {
            *count -= 1;
        } else if self.bytes.load(Ordering::Relaxed) + bytes > Self::MAX_BYTES {
            self.shared
                .gap("the workers are too slow for the messages from Redis");
        } else {
            self.bytes.fetch_add(bytes, Ordering::Relaxed);
            return self.queue.send(Some(message)).map_err(drop);
        }
        Ok(())
    }

    /// Delivers messages that other processes have published, until the connection is lost.
    async fn deliver(
        &self,
        mut queue: UnboundedReceiver<Option<Incoming>>,
    ) -> RedisResult<Infallible> {
        while let Some(Some((from, body))) = queue.recv().await {
            self.bytes.fetch_sub(body.len(), Ordering::Relaxed);
            settle(self.shared.deliver(&from, &body)).await;
        }
        Err(gone())
    }
}

/// Delivers events from this process's queue in `RedisChannelLayer`, until the connection is lost.
async fn receive_bodies(shared: &RoomsShared, link: &Link) -> RedisResult<Infallible> {
    const WAIT: Duration = Duration::from_secs(5);
    let mut connection = link.connect_to_wait().await?;
    let key = channels::queue(&shared.process);
    loop {
        let pop = connection.bzpopmin(&key, WAIT.as_secs_f64());
        let popped = timeout(WAIT + PATIENCE, pop).await;
        let first: Option<(String, Vec<u8>, f64)> = popped.map_err(|_| gone())??;
        let Some((_, first, _)) = first else {
            continue;
        };
        let pop = connection.zpopmin(&key, channels::CAPACITY);
        let more: Vec<(Vec<u8>, f64)> = in_time(pop).await?;
        let more = more.into_iter().map(|(body, _)| body);
        for body in [first].into_iter().chain(more) {
            let Some((event, members)) = channels::event_of_body(&body) else {
                shared.discard(&key);
                continue;
            };
            let addresses: BTreeSet<_> = members
                .iter()
                .filter_map(|member| channels::group_key_of(member))
                .collect();
            for address in addresses {
                settle(shared.deliver_event(&address, Some(event.clone()))).await;
            }
        }
    }
}

/// Waits until the workers can take more messages of the room.
async fn settle(delivered: Option<Arc<Room>>) {
    const LOOK_AGAIN: Duration = Duration::from_millis(1);
    if let Some(room) = delivered {
        while room.is_congested() {
            sleep(LOOK_AGAIN).await;
        }
    }
}

/// Runs a pipeline, unless it is empty.
async fn run(pipeline: &Pipeline, connection: &mut MultiplexedConnection) -> RedisResult<()> {
    if pipeline.is_empty() {
        return Ok(());
    }
    pipeline.exec_async(connection).await
}

/// The time since 1970, as Python's `time.time()` returns it.
fn since_1970() -> Duration {
    UNIX_EPOCH.elapsed().unwrap_or_default()
}
