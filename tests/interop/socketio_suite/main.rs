//! The server that the public test suites of engine.io-protocol and socket.io-protocol talk to; it
//! is also how frameloop serves Socket.IO, or a protocol of one's own on Engine.IO, in a program.
//!
//! usage: cargo run --example socketio_suite -- eio|sio [HOST:PORT]

use std::env;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use frameloop::http::NestedService;
use frameloop::socketio::{self, Event, Socket, SocketIoSettings, Value};
use frameloop::{Router, Server};

#[tokio::main(flavor = "current_thread")]
async fn main() -> io::Result<()> {
    let mut arguments = env::args().skip(1);
    let router = match arguments.next().as_deref() {
        Some("eio") => Router::new().mount("/engine.io/", engine_io()),
        Some("sio") => Router::new().mount("/socket.io/", socket_io()),
        _ => return Err(io::Error::other("the first argument must be eio or sio")),
    };
    let address = arguments.next().unwrap_or("127.0.0.1:3000".into());
    let server = Server::bind(&address).await?;
    println!("http://{}", server.local_addresses()?[0]);
    server.serve(router).await
}

fn settings() -> SocketIoSettings {
    SocketIoSettings {
        ping_interval: Duration::from_millis(300),
        ping_timeout: Duration::from_millis(200),
        max_payload: 1_000_000,
        connect_timeout: Duration::from_millis(1_000),
        ..SocketIoSettings::default()
    }
}

/// Socket.IO: `/` and `/custom` send each client its auth data, and echo messages.
fn socket_io() -> Arc<dyn NestedService> {
    let (service, io) = socketio::service(settings());
    for path in ["/", "/custom"] {
        io.namespace(path)
            .on_connect(async |socket: Socket, auth| {
                let auth = match auth {
                    Value::Null => Value::Object(Default::default()),
                    auth => auth,
                };
                socket.emit("auth", auth);
            })
            .on("message", async |event: Event| {
                event.socket.emit("message-back", event.args);
            })
            .on("message-with-ack", async |event: Event| {
                event.ack.send(event.args);
            });
    }
    service
}

/// Engine.IO: echoes every message unchanged.
fn engine_io() -> Arc<dyn NestedService> {
    socketio::engine_io(settings(), |session, message| session.send(message))
}
