//! Connections are spread evenly over the workers, even if there are few. A worker reads frames before
//! requests.

use std::collections::HashMap;
use std::io::Write;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex, mpsc};
use std::thread;
use std::time::Instant;

use frameloop::http::Page;
use frameloop::rooms::Membership;
use frameloop::{Disconnect, Handler, Message, Rooms, Router, WebSocket};

use crate::client::{Client, PATIENCE, close_frame, frame};
use crate::report::{Kind, figure};
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

/// Attack 71: a room has a member on a worker that is blocked, so the messages to the room wait in
/// that worker's mailbox.
#[test]
fn attack_71_a_full_mailbox_holds_its_publisher_and_no_other_client() {
    /// They exceed the bound above which no worker reads.
    const MESSAGES: usize = 1_200;
    const SIZE: usize = 60_000;
    struct Member {
        rooms: Rooms,
        membership: Option<Membership>,
        blocked: mpsc::Sender<()>,
        released: Arc<Mutex<mpsc::Receiver<()>>>,
    }
    impl Handler for Member {
        fn open(&mut self, socket: &mut WebSocket<'_>) {
            self.membership = self.rooms.join("room", &socket.peer()).ok();
        }

        fn message(&mut self, _: &mut WebSocket<'_>, message: Message<'_>) {
            if let Message::Text("block") = message {
                self.blocked.send(()).unwrap();
                let released = self.released.lock().unwrap();
                let _ = released.recv_timeout(PATIENCE);
            }
        }
    }
    let ((blocked, is_blocked), (release, released)) = (mpsc::channel(), mpsc::channel());
    let (blocked, released) = (Mutex::new(blocked), Arc::new(Mutex::new(released)));
    let (rooms, handled) = (Rooms::default(), Arc::new(AtomicUsize::new(0)));
    let (members, counted) = (rooms.clone(), Arc::clone(&handled));
    let router = Router::new()
        .websocket("/member", move |_| Member {
            rooms: members.clone(),
            membership: None,
            blocked: blocked.lock().unwrap().clone(),
            released: Arc::clone(&released),
        })
        .websocket("/", move |_| {
            let (rooms, counted) = (rooms.clone(), Arc::clone(&counted));
            move |socket: &mut WebSocket<'_>, message: Message<'_>| match message {
                Message::Binary(_) => {
                    counted.fetch_add(1, Ordering::Relaxed);
                    rooms.publish("room", message);
                }
                message => thread_name(socket, message),
            }
        });
    let server = TestServer::serving(router, |server| server.with_workers(2));
    let mut member = Client::open(&server, "/member");
    let named = || {
        let mut client = Client::open(&server, "/");
        client.send_text("who?");
        (client.receive(), client)
    };
    let (worker, publisher) = named();
    let mut others = [named(), named()].into_iter();
    let (_, mut other) = others.find(|(name, _)| *name == worker).unwrap();

    member.send_text("block");
    is_blocked.recv_timeout(PATIENCE).unwrap();
    let mut writer = publisher.stream.try_clone().unwrap();
    let (next, due) = mpsc::channel::<()>();
    let flood = thread::spawn(move || {
        let message = frame(0x82, &[7; SIZE]);
        due.iter().try_for_each(|()| writer.write_all(&message))
    });
    let mut count = 0;
    // Each message is handled alone, until the publisher is held.
    for _ in 0..MESSAGES {
        next.send(()).unwrap();
        let before = count;
        for _ in 0..500 {
            other.send_text("who?");
            assert_eq!(other.receive(), worker, "after {count} messages");
            count = handled.load(Ordering::Relaxed);
            if count > before {
                break;
            }
        }
        if count == before {
            break;
        }
    }
    figure(
        Kind::Attack,
        71,
        "72 MB published to a blocked worker: messages read from the publisher, while another client is served",
        "< 64",
        count,
    );
    assert!(count < 64, "{count}");
    (count..MESSAGES - 1).for_each(|_| next.send(()).unwrap());
    drop((member, next));
    release.send(()).unwrap();
    flood.join().unwrap().unwrap();
    let began = Instant::now();
    while handled.load(Ordering::Relaxed) < MESSAGES {
        assert!(began.elapsed() < PATIENCE, "the publisher is held for ever");
        thread::yield_now();
    }
}

/// A frame is read before requests that have come before it.
#[test]
fn attack_73_a_frame_does_not_wait_behind_requests() {
    const REQUESTS: usize = 200;
    const GET: &[u8] = b"GET /count HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let answered = Arc::new(AtomicUsize::new(0));
    let gate = Arc::new(Barrier::new(2));
    let (count, number, stop) = (answered.clone(), answered.clone(), gate.clone());
    let router = Router::new()
        .page("/count", move |_| {
            count.fetch_add(1, Ordering::SeqCst);
            Page::text("")
        })
        .page("/stop", move |_| {
            stop.wait();
            stop.wait();
            Page::text("")
        })
        .websocket("/number", move |_| {
            let number = number.clone();
            move |socket: &mut WebSocket<'_>, _: Message<'_>| {
                let number = number.load(Ordering::SeqCst).to_string();
                socket.send(Message::Text(&number));
            }
        });
    let server = TestServer::plainly_serving(router, |server| server.with_workers(1));
    let mut innocent = Client::open(&server, "/number");
    let mut others: Vec<_> = (0..REQUESTS).map(|_| Client::connect(&server)).collect();
    for other in &mut others {
        other.send(GET);
        assert!(other.receive_head().starts_with("HTTP/1.1 200 "));
    }
    answered.store(0, Ordering::SeqCst);
    Client::connect(&server).send(b"GET /stop HTTP/1.1\r\nHost: localhost\r\n\r\n");
    gate.wait();
    // The worker stands still.
    for other in &mut others {
        other.send(GET);
    }
    innocent.send_text("how many?");
    gate.wait();
    let (_, number) = innocent.receive();
    let number: usize = String::from_utf8(number).unwrap().parse().unwrap();
    figure(
        Kind::Attack,
        73,
        "200 requests and then a frame come while the worker stands still: requests answered before the frame",
        "<= 8",
        number,
    );
    assert!(number <= 8, "{number}");
}
