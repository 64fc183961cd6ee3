//! The bus on which Flask-SocketIO's processes, and `python-socketio`'s external emitters, tell
//! each other what they emit: JSON on one Redis channel.
//!
//! One object is one action. A process acts on those of others, whose `host_id` is not its own, and
//! publishes its own emits; events *from* clients are never on the bus. Who speaks pickle, as
//! versions before 5.18 of python-socketio do, is not understood, and not unpickled.

use std::collections::HashMap;
use std::convert::Infallible;
use std::fmt;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use redis::{AsyncConnectionConfig, Client, IntoConnectionInfo, RedisError, RedisResult};
use serde_json::{Value, json};
use socketioxide::AckError;
use socketioxide::adapter::Emitter;
use socketioxide::socket::Sid;
use socketioxide_core::adapter::{BroadcastFlags, BroadcastOptions, CoreAdapter, CoreLocalAdapter};
use socketioxide_core::packet::{Packet, PacketData};
use socketioxide_core::{Str, Value as Encoded};
use tokio::sync::mpsc;

use super::Adapter;
use crate::log;

/// Flask-SocketIO's default channel.
pub const CHANNEL: &str = "flask-socketio";

/// What is emitted here reaches the clients of other processes, and the other way round. What is
/// emitted while Redis is not there reaches this process's clients only.
#[derive(Clone)]
pub struct Bus(Arc<Shared>);

/// A client's acknowledgement.
type Answer = (Sid, Result<Encoded, AckError>);

struct Shared {
    host_id: String,
    outgoing: mpsc::Sender<String>,
    namespaces: Mutex<HashMap<Str, Weak<Adapter>>>,
}

/// Carries what the bus says. Nothing is carried while this does not [run](Relay::run).
pub struct Relay {
    bus: Bus,
    client: Client,
    channel: String,
    outgoing: mpsc::Receiver<String>,
}

impl Bus {
    /// A bus on a channel of the Redis server at `url`, `redis://HOST:PORT/DB`. Nothing is
    /// connected yet.
    ///
    /// # Errors
    /// When `url` is none.
    pub fn new(url: &str, channel: &str) -> RedisResult<(Bus, Relay)> {
        let client = Client::open(url.into_connection_info()?)?;
        let (sender, outgoing) = mpsc::channel(MAX_WAITING);
        let bus = Bus(Arc::new(Shared {
            host_id: Sid::new().to_string(),
            outgoing: sender,
            namespaces: Mutex::default(),
        }));
        let relay = Relay {
            bus: bus.clone(),
            client,
            channel: channel.to_owned(),
            outgoing,
        };
        Ok((bus, relay))
    }

    /// From now on clients of this namespace get what others emit.
    pub(super) fn register(&self, adapter: &Arc<Adapter>) {
        let path = adapter.get_local().path().clone();
        self.namespaces().insert(path, Arc::downgrade(adapter));
    }

    /// Tells other processes of an emit, unless it is for this process only.
    pub(super) fn publish_emit(&self, packet: &Packet, options: &BroadcastOptions) {
        if !options.has_flag(BroadcastFlags::Local)
            && let Some(message) = emit_message(packet, options, &self.0.host_id)
        {
            self.publish(&message);
        }
    }

    fn publish(&self, message: &Value) {
        if self.0.outgoing.try_send(message.to_string()).is_err() {
            log::redis("a message to the other processes was lost: too many wait for Redis");
        }
    }

    /// Does what a message from the bus says, if it is another process's and makes sense.
    fn act(&self, octets: &[u8]) {
        let Ok(message) = serde_json::from_slice::<Value>(octets) else {
            return;
        };
        let text = |name: &str| message.get(name).and_then(Value::as_str);
        if text("host_id") == Some(&*self.0.host_id) {
            return;
        }
        let Some(adapter) = text("namespace").and_then(|path| self.namespace(path)) else {
            return;
        };
        let local = adapter.get_local();
        let sid = text("sid").and_then(|sid| sid.parse::<Sid>().ok());
        let client = sid.map(BroadcastOptions::new);
        let room = text("room").map(str::to_owned);
        match (text("method"), client, room) {
            (Some("emit"), _, _) => self.act_emit(&message, local),
            (Some("disconnect"), Some(client), _) => {
                // It may have gone already.
                let _ = local.disconnect_socket(client);
            }
            (Some("enter_room"), Some(client), Some(room)) => local.add_sockets(client, room),
            (Some("leave_room"), Some(client), Some(room)) => local.del_sockets(client, room),
            (Some("close_room"), _, Some(room)) => {
                let members = to_rooms(vec![room.clone()]);
                local.del_sockets(members, room);
            }
            // A `callback` is for who asked; we ask nobody over the bus.
            _ => {}
        }
    }

