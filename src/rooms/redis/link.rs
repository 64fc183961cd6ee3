//! The relay between the rooms of this process and Redis.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::convert::Infallible;
use std::fmt;
use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use redis::aio::MultiplexedConnection;
use redis::{Pipeline, PushInfo, PushKind, RedisError, RedisResult, cmd, from_redis_value_ref};
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::time::{Instant, sleep, timeout};

use super::channels::Score;
use super::known::{Changes, Known, KnownRooms};
use super::wire::Sequences;
use super::{
    DjangoLayer, Format, LayerEvent, OutgoingMessage, PublishedContent, Redis, RoomsShared,
    channels,
};
use crate::lock::lock;
use crate::log;
use crate::redis_link::{self, Link, LinkSession, LinkState, PATIENCE, gone, in_time};
use crate::rooms::Rooms;

/// Sends published messages to Redis and delivers messages from Redis to the rooms. It works only
/// while [`run`](RoomsRelay::run) is polled.
pub struct RoomsRelay {
    shared: Arc<RoomsShared>,
    link: Link,
    /// The last score sent to Redis.
    last_score: Score,
}

impl fmt::Debug for RoomsRelay {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("RoomsRelay").finish_non_exhaustive()
    }
}

/// Idle time after which a PING checks the connection.
const ALIVE: Duration = Duration::from_secs(5);

/// Maximum bytes that frameloop's own format adds to a payload.
const MORE: usize = 64;

/// Maximum messages, or channels, in one pipeline.
const BATCH: usize = 1_024;

/// An event of the connection on which this process subscribes and publishes, in order.
pub(crate) enum LinkEvent {
    Message {
        from: String,
        body: Vec<u8>,
    },
    /// This process has published this body. If it also subscribes to the channel, the body comes
    /// back once.
    Echo {
        from: Arc<str>,
        body: Vec<u8>,
    },
    /// All bodies published so far have come back.
    EndOfEchoes,
    /// The connection is lost.
    End,
}

/// The queue of events from Redis for the rooms.
#[derive(Clone)]
pub(crate) struct Inbox {
    queue: UnboundedSender<LinkEvent>,
    bytes: Arc<AtomicUsize>,
    shared: Arc<RoomsShared>,
}

impl RoomsRelay {
    pub(super) fn new(shared: Arc<RoomsShared>, link: Link) -> RoomsRelay {
        RoomsRelay {
            shared,
            link,
            last_score: Score::default(),
        }
    }

    /// Runs the relay for as long as this future is polled. It reconnects after each loss of the
    /// connection.
    pub async fn run(self) -> Infallible {
        redis_link::keep(self).await
    }

    /// Sends and receives until the connection is lost.
    async fn relay(
        &mut self,
        connection: MultiplexedConnection,
        inbox: Inbox,
        incoming: UnboundedReceiver<LinkEvent>,
    ) -> RedisError {
        {
            let mut state = lock(&self.shared.state);
            // A new connection has no registrations. The lost messages are already reported as a
            // gap.
            let addresses = state.open.keys().map(Arc::clone).collect();
            state.changed = addresses;
            for room in state.open.values_mut() {
                room.seen = Sequences::default();
            }
        }
        let (shared, link) = (Arc::clone(&self.shared), self.link.clone());
        let bodies = async {
            match shared.django {
                DjangoLayer::Core => receive_bodies(&shared, &link).await,
                DjangoLayer::PubSub => std::future::pending().await,
            }
        };
        let receive = receive(&shared, &inbox.bytes, incoming);
        tokio::select! {
            lost = receive => lost,
            lost = bodies => lost,
            Err(lost) = self.send(connection, &inbox) => lost,
        }
    }

