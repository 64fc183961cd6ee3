//! The Flask-SocketIO tutorial's application on `/`: greets each client, and repeats every
//! `message` to everybody. Beyond that the events that the tutorial only names: `echo`, rooms
//! (`join`, `leave`, `room`), acknowledgements (`ack`, `ask`), `bye`, and a namespace `/ns`.

use std::mem;

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

/// What `response` carries.
fn response(data: impl Into<Value>) -> Value {
    Value::Object(vec![("data".into(), data.into())])
}

async fn message(event: Event) {
    // The handler takes one argument; Flask-SocketIO reports others to nobody, and acknowledges
    // nothing.
    let [data] = event.args.0.as_slice() else {
        return;
    };
    let everybody = response(format!("收到: {}", formatted(data)));
    event.socket.everybody().emit("response", everybody);
    event.ack.send(Args::default());
}

async fn echo(event: Event) {
    let first = event.args.0.first().cloned();
    event.socket.emit("echo", event.args);
    event.ack.send(Args(first.into_iter().collect()));
}

async fn join(event: Event) {
    let Some(room) = member(&event.args, "room") else {
        return;
    };
    if event.socket.join(room).is_err() {
        return; // its name is too long, or it is one too many
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
    let Some(data) = event.args.0.first() else {
        return;
    };
    let Some(text) = data.get("data") else { return };
    let members = match data.get("self") {
        Some(Value::Bool(false)) => event.socket.others().to(room),
        _ => event.socket.everybody().to(room),
    };
    members.emit("response", response(text.clone()));
    event.ack.send(Args::default());
}

async fn acknowledge(mut event: Event) {
    if let [data] = event.args.0.as_mut_slice() {
        let data = mem::replace(data, Value::Null);
        event.ack.send([Value::from("ok"), data]);
    }
}

/// Asks the client, and tells everybody its answer.
async fn ask(event: Event) {
    let Event {
        socket, args, ack, ..
    } = event;
    if args.0.len() != 1 {
        return;
    }
    ack.send(Args::default());
    let asked = socket.emit_with_ack("question", args);
    if let Ok(Args(answer)) = asked.await {
        socket.everybody().emit("answer", Value::Array(answer));
    }
}

/// The text of a member of the first argument.
fn member<'a>(args: &'a Args, name: &str) -> Option<&'a str> {
    args.0.first()?.get(name)?.as_str()
}