    fn act_emit(&self, message: &Value, local: &CoreLocalAdapter<Emitter>) {
        let Some(packet) = emitted_packet(message, local.path()) else {
            return;
        };
        let skipped: Vec<Sid> = texts(message.get("skip_sid"))
            .filter_map(|sid| sid.parse().ok())
            .collect();
        let rooms: Vec<String> = texts(message.get("room")).map(str::to_owned).collect();
        if rooms.is_empty() && message.get("room").is_some_and(|room| !room.is_null()) {
            return; // to a room whose name is no text, which none of ours has
        }
        // Each client is in a room of its own sid's name.
        let own: Vec<Sid> = rooms.iter().filter_map(|room| room.parse().ok()).collect();
        let callback = message.get("callback").and_then(Value::as_array);
        let mut clients = to_rooms(rooms);
        if let (None, [], [] | [_]) = (callback, &*own, &*skipped) {
            clients.sid = skipped.first().copied();
            // Of clients whose queue is full nobody can be told.
            let _ = local.broadcast(packet, clients);
            return;
        }
        let mut sids = local.sockets(clients);
        sids.retain(|sid| !own.contains(sid));
        sids.extend(own);
        sids.retain(|sid| !skipped.contains(sid));
        for client in sids.into_iter().map(BroadcastOptions::new) {
            match callback.map(Vec::as_slice) {
                Some([sid, namespace, id]) => {
                    let (answers, _) = local.broadcast_with_ack(packet.clone(), client, None);
                    let answer = json!({
                        "method": "callback",
                        "host_id": message.get("host_id"),
                        "sid": sid,
                        "namespace": namespace,
                        "id": id,
                    });
                    tokio::spawn(self.clone().publish_answer(answer, answers));
                }
                _ => {
                    let _ = local.broadcast(packet.clone(), client);
                }
            }
        }
    }

    /// Waits for a client's acknowledgement, and tells the process that asked for it.
    async fn publish_answer(self, mut answer: Value, answers: impl Stream<Item = Answer>) {
        if let Some((_, Ok(Encoded::Str(args, _)))) = pin!(answers).next().await
            && let Ok(args) = serde_json::from_str::<Value>(&args)
        {
            answer["args"] = args;
            self.publish(&answer);
        }
    }

    fn namespace(&self, path: &str) -> Option<Arc<Adapter>> {
        self.namespaces().get(path)?.upgrade()
    }

