//! The bus that shares emitted events between the processes of Flask-SocketIO and the external
//! emitters of `python-socketio`: JSON on one Redis channel.
//!
//! One JSON object is one action. A process publishes its own emits, and carries out the actions of
//! other processes, which have another `host_id`. Events *from* clients are never on the bus. The
//! pickle format of python-socketio before version 5.18 is not supported.

use std::convert::Infallible;
use std::sync::{Arc, OnceLock, Weak};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use redis::{PushInfo, PushKind, RedisError, RedisResult};
use serde_json::{Value as Json, json};
use tokio::sync::{Notify, mpsc};

use super::members::Selection;
use super::namespace::{Broadcast, Elsewhere, Namespaces};
use super::sid::Sid;
use super::value::Args;
use crate::log;
use crate::redis_link::{self, Link, LinkSession, gone};

/// Flask-SocketIO's default channel.
pub const CHANNEL: &str = "flask-socketio";

/// Shares emitted events with other processes. While Redis is unreachable, an event reaches only
/// the clients of this process.
#[derive(Clone)]
pub struct Bus(Arc<BusShared>);

struct BusShared {
    host_id: String,
    outgoing: mpsc::Sender<String>,
    namespaces: OnceLock<Weak<Namespaces>>,
}

/// Carries the messages of the bus while it [runs](BusRelay::run).
pub struct BusRelay {
    bus: Bus,
    link: Link,
    channel: String,
    outgoing: mpsc::Receiver<String>,
}

impl Bus {
    /// Creates a bus on a channel of the Redis server at `url`, `redis://HOST:PORT/DB`.
    /// [`BusRelay::run`] connects to the server.
    ///
    /// # Errors
    /// If `url` is not a Redis address, or the system has no random bytes.
    pub fn new(url: &str, channel: &str) -> RedisResult<(Bus, BusRelay)> {
        let link = Link::new(url)?;
        let no_random = || RedisError::from((redis::ErrorKind::Io, "no random bytes"));
        let (sender, outgoing) = mpsc::channel(MAX_WAITING);
        let bus = Bus(Arc::new(BusShared {
            host_id: Sid::random().ok_or_else(no_random)?.to_string(),
            outgoing: sender,
            namespaces: OnceLock::new(),
        }));
        let relay = BusRelay {
            bus: bus.clone(),
            link,
            channel: channel.to_owned(),
            outgoing,
        };
        Ok((bus, relay))
    }

    /// Starts to share the events of these namespaces, which have no clients yet.
    pub(super) fn serve(&self, namespaces: &Arc<Namespaces>) {
        self.0.namespaces.get_or_init(|| Arc::downgrade(namespaces));
        let bus = self.clone();
        let elsewhere: Elsewhere = Arc::new(move |namespace, event, args, to| {
            bus.publish(&bus.emit_message(&namespace.path, event, args, to));
        });
        namespaces.elsewhere.get_or_init(|| elsewhere);
    }

    /// Returns the message that publishes an emitted event to other processes.
    fn emit_message(&self, path: &str, event: &str, args: &Args, to: &Selection) -> Json {
        let (values, attachments) = args.numbered();
        let is_binary = !attachments.is_empty();
        let mut data = vec![Json::from(values.into_owned())];
        data.extend(attachments.iter().map(|bytes| BASE64.encode(bytes).into()));
        let data = match is_binary {
            true => data.into(),
            false => data.remove(0),
        };
        let one_or_several = |mut names: Vec<Json>| match names.len() {
            0 | 1 => names.pop().unwrap_or(Json::Null),
            _ => Json::Array(names),
        };
        json!({
            "method": "emit",
            "event": event,
            "data": data,
            "binary": is_binary,
            "namespace": path,
            "room": one_or_several(to.rooms.iter().map(|room| json!(room)).collect()),
            "skip_sid": one_or_several(to.except.iter().map(|sid| json!(sid.as_str())).collect()),
            "callback": null,
            "host_id": self.0.host_id,
        })
    }

    fn publish(&self, message: &Json) {
        if self.0.outgoing.try_send(message.to_string()).is_err() {
            log::redis("a message to the other processes was lost: too many wait for Redis");
        }
    }

