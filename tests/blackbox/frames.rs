//! Framing, fragmentation, UTF-8: RFC 6455 §5 and §8.1, through `/echo`.

use crate::client::{Client, frame, reply};
use crate::server::TestServer;

fn echo() -> Client {
    Client::open(TestServer::shared(), "/echo")
}

#[test]
fn every_length_form_comes_back_in_its_shortest() {
    let mut client = echo();
    for length in [
        0, 1, 2, 124, 125, 126, 127, 128, 0xFFFE, 0xFFFF, 0x1_0000, 0x1_0001, 300_000,
    ] {
        let payload: Vec<u8> = (0..length).map(|index| (index % 251) as u8).collect();
        client.send(&frame(0x82, &payload));
        client.receives(&reply(0x82, &payload));
    }
}
