//! Rust's Socket.IO client `rust_socketio` against the tutorial's application: with polling and its
//! upgrade, and with each transport alone.
//!
//! usage: cargo run --manifest-path tests/interop/rust_socketio/Cargo.toml -- URL

use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use rust_socketio::client::Client;
use rust_socketio::{ClientBuilder, Payload, TransportType};
use serde_json::json;

fn main() {
    let url = std::env::args().nth(1).expect("the server's URL");
    let transports = [
        ("any", TransportType::Any),
        ("polling", TransportType::Polling),
        ("websocket", TransportType::Websocket),
    ];
    let count = transports.len();
    for (name, transport) in transports {
        meets_the_tutorial(&url, transport);
        println!("{name} ok");
    }
    println!("{count} passed, 0 failed, 0 skipped");
}

const PATIENCE: Duration = Duration::from_secs(10);

fn meets_the_tutorial(url: &str, transport: TransportType) {
    let (sender, events) = channel();
    let client = ClientBuilder::new(url)
        .transport_type(transport)
        .on_any(move |event, payload, _| {
            let _ = sender.send((String::from(event), payload));
        })
        .connect()
        .expect("a connection");
    receives(
        &events,
        "response",
        Payload::Text(vec![json!({"data": "连接成功"})]),
    );
    client.emit("message", json!("hi 😀")).expect("to emit");
    receives(
        &events,
        "response",
        Payload::Text(vec![json!({"data": "收到: hi 😀"})]),
    );
    client.emit("echo", vec![1_u8, 2, 3]).expect("to emit");
    receives(&events, "echo", Payload::Binary(vec![1_u8, 2, 3].into()));
    for number in 0..200 {
        client.emit("echo", json!(number)).expect("to emit");
    }
    for number in 0..200 {
        receives(&events, "echo", Payload::Text(vec![json!(number)]));
    }
    // The client has all arguments of an acknowledgement as one value.
    assert_eq!(acknowledged(&client), json!([["ok", {"n": 1}]]));
    client.disconnect().expect("to leave");
}

fn receives(events: &Receiver<(String, Payload)>, event: &str, expected: Payload) {
    let (name, payload) = events.recv_timeout(PATIENCE).expect("an event");
    assert_eq!(
        (name.as_str(), format!("{payload:?}")),
        (event, format!("{expected:?}"))
    );
}

fn acknowledged(client: &Client) -> serde_json::Value {
    let (sender, answers) = channel();
    let answer = move |payload: Payload, _| {
        let _ = sender.send(payload);
    };
    client
        .emit_with_ack("ack", json!({"n": 1}), PATIENCE, answer)
        .expect("to emit");
    match answers.recv_timeout(PATIENCE).expect("an answer") {
        Payload::Text(values) => values.into(),
        payload => panic!("{payload:?}"),
    }
}
