//! The examples work as their comments say. `cargo test` builds them first; to run this test alone,
//! build them with `cargo build --all-features --examples`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

#[path = "support/mod.rs"]
mod support;

use std::net::TcpStream;
use std::process::Command;

use client::open;
use process::ServerProcess;
use support::*;
use tungstenite::{Message, WebSocket};

fn start(name: &str) -> ServerProcess {
    let tests = std::env::current_exe().unwrap();
    let built = tests.parent().unwrap().parent().unwrap().join("examples");
    let program = built.join(name);
    assert!(program.exists(), "{name} is not built");
    ServerProcess::spawn(Command::new(program).arg("127.0.0.1:0"))
}

fn open_at(example: &ServerProcess) -> WebSocket<TcpStream> {
    let (_, path) = example
        .url
        .rsplit_once(&example.address.to_string())
        .unwrap();
    open(example.address, path).unwrap()
}

#[test]
fn echo_sends_messages_back() {
    let example = start("echo");
    let mut client = open_at(&example);
    for message in [Message::text("é"), Message::binary(vec![0, 255])] {
        client.send(message.clone()).unwrap();
        assert_eq!(client.read().unwrap(), message);
    }
}

#[test]
fn chat_sends_text_to_the_whole_room() {
    let example = start("chat");
    let (mut first, mut second) = (open_at(&example), open_at(&example));
    first.send(Message::text("hello")).unwrap();
    for client in [&mut first, &mut second] {
        assert_eq!(client.read().unwrap(), Message::text("hello"));
    }
    first.send(Message::binary(vec![0])).unwrap();
    let Message::Close(Some(frame)) = first.read().unwrap() else {
        panic!("expected a Close");
    };
    assert_eq!(u16::from(frame.code), 1003);
}

#[test]
fn push_sends_from_another_task() {
    let example = start("push");
    let mut client = open_at(&example);
    for number in ["1", "2", "3"] {
        assert_eq!(client.read().unwrap(), Message::text(number));
    }
}
