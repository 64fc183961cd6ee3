//! frameloop's own rooms on two nodes.

use tungstenite::Message;

use crate::server::RedisServer;
use crate::{client, has_redis, next, node, receives, send};

#[test]
fn a_topic_is_one_room_on_two_nodes_without_duplicates() {
    const MESSAGES: usize = 200;
    if !has_redis() {
        return;
    }
    for layer in ["redis-pubsub", "redis-core"] {
        let redis = RedisServer::started();
        let nodes = [node(&redis, layer), node(&redis, layer)];
        let mut clients = nodes.each_ref().map(|node| client(node, "/broadcast/t"));
        redis.has_subscribers("frameloop:broadcast:t", 2);
        for number in 0..MESSAGES {
            for (name, client) in ["a", "b"].iter().zip(&mut clients) {
                client
                    .send(match number % 2 {
                        0 => Message::text(format!("{name} {number}")),
                        _ => Message::binary(format!("{name} {number}")),
                    })
                    .unwrap();
            }
        }
        for client in &mut clients {
            let mut seen = [0, 0];
            while seen != [MESSAGES, MESSAGES] {
                let message = next(client);
                let is_text = message.is_text();
                let text = String::from_utf8(message.into_data().to_vec()).unwrap();
                let (name, number) = text.split_once(' ').unwrap();
                let expected = &mut seen[usize::from(name == "b")];
                assert_eq!(number, expected.to_string(), "{layer}: {name}");
                assert_eq!(is_text, *expected % 2 == 0);
                *expected += 1;
            }
            // No duplicates: the next message is a new one.
        }
        send(&mut clients[0], "end");
        for client in &mut clients {
            receives(client, "end");
        }
    }
}

#[test]
fn topics_do_not_mix() {
    if !has_redis() {
        return;
    }
    let redis = RedisServer::started();
    let nodes = [node(&redis, "redis-pubsub"), node(&redis, "redis-pubsub")];
    let [mut x, mut y] = ["/broadcast/x", "/broadcast/y"].map(|path| client(&nodes[0], path));
    let [mut far_x, mut far_y] =
        ["/broadcast/x", "/broadcast/y"].map(|path| client(&nodes[1], path));
    for channel in ["frameloop:broadcast:x", "frameloop:broadcast:y"] {
        redis.has_subscribers(channel, 2);
    }
    send(&mut x, "of x");
    send(&mut y, "of y");
    receives(&mut far_x, "of x");
    receives(&mut far_y, "of y");
    drop((x, far_x));
    redis.has_subscribers("frameloop:broadcast:x", 0);
    redis.has_subscribers("frameloop:broadcast:y", 2);
}

#[test]
fn tutorial_clients_see_clients_on_the_other_node() {
    if !has_redis() {
        return;
    }
    let redis = RedisServer::started();
    let nodes = [node(&redis, "redis-pubsub"), node(&redis, "redis-pubsub")];
    let (mut one, mut two) = (client(&nodes[0], "/ws/1"), client(&nodes[1], "/ws/2"));
    redis.has_subscribers("frameloop:clients:everybody", 2);
    send(&mut one, "hi");
    receives(&mut one, "Client 1: hi");
    receives(&mut one, "Client 1 says: hi");
    receives(&mut two, "Client 1 says: hi");
    one.close(None).unwrap();
    receives(&mut two, "Client 1 left");
}

/// Checks the bytes on the wire, which other versions must be able to read.
#[test]
fn a_message_on_the_wire_is_versioned_and_numbered() {
    if !has_redis() {
        return;
    }
    let redis = RedisServer::started();
    let node = node(&redis, "redis-pubsub");
    let mut client = client(&node, "/broadcast/w");
    redis.has_subscribers("frameloop:broadcast:w", 1);
    let mut connection = redis.connect();
    let mut subscription = connection.as_pubsub();
    subscription.subscribe("frameloop:broadcast:w").unwrap();
    for (number, text) in [(1, "one"), (2, "two")] {
        send(&mut client, text);
        let message = subscription.get_message().unwrap();
        let bytes = message.get_payload_bytes();
        // An array of four: version 1, the node, the number, the text.
        assert_eq!(bytes[..2], [0x94, 1]);
        let end = [&[number, 0xA3][..], text.as_bytes()].concat();
        assert!(bytes.ends_with(&end), "{bytes:?}");
    }
}
