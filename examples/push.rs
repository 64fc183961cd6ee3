//! Messages from another task: `cargo run --example push`, then connect to
//! ws://127.0.0.1:8000/ticks, which sends a number ten times a second.

use std::time::Duration;

use frameloop::{Handler, Message, Peer, Router, Server, WebSocket};
use tokio::task::JoinHandle;

/// One client, and the task that sends to it.
#[derive(Default)]
struct Ticks {
    task: Option<JoinHandle<()>>,
}

impl Handler for Ticks {
    fn open(&mut self, socket: &mut WebSocket<'_>) {
        self.task = Some(tokio::spawn(tick(socket.peer())));
    }

    fn message(&mut self, _: &mut WebSocket<'_>, _: Message<'_>) {}
}

impl Drop for Ticks {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

/// A `Peer` is a handle to a connection, usable from any thread. Sending to a closed connection
/// does nothing.
async fn tick(peer: Peer) {
    for number in 1_u64.. {
        peer.send(Message::Text(&number.to_string()));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> std::io::Result<()> {
    let address = std::env::args().nth(1).unwrap_or("127.0.0.1:8000".into());
    let server = Server::bind(&address).await?;
    for address in server.local_addresses()? {
        println!("listening on ws://{address}/ticks");
    }
    server
        .serve(Router::new().websocket("/ticks", |_| Ticks::default()))
        .await
}
