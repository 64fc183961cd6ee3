//! The server that the public test suites of engine.io-protocol and socket.io-protocol talk to; it
//! is also how frameloop serves Socket.IO, or a protocol of one's own on Engine.IO, in a program.
//!
//! usage: cargo run --example socketio_suite -- eio|sio [HOST:PORT]

use std::env;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use engineioxide::config::EngineIoConfig;
use engineioxide::handler::EngineIoHandler;
use engineioxide::service::{EngineIoService, NotFoundService};
use engineioxide::{DisconnectReason, Socket, Str};
use frameloop::http::{Answering, Mount};
use frameloop::socketio::{self, AckSender, Args, Engine, Settings, SocketRef, Transport, TryData};
use frameloop::{Router, Server};
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::service::Service;

#[tokio::main(flavor = "current_thread")]
async fn main() -> io::Result<()> {
    let mut arguments = env::args().skip(1);
    let router = match arguments.next().as_deref() {
        Some("eio") => Router::new().mount("/engine.io/", engine_io()),
        Some("sio") => Router::new().mount("/socket.io/", socket_io()),
        _ => return Err(io::Error::other("say eio or sio")),
    };
    let address = arguments.next().unwrap_or("127.0.0.1:3000".into());
    // The suites ask by one connection what they have just said by another.
    let server = Server::bind(&address).await?.with_workers(1);
    println!("http://{}", server.local_addresses()?[0]);
    server.serve(router).await
}

fn settings() -> Settings {
    Settings {
        ping_interval: Duration::from_millis(300),
        ping_timeout: Duration::from_millis(200),
        max_payload: 1_000_000,
        ..Settings::default()
    }
}

/// Socket.IO: `/` and `/custom` tell who joins them what it showed, and send messages back.
fn socket_io() -> Arc<dyn Mount> {
    let (service, io) = socketio::service(settings());
    for namespace in ["/", "/custom"] {
        io.ns(namespace, joined);
    }
    service
}

async fn joined(socket: SocketRef, TryData(auth): TryData<serde_json::Value>) {
    let _ = socket.emit("auth", &auth.unwrap_or_default());
    socket.on("message", async |socket: SocketRef, args: Args| {
        let _ = socket.emit("message-back", &args);
    });
    socket.on("message-with-ack", async |args: Args, ack: AckSender| {
        let _ = ack.send(&args);
    });
}

/// Engine.IO: every message back as it came.
fn engine_io() -> Arc<dyn Mount> {
    let Settings {
        ping_interval,
        ping_timeout,
        max_payload,
        ..
    } = settings();
    let config = EngineIoConfig::builder()
        .ping_interval(ping_interval)
        .ping_timeout(ping_timeout)
        .max_payload(max_payload as u64)
        .ws_max_message_size(max_payload)
        .ws_max_frame_size(max_payload)
        .build();
    let engine = Echo(EngineIoService::with_config(Arc::new(EchoHandler), config));
    Arc::new(socketio::Service::new(engine, settings()))
}

struct Echo(EngineIoService<EchoHandler, NotFoundService>);

impl Engine for Echo {
    fn ask(&self, request: Request<Full<Bytes>>) -> Answering<Response<Full<Bytes>>> {
        let answer = Service::<Request<Full<Bytes>>>::call(&self.0, request);
        Box::pin(async move {
            let Ok((head, body)) = answer.await.map(Response::into_parts);
            let Ok(collected) = body.collect().await;
            Response::from_parts(head, Full::new(collected.to_bytes()))
        })
    }

    fn adopt(&self, stream: Transport, request: Request<()>) {
        drop(Service::<(Transport, _)>::call(&self.0, (stream, request)));
    }

    fn close(&self) -> Answering<()> {
        Box::pin(async {})
    }
}

#[derive(Debug)]
struct EchoHandler;

impl EngineIoHandler for EchoHandler {
    type Data = ();

    fn on_connect(self: Arc<Self>, _: Arc<Socket<()>>) {}

    fn on_disconnect(&self, _: Arc<Socket<()>>, _: DisconnectReason) {}

    fn on_message(self: &Arc<Self>, message: Str, socket: Arc<Socket<()>>) {
        let _ = socket.emit(message);
    }

    fn on_binary(self: &Arc<Self>, message: Bytes, socket: Arc<Socket<()>>) {
        let _ = socket.emit_binary(message);
    }
}
