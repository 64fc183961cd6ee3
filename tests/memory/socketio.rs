//! The memory of an idle Socket.IO session.

use std::sync::Arc;

use frameloop::Router;
use frameloop::socketio::{self, SocketIoSettings};

use super::{Client, TestServer, alone, figure, joined_by_polling, least_heap};
use crate::report::Kind;

const SESSIONS: usize = 1_000;

/// A server whose sessions are idle for an hour, and `SESSIONS` sessions.
fn grown<T>(open: impl Fn(&TestServer) -> T) -> usize {
    let hour = std::time::Duration::from_secs(3_600);
    let (service, io) = socketio::service(SocketIoSettings {
        ping_interval: hour,
        ..SocketIoSettings::default()
    });
    io.namespace("/");
    let router = Router::new()
        .websocket("/echo", |_| {
            |socket: &mut frameloop::WebSocket<'_>, message: frameloop::Message<'_>| {
                socket.send(message);
            }
        })
        .mount("/socket.io/", Arc::clone(&service) as Arc<_>);
    let server = TestServer::serving(router, |server| server.with_workers(1));
    // The first session allocates what stays for all.
    let _first = open(&server);
    let before = least_heap(&server);
    let sessions: Vec<T> = (0..SESSIONS).map(|_| open(&server)).collect();
    let after = least_heap(&server);
    assert_eq!(service.sessions(), 1 + SESSIONS);
    let own = SESSIONS * size_of::<T>();
    drop(sessions);
    after.saturating_sub(before + own) / SESSIONS
}

#[test]
fn an_idle_session_is_small() {
    let _alone = alone();
    let by_websocket = grown(|server| {
        let mut client = Client::open(server, "/socket.io/?EIO=4&transport=websocket");
        client.send_text("40");
        while !client.receive().1.starts_with(b"40") {}
        client
    });
    let by_polling = grown(|server| {
        joined_by_polling(server);
    });
    figure(
        Kind::Soak,
        1,
        "1,000 idle Socket.IO sessions in one namespace: heap of each, by WebSocket; by polling",
        "<= 1.5 KiB; <= 3 KiB",
        format_args!("{by_websocket} B; {by_polling} B"),
    );
    assert!(by_websocket <= 1_536, "{by_websocket} bytes");
    assert!(by_polling <= 3_072, "{by_polling} bytes");
}
