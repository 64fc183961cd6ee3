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

use super::NoAnswer;
use super::members::Selection;
use super::namespace::Namespaces;
use super::sid::Sid;
use super::socket::{Broadcast, Elsewhere, Inner};
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
            let path = &namespace.path;
            bus.publish(&emit_message(path, event, args, to, &bus.0.host_id));
        });
        namespaces.elsewhere.get_or_init(|| elsewhere);
    }

    fn publish(&self, message: &Json) {
        if self.0.outgoing.try_send(message.to_string()).is_err() {
            log::redis("a message to the other processes was lost: too many wait for Redis");
        }
    }

    /// Carries out a message from the bus, if it is valid and comes from another process.
    fn act(&self, bytes: &[u8]) {
        let Ok(message) = serde_json::from_slice::<Json>(bytes) else {
            return;
        };
        let text = |name: &str| message.get(name).and_then(Json::as_str);
        if text("host_id") == Some(&*self.0.host_id) {
            return;
        }
        let namespaces = self.0.namespaces.get().and_then(Weak::upgrade);
        let namespace = text("namespace")
            .zip(namespaces)
            .and_then(|(path, namespaces)| namespaces.get(path));
        let Some(namespace) = namespace else {
            return;
        };
        let select = |name: &str| Broadcast::of(Arc::clone(&namespace)).to(name).sockets();
        let client = text("sid")
            .filter(|sid| Sid::parse(sid).is_some())
            .and_then(|sid| select(sid).pop());
        match (text("method"), client, text("room")) {
            (Some("emit"), _, _) => self.act_emit(&message, namespace),
            (Some("disconnect"), Some(client), _) => client.disconnect(),
            (Some("enter_room"), Some(client), Some(room)) => {
                // A client in too many rooms does not join another room.
                let _ = client.join(room);
            }
            (Some("leave_room"), Some(client), Some(room)) => client.leave(room),
            (Some("close_room"), _, Some(room)) => {
                for member in select(room) {
                    member.leave(room);
                }
            }
            // This process never asks over the bus, so a `callback` is for another process.
            _ => {}
        }
    }

    fn act_emit(&self, message: &Json, namespace: Arc<Inner>) {
        let Some((event, args)) = emitted(message) else {
            return;
        };
        let rooms: Vec<Box<str>> = texts(message.get("room")).map(Box::from).collect();
        if rooms.is_empty() && message.get("room").is_some_and(|room| !room.is_null()) {
            return; // this process has only rooms whose name is a string
        }
        let except = texts(message.get("skip_sid"));
        let selection = Selection {
            rooms,
            except: except.filter_map(Sid::parse).collect(),
        };
        let callback = message.get("callback").and_then(Json::as_array);
        let Some([sid, namespace_of_asker, id]) = callback.map(Vec::as_slice) else {
            return namespace.emit_here(event, &args, &selection);
        };
        let to = Broadcast {
            namespace,
            selection,
        };
        for socket in to.sockets() {
            let answering = socket.emit_with_ack(event, args.clone());
            let answer = json!({
                "method": "callback",
                "host_id": message.get("host_id"),
                "sid": sid,
                "namespace": namespace_of_asker,
                "id": id,
            });
            tokio::spawn(self.clone().publish_answer(answer, answering));
        }
    }

    /// Waits for a client's acknowledgement, and publishes it for the process that asked.
    async fn publish_answer(
        self,
        mut answer: Json,
        answering: impl Future<Output = Result<Args, NoAnswer>>,
    ) {
        if let Ok(args) = answering.await {
            // The format of an answer cannot contain binary data.
            if args.attachments.is_empty() {
                answer["args"] = args.values.into();
                self.publish(&answer);
            }
        }
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
                (PushKind::Message, Some(redis::Value::BulkString(body))) => bus.act(body),
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

/// Returns the message that publishes an emitted event to other processes.
fn emit_message(path: &str, event: &str, args: &Args, to: &Selection, host_id: &str) -> Json {
    let (values, attachments) = args.numbered();
    let is_binary = !attachments.is_empty();
    let values = Json::from(values.into_owned());
    let data = match is_binary {
        true => {
            let attachments = attachments
                .iter()
                .map(|bytes| Json::from(BASE64.encode(bytes)));
            [values].into_iter().chain(attachments).collect()
        }
        false => values,
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
        "host_id": host_id,
    })
}

/// Returns the name and the arguments of an event that another process has emitted.
fn emitted(message: &Json) -> Option<(&str, Args)> {
    let event = message.get("event")?.as_str()?;
    let data = message.get("data")?;
    if message.get("binary") != Some(&Json::Bool(true)) {
        let several = data.as_array().cloned();
        let values = several.unwrap_or_else(|| vec![data.clone()]);
        return Some((event, Args::default().with(values)));
    }
    let (values, encoded) = data.as_array()?.split_first()?;
    let attachments = encoded
        .iter()
        .map(|bytes| Some(Bytes::from(BASE64.decode(bytes.as_str()?).ok()?)))
        .collect::<Option<Vec<_>>>()?;
    let args = Args::bind(values.as_array()?.clone(), attachments).ok()?;
    Some((event, args))
}

/// Returns the strings of a member that is a string or an array of strings.
fn texts(value: Option<&Json>) -> impl Iterator<Item = &str> {
    let several = value.and_then(Json::as_array).into_iter().flatten();
    value.into_iter().chain(several).filter_map(Json::as_str)
}

opaque!(Bus BusRelay);
