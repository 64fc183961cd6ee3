//! The chat rooms with both channel layers of Django Channels on Redis, byte for byte.

use std::collections::HashSet;
use std::thread;
use std::time::{Duration, Instant};

use redis::{Commands, Connection};

use crate::client::LONG_PATIENCE;
use crate::server::RedisServer;
use crate::{GAPS, client, has_redis, metric_reaches, node, receives, send};

const CHANNEL: &str = "asgi__group__chat_lobby";
const GROUP: &str = "asgi:group:chat_lobby";
const HI: &[u8] = b"\x82\xA4type\xACchat_message\xA7message\xA2hi";

/// D11 and D12.
#[test]
fn the_pubsub_layer_is_exact_to_the_byte() {
    if !has_redis() {
        return;
    }
    let redis = RedisServer::started();
    let node = node(&redis, "redis-pubsub");
    let [mut one, mut two] = [(); 2].map(|()| client(&node, "/ws/chat/lobby/"));
    redis.has_subscribers(CHANNEL, 1);
    let mut publisher = redis.connect();
    let () = publisher.publish(CHANNEL, HI).unwrap();
    for client in [&mut one, &mut two] {
        receives(client, r#"{"message": "hi"}"#);
    }
    let mut connection = redis.connect();
    let mut subscription = connection.as_pubsub();
    subscription.subscribe(CHANNEL).unwrap();
    // The server recognises its own message and delivers it once, even if another process sends the
    // same bytes.
    for _ in 0..3 {
        send(&mut one, r#"{"user": 1, "message":"hi"}"#);
        assert_eq!(subscription.get_message().unwrap().get_payload_bytes(), HI);
    }
    let () = publisher.publish(CHANNEL, HI).unwrap();
    for client in [&mut one, &mut two] {
        for _ in 0..4 {
            receives(client, r#"{"message": "hi"}"#);
        }
    }
    send(&mut two, r#"{"message": {"end": [1.50, NaN, "\u4f60"]}}"#);
    for client in [&mut one, &mut two] {
        receives(client, r#"{"message": {"end": [1.5, NaN, "\u4f60"]}}"#);
    }
}

/// A process with `RedisChannelLayer`, made of plain commands.
struct Consumer {
    connection: Connection,
    member: String,
    key: String,
}

impl Consumer {
    fn joined(redis: &RedisServer, process: &str) -> Consumer {
        let mut connection = redis.connect();
        let member = format!("specific.{process}!88a0");
        let () = connection.zadd(GROUP, &member, now()).unwrap();
        let () = connection.expire(GROUP, 86_400).unwrap();
        Consumer {
            connection,
            key: format!("asgispecific.{process}!"),
            member,
        }
    }

    /// The body of the next message.
    fn receive(&mut self) -> Vec<u8> {
        let popped: (String, Vec<u8>, f64) = redis::cmd("BZPOPMIN")
            .arg(&self.key)
            .arg(LONG_PATIENCE.as_secs())
            .query(&mut self.connection)
            .unwrap();
        popped.1
    }
}

fn now() -> f64 {
    let since = std::time::UNIX_EPOCH.elapsed().unwrap();
    since.as_secs_f64()
}

fn members(connection: &mut Connection) -> HashSet<String> {
    connection.zrange(GROUP, 0, -1).unwrap()
}

#[track_caller]
fn has_members(connection: &mut Connection, expected: usize) -> HashSet<String> {
    let deadline = Instant::now() + LONG_PATIENCE;
    loop {
        let members = members(connection);
        if members.len() == expected {
            return members;
        }
        assert!(Instant::now() < deadline, "{members:?}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// D7 without Django, D8 and D9.
#[test]
fn the_core_layer_is_exact_to_the_byte() {
    if !has_redis() {
        return;
    }
    let redis = RedisServer::started();
    let node = node(&redis, "redis-core");
    let mut consumer = Consumer::joined(&redis, "c9403939");
    let mut connection = redis.connect();
    let mut one = client(&node, "/ws/chat/lobby/");
    let names = has_members(&mut connection, 2);
    let ours = names.iter().find(|name| **name != consumer.member).unwrap();
    let (process, _) = ours
        .strip_prefix("specific.")
        .unwrap()
        .split_once('!')
        .unwrap();
    assert_eq!(process.len(), 32);
    assert!(process.bytes().all(|byte| byte.is_ascii_hexdigit()));
    let ttl: i64 = connection.ttl(GROUP).unwrap();
    assert!((86_390..=86_400).contains(&ttl), "{ttl}");

    send(&mut one, r#"{"message": "hi"}"#);
    receives(&mut one, r#"{"message": "hi"}"#);
    let body = consumer.receive();
    let event = [
        b"\x83\xA4type\xACchat_message\xA7message\xA2hi\xB0__asgi_channel__\x91",
        &[0xA0 | consumer.member.len() as u8][..],
        consumer.member.as_bytes(),
    ]
    .concat();
    assert_eq!(body[12..], event);
    let waits: i64 = connection
        .zcard(format!("asgispecific.{process}!"))
        .unwrap();
    assert_eq!(waits, 0, "a message to the same process went through Redis");

    // The other direction: a message for several channels, and one for a single channel.
    let name = [&[0xD9, ours.len() as u8][..], ours.as_bytes()].concat();
    for (salt, names) in [(1, [&[0x91][..], &name].concat()), (2, name.clone())] {
        let body = [
            &[salt; 12][..],
            b"\x83\xA4type\xACchat_message\xA7message\xA5there\xB0__asgi_channel__",
            &names,
        ]
        .concat();
        let key = format!("asgispecific.{process}!");
        let () = connection.zadd(&key, body, now()).unwrap();
        receives(&mut one, r#"{"message": "there"}"#);
    }
    drop(one);
    has_members(&mut connection, 1);
}

/// A burst of equal and different events arrives in the order of sending.
#[test]
fn the_core_layer_keeps_the_order_of_a_burst() {
    const MESSAGES: usize = 90;
    if !has_redis() {
        return;
    }
    let redis = RedisServer::started();
    let node = node(&redis, "redis-core");
    let mut consumer = Consumer::joined(&redis, "aa");
    let mut one = client(&node, "/ws/chat/lobby/");
    has_members(&mut redis.connect(), 2);
    for number in 0..MESSAGES {
        send(&mut one, &format!(r#"{{"message": "{number:03}"}}"#));
    }
    for number in 0..MESSAGES {
        let body = consumer.receive();
        let text = format!("{number:03}");
        let expected = [b"\xA7message\xA3", text.as_bytes()].concat();
        let found = body.windows(expected.len()).any(|bytes| bytes == expected);
        assert!(found, "{number}: {body:?}");
    }
}

/// D10.
#[test]
fn a_full_queue_of_one_process_does_not_stop_the_others() {
    if !has_redis() {
        return;
    }
    let redis = RedisServer::started();
    let node = node(&redis, "redis-core");
    let _stuck = Consumer::joined(&redis, "0bad");
    let mut connection = redis.connect();
    for number in 0..100 {
        let () = connection
            .zadd("asgispecific.0bad!", number, now())
            .unwrap();
    }
    let mut consumer = Consumer::joined(&redis, "900d");
    let mut one = client(&node, "/ws/chat/lobby/");
    has_members(&mut connection, 3);
    send(&mut one, r#"{"message": "hi"}"#);
    consumer.receive();
    receives(&mut one, r#"{"message": "hi"}"#);
    metric_reaches(node.address, GAPS, 1);
    let waits: i64 = connection.zcard("asgispecific.0bad!").unwrap();
    assert_eq!(waits, 100);
}
