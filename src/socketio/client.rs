//! Socket.IO 5 over a session: the packets of the client, and the namespaces it has joined.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::Value;

use super::engine::Protocol;
use super::errors::EngineViolation;
use super::namespace::{Inner, Namespaces};
use super::packet::{EncodedPacket, Packet, PacketKind};
use super::session::{DisconnectReason, Session};
use super::sid::Sid;
use super::socket::{Ack, Event, Partial, Socket, SocketInner};
use super::value::Args;
use crate::engine::for_socketio::charge;
use crate::lock::lock;
use crate::protocol::Message;

/// The charge for each packet, and for the call of its handler.
const PACKET: usize = 4 << 10;

/// Implements Socket.IO over sessions.
pub(super) struct SocketIoProtocol(pub(super) Arc<Namespaces>);

impl Protocol for SocketIoProtocol {
    fn message(&self, session: &Arc<Session>, message: Message<'_>) -> Result<(), EngineViolation> {
        match message {
            Message::Text(text) => self.text(session, text),
            Message::Binary(bytes) => self.attachment(session, bytes),
            _ => Ok(()),
        }
    }

    fn upgraded(&self, session: &Arc<Session>) {
        let sockets = lock(&session.client).sockets.clone();
        for socket in sockets {
            socket.namespace.seat(&socket);
        }
    }

    fn closed(&self, session: &Arc<Session>, why: DisconnectReason) {
        let client = std::mem::take(&mut *lock(&session.client));
        for socket in client.sockets {
            socket.left(why);
        }
    }
}

impl SocketIoProtocol {
    fn text(&self, session: &Arc<Session>, text: &str) -> Result<(), EngineViolation> {
        let settings = &session.engine.settings;
        let mut client = lock(&session.client);
        if client.partial.is_some() {
            return Err(EngineViolation("a packet between attachments"));
        }
        charge(PACKET);
        let packet = Packet::parse(text)?;
        match packet.attachments {
            None | Some(0) => {}
            Some(count) if count > settings.max_attachments => {
                return Err(EngineViolation("too many attachments"));
            }
            Some(count) => {
                // Refuses an invalid packet before its attachments arrive.
                Args::parse(packet.json, vec![Bytes::new(); count])?;
                client.partial = Some(Box::new(Partial {
                    packet: text.to_owned(),
                    attachments: Vec::new(),
                    size: text.len(),
                    due: count,
                }));
                drop(client);
                session.await_attachments(true);
                return Ok(());
            }
        }
        drop(client);
        self.packet(session, packet, Vec::new())
    }

    fn attachment(&self, session: &Arc<Session>, bytes: &[u8]) -> Result<(), EngineViolation> {
        let mut client = lock(&session.client);
        let Some(mut partial) = client.partial.take() else {
            return Err(EngineViolation("an attachment without a packet"));
        };
        partial.size += bytes.len();
        if partial.size > session.engine.settings.max_payload {
            return Err(EngineViolation("attachments too large"));
        }
        partial.attachments.push(Bytes::copy_from_slice(bytes));
        if partial.attachments.len() < partial.due {
            client.partial = Some(partial);
            return Ok(());
        }
        drop(client);
        session.await_attachments(false);
        let packet = Packet::parse(&partial.packet)?;
        self.packet(session, packet, partial.attachments)
    }

    fn packet(
        &self,
        session: &Arc<Session>,
        packet: Packet<'_>,
        attachments: Vec<Bytes>,
    ) -> Result<(), EngineViolation> {
        let socket = lock(&session.client).socket(packet.namespace);
        match (packet.kind, socket) {
            (PacketKind::Connect, None) => self.connect(session, packet),
            (PacketKind::Connect, Some(_)) => Err(EngineViolation("already joined")),
            (PacketKind::ConnectError, _) => Err(EngineViolation("a packet for servers only")),
            (PacketKind::Disconnect, socket) => {
                if let Some(socket) = socket {
                    socket.leave(DisconnectReason::ClientNamespaceDisconnect);
                }
                Ok(())
            }
            (PacketKind::Event, socket) => {
                dispatch(socket, packet.id, Args::parse(packet.json, attachments)?)
            }
            (PacketKind::Ack, socket) => {
                let args = Args::parse(packet.json, attachments)?;
                let without = EngineViolation("acknowledgement without an id");
                let id = packet.id.ok_or(without)?;
                if let Some(socket) = socket {
                    socket.acknowledged(id, args);
                }
                Ok(())
            }
        }
    }

