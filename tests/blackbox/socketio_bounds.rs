//! Limits on the work and memory that a Socket.IO client can demand.

use std::sync::Arc;
use std::time::{Duration, Instant};

use frameloop::Router;
use frameloop::socketio::{self, Args, Event, SocketIoSettings};

use crate::client::Client;
use crate::report::{Kind, figure};
use crate::server::TestServer;
use crate::socketio::{
    POLLING, Session, WEBSOCKET, get, is_closed, joined_websocket, quick, receive_packet, response,
    upgrade, upgrade_request,
};

fn serving(settings: SocketIoSettings) -> TestServer {
    let (service, io) = socketio::service(settings);
    io.namespace("/").on("echo", async |event: Event| {
        event.socket.emit("echo", event.args);
        event.ack.send(Args::default());
    });
    TestServer::serving(Router::new().mount("/socket.io/", service), |server| server)
}

/// Attack 60. The server does not read a POST whose answers would exceed the queue.
#[test]
fn a_post_waits_while_the_queue_of_its_session_is_full() {
    let server = serving(SocketIoSettings {
        max_queue_size: 100_000,
        ..SocketIoSettings::default()
    });
    let session = Session::joined_silently(&server);
    let event = format!(r#"42["echo","{}"]"#, "x".repeat(60_000));
    session.post(&event).is(200, "ok");
    session.post(&event).is(200, "ok");
    let mut third = session.posting(event.as_bytes());
    assert!(
        third.is_silent_for(Duration::from_millis(100)),
        "the POST is read"
    );
    session.receives(&[&event, &event]);
    response(&mut third).is(200, "ok");
    session.receives(&[&event]);
    figure(
        Kind::Attack,
        60,
        "POSTs that echo 60 kB to a session that does not poll, max_queue_size 100 kB: read",
        "2, the third after a poll",
        "2, the third after a poll",
    );
}

/// Attack 60. A broadcast to a session with a full queue ends the session.
#[test]
fn a_session_that_does_not_poll_ends_before_it_misses_a_broadcast() {
    let server = TestServer::with(|server| server);
    let (idle, talker) = (Session::joined(&server), Session::joined(&server));
    let event = format!(r#"42["message","{}"]"#, "x".repeat(400_000));
    for _ in 0..5 {
        talker.post(&event).is(200, "ok");
        talker.take(1);
    }
    let began = Instant::now();
    while get(&server, &idle.query).status == 200 {
        assert!(began.elapsed() < crate::client::PATIENCE);
    }
    talker.post("429[\"ack\",1]");
}

/// Attacks 58 and 60. Packets queued for polling sessions count towards the budget of unsent data.
#[test]
fn packets_queued_for_polling_sessions_count_towards_the_unsent_budget() {
    const SIZE: usize = 900_000;
    let (service, io) = socketio::service(SocketIoSettings::default());
    io.namespace("/")
        .on("echo", async |event: Event| {
            event.socket.emit("echo", event.args)
        })
        .on("all", async |event: Event| {
            event.socket.others().emit("all", event.args);
        });
    let router = Router::new().mount("/socket.io/", Arc::clone(&service) as Arc<_>);
    let server = TestServer::serving(router, |server| {
        server.with_settings(frameloop::Settings {
            max_unsent_size: 4 * SIZE,
            ..frameloop::Settings::default()
        })
    });
    let reader = Session::joined_silently(&server);
    let idle: Vec<_> = (0..8).map(|_| Session::joined_silently(&server)).collect();
    // A broadcast that is queued for many sessions counts once.
    let event = |name: &str, size| format!(r#"42["{name}","{}"]"#, "x".repeat(size));
    for _ in 0..2 {
        reader.post(&event("all", SIZE / 2)).is(200, "ok");
    }
    let all = event("all", SIZE / 2);
    for session in &idle {
        session.receives(&[&all, &all]);
    }
    // Replies to single sessions count separately.
    for session in &idle {
        session.post(&event("echo", SIZE));
        reader.post(&event("echo", 10)).is(200, "ok");
        reader.receives(&[&event("echo", 10)]);
    }
    let began = Instant::now();
    while service.sessions() > 1 + 4 {
        let left = service.sessions();
        assert!(began.elapsed() < crate::client::PATIENCE, "{left}");
        std::thread::sleep(Duration::from_millis(10));
    }
    let living = service.sessions() - 1;
    reader.post(&event("echo", 10)).is(200, "ok");
    reader.receives(&[&event("echo", 10)]);
    figure(
        Kind::Attack,
        60,
        "8 sessions that do not poll are owed 0.9 MB each, --max-unsent-size 3.6 MB: they live on; one that polls",
        "4 at most; lives on",
        format_args!("{living}; lives on"),
    );
    assert!((1..=4).contains(&living), "{living}");
}

/// Attack 61.
#[test]
fn at_most_16_handlers_of_a_session_run_at_once() {
    let server = TestServer::with(|server| server);
    let mut client = joined_websocket(&server);
    for number in 0..20 {
        client.send_text(&format!(r#"42["ask",{number}]"#));
    }
    let question = |number: usize| format!(r#"42{number}["question",{number}]"#);
    for number in 0..16 {
        assert_eq!(receive_packet(&mut client), question(number));
    }
    assert!(client.is_silent_for(Duration::from_millis(100)));
    // No acknowledgement arrives, so a waiting handler ends by its deadline.
    let next = receive_packet(&mut client);
    assert_eq!(next, question(16));
    figure(
        Kind::Attack,
        61,
        "20 events whose handlers wait: handlers that run at once",
        "16",
        "16",
    );
}

/// Attack 61.
#[test]
fn an_event_with_too_many_values_ends_the_session() {
    let server = TestServer::shared();
    for (values, is_over) in [(9_000, false), (11_000, true)] {
        let mut client = joined_websocket(server);
        let event = format!(r#"421["ack",[{}[]]]"#, "[],".repeat(values - 1));
        client.send_text(&event);
        match is_over {
            false => assert!(receive_packet(&mut client).starts_with("431[")),
            true => is_closed(client),
        }
    }
}

/// Attack 64.
#[test]
fn a_request_after_a_refused_upgrade_is_not_served() {
    let server = TestServer::shared();
    let mut client = Client::connect(server);
    let refused = upgrade_request(&format!("{WEBSOCKET}&sid=x"));
    let behind = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";
    client.send([&*refused, behind].concat().as_bytes());
    let answer = response(&mut client);
    assert_eq!(answer.status, 400);
    assert_eq!(answer.body, r#"{"code":1,"message":"Session ID unknown"}"#);
}

/// Attack 67.
#[test]
fn sessions_without_a_namespace_are_limited_per_address_and_in_time() {
    let server = serving(SocketIoSettings {
        max_sessions: 32,
        ..SocketIoSettings::default()
    });
    let first = Session::open(&server);
    let _second = Session::open(&server);
    assert_eq!(get(&server, POLLING).status, 503);
    let mut third = Client::connect(&server);
    third.send(upgrade_request(WEBSOCKET).as_bytes());
    assert!(third.receive_head().starts_with("HTTP/1.1 503 "));
    first.post("40").is(200, "ok");
    let _third = Session::open(&server);
    first.post("41").is(200, "ok"); // otherwise a third newcomer
    first.is_gone();

    let server = serving(quick());
    let mut client = upgrade(&server, WEBSOCKET);
    assert!(receive_packet(&mut client).starts_with('0'));
    is_closed(client);
    figure(
        Kind::Attack,
        67,
        "sessions of one address that have joined no namespace, max_sessions 32: at most; end after connect_timeout",
        "2; yes",
        "2; yes",
    );
}

/// Attack 67.
#[test]
fn joined_sessions_count_against_their_address() {
    let server = TestServer::with(|server| server.with_max_connections_per_address(Some(3)));
    let _client = joined_websocket(&server);
    // The requests of a session do not count.
    let _sessions = [Session::joined(&server), Session::joined(&server)];
    let another = Session::open(&server);
    another.post("40").is(200, "ok");
    another.receives(&[r#"44{"message":"Too many connections"}"#]);
}

/// Attack 72.
#[test]
fn the_packets_of_a_post_are_limited_by_the_rate() {
    let server = serving(SocketIoSettings {
        max_publish_rate: Some(20),
        ..SocketIoSettings::default()
    });
    let session = Session::joined_silently(&server);
    let began = Instant::now();
    session.post(&["3"; 40].join("\x1e")).is(200, "ok");
    let seconds = began.elapsed().as_secs_f64();
    figure(
        Kind::Attack,
        72,
        "40 packets in a POST, rate 20 a second: time",
        ">= 0.9 s",
        format_args!("{seconds:.1} s"),
    );
    assert!(seconds >= 0.9, "{seconds}");

    let server = serving(SocketIoSettings {
        max_message_rate: Some(20),
        ..SocketIoSettings::default()
    });
    let session = Session::joined_silently(&server);
    assert_eq!(session.post(&["3"; 40].join("\x1e")).status, 429);
    session.is_gone();
}