    /// Carries out a message from the bus. `None` if it is not valid, comes from this process, or is
    /// for a namespace or a client of other processes.
    fn act(&self, bytes: &[u8]) -> Option<()> {
        let message: Json = serde_json::from_slice(bytes).ok()?;
        let text = |name: &str| message[name].as_str();
        if text("host_id") == Some(&*self.0.host_id) {
            return None;
        }
        let namespaces = self.0.namespaces.get()?.upgrade()?;
        let everybody = Broadcast::of(namespaces.get(text("namespace")?)?);
        let client = || {
            let sid = text("sid").filter(|sid| Sid::parse(sid).is_some())?;
            everybody.clone().to(sid).sockets().pop()
        };
        match text("method")? {
            "emit" => return self.act_emit(&message, everybody),
            "disconnect" => client()?.disconnect(),
            // A client in too many rooms does not join another room.
            "enter_room" => client()?.join(text("room")?).ok()?,
            "leave_room" => client()?.leave(text("room")?),
            "close_room" => {
                let room = text("room")?;
                let members = everybody.to(room).sockets();
                members.iter().for_each(|member| member.leave(room));
            }
            // This process never asks over the bus, so a `callback` is for another process.
            _ => {}
        }
        Some(())
    }

    fn act_emit(&self, message: &Json, mut to: Broadcast) -> Option<()> {
        let (event, args) = emitted(message)?;
        let rooms: Vec<_> = texts(&message["room"]).map(Box::from).collect();
        if rooms.is_empty() && !message["room"].is_null() {
            return None; // this process has only rooms whose name is a string
        }
        let except = texts(&message["skip_sid"]).filter_map(Sid::parse).collect();
        to.selection = Selection { rooms, except };
        let callback = message["callback"].as_array();
        let Some([sid, namespace, id]) = callback.map(Vec::as_slice) else {
            to.namespace.emit_here(event, &args, &to.selection);
            return Some(());
        };
        for socket in to.sockets() {
            let answer = socket.emit_with_ack(event, args.clone());
            let mut message = json!({
                "method": "callback",
                "host_id": message["host_id"],
                "sid": sid,
                "namespace": namespace,
                "id": id,
            });
            let bus = self.clone();
            tokio::spawn(async move {
                // The format of an answer cannot contain binary data.
                let answer = answer.await.ok();
                if let Some(args) = answer.filter(|args| args.attachments.is_empty()) {
                    message["args"] = args.values.into();
                    bus.publish(&message);
                }
            });
        }
        Some(())
    }
}

/// Maximum messages that wait for Redis.
const MAX_WAITING: usize = 1_024;

impl BusRelay {
    /// Connects to Redis, and reconnects when the connection is lost.
    pub async fn run(self) -> Infallible {
        redis_link::keep(self).await
    }
}

impl LinkSession for BusRelay {
    async fn carry(&mut self, is_connected: &mut bool) -> RedisResult<Infallible> {
        let (bus, lost) = (self.bus.clone(), Arc::new(Notify::new()));
        let is_lost = Arc::clone(&lost);
        let push = move |push: PushInfo| {
            match (push.kind, push.data.last()) {
                (PushKind::Message, Some(redis::Value::BulkString(body))) => {
                    bus.act(body);
                }
                (PushKind::Disconnection, _) => lost.notify_one(),
                _ => {}
            }
            Ok(())
        };
        let mut connection = self.link.connect(push).await?;
        connection.subscribe(&self.channel).await?;
        // Drops the messages that waited for the connection, because they are outdated.
        while self.outgoing.try_recv().is_ok() {}
        *is_connected = true;
        log::redis("connected to Redis: the Socket.IO bus is joined");
        let send = async {
            let mut batch = Vec::new();
            while self.outgoing.recv_many(&mut batch, MAX_WAITING).await > 0 {
                let mut pipeline = redis::pipe();
                for message in batch.drain(..) {
                    pipeline.publish(&self.channel, message).ignore();
                }
                pipeline.exec_async(&mut connection).await?;
            }
            Err(gone())
        };
        tokio::select! {
            () = is_lost.notified() => Err(gone()),
            lost = send => lost,
        }
    }

    fn failed(&mut self, error: &RedisError, _: bool) {
        log::redis(format_args!(
            "no connection to Redis ({error}): the Socket.IO bus is left"
        ));
    }
}

/// Returns the name and the arguments of an event that another process has emitted.
fn emitted(message: &Json) -> Option<(&str, Args)> {
    let event = message["event"].as_str()?;
    let data = message.get("data")?;
    if message["binary"] != true {
        let several = data.as_array().cloned();
        let values = several.unwrap_or_else(|| vec![data.clone()]);
        return Some((event, Args::default().with(values)));
    }
    let (values, encoded) = data.as_array()?.split_first()?;
    let decoded = |bytes: &Json| Some(Bytes::from(BASE64.decode(bytes.as_str()?).ok()?));
    let attachments: Option<_> = encoded.iter().map(decoded).collect();
    let args = Args::bind(values.as_array()?.clone(), attachments?).ok()?;
    Some((event, args))
}

/// Returns the strings of a member that is a string or an array of strings.
fn texts(value: &Json) -> impl Iterator<Item = &str> {
    let several = value.as_array().into_iter().flatten();
    [value].into_iter().chain(several).filter_map(Json::as_str)
}

opaque!(Bus BusRelay);
