//! The memory that requests and responses of HTTP take.

use std::sync::Arc;

use frameloop::http::{BoxFuture, NestedService, Page, ServiceResponse};
use http::Request;
use hyper::body::Incoming;
use rustix::net::sockopt;

use super::*;

const MIB: usize = 1 << 20;

/// Endpoints for `settle`, and `router`'s own.
fn serving(router: Router, settings: Settings) -> TestServer {
    let router = router.websocket("/echo", |_| {
        |socket: &mut WebSocket<'_>, message: Message<'_>| socket.send(message)
    });
    TestServer::serving(router, |server| {
        server.with_workers(2).with_settings(settings)
    })
}

/// A client whose kernel takes little of a response.
fn connect(server: &TestServer, request: &str) -> Client {
    let mut client = Client::connect(server);
    sockopt::set_socket_recv_buffer_size(&client.stream, 4 << 10).unwrap();
    client.send(request.as_bytes());
    client
}

/// Attack 58: pages that clients ask for and do not read.
#[test]
fn attack_58_responses_of_all_clients_share_a_budget() {
    const CLIENTS: usize = 32;
    const PAGE: usize = 8 * MIB;
    const BUDGET: usize = 32 * MIB;
    const GET: &str = "GET /large HTTP/1.1\r\nHost: a\r\n\r\n";
    let _alone = alone();
    let router = Router::new().page("/large", |_| Page::text(vec![7; PAGE]));
    let settings = Settings {
        max_unsent_size: BUDGET,
        ..Settings::default()
    };
    let server = serving(router, settings);
    settle(&server);
    let before = heap();
    let mut clients: Vec<Client> = (0..CLIENTS)
        .map(|_| {
            let client = connect(&server, GET);
            settle(&server);
            client
        })
        .collect();
    let held = heap().saturating_sub(before);
    let refused = clients
        .iter_mut()
        .filter_map(|client| {
            let head = client.receive_head();
            head.starts_with("HTTP/1.1 503 ").then_some(())
        })
        .count();
    figure(
        Kind::Attack,
        58,
        "32 clients that ask for a page of 8 MiB and do not read, --max-unsent-size 32MiB: heap; \
         refused",
        "<= 41 MiB; 503 for as many as necessary",
        format_args!("{} MiB; {refused}", held / MIB),
    );
    assert!(held <= BUDGET + PAGE + MIB, "{held} bytes");
    assert!(refused >= CLIENTS - (BUDGET / PAGE + 1), "{refused}");
    drop(clients);
    // The budget is free again as soon as the connections have ended.
    let began = Instant::now();
    while !connect(&server, GET)
        .receive_head()
        .starts_with("HTTP/1.1 200 ")
    {
        assert!(began.elapsed() < PATIENCE, "the budget is still spent");
    }
}

/// A page whose bytes are shared is not copied for the clients that do not read it.
#[test]
fn a_page_that_many_clients_do_not_read_is_stored_once() {
    const CLIENTS: usize = 20;
    const PAGE: usize = 8 * MIB;
    let _alone = alone();
    let page = Page::text(vec![7; PAGE]);
    let router = Router::new().page("/large", move |_| page.clone());
    let server = serving(router, Settings::default());
    settle(&server);
    let before = heap();
    let clients: Vec<Client> = (0..CLIENTS)
        .map(|_| connect(&server, "GET /large HTTP/1.1\r\nHost: a\r\n\r\n"))
        .collect();
    settle(&server);
    let held = heap().saturating_sub(before);
    assert!(held <= CLIENTS * (64 << 10), "{held} bytes");
    drop(clients);
}

/// A service that never reads its requests' bodies.
#[derive(Debug)]
struct Unread;

impl NestedService for Unread {
    fn respond(self: Arc<Self>, request: Request<Incoming>) -> BoxFuture<ServiceResponse> {
        Box::pin(async move {
            let _request = request;
            std::future::pending().await
        })
    }
}

/// What hyper holds of a request is bounded: the head, and what was read of the body with it.
#[test]
fn a_body_that_is_not_read_stays_with_the_client() {
    const CLIENTS: usize = 100;
    const BOUND: usize = 64 << 10;
    let _alone = alone();
    let router = Router::new().mount("/unread", Arc::new(Unread));
    let server = serving(router, Settings::default());
    settle(&server);
    let head = "POST /unread HTTP/1.1\r\nHost: a\r\nContent-Length: 100000000\r\n";
    let field = format!("X: {}\r\n", "y".repeat(150));
    let request = format!("{head}{}\r\n", field.repeat(95)).into_bytes();
    let body = vec![7; MIB];
    let before = heap();
    let clients: Vec<Client> = (0..CLIENTS)
        .map(|_| {
            let mut client = Client::connect(&server);
            client.send(&request);
            client.stream.set_nonblocking(true).unwrap();
            while (&client.stream).write(&body).is_ok() {}
            client
        })
        .collect();
    settle(&server);
    let held = heap().saturating_sub(before) / CLIENTS;
    figure(
        Kind::Attack,
        22,
        "a request with a head of 15 KB and a body that no service reads: heap of each client",
        "<= 64 KiB",
        format_args!("{} KiB", held >> 10),
    );
    assert!(held <= BOUND, "{held} bytes");
    drop(clients);
}