    /// Registers the open rooms with Redis and sends the messages published in them.
    async fn send(
        &mut self,
        mut connection: MultiplexedConnection,
        inbox: &Inbox,
    ) -> RedisResult<Infallible> {
        const RENEWAL: Duration = Duration::from_secs(3_600);
        let mut known = KnownRooms::default();
        let mut renewal = Instant::now() + RENEWAL;
        loop {
            let (changed, outgoing) = self.work();
            if changed.is_empty() && outgoing.is_empty() {
                let filled = timeout(ALIVE, self.shared.filled.notified()).await;
                if filled.is_err() {
                    cmd("PING").exec_async(&mut connection).await?;
                }
                if renewal <= Instant::now() {
                    renewal = Instant::now() + RENEWAL;
                    let members = self.members(known.iter());
                    enter(&mut connection, &members).await?;
                }
                continue;
            }
            self.change(changed, &mut known, &mut connection).await?;
            self.publish(outgoing, &mut connection, inbox).await?;
        }
    }

    /// Takes the changed rooms and a batch of messages.
    pub(super) fn work(&self) -> (HashSet<Arc<str>>, Vec<OutgoingMessage>) {
        let mut state = lock(&self.shared.state);
        let batch = state.outgoing.len().min(BATCH);
        let outgoing: Vec<_> = state.outgoing.drain(..batch).collect();
        state.outgoing_bytes -= outgoing
            .iter()
            .map(|outgoing| outgoing.bytes)
            .sum::<usize>();
        (mem::take(&mut state.changed), outgoing)
    }

    /// Subscribes to opened rooms and unsubscribes from closed ones.
    async fn change(
        &self,
        changed: HashSet<Arc<str>>,
        known: &mut KnownRooms,
        connection: &mut MultiplexedConnection,
    ) -> RedisResult<()> {
        let Changes { opened, closed } = known.update(changed, |some| self.look_up(some));
        let entering = self.members(opened.iter());
        enter(connection, &entering).await?;
        let mut leave = Pipeline::new();
        for (group, member) in self.members(closed.iter()) {
            leave.zrem(&*group, member).ignore();
        }
        run(&leave, connection).await?;
        // A room that was closed and opened again stays subscribed.
        let channels = |known: &[Known]| -> BTreeSet<String> {
            let published = known.iter().filter(|known| !known.is_group);
            published
                .map(|known| String::from(&*known.address))
                .collect()
        };
        let (opened, closed) = (channels(&opened), channels(&closed));
        for channels in opened.difference(&closed).collect::<Vec<_>>().chunks(BATCH) {
            connection.subscribe(channels).await?;
        }
        for channels in closed.difference(&opened).collect::<Vec<_>>().chunks(BATCH) {
            connection.unsubscribe(channels).await?;
        }
        Ok(())
    }

    /// The present state of the rooms at these addresses; `None` for a closed room.
    pub(super) fn look_up(&self, addresses: &[Arc<str>]) -> Vec<Option<Known>> {
        let is_core = self.shared.django == DjangoLayer::Core;
        let state = lock(&self.shared.state);
        let known = |address: &Arc<str>| {
            let room = state.open.get(address)?;
            Some(Known {
                is_group: is_core && matches!(room.format, Format::Groups { .. }),
                member: room.member,
                address: Arc::clone(address),
            })
        };
        addresses.iter().map(known).collect()
    }

