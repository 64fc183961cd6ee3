//! Socket.IO broadcasts to many clients: each arrives once, whole and in the order of emission,
//! whichever path its packets take.

use std::io::{Read, Write};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use frameloop::Router;
use frameloop::engine::SlowConsumer;
use frameloop::socketio::{self, Event, SocketIoSettings, Value};

use crate::client::{Client, close_frame, frame};
use crate::server::TestServer;
use crate::socketio::{Session, WEBSOCKET, receive_packet, upgrade};

/// Enough clients for broadcasts that bypass the engine.
const CLIENTS: usize = 40;

/// A server with these events: `tell` sends the given count of numbers, with a filler of the given
/// size, to every client, each first as a packet of its own and then as a broadcast; `flood`
/// broadcasts numbered fillers of the given size; `pour` broadcasts fillers of the given size until
/// no client is left; `attach` broadcasts an event with attachments.
fn serving(workers: usize) -> TestServer {
    // Clients of this test answer no Ping, and a slow machine takes long.
    let (service, io) = socketio::service(SocketIoSettings {
        ping_interval: Duration::from_secs(3_600),
        ..SocketIoSettings::default()
    });
    io.namespace("/")
        .on("tell", async |Event { socket, args, .. }| {
            let filler = Value::from("x".repeat(integer(&args.values[1])));
            for number in 0..integer(&args.values[0]) {
                let args = [Value::from(number as u64), filler.clone()];
                for client in socket.everybody().sockets() {
                    client.emit("own", args.clone());
                }
                socket.everybody().emit("all", args).await;
            }
        })
        .on("flood", async |Event { socket, args, .. }| {
            let filler = Value::from("x".repeat(integer(&args.values[0])));
            for number in 0..integer(&args.values[1]) {
                let args = [Value::from(number as u64), filler.clone()];
                socket.everybody().emit("flood", args).await;
            }
        })
        .on("pour", async |Event { socket, args, .. }| {
            let filler = Value::from("x".repeat(integer(&args.values[0])));
            while !socket.everybody().sockets().is_empty() {
                socket.everybody().emit("pour", filler.clone()).await;
            }
        })
        .on("attach", async |event| {
            let bytes = bytes::Bytes::from_static(b"\x01\x02\x03");
            event.socket.everybody().emit("attached", bytes);
        })
        .on("shout", async |event| {
            event.socket.others().emit("shout", event.args);
        })
        .on("message", async |event| {
            event.socket.everybody().emit("message", event.args);
        });
    let router = Router::new().mount("/socket.io/", service as Arc<_>);
    // More than the default must be able to queue for slow clients.
    let settings = frameloop::Settings {
        slow_consumer: SlowConsumer {
            max_bytes: 64 << 20,
            max_messages: 100_000,
        },
        ..frameloop::Settings::default()
    };
    TestServer::serving(router, |server| {
        server.with_workers(workers).with_settings(settings)
    })
}

fn integer(value: &Value) -> usize {
    match value {
        Value::Number(number) => number.to_string().parse().unwrap(),
        _ => panic!("not a number"),
    }
}

fn joined(server: &TestServer) -> Client {
    let mut client = upgrade(server, WEBSOCKET);
    assert!(receive_packet(&mut client).starts_with('0'));
    client.send_text("40");
    assert!(receive_packet(&mut client).starts_with("40"));
    client
}

#[track_caller]
fn receives(client: &mut Client, packet: &str) {
    assert_eq!(receive_packet(client), packet);
}

