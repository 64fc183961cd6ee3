//! The examples work as their comments say. `cargo test` builds them first; to run this test alone,
//! build them with `cargo build --all-features --examples`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

#[path = "support/mod.rs"]
mod support;

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use client::open;
use support::*;
use tungstenite::Message;

/// A running example, killed when dropped.
struct Example {
    process: Child,
    address: SocketAddr,
    path: String,
}

impl Example {
    fn start(name: &str) -> Example {
        let tests = std::env::current_exe().unwrap();
        let built = tests.parent().unwrap().parent().unwrap().join("examples");
        let mut process = Command::new(built.join(name))
            .arg("127.0.0.1:0")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{name} is not built: {error}"));
        let mut line = String::new();
        let mut output = BufReader::new(process.stdout.take().unwrap());
        output.read_line(&mut line).unwrap();
        let url = line.trim().strip_prefix("listening on ws://").unwrap();
        let (address, path) = url.split_once('/').unwrap();
        Example {
            process,
            address: address.parse().unwrap(),
            path: format!("/{path}"),
        }
    }

    fn client(&self) -> tungstenite::WebSocket<std::net::TcpStream> {
        open(self.address, &self.path).unwrap()
    }
}

impl Drop for Example {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn echo_sends_messages_back() {
    let example = Example::start("echo");
    let mut client = example.client();
    for message in [Message::text("é"), Message::binary(vec![0, 255])] {
        client.send(message.clone()).unwrap();
        assert_eq!(client.read().unwrap(), message);
    }
}

#[test]
fn chat_sends_text_to_the_whole_room() {
    let example = Example::start("chat");
    let (mut first, mut second) = (example.client(), example.client());
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
    let example = Example::start("push");
    let mut client = example.client();
    for number in ["1", "2", "3"] {
        assert_eq!(client.read().unwrap(), Message::text(number));
    }
}
