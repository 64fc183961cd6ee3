//! The application of the Flask-SocketIO tutorial on `/`: greets each client, and sends every
//! `message` to all clients. Also has the features that the tutorial mentions without an example:
//! `echo`, rooms (`join`, `leave`, `room`), acknowledgements (`ack`, `ask`), `bye`, and a namespace
//! `/ns`.

use serde_json::json;

use super::python_repr::formatted;
use crate::log;
use crate::socketio::{Args, DisconnectReason, Event, Socket, SocketIo, Value};

/// Registers the handlers.
pub(crate) fn register(io: &SocketIo) {
    io.namespace("/")
        .on_connect(async |socket, _| {
            log::socketio("connected", socket.id());
            socket.emit("response", response("连接成功"));
        })
        .on_disconnect(async |socket: Socket, why: DisconnectReason| {
            log::socketio(format_args!("disconnected: {why:?}"), socket.id());
        })
        .on("message", message)
        .on("echo", echo)
        .on("join", join)
        .on("leave", leave)
        .on("room", room)
        .on("ack", acknowledge)
        .on("ask", ask)
        .on("bye", async |event| event.socket.disconnect());
    io.namespace("/ns")
        .admitting(
            async |auth| match auth.get("token").and_then(Value::as_str) {
                Some("bad") => Err("unauthorized".into()),
                _ => Ok(()),
            },
        )
        .on_connect(async |socket, _| socket.emit("response", response("ns")))
        .on("message", async |event| {
            event.socket.everybody().emit("message", event.args);
            event.ack.send(Args::default());
        });
}

/// Returns the argument of a `response` event.
fn response(data: impl Into<Value>) -> Value {
    json!({"data": data.into()})
}

async fn message(event: Event) {
    // As in Flask-SocketIO, an event with another number of arguments than one is dropped, without
    // a response and without an acknowledgement.
    if event.args.values.len() != 1 {
        return;
    }
    let everybody = response(format!("收到: {}", formatted(&event.args)));
    event.socket.everybody().emit("response", everybody);
    event.ack.send(Args::default());
}

async fn echo(event: Event) {
    let first = event.args.values.iter().take(1).cloned();
    let first = event.args.with(first.collect::<Vec<_>>());
    event.socket.emit("echo", event.args);
    event.ack.send(first);
}

async fn join(event: Event) {
    let Some(room) = member(&event.args, "room") else {
        return;
    };
    if event.socket.join(room).is_err() {
        return; // the name is too long, or the client is in too many rooms
    }
    let joined = response(format!("joined {room}"));
    event.socket.everybody().to(room).emit("response", joined);
    event.ack.send(Args::default());
}

async fn leave(event: Event) {
    if let Some(room) = member(&event.args, "room") {
        event.socket.leave(room);
        event.ack.send("left");
    }
}

async fn room(event: Event) {
    let Some(room) = member(&event.args, "room") else {
        return;
    };
    let Some(data) = event.args.values.first() else {
        return;
    };
    let Some(text) = data.get("data") else { return };
    let members = match data.get("self") {
        Some(Value::Bool(false)) => event.socket.others().to(room),
        _ => event.socket.everybody().to(room),
    };
    let said = [response(text.clone())];
    members.emit("response", event.args.with(said));
    event.ack.send(Args::default());
}

async fn acknowledge(event: Event) {
    if let [data] = event.args.values.as_slice() {
        event.ack.send(event.args.with(["ok".into(), data.clone()]));
    }
}

/// Sends a `question` to the client, and its answer to all clients.
async fn ask(event: Event) {
    let Event {
        socket, args, ack, ..
    } = event;
    if args.values.len() != 1 {
        return;
    }
    ack.send(Args::default());
    let asked = socket.emit_with_ack("question", args);
    if let Ok(answer) = asked.await {
        let all = [Value::from(answer.values.clone())];
        socket.everybody().emit("answer", answer.with(all));
    }
}

/// Returns a string member of the first argument.
fn member<'a>(args: &'a Args, name: &str) -> Option<&'a str> {
    args.values.first()?.get(name)?.as_str()
}