    fn connect(&self, session: &Arc<Session>, packet: Packet<'_>) -> Result<(), EngineViolation> {
        let auth = match packet.json {
            "" => Value::Null,
            json => match serde_json::from_str(json) {
                Ok(auth @ Value::Object(_)) => auth,
                _ => return Err(EngineViolation("an auth payload must be an object")),
            },
        };
        let path = packet.namespace;
        let Some(namespace) = self.0.get(path) else {
            refuse(session, path, "Invalid namespace");
            return Ok(());
        };
        let admit = namespace.handlers().admit.clone();
        let Some(admit) = admit else {
            join(session, &namespace, auth);
            return Ok(());
        };
        let (admitting, joining, session) = (admit(auth.clone()), session, Arc::clone(session));
        let admitted = async move {
            match admitting.await {
                Ok(()) => join(&session, &namespace, auth),
                Err(message) => refuse(&session, namespace.path(), &message),
            }
        };
        joining.run(Box::pin(admitted));
        Ok(())
    }
}

/// Adds a client to a namespace, sends the confirmation, and then calls the handler.
fn join(session: &Arc<Session>, namespace: &Arc<Inner>, auth: Value) {
    let Some(sid) = Sid::random() else {
        return refuse(session, namespace.path(), "No random bytes for an id");
    };
    let mut client = lock(&session.client);
    // While the admission ran, the client may have joined by a second Connect, or its session
    // may have ended.
    if client.socket(namespace.path()).is_some() || session.is_closed() {
        return;
    }
    if !session.settle() {
        drop(client);
        return refuse(session, namespace.path(), "Too many connections");
    }
    let (of, with) = (Arc::clone(namespace), Arc::clone(session));
    let socket = Arc::new(SocketInner::new(sid, of, with));
    client.sockets.push(Arc::clone(&socket));
    drop(client);
    let joined = format!(r#"{{"sid":"{sid}"}}"#);
    let joined = EncodedPacket::plain(PacketKind::Connect, namespace.path(), &joined);
    namespace.add(&socket, &Arc::new(joined));
    if session.is_closed() {
        namespace.remove(&socket); // the session may have ended before `add`
        return;
    }
    let socket = Socket(socket);
    let connected = namespace.handlers().connected.clone();
    if let Some(connected) = connected {
        session.run(connected(socket, auth));
    }
}

fn refuse(session: &Arc<Session>, namespace: &str, message: &str) {
    let json = serde_json::json!({"message": message}).to_string();
    let refusal = EncodedPacket::plain(PacketKind::ConnectError, namespace, &json);
    session.send_packet(&Arc::new(refusal));
}

/// Calls the handler of an event. Drops the event if the client is not in the namespace.
fn dispatch(
    socket: Option<Arc<SocketInner>>,
    id: Option<u64>,
    mut args: Args,
) -> Result<(), EngineViolation> {
    let first = args.values.first_mut().map(Value::take);
    let Some(Value::String(name)) = first else {
        return Err(EngineViolation("an event without a name"));
    };
    args.values.remove(0);
    if let Some(socket) = socket
        && let Some(handler) = socket.namespace.handler(&name)
    {
        let session = Arc::clone(&socket.session);
        let socket = Socket(socket);
        let event = Event {
            ack: Ack(id.map(|id| (socket.clone(), id))),
            socket,
            name,
            args,
        };
        session.run(handler(event));
    }
    Ok(())
}

/// Implements Engine.IO without Socket.IO: a function handles the messages.
pub(super) struct MessageProtocol<F>(pub(super) F);

impl<F> Protocol for MessageProtocol<F>
where
    F: Fn(&Arc<Session>, Message<'_>) + Send + Sync,
{
    fn opened(&self, session: &Arc<Session>) {
        session.settle();
    }

    fn message(&self, session: &Arc<Session>, message: Message<'_>) -> Result<(), EngineViolation> {
        self.0(session, message);
        Ok(())
    }
}