#[test]
fn packets_to_one_client_keep_their_order_among_broadcasts() {
    for workers in [1, 4] {
        let server = serving(workers);
        let mut clients: Vec<Client> = (0..CLIENTS).map(|_| joined(&server)).collect();
        clients[0].send_text(r#"42["tell",50,0]"#);
        for client in &mut clients {
            for number in 0..50 {
                receives(client, &format!(r#"42["own",{number},""]"#));
                receives(client, &format!(r#"42["all",{number},""]"#));
            }
        }
    }
}

/// The sockets fill up again and again, so some packets are sent in part and wait.
#[test]
fn packets_to_slow_clients_keep_their_order_among_broadcasts() {
    let server = serving(2);
    let mut clients: Vec<Client> = (0..CLIENTS).map(|_| joined(&server)).collect();
    clients[0].send_text(r#"42["tell",100,100000]"#);
    let filler = "x".repeat(100_000);
    for number in 0..100 {
        for client in &mut clients {
            receives(client, &format!(r#"42["own",{number},"{filler}"]"#));
            receives(client, &format!(r#"42["all",{number},"{filler}"]"#));
        }
    }
}

#[test]
fn a_clients_messages_reach_all_members_in_order() {
    let server = serving(4);
    let mut clients: Vec<Client> = (0..CLIENTS).map(|_| joined(&server)).collect();
    // Far more than fit in transit at once.
    let messages = (0..3_000).map(|number| format!(r#"42["message",{number}]"#));
    let bytes: Vec<u8> = messages
        .flat_map(|message| frame(0x81, message.as_bytes()))
        .collect();
    clients[0].send(&bytes);
    for client in &mut clients {
        for number in 0..3_000 {
            receives(client, &format!(r#"42["message",{number}]"#));
        }
    }
}

#[test]
fn messages_of_many_senders_arrive_in_the_order_of_each_sender() {
    let server = serving(2);
    let mut clients: Vec<Client> = (0..CLIENTS).map(|_| joined(&server)).collect();
    for number in 0..20 {
        for (sender, client) in clients.iter_mut().enumerate() {
            client.send_text(&format!(r#"42["shout",{sender},{number}]"#));
        }
    }
    for (own, client) in clients.iter_mut().enumerate() {
        let mut next = [0; CLIENTS];
        next[own] = 20; // skips its own messages
        while next.iter().any(|next| *next < 20) {
            let packet = receive_packet(client);
            let numbers = packet.strip_prefix(r#"42["shout","#).unwrap();
            let (sender, number) = numbers.trim_end_matches(']').split_once(',').unwrap();
            let next = &mut next[sender.parse::<usize>().unwrap()];
            assert_eq!(number, next.to_string(), "{packet}");
            *next += 1;
        }
    }
}

#[test]
fn attachments_follow_their_packet() {
    let server = serving(2);
    let mut clients: Vec<Client> = (0..CLIENTS).map(|_| joined(&server)).collect();
    for _ in 0..20 {
        clients[0].send_text(r#"42["attach"]"#);
    }
    for client in &mut clients {
        for _ in 0..20 {
            receives(client, r#"451-["attached",{"_placeholder":true,"num":0}]"#);
            assert_eq!(client.receive(), (0x82, vec![1, 2, 3]));
        }
    }
}

/// 30 MB wait for one client, far more than its socket holds.
#[test]
fn a_client_that_reads_late_misses_nothing_and_delays_no_other() {
    let server = serving(2);
    let mut late = joined(&server);
    let mut clients: Vec<Client> = (0..CLIENTS).map(|_| joined(&server)).collect();
    clients[0].send_text(r#"42["flood",100000,300]"#);
    let filler = "x".repeat(100_000);
    thread::scope(|scope| {
        for client in &mut clients {
            let filler = &filler;
            scope.spawn(move || {
                for number in 0..300 {
                    receives(client, &format!(r#"42["flood",{number},"{filler}"]"#));
                }
            });
        }
    });
    for number in 0..300 {
        receives(&mut late, &format!(r#"42["flood",{number},"{filler}"]"#));
    }
    clients[0].send_text(r#"42["tell",1,0]"#);
    receives(&mut late, r#"42["own",0,""]"#);
    receives(&mut late, r#"42["all",0,""]"#);
}

#[test]
fn an_upgrade_during_broadcasts_neither_loses_nor_repeats_a_packet() {
    let server = serving(2);
    let mut clients: Vec<Client> = (0..CLIENTS).map(|_| joined(&server)).collect();
    let session = Session::joined_silently(&server);
    let talker = thread::spawn({
        let mut talker = joined(&server);
        move || {
            for number in 0..400 {
                talker.send_text(&format!(r#"42["message",{number}]"#));
                receives(&mut talker, &format!(r#"42["message",{number}]"#));
            }
        }
    });
    let mut received = session.take(1);
    let mut upgraded = upgrade(&server, &session.query.replace("polling", "websocket"));
    upgraded.send_text("2probe");
    let mut parked = session.polling();
    receives(&mut upgraded, "3probe");
    let last = crate::socketio::response(&mut parked);
    received.extend(last.body.split('\x1e').map(str::to_owned));
    upgraded.send_text("5");
    received.retain(|packet| packet.starts_with('4'));
    while received.len() < 400 {
        received.push(receive_packet(&mut upgraded));
    }
    let expected: Vec<String> = (0..400)
        .map(|number| format!(r#"42["message",{number}]"#))
        .collect();
    assert_eq!(received, expected);
    talker.join().unwrap();
    for client in &mut clients {
        for packet in &expected {
            receives(client, packet);
        }
    }
}

/// No frame is truncated, and none follows the Close.
#[test]
fn a_drain_during_broadcasts_ends_with_the_close() {
    let server = serving(2);
    let mut clients: Vec<Client> = (0..=CLIENTS).map(|_| joined(&server)).collect();
    clients[0].send_text(r#"42["pour",20000]"#);
    for client in &mut clients {
        assert_eq!(client.receive().0, 0x81);
    }
    let readers: Vec<_> = clients
        .into_iter()
        .map(|client| thread::spawn(move || reads_to_close(client)))
        .collect();
    server.shutdown.drain();
    let closed = readers.into_iter().map(|reader| reader.join().unwrap());
    assert!(closed.filter(|closed| *closed).count() > 0);
    server.stopped().unwrap();
}

/// Reads whole messages up to the Close, and answers it. Returns whether the Close arrived: a client
/// may be cut off, even inside a frame.
fn reads_to_close(mut client: Client) -> bool {
    let (mut bytes, mut buffer) = (Vec::new(), vec![0; 1 << 16]);
    loop {
        match client.stream.read(&mut buffer) {
            Ok(0) => {
                assert!(bytes.is_empty(), "a truncated frame");
                return false;
            }
            Ok(more) => bytes.extend(&buffer[..more]),
            Err(_) => return false,
        }
        while let Some((first, length)) = whole_frame(&bytes) {
            assert!(matches!(first, 0x81 | 0x88), "{first:#x}");
            bytes.drain(..length);
            if first == 0x88 {
                // An error means that the server has not waited for the answer.
                let _ = client.stream.write_all(&close_frame(1001, b""));
                let _ = client.stream.read_to_end(&mut bytes);
                assert_eq!(bytes, b"", "data after the Close");
                return true;
            }
        }
    }
}

/// The first byte and the length of the frame that these bytes begin with, if they contain it.
fn whole_frame(bytes: &[u8]) -> Option<(u8, usize)> {
    let (first, length) = match bytes {
        [first, 126, high, low, ..] => (first, 4 + usize::from(u16::from_be_bytes([*high, *low]))),
        [first, length @ ..126, ..] => (first, 2 + usize::from(*length)),
        _ => return None,
    };
    (bytes.len() >= length).then_some((*first, length))
}