    /// The groups among these rooms, each with this process's member name.
    fn members<'a>(&self, rooms: impl Iterator<Item = &'a Known>) -> Vec<(Arc<str>, String)> {
        let groups = rooms.filter(|known| known.is_group);
        groups
            .map(|known| {
                let name = channels::member(&self.shared.process, known.member);
                (Arc::clone(&known.address), name)
            })
            .collect()
    }

    async fn publish(
        &mut self,
        outgoing: Vec<OutgoingMessage>,
        connection: &mut MultiplexedConnection,
        inbox: &Inbox,
    ) -> RedisResult<()> {
        let (mut publish, mut handed) = (Pipeline::new(), Vec::new());
        let mut echoes = false;
        for OutgoingMessage { to, content, .. } in outgoing {
            match content {
                PublishedContent::Published { body, is_own } => {
                    publish.publish(&*to, &body[..]).ignore();
                    if !is_own {
                        echoes = true;
                        // The receiver lives as long as this task.
                        let _ = inbox.queue.send(LinkEvent::Echo { from: to, body });
                    }
                }
                PublishedContent::Handed(event) => handed.push((to, event)),
            }
        }
        if echoes {
            // Redis may send the last echo after the answer to its PUBLISH, but before this answer.
            publish.cmd("PING").ignore();
        }
        run(&publish, connection).await?;
        if echoes {
            let _ = inbox.queue.send(LinkEvent::EndOfEchoes);
        }
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
        let members: HashMap<_, _> = groups.into_iter().zip(members).collect();
        let own = channels::process_key(&channels::member(&self.shared.process, 0));
        let (mut send, mut sends) = (Pipeline::new(), 0);
        for (to, event) in events {
            let mut processes = channels::by_process(members.get(&to).cloned().unwrap_or_default());
            if let Some(own) = &own {
                processes.remove(own);
            }
            if processes.is_empty() {
                continue;
            }
            self.last_score = self.last_score.next(since_1970());
            let call = send.cmd("EVAL").arg(channels::SEND).arg(processes.len());
            for key in processes.keys() {
                call.arg(key);
            }
            for (_, members) in processes {
                call.arg(channels::body(&event, members, fastrand::u128(..)));
            }
            call.arg(channels::CAPACITY)
                .arg(self.last_score.to_string())
                .arg(channels::EXPIRY);
            sends += 1;
        }
        if sends > 0 {
            let left_out: Vec<u64> = send.query_async(connection).await?;
            if left_out.iter().any(|left_out| *left_out > 0) {
                self.shared
                    .gap("the queue of a Django Channels process is full: it reads too slowly");
            }
        }
        Ok(())
    }
}

impl LinkSession for RoomsRelay {
    type Ready = (MultiplexedConnection, Inbox, UnboundedReceiver<LinkEvent>);

    async fn connect(&mut self) -> RedisResult<Self::Ready> {
        let (queue, incoming) = mpsc::unbounded_channel();
        let inbox = Inbox {
            queue,
            bytes: Arc::default(),
            shared: Arc::clone(&self.shared),
        };
        let pushes = inbox.clone();
        let connection = self.link.connect(move |push| pushes.take(push)).await?;
        Ok((connection, inbox, incoming))
    }

    async fn carry(&mut self, (connection, inbox, incoming): Self::Ready) -> RedisError {
        self.relay(connection, inbox, incoming).await
    }

    fn changed(&mut self, state: LinkState<'_>) {
        match state {
            LinkState::Connected => log::redis("connected to Redis: rooms are shared"),
            LinkState::Lost(error) => self.shared.gap(&format!(
                "lost the connection to Redis ({error}): rooms are not shared"
            )),
            LinkState::Unreachable(error) => {
                log::redis(format_args!("cannot connect to Redis: {error}"));
            }
        }
    }
}

impl Inbox {
    /// Maximum bytes in the queue.
    const MAX_BYTES: usize = 64 << 20;

    /// Queues a message from the connection.
    fn take(&self, push: PushInfo) -> Result<(), ()> {
        let incoming = match (push.kind, &push.data[..]) {
            (PushKind::Message, [from, redis::Value::BulkString(body)]) => {
                let from = from_redis_value_ref::<String>(from).map_err(drop)?;
                if body.len() > Redis::MAX_SIZE + MORE {
                    self.shared.discard(&from);
                    return Ok(());
                }
                if self.bytes.load(Ordering::Relaxed) + body.len() > Self::MAX_BYTES {
                    self.shared
                        .gap("the workers are too slow for the messages from Redis");
                    return Ok(());
                }
                self.bytes.fetch_add(body.len(), Ordering::Relaxed);
                let body = body.clone();
                LinkEvent::Message { from, body }
            }
            (PushKind::Disconnection, _) => LinkEvent::End,
            _ => return Ok(()),
        };
        self.queue.send(incoming).map_err(drop)
    }
}

