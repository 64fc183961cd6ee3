//! Row 16: a handler of an application panics.

use std::net::SocketAddr;

use frameloop::{Message, WebSocket, app};

use crate::client;
use crate::load::Load;
use crate::server::TestServer;
use crate::{tell, times};

fn panics(_: &mut WebSocket<'_>, message: Message<'_>) {
    if message.is_data() {
        panic!("requested by the test");
    }
}

#[test]
fn row_16_a_panic_in_a_handler_closes_only_its_connection() {
    let router = app::router().websocket("/panics", |_| panics);
    let server = TestServer::plainly_serving(router, |server| server);
    let address = server.address;
    let load = Load::start(address);
    let panicked = times(10_000, 100);
    for _ in 0..panicked {
        assert_eq!(code_after_panic(address), 1011);
    }
    let tally = load.finish_clean();
    tell(
        16,
        "a handler panics (embedded)",
        format_args!("{panicked} panics, each 1011 for its own client; others: {tally}"),
    );
    server.shutdown.cut();
    server.stopped().unwrap();
}

fn code_after_panic(address: SocketAddr) -> u16 {
    let mut socket = client::open(address, "/panics").unwrap();
    socket.send("now".into()).unwrap();
    match socket.read().unwrap() {
        tungstenite::Message::Close(Some(frame)) => frame.code.into(),
        other => panic!("{other:?}"),
    }
}
