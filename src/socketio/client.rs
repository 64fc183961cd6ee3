//! Socket.IO 5 over a session: the packets of the client, and the namespaces it has joined.

use std::mem;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use serde_json::Value;

use super::errors::{DisconnectReason, EngineResult, EngineViolation};
use super::members::Member;
use super::namespace::{Ack, Event, Inner, Namespaces, Socket};
use super::packet::{EncodedPacket, Packet, PacketKind};
use super::session::{Protocol, Session};
use super::sid::Sid;
use super::value::Args;
use crate::engine::for_socketio::charge;
use crate::lock::lock;
use crate::protocol::Message;

/// The charge for each packet, and for the call of its handler.
const PACKET: usize = 4 << 10;

/// The Socket.IO client of a session.
pub(super) struct Client {
    namespaces: Arc<Namespaces>,
    state: Mutex<ClientState>,
}

#[derive(Default)]
struct ClientState {
    /// One socket for each namespace that the client has joined. Sockets that have left may remain
    /// until the client joins again.
    sockets: Vec<Socket>,
    /// A binary packet that still lacks attachments, and those that have arrived. Bounds:
    /// `max_payload` bytes in total, and `attachment_timeout`, of
    /// [`SocketIoSettings`](super::SocketIoSettings).
    partial: Option<Box<(String, Vec<Bytes>)>>,
}

impl ClientState {
    fn socket(&self, namespace: &str) -> Option<&Socket> {
        let mut sockets = self.sockets.iter();
        sockets.find(|socket| *socket.namespace.path == *namespace && !socket.member.has_left())
    }
}

impl Protocol for Client {
    fn message(self: Arc<Self>, session: &Arc<Session>, message: Message<'_>) -> EngineResult {
        match message {
            Message::Text(text) => self.text(session, text),
            Message::Binary(bytes) => self.attachment(session, bytes),
            _ => Ok(()),
        }
    }

    fn upgraded(&self) {
        for Socket { namespace, member } in &lock(&self.state).sockets {
            namespace.members.seat(member.sid);
        }
    }

    fn closed(&self, why: DisconnectReason) {
        let state = mem::take(&mut *lock(&self.state));
        for socket in state.sockets {
            socket.leave_for(why);
        }
    }
}

impl Client {
    pub(super) fn new(namespaces: &Arc<Namespaces>) -> Client {
        Client {
            namespaces: Arc::clone(namespaces),
            state: Mutex::default(),
        }
    }

    fn text(self: Arc<Self>, session: &Arc<Session>, text: &str) -> EngineResult {
        let mut state = lock(&self.state);
        if state.partial.is_some() {
            return Err(EngineViolation("a packet between attachments"));
        }
        charge(PACKET);
        let packet = Packet::parse(text)?;
        let due = packet.attachments;
        if due > session.service.settings.max_attachments {
            return Err(EngineViolation("too many attachments"));
        }
        if due == 0 {
            drop(state);
            return self.packet(session, packet, Vec::new());
        }
        // Refuses an invalid packet before its attachments arrive.
        Args::parse(packet.json, vec![Bytes::new(); due])?;
        state.partial = Some(Box::new((text.to_owned(), Vec::new())));
        drop(state);
        session.await_attachments(true);
        Ok(())
    }

    fn attachment(self: Arc<Self>, session: &Arc<Session>, bytes: &[u8]) -> EngineResult {
        let mut state = lock(&self.state);
        let without = EngineViolation("an attachment without a packet");
        let (text, attachments) = state.partial.as_deref_mut().ok_or(without)?;
        let size = text.len() + attachments.iter().map(Bytes::len).sum::<usize>();
        if size + bytes.len() > session.service.settings.max_payload {
            return Err(EngineViolation("attachments too large"));
        }
        attachments.push(Bytes::copy_from_slice(bytes));
        let is_complete = attachments.len() == Packet::parse(text)?.attachments;
        let Some((text, attachments)) = state.partial.take_if(|_| is_complete).map(|it| *it) else {
            return Ok(());
        };
        drop(state);
        session.await_attachments(false);
        self.packet(session, Packet::parse(&text)?, attachments)
    }