/// Delivers messages that other processes have published, until the connection is lost.
async fn receive(
    shared: &RoomsShared,
    waiting: &AtomicUsize,
    mut incoming: UnboundedReceiver<LinkEvent>,
) -> RedisError {
    let mut echoes = HashMap::<(Arc<str>, Vec<u8>), usize>::new();
    while let Some(incoming) = incoming.recv().await {
        match incoming {
            LinkEvent::Message { from, body } => {
                waiting.fetch_sub(body.len(), Ordering::Relaxed);
                let key = (Arc::from(from), body);
                match echoes.get_mut(&key) {
                    Some(count) if *count > 0 => *count -= 1,
                    _ => settle(shared.deliver(&key.0, &key.1)).await,
                }
            }
            LinkEvent::Echo { from, body } => *echoes.entry((from, body)).or_default() += 1,
            LinkEvent::EndOfEchoes => echoes.clear(),
            LinkEvent::End => break,
        }
    }
    gone()
}

/// Delivers events from this process's queue in `RedisChannelLayer`, until the connection is lost.
async fn receive_bodies(shared: &RoomsShared, link: &Link) -> RedisError {
    match try_receive_bodies(shared, link).await {
        Ok(never) => match never {},
        Err(error) => error,
    }
}

async fn try_receive_bodies(shared: &RoomsShared, link: &Link) -> RedisResult<Infallible> {
    const WAIT: Duration = Duration::from_secs(5);
    let mut connection = link.connect_to_wait().await?;
    let key = channels::process_key(&channels::member(&shared.process, 0)).unwrap_or_default();
    loop {
        let mut pop = cmd("BZPOPMIN");
        pop.arg(&key).arg(WAIT.as_secs());
        let popped = timeout(WAIT + PATIENCE, pop.query_async(&mut connection)).await;
        let first: Option<(String, Vec<u8>, f64)> = popped.map_err(|_| gone())??;
        let Some((_, first, _)) = first else {
            continue;
        };
        let mut pop = cmd("ZPOPMIN");
        pop.arg(&key).arg(channels::CAPACITY);
        let more: Vec<(Vec<u8>, f64)> = in_time(pop.query_async(&mut connection)).await?;
        for body in [first]
            .into_iter()
            .chain(more.into_iter().map(|(body, _)| body))
        {
            let body = Some(body).filter(|body| body.len() <= Redis::MAX_EVENT_SIZE);
            let read = body.and_then(|body| channels::event_of_body(&body));
            let Some((event, members)) = read else {
                shared.discard(&key);
                continue;
            };
            let addresses: BTreeSet<_> = members
                .iter()
                .filter_map(|member| shared.address_of(member))
                .collect();
            for address in addresses {
                settle(shared.deliver_event(&address, event.clone())).await;
            }
        }
    }
}

/// Waits until the workers can take more messages of the room.
async fn settle(delivered: Option<(Rooms, Arc<str>)>) {
    const LOOK_AGAIN: Duration = Duration::from_millis(1);
    if let Some((rooms, name)) = delivered {
        while rooms.is_congested(&name) {
            sleep(LOOK_AGAIN).await;
        }
    }
}

/// Adds or renews this process's membership in groups, for [`channels::GROUP_EXPIRY`].
async fn enter(
    connection: &mut MultiplexedConnection,
    members: &[(Arc<str>, String)],
) -> RedisResult<()> {
    let mut enter = Pipeline::new();
    for (group, member) in members {
        enter
            .zadd(&**group, member, since_1970().as_secs_f64())
            .ignore();
        let expiry = channels::GROUP_EXPIRY as i64;
        enter.expire(&**group, expiry).ignore();
    }
    run(&enter, connection).await
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
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.unwrap_or_default()
}
