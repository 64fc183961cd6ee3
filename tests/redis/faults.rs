//! Faults of Redis: rows 17 and 18 of the faults and attack 50. In each, local rooms lose nothing,
//! no client connection closes, and the connection to the other node recovers.

use std::time::{Duration, Instant};

use redis::Commands;
use rustix::process::Signal;

use crate::load::Load;
use crate::process::ServerProcess;
use crate::report::{Kind, figure};
use crate::server::RedisServer;
use crate::soak;
use crate::{
    DISCARDED, GAPS, Socket, client, has_redis, metric, metric_reaches, node, reaches, receives,
    send,
};

/// Two nodes, each with a member of one topic, and local load on the first.
struct Cluster {
    redis: RedisServer,
    nodes: [ServerProcess; 2],
    members: [Socket; 2],
    load: Load,
}

impl Cluster {
    fn over(redis: RedisServer, layer: &str) -> Cluster {
        let nodes = [(); 2].map(|()| node(&redis, layer));
        let members = nodes
            .each_ref()
            .map(|node| client(node, "/broadcast/fault"));
        let load = Load::start(nodes[0].address);
        Cluster {
            redis,
            nodes,
            members,
            load,
        }
    }

    fn started() -> Cluster {
        let cluster = Cluster::over(RedisServer::started(), "redis-pubsub");
        cluster
            .redis
            .has_subscribers("frameloop:broadcast:fault", 2);
        cluster
    }

    /// Asserts that both directions work again and no local message was lost.
    #[track_caller]
    fn comes_back(self, kind: Kind, row: u32, what: &str) {
        let Cluster {
            redis: _redis,
            mut nodes,
            members: [mut near, mut far],
            load,
        } = self;
        let began = Instant::now();
        reaches(&mut near, &mut far, "there");
        reaches(&mut far, &mut near, "and back");
        let back = began.elapsed();
        let gaps: u64 = nodes.iter().map(|node| metric(node.address, GAPS)).sum();
        for node in &mut nodes {
            node.lives();
        }
        let tally = load.finish_clean();
        figure(
            kind,
            row,
            what,
            "local rooms lose nothing, back within 5 s",
            format_args!(
                "back in {:.1} s, {gaps} gap events; local: {tally}",
                back.as_secs_f64()
            ),
        );
    }
}

#[test]
fn row_17_redis_down_at_start() {
    if !has_redis() {
        return;
    }
    for layer in ["redis-pubsub", "redis-core"] {
        let mut cluster = Cluster::over(RedisServer::not_started(), layer);
        send(&mut cluster.members[0], "alone");
        receives(&mut cluster.members[0], "alone");
        cluster.redis.start();
        cluster.comes_back(Kind::Fault, 17, "Redis down at start");
    }
}

#[test]
fn row_17_redis_killed_and_back() {
    if !has_redis() {
        return;
    }
    let mut cluster = Cluster::started();
    let times = soak::duration().map_or(3, |_| 100);
    for number in 1..=times {
        cluster.redis.kill();
        let text = number.to_string();
        send(&mut cluster.members[0], &text);
        receives(&mut cluster.members[0], &text);
        for node in &cluster.nodes {
            metric_reaches(node.address, GAPS, number);
        }
        cluster.redis.start();
        cluster
            .redis
            .has_subscribers("frameloop:broadcast:fault", 2);
    }
    let what = format!("Redis killed and back, {times} times");
    cluster.comes_back(Kind::Fault, 17, &what);
}

#[test]
fn row_17_redis_frozen() {
    if !has_redis() {
        return;
    }
    let mut cluster = Cluster::started();
    cluster.redis.signal(Signal::STOP);
    // Longer than the Redis timeout, so the nodes disconnect.
    let began = Instant::now();
    let mut number = 0;
    let freeze = Duration::from_secs(soak::duration().map_or(4, |_| 30));
    while began.elapsed() < freeze {
        number += 1;
        let text = number.to_string();
        send(&mut cluster.members[0], &text);
        receives(&mut cluster.members[0], &text);
        std::thread::sleep(Duration::from_millis(10));
    }
    cluster.redis.signal(Signal::CONT);
    let what = format!("Redis frozen for {} s", freeze.as_secs());
    cluster.comes_back(Kind::Fault, 17, &what);
}