    /// A poisoned lock is taken all the same: the map is whole between any two statements.
    fn namespaces(&self) -> MutexGuard<'_, HashMap<Str, Weak<Adapter>>> {
        let namespaces = &self.0.namespaces;
        namespaces.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Messages that may wait for Redis.
const MAX_WAITING: usize = 1_024;

/// How long Redis may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// From a lost connection to the next attempt.
const PAUSE: Duration = Duration::from_millis(500);

impl Relay {
    /// Connects, and again whenever the connection is lost.
    pub async fn run(mut self) -> Infallible {
        let mut is_lost = false;
        loop {
            let lost = self.relay().await;
            if !is_lost {
                log::redis(format_args!(
                    "Redis is away, its bus is tried again: {lost}"
                ));
            }
            is_lost = true;
            // What waited is old by now, and a burst of it would surprise.
            while self.outgoing.try_recv().is_ok() {}
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Carries both ways until the connection is lost.
    async fn relay(&mut self) -> RedisError {
        let gone = || RedisError::from((redis::ErrorKind::Io, "the connection ended"));
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(PATIENCE))
            .set_response_timeout(Some(PATIENCE));
        let connected = tokio::time::timeout(PATIENCE, async {
            let mut subscription = self.client.get_async_pubsub().await?;
            subscription.subscribe(&self.channel).await?;
            let client = &self.client;
            let publisher = client.get_multiplexed_async_connection_with_config(&config);
            RedisResult::Ok((subscription, publisher.await?))
        });
        let (subscription, mut publisher) = match connected.await {
            Ok(Ok(connected)) => connected,
            Ok(Err(error)) => return error,
            Err(_) => return gone(),
        };
        log::redis("Redis is there, its bus is joined");
        let mut messages = subscription.into_on_message();
        let (bus, channel, outgoing) = (&self.bus, &self.channel, &mut self.outgoing);
        let receive = async {
            while let Some(message) = messages.next().await {
                bus.act(message.get_payload_bytes());
            }
            gone()
        };
        let send = async {
            let mut batch = Vec::new();
            while outgoing.recv_many(&mut batch, MAX_WAITING).await > 0 {
                let mut pipeline = redis::pipe();
                for message in batch.drain(..) {
                    pipeline.publish(channel, message).ignore();
                }
                if let Err(error) = pipeline.exec_async(&mut publisher).await {
                    return error;
                }
            }
            gone()
        };
        tokio::select! {
            lost = receive => lost,
            lost = send => lost,
        }
    }
}

/// What tells other processes of an emit of ours; `None` if it is none.
fn emit_message(packet: &Packet, options: &BroadcastOptions, host_id: &str) -> Option<Value> {
    let (PacketData::Event(encoded, _) | PacketData::BinaryEvent(encoded, _)) = &packet.inner
    else {
        return None;
    };
    let Encoded::Str(text, attachments) = encoded else {
        return None;
    };
    let mut args: Vec<Value> = serde_json::from_str(text).ok()?;
    let event = (!args.is_empty()).then(|| args.remove(0))?;
    let is_binary = matches!(packet.inner, PacketData::BinaryEvent(..));
    let data = if is_binary {
        let attachments = attachments.iter().flatten();
        let attachments = attachments.map(|octets| Value::String(BASE64.encode(octets)));
        [Value::Array(args)]
            .into_iter()
            .chain(attachments)
            .collect()
    } else {
        args
    };
    let sid = options.sid.map(|sid| sid.to_string());
    let is_broadcast = options.has_flag(BroadcastFlags::Broadcast);
    let room = match (&*options.rooms, &sid) {
        ([], Some(sid)) if !is_broadcast => json!(sid),
        ([], _) => Value::Null,
        ([room], _) => json!(room),
        (rooms, _) => json!(rooms),
    };
    let skipped = sid.into_iter().filter(|_| is_broadcast);
    let skipped: Vec<String> = skipped
        .chain(options.except.iter().map(|sid| sid.to_string()))
        .collect();
    let skip_sid = match &*skipped {
        [] => Value::Null,
        [sid] => json!(sid),
        sids => json!(sids),
    };
    Some(json!({
        "method": "emit",
        "event": event,
        "data": data,
        "binary": is_binary,
        "namespace": &*packet.ns,
        "room": room,
        "skip_sid": skip_sid,
        "callback": null,
        "host_id": host_id,
    }))
}

/// The packet that another process's emit is for our clients.
fn emitted_packet(message: &Value, namespace: &Str) -> Option<Packet> {
    let event = message.get("event")?.as_str()?;
    let data = message.get("data")?;
    let mut attachments = Vec::new();
    let args = if message.get("binary") == Some(&Value::Bool(true)) {
        let (args, encoded) = data.as_array()?.split_first()?;
        for octets in encoded {
            attachments.push(Bytes::from(BASE64.decode(octets.as_str()?).ok()?));
        }
        args.as_array()?.clone()
    } else {
        match data {
            Value::Array(args) => args.clone(),
            argument => vec![argument.clone()],
        }
    };
    let text = Value::Array([event.into()].into_iter().chain(args).collect()).to_string();
    let attachments = (!attachments.is_empty()).then(|| attachments.into());
    let encoded = Encoded::Str(text.into(), attachments);
    Some(Packet::event(namespace.clone(), encoded))
}

/// The texts of a member that is one, several, or none.
fn texts(value: Option<&Value>) -> impl Iterator<Item = &str> {
    let several = value.and_then(Value::as_array).into_iter().flatten();
    value.into_iter().chain(several).filter_map(Value::as_str)
}

/// The members of these rooms, or everybody if there are none.
fn to_rooms(rooms: Vec<String>) -> BroadcastOptions {
    let mut options = BroadcastOptions::default();
    options.add_flag(BroadcastFlags::Broadcast);
    options.rooms = rooms.into_iter().map(Into::into).collect();
    options
}

impl fmt::Debug for Bus {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Bus")
            .field("host_id", &self.0.host_id)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Relay {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Relay")
            .field("channel", &self.channel)
            .finish_non_exhaustive()
    }
}
