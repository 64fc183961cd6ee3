//! A chat with Socket.IO: rooms, acknowledgements, and a question to a client.
//!
//! `cargo run --example socketio`, and in a page or in Node.js:
//!
//! ```js
//! const socket = io("http://127.0.0.1:8000", { auth: { name: "ada" } });
//! socket.on("said", (name, text) => console.log(name, text));
//! await socket.emitWithAck("join", "lobby"); // true
//! socket.emit("say", "lobby", "hello");
//! ```

use frameloop::socketio::{self, DisconnectReason, Event, Socket, SocketIoSettings, Value};
use frameloop::{Router, Server};

#[tokio::main(flavor = "current_thread")]
async fn main() -> std::io::Result<()> {
    let (service, io) = socketio::service(SocketIoSettings::default());
    io.namespace("/")
        .admitting(async |auth| match auth.get("name") {
            Some(Value::String(_)) => Ok(()),
            _ => Err("who are you?".into()),
        })
        .on_connect(async |socket: Socket, auth| {
            socket.others().emit("came", auth);
        })
        .on("join", async |event: Event| {
            let room = event.args.values.first().and_then(Value::as_str);
            let joined = room.is_some_and(|room| event.socket.join(room).is_ok());
            event.ack.send(joined);
        })
        .on("say", async |event: Event| {
            if let [Value::String(room), text] = event.args.values.as_slice() {
                let id = event.socket.id().to_string();
                let said = [Value::from(id), text.clone()];
                event.socket.everybody().to(room).emit("said", said);
            }
        })
        .on("ask", async |event: Event| {
            // Other clients are served while this handler waits.
            if let Ok(answer) = event.socket.emit_with_ack("question", event.args).await {
                event.ack.send(answer);
            }
        })
        .on_disconnect(async |socket: Socket, why: DisconnectReason| {
            println!("{} has left: {why:?}", socket.id());
            socket.others().emit("left", socket.id().to_string());
        });
    let app = Router::new().mount("/socket.io/", service);
    Server::bind("127.0.0.1:8000").await?.serve(app).await
}