#[test]
fn row_18_clients_killed_by_redis() {
    if !has_redis() {
        return;
    }
    let cluster = Cluster::started();
    let mut connection = cluster.redis.connect();
    for kind in ["pubsub", "normal"] {
        let _: i64 = redis::cmd("CLIENT")
            .arg("KILL")
            .arg("TYPE")
            .arg(kind)
            .arg("SKIPME")
            .arg("yes")
            .query(&mut connection)
            .unwrap();
    }
    for node in &cluster.nodes {
        metric_reaches(node.address, GAPS, 1);
    }
    cluster.comes_back(Kind::Fault, 18, "CLIENT KILL of all connections");
}

#[test]
fn row_18_redis_disconnects_at_its_output_limit() {
    if !has_redis() {
        return;
    }
    let cluster = Cluster::started();
    let mut connection = cluster.redis.connect();
    let limit = |limit: &str| format!("pubsub {limit} 0 0");
    let set = |connection: &mut redis::Connection, value: String| {
        let () = redis::cmd("CONFIG")
            .arg("SET")
            .arg("client-output-buffer-limit")
            .arg(value)
            .query(connection)
            .unwrap();
    };
    set(&mut connection, limit("1024"));
    // More than the socket buffers hold.
    let _: i64 = connection
        .publish("frameloop:broadcast:fault", vec![0; 15 << 20])
        .unwrap();
    for node in &cluster.nodes {
        metric_reaches(node.address, GAPS, 1);
    }
    set(&mut connection, limit("33554432"));
    cluster.comes_back(Kind::Fault, 18, "cut at Redis's output buffer limit");
}

#[test]
fn row_50_garbage_and_64_mib_are_discarded() {
    if !has_redis() {
        return;
    }
    let mut cluster = Cluster::started();
    let mut chat = client(&cluster.nodes[0], "/ws/chat/lobby/");
    cluster.redis.has_subscribers("asgi__group__chat_lobby", 1);
    let mut connection = cluster.redis.connect();
    let () = redis::cmd("CONFIG")
        .arg("SET")
        .arg("client-output-buffer-limit")
        .arg("pubsub 0 0 0")
        .query(&mut connection)
        .unwrap();
    let huge = vec![0x94; 64 << 20];
    let of_another_version = b"\x94\x02\x01\x01\xA2hi";
    let topic: [&[u8]; 5] = [
        b"",
        b"garbage",
        of_another_version,
        b"\x94\x01\x01\x01\xA1\xFF",
        &huge,
    ];
    for bytes in topic {
        let () = connection
            .publish("frameloop:broadcast:fault", bytes)
            .unwrap();
    }
    // D13, and input that would crash Django's consumers.
    let events: [&[u8]; 6] = [
        b"short",
        b"\x80",
        b"\x81\xA7message\xA2hi",
        b"\x82\xA4type\xA5_evil\xA7message\xA2hi",
        b"\x81\xA4type\xACchat_message",
        b"\x82\xA4type\xACchat_message\xA7message\xC4\x01a",
    ];
    for bytes in events {
        let () = connection
            .publish("asgi__group__chat_lobby", bytes)
            .unwrap();
    }
    let expected = (topic.len() + events.len()) as u64;
    metric_reaches(cluster.nodes[0].address, DISCARDED, expected);
    metric_reaches(cluster.nodes[1].address, DISCARDED, topic.len() as u64);
    send(&mut chat, r#"{"message": "hi"}"#);
    receives(&mut chat, r#"{"message": "hi"}"#);
    send(&mut cluster.members[0], "next");
    for member in &mut cluster.members {
        receives(member, "next");
    }
    cluster.comes_back(Kind::Attack, 50, "garbage and 64 MiB on the channels");
}
