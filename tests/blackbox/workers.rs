//! Connections are spread evenly over the workers, even if there are few.

use std::collections::HashMap;
use std::sync::{Mutex, mpsc};
use std::thread;

use frameloop::{Disconnect, Handler, Message, Router, WebSocket};

use crate::client::{Client, PATIENCE, close_frame};
use crate::server::TestServer;

/// Answers with the name of the thread that serves it.
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

#[test]
fn a_connection_goes_to_the_worker_with_the_fewest_connections() {
    struct Named(mpsc::Sender<()>);
    impl Handler for Named {
        fn message(&mut self, socket: &mut WebSocket<'_>, message: Message<'_>) {
            if message.is_data() {
                thread_name(socket, message);
            }
        }

        fn closed(&mut self, _: &Disconnect) {
            self.0.send(()).unwrap();
        }
    }
    let name = |client: &mut Client| {
        client.send_text("who?");
        client.receive().1
    };
    let (sender, closed) = mpsc::channel();
    let sender = Mutex::new(sender);
    let router = Router::new().websocket("/", move |_| Named(sender.lock().unwrap().clone()));
    let server = TestServer::serving(router, |server| server.with_workers(3));
    let mut clients: Vec<_> = (0..9).map(|_| Client::open(&server, "/")).collect();
    let emptied = name(&mut clients[4]);
    let mut left = 0;
    for mut client in clients.iter_mut().filter_map(|client| {
        (name(client) == emptied).then(|| Client {
            stream: client.stream.try_clone().unwrap(),
        })
    }) {
        client.send(&close_frame(1000, b""));
        client.receives(b"\x88\x02\x03\xE8");
        client.ends();
        closed.recv_timeout(PATIENCE).unwrap();
        left += 1;
    }
    assert_eq!(left, 3);
    for _ in 0..left {
        let mut client = Client::open(&server, "/");
        assert_eq!(name(&mut client), emptied);
        clients.push(client);
    }
}
