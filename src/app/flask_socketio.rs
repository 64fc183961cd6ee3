//! The Flask-SocketIO tutorial's application on `/`: greets who connects, and repeats every
//! `message` to everybody. Beyond that the events that the tutorial only names: `echo`, rooms
//! (`join`, `leave`, `room`), acknowledgements (`ack`, `ask`), `bye`, and a namespace `/ns`.

use std::future::{Ready, ready};

use serde::Serialize;

use super::python_repr::formatted;
use crate::log;
use crate::socketio::{
    AckSender, Args, ConnectHandler, DisconnectReason, SocketIo, SocketRef, TryData, Value,
};

/// What `response` carries.
#[derive(Serialize)]
struct Response {
    data: String,
}

fn response(data: impl Into<String>) -> Response {
    Response { data: data.into() }
}

/// Registers the handlers.
pub(crate) fn register(io: &SocketIo) {
    io.ns("/", connected);
    io.ns("/ns", ns_connected.with(ns_admits));
}

/// A send fails when the client has just gone, or takes nothing: then its session ends.
fn sent<T, E>(result: Result<T, E>) {
    drop(result);
}

/// No future does this, which would be polled when the packet that confirms the namespace has gone
/// out already: the greeting goes with it, by the same write.
fn connected(socket: SocketRef) -> Ready<()> {
    log::socketio("connected", socket.id);
    sent(socket.emit("response", &response("连接成功")));
    socket.on_disconnect(async |socket: SocketRef, reason: DisconnectReason| {
        log::socketio(format_args!("disconnected: {reason:?}"), socket.id);
    });
    socket.on("message", message);
    socket.on("echo", echo);
    socket.on("join", join);
    socket.on("leave", leave);
    socket.on("room", room);
    socket.on("ack", ack);
    socket.on("ask", ask);
    socket.on("bye", async |socket: SocketRef| sent(socket.disconnect()));
    ready(())
}

async fn message(socket: SocketRef, io: SocketIo, Args(args): Args, ack: AckSender) {
    // The handler takes one argument; Flask-SocketIO reports others to nobody, and acknowledges
    // nothing.
    let [data] = args.as_slice() else { return };
    let everybody = response(format!("收到: {}", formatted(data)));
    log::socketio("message", socket.id);
    emit_to_all(&io, "/", "response", &everybody).await;
    sent(ack.send(&Args::default()));
}

async fn echo(socket: SocketRef, Args(args): Args, ack: AckSender) {
    let args = Args(args);
    sent(socket.emit("echo", &args));
    sent(ack.send(&Args(args.0.into_iter().take(1).collect())));
}

/// Rooms that a client may be in at a time: it is not let into more.
const MAX_ROOMS: usize = 128;

/// Bytes of a room's name.
const MAX_ROOM_NAME: usize = 255;

async fn join(socket: SocketRef, Args(args): Args, ack: AckSender) {
    let Some(room) = member(&args, "room") else {
        return;
    };
    if room.len() > MAX_ROOM_NAME || socket.rooms().len() >= MAX_ROOMS {
        return;
    }
    socket.join(room.clone());
    let joined = response(format!("joined {room}"));
    sent(socket.within(room).emit("response", &joined).await);
    sent(ack.send(&Args::default()));
}

async fn leave(socket: SocketRef, Args(args): Args, ack: AckSender) {
    let Some(room) = member(&args, "room") else {
        return;
    };
    socket.leave(room);
    sent(ack.send("left"));
}

async fn room(socket: SocketRef, Args(args): Args, ack: AckSender) {
    let (Some(room), [data, ..]) = (member(&args, "room"), args.as_slice()) else {
        return;
    };
    let Some(text) = data.get("data") else { return };
    let members = match data.get("self") {
        Some(Value::Bool(false)) => socket.to(room),
        _ => socket.within(room),
    };
    let carried = Value::Object(vec![("data".into(), text.clone())]);
    sent(members.emit("response", &carried).await);
    sent(ack.send(&Args::default()));
}

async fn ack(Args(args): Args, ack: AckSender) {
    let [data] = args.as_slice() else { return };
    sent(ack.send(&Args(vec![Value::String("ok".into()), data.clone()])));
}

/// Asks the client, and tells everybody its answer.
async fn ask(socket: SocketRef, io: SocketIo, Args(args): Args, ack: AckSender) {
    let [question] = args.as_slice() else { return };
    sent(ack.send(&Args::default()));
    if let Ok(answer) = socket.emit_with_ack::<_, Args>("question", &Args(vec![question.clone()]))
        && let Ok(answer) = answer.await
    {
        let answer = Args(vec![Value::Array(answer.0)]);
        emit_to_all(&io, "/", "answer", &answer).await;
    }
}

async fn ns_admits(TryData(auth): TryData<serde_json::Value>) -> Result<(), &'static str> {
    match auth {
        Ok(auth) if auth.get("token").is_some_and(|token| token == "bad") => Err("unauthorized"),
        _ => Ok(()),
    }
}

async fn ns_connected(socket: SocketRef) {
    sent(socket.emit("response", &response("ns")));
    socket.on(
        "message",
        async |io: SocketIo, args: Args, ack: AckSender| {
            emit_to_all(&io, "/ns", "message", &args).await;
            sent(ack.send(&Args::default()));
        },
    );
}

/// There is no such namespace when the server is about to end.
async fn emit_to_all(io: &SocketIo, namespace: &str, event: &str, data: &impl Serialize) {
    if let Some(clients) = io.of(namespace) {
        sent(clients.emit(event, data).await);
    }
}

/// The text of a member of the first argument.
fn member(args: &[Value], name: &str) -> Option<String> {
    args.first()?.get(name)?.as_str().map(str::to_owned)
}