    fn packet(
        self: Arc<Self>,
        session: &Arc<Session>,
        packet: Packet<'_>,
        attachments: Vec<Bytes>,
    ) -> EngineResult {
        let socket = lock(&self.state).socket(packet.namespace).cloned();
        match (packet.kind, socket) {
            (PacketKind::Connect, None) => return self.connect(session, packet),
            (PacketKind::Connect, Some(_)) => return Err(EngineViolation("already joined")),
            (PacketKind::ConnectError, _) => {
                return Err(EngineViolation("a packet for servers only"));
            }
            (PacketKind::Disconnect, socket) => {
                if let Some(socket) = socket {
                    socket.leave_for(DisconnectReason::ClientNamespaceDisconnect);
                }
            }
            (PacketKind::Event, socket) => {
                dispatch(socket, packet.id, Args::parse(packet.json, attachments)?)?;
            }
            (PacketKind::Ack, socket) => {
                let args = Args::parse(packet.json, attachments)?;
                let without = EngineViolation("acknowledgement without an id");
                let id = packet.id.ok_or(without)?;
                if let Some(socket) = socket {
                    socket.member.acknowledged(id, args);
                }
            }
        }
        Ok(())
    }

    fn connect(self: Arc<Self>, session: &Arc<Session>, packet: Packet<'_>) -> EngineResult {
        let auth = match packet.json {
            "" => Value::Null,
            json => match serde_json::from_str(json) {
                Ok(auth @ Value::Object(_)) => auth,
                _ => return Err(EngineViolation("an auth payload must be an object")),
            },
        };
        let Some(namespace) = self.namespaces.get(packet.namespace) else {
            refuse(session, packet.namespace, "Invalid namespace");
            return Ok(());
        };
        let Some(admit) = namespace.handlers().admit.clone() else {
            self.join(session, namespace, auth);
            return Ok(());
        };
        let (admitting, joining) = (admit(auth.clone()), Arc::clone(session));
        session.run(Box::pin(async move {
            match admitting.await {
                Ok(()) => self.join(&joining, namespace, auth),
                Err(message) => refuse(&joining, &namespace.path, &message),
            }
        }));
        Ok(())
    }

    /// Adds the client to a namespace, sends the confirmation, and then calls the handler.
    fn join(&self, session: &Arc<Session>, namespace: Arc<Inner>, auth: Value) {
        let Some(sid) = Sid::random() else {
            return refuse(session, &namespace.path, "No random bytes for an id");
        };
        let mut state = lock(&self.state);
        // While the admission ran, the client may have joined by a second Connect, or its session
        // may have ended.
        if state.socket(&namespace.path).is_some() || session.is_closed() {
            return;
        }
        if !session.settle() {
            drop(state);
            return refuse(session, &namespace.path, "Too many connections");
        }
        let socket = Socket {
            member: Arc::new(Member::new(sid, Arc::clone(session))),
            namespace,
        };
        state.sockets.retain(|socket| !socket.member.has_left());
        state.sockets.reserve_exact(1);
        state.sockets.push(socket.clone());
        drop(state);
        let Socket { namespace, member } = &socket;
        let joined = format!(r#"{{"sid":"{sid}"}}"#);
        let joined = EncodedPacket::plain(PacketKind::Connect, &namespace.path, &joined);
        namespace.members.add(member, &joined);
        if session.is_closed() {
            return namespace.members.remove(sid); // the session may have ended before `add`
        }
        let connected = namespace.handlers().connected.clone();
        if let Some(connected) = connected {
            session.run(connected(socket, auth));
        }
    }
}

fn refuse(session: &Arc<Session>, namespace: &str, message: &str) {
    let json = serde_json::json!({"message": message}).to_string();
    let refusal = EncodedPacket::plain(PacketKind::ConnectError, namespace, &json);
    session.send_packet(&refusal);
}

/// Calls the handler of an event. Drops the event if the client is not in the namespace.
fn dispatch(socket: Option<Socket>, id: Option<u64>, mut args: Args) -> EngineResult {
    let Some(Value::String(name)) = args.values.first_mut().map(Value::take) else {
        return Err(EngineViolation("an event without a name"));
    };
    args.values.remove(0);
    if let Some(socket) = socket
        && let Some(handler) = socket.namespace.handler(&name)
    {
        let session = Arc::clone(&socket.member.session);
        let ack = Ack(id.map(|id| (socket.clone(), id)));
        session.run(handler(Event {
            socket,
            name,
            args,
            ack,
        }));
    }
    Ok(())
}

/// Engine.IO without Socket.IO: a function handles the messages.
impl<F: Fn(&Arc<Session>, Message<'_>) + Send + Sync> Protocol for F {
    fn opened(&self, session: &Session) {
        session.settle();
    }

    fn message(self: Arc<Self>, session: &Arc<Session>, message: Message<'_>) -> EngineResult {
        self(session, message);
        Ok(())
    }
}
