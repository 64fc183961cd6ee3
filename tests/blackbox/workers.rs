//! Connections are spread over the workers, few as they may be.

use std::collections::HashMap;
use std::thread;

use frameloop::{Message, Router, WebSocket};

use crate::client::Client;
use crate::server::TestServer;

/// Answers with the name of the thread that serves.
fn thread_name(socket: &mut WebSocket<'_>, _: Message<'_>) {
    socket.send(Message::Text(thread::current().name().unwrap_or_default()));
}

#[test]
fn with_twice_as_many_connections_as_workers_every_worker_serves_two() {
    const WORKERS: usize = 3;
    let router = Router::new().websocket("/", |_| thread_name);
    let server = TestServer::serving(router, |server| server.with_workers(WORKERS));
    let mut clients: Vec<Client> = (0..2 * WORKERS)
        .map(|_| Client::open(&server, "/"))
        .collect();
    let mut served = HashMap::new();
    for client in &mut clients {
        client.send_text("who?");
        let (_, name) = client.receive();
        *served.entry(name).or_insert(0) += 1;
    }
    assert_eq!(served.len(), WORKERS, "{served:?}");
    assert!(
        served.values().all(|connections| *connections == 2),
        "{served:?}"
    );
}

#[test]
fn a_connection_stays_with_its_worker() {
    let router = Router::new().websocket("/", |_| thread_name);
    let server = TestServer::serving(router, |server| server);
    let mut client = Client::open(&server, "/");
    client.send_text("who?");
    let first = client.receive();
    for _ in 0..100 {
        client.send_text("who?");
        assert_eq!(client.receive(), first);
    }
}
