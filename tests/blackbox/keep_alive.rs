//! Idle HTTP connections: how long they stay open, and when they are dropped first.

use std::iter::repeat_with;
use std::time::{Duration, Instant};

use frameloop::http::HttpSettings;

use crate::client::{Client, request};
use crate::handshake::{Answer, receive_answer};
use crate::handshake_streams::{PLAIN_GET, receives_page};
use crate::report::{Kind, figure};
use crate::server::TestServer;

const HEAD: Duration = Duration::from_millis(300);
const KEEP_ALIVE: Duration = Duration::from_millis(1_200);

fn server() -> TestServer {
    TestServer::with(|server| {
        server.with_http_settings(HttpSettings {
            head_timeout: HEAD,
            keep_alive_timeout: KEEP_ALIVE,
            ..HttpSettings::default()
        })
    })
}

#[test]
fn an_idle_connection_has_the_keep_alive_timeout_not_the_handshakes() {
    let server = server();
    let mut open = Client::open(&server, "/echo");
    let mut client = Client::connect(&server);
    receives_page(&mut client, PLAIN_GET);
    assert!(
        client.is_silent_for(2 * HEAD),
        "closed by the wrong deadline"
    );
    // Twice, because the wait for the first request is a different one.
    receives_page(&mut client, PLAIN_GET);
    assert!(
        client.is_silent_for(2 * HEAD),
        "closed by the wrong deadline"
    );
    receives_page(&mut client, PLAIN_GET);
    let began = Instant::now();
    client.ends();
    let took = began.elapsed();
    assert!(took >= KEEP_ALIVE.mul_f64(0.9), "{took:?}");
    // The timeout does not apply to a WebSocket.
    open.send_text("hi");
    open.receives_text("hi");
}

#[test]
fn a_later_request_that_has_begun_has_the_deadline_of_the_handshake() {
    let server = server();
    let whole = request("/echo");
    for part in [
        "G",
        "GET /healthz HTTP/1.1\r\nHost: a\r\n",
        &whole[..whole.len() - 1],
    ] {
        let wait = || {
            let mut client = Client::connect(&server);
            receives_page(&mut client, PLAIN_GET);
            client.send(part.as_bytes());
            let began = Instant::now();
            assert_eq!(receive_answer(&mut client), Ok(Answer::Silence));
            began.elapsed()
        };
        // A part that arrives before the server waits for a head has the other deadline.
        let took = repeat_with(wait).take(3).find(|took| *took < KEEP_ALIVE);
        assert!(
            took.is_some_and(|took| took >= HEAD.mul_f64(0.9)),
            "{part:?} {took:?}"
        );
    }
}

/// Attack 21: under pressure an idle connection is dropped before a silent one, even if the silent
/// one is older.
#[test]
fn attack_21_idle_connections_are_dropped_before_silent_ones() {
    const MAX: usize = 1_024;
    const IDLE: usize = 16;
    let server = TestServer::with(|server| server.with_workers(1).with_max_connections(2_048));
    let mut silent: Vec<Client> = (0..MAX - IDLE).map(|_| Client::connect(&server)).collect();
    let mut idle: Vec<Client> = (0..IDLE).map(|_| Client::connect(&server)).collect();
    for client in &mut idle {
        receives_page(client, PLAIN_GET);
    }
    let began = Instant::now();
    let mut late: Vec<Client> = (0..IDLE / 2).map(|_| Client::connect(&server)).collect();
    for client in &mut idle[..IDLE / 2] {
        client.ends();
    }
    let took = began.elapsed();
    for client in &mut idle[IDLE / 2..] {
        receives_page(client, PLAIN_GET);
    }
    for client in silent.iter_mut().chain(&mut late) {
        receives_page(client, PLAIN_GET);
    }
    figure(
        Kind::Attack,
        21,
        "1,008 silent and 16 idle connections of 1,024, then 8 new ones",
        "8 idle ones and no silent one dropped",
        format_args!("8 idle ones and no silent one dropped in {took:.1?}"),
    );
}
