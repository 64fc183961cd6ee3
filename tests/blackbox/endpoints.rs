//! The ready-made endpoints, as users of the tutorials expect them.

use std::io::Write;
use std::sync::{Mutex, mpsc};
use std::time::Duration;

use frameloop::engine::SlowConsumer;
use frameloop::{Handler, Message, Router, Settings, WebSocket};

use crate::client::{Client, close_frame, frame, reply, request};
use crate::server::TestServer;

fn open(path: &str) -> Client {
    Client::open(TestServer::shared(), path)
}

#[test]
fn f1_the_example_handshake_of_rfc_6455_is_accepted() {
    let mut client = Client::connect(TestServer::shared());
    client.send(request("/ws").as_bytes());
    let head = client.receive_head().to_ascii_lowercase();
    assert!(head.starts_with("http/1.1 101 "), "{head}");
    assert!(head.contains("sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo=\r\n"));
    assert!(!head.contains("sec-websocket-protocol"));
    assert!(!head.contains("sec-websocket-extensions"));
}

#[test]
fn f2_to_f7_the_tutorial_echo_is_exact_to_the_byte() {
    let mut client = open("/ws");
    client.send(b"\x81\x82\x01\x02\x03\x04\x69\x6b");
    client.receives(b"\x81\x08Echo: hi");
    client.send(b"\x81\x80\x01\x02\x03\x04");
    client.receives(b"\x81\x06Echo: ");
    client.send_text("😀中");
    client.receives(&reply(0x81, "Echo: 😀中".as_bytes()));
    client.send(&frame(0x01, b"h"));
    client.send(&frame(0x89, b"z"));
    client.send(&frame(0x80, b"i"));
    client.receives(b"\x8A\x01z\x81\x08Echo: hi");
    client.send(&close_frame(1000, b"bye"));
    client.receives(b"\x88\x05\x03\xE8bye");
    client.ends();

    let mut client = open("/ws");
    client.send(&frame(0x88, b""));
    client.receives(b"\x88\x00");
    client.ends();
}

#[test]
fn a2_the_tutorial_echo_ignores_binary_messages() {
    let mut client = open("/ws");
    client.send(&frame(0x82, b"\x00\x01"));
    client.send_text("hi");
    client.receives_text("Echo: hi");
}

/// Each test has its own server, because a room spans the server.
#[test]
fn f9_f10_the_connection_manager_answers_broadcasts_and_announces_departures() {
    let server = TestServer::with(|server| server);
    let mut one = Client::open(&server, "/ws/1");
    let mut two = Client::open(&server, "/ws/2");
    one.send_text("hi");
    one.receives_text("Client 1: hi");
    one.receives_text("Client 1 says: hi");
    two.receives_text("Client 1 says: hi");

    let burst: Vec<u8> = ["a", "b", "c"]
        .iter()
        .flat_map(|text| frame(0x81, text.as_bytes()))
        .collect();
    two.send(&burst);
    for text in ["a", "b", "c"] {
        two.receives_text(&format!("Client 2: {text}"));
        two.receives_text(&format!("Client 2 says: {text}"));
        one.receives_text(&format!("Client 2 says: {text}"));
    }

    drop(one);
    two.receives_text("Client 1 left");
}

#[test]
fn f11_client_ids_are_numbers() {
    for (path, status) in [
        ("/ws/abc", 403),
        ("/ws/1.5", 403),
        ("/ws/+7", 403),
        ("/ws/1234567890123456789", 403),
        ("/ws/1/", 404),
        ("/ws/-1", 101),
    ] {
        let mut client = Client::connect(TestServer::shared());
        client.send(request(path).as_bytes());
        let head = client.receive_head();
        assert!(
            head.starts_with(&format!("HTTP/1.1 {status} ")),
            "{path}: {head}"
        );
    }
    let server = TestServer::with(|server| server);
    let mut client = Client::open(&server, "/ws/-007");
    client.send_text("z");
    client.receives_text("Client -7: z");
    client.receives_text("Client -7 says: z");
}

#[test]
fn f12_a_reset_client_does_not_disturb_the_others() {
    let server = TestServer::with(|server| server);
    let mut one = Client::open(&server, "/ws/1");
    let mut two = Client::open(&server, "/ws/2");
    let mut three = Client::open(&server, "/ws/3");
    // Closing a socket with unread input sends RST.
    one.send_text("first");
    one.receives_text("Client 1: first");
    for client in [&mut one, &mut two, &mut three] {
        client.receives_text("Client 1 says: first");
    }
    one.send_text("unread by 3");
    one.receives_text("Client 1: unread by 3");
    drop(three);
    let mut seen = Vec::new();
    for number in 0..20 {
        one.send_text(&number.to_string());
    }
    while seen.len() < 20 + 2 {
        let (_, text) = two.receive();
        seen.push(String::from_utf8(text).unwrap());
    }
    seen.retain(|text| text != "Client 3 left");
    let mut expected = vec![String::from("Client 1 says: unread by 3")];
    expected.extend((0..20).map(|number| format!("Client 1 says: {number}")));
    assert_eq!(seen, expected);
}

#[test]
fn d1_to_d6_the_chat_consumer_behaves_like_django() {
    let mut one = open("/ws/chat/lobby/");
    let mut two = open("/ws/chat/lobby/");
    let mut elsewhere = open("/ws/chat/elsewhere/");
    for (sent, received) in [
        (r#"{"message": "hi"}"#, r#"{"message": "hi"}"#),
        (
            r#"{"message": "你好 😀", "user": "u"}"#,
            r#"{"message": "\u4f60\u597d \ud83d\ude00"}"#,
        ),
        (
            r#"{"message": {"b":1,"a":[true,"é"]}}"#,
            r#"{"message": {"b": 1, "a": [true, "\u00e9"]}}"#,
        ),
    ] {
        one.send_text(sent);
        one.receives_text(received);
        two.receives_text(received);
    }
    for wrong in ["hello", "[1]", r#"{"msg":1}"#, ""] {
        let mut client = open("/ws/chat/lobby/");
        client.send_text(wrong);
        client.receives(b"\x88\x02\x03\xF3");
    }
    let mut client = open("/ws/chat/lobby/");
    client.send(&frame(0x82, b"\x00"));
    client.receives(b"\x88\x02\x03\xF3");

    // The senders of these messages see neither the others' errors nor the other room.
    two.send_text(r#"{"message": "still here"}"#);
    one.receives_text(r#"{"message": "still here"}"#);
    elsewhere.send_text(r#"{"message": "mine"}"#);
    elsewhere.receives_text(r#"{"message": "mine"}"#);
}

#[test]
fn d5_room_names_are_words_of_at_most_94_characters() {
    for (room, status) in [
        ("a".repeat(94), 101),
        ("a".repeat(95), 404),
        ("a%20b".into(), 404),
        ("a-b".into(), 404),
    ] {
        let mut client = Client::connect(TestServer::shared());
        client.send(request(&format!("/ws/chat/{room}/")).as_bytes());
        let head = client.receive_head();
        assert!(
            head.starts_with(&format!("HTTP/1.1 {status} ")),
            "{room}: {head}"
        );
    }
}

#[test]
fn broadcast_reaches_every_member_of_the_topic_unchanged() {
    let mut one = open("/broadcast/topic-a");
    let mut two = open("/broadcast/topic-a");
    let mut other = open("/broadcast/topic-b");
    let large = vec![7; 100_000];
    for (first, payload) in [
        (0x81, &b"text"[..]),
        (0x82, b"\x00\xFF"),
        (0x82, &large),
        (0x81, b""),
    ] {
        one.send(&frame(first, payload));
        one.receives(&reply(first, payload));
        two.receives(&reply(first, payload));
    }
    other.send_text("mine");
    other.receives_text("mine");
}

#[test]
fn open_returns_before_the_101_is_sent() {
    struct Blocked(mpsc::Receiver<()>);
    impl Handler for Blocked {
        fn open(&mut self, _: &mut WebSocket<'_>) {
            self.0.recv().unwrap();
        }

        fn message(&mut self, _: &mut WebSocket<'_>, _: Message<'_>) {}
    }
    let (release, released) = mpsc::channel();
    let released = Mutex::new(Some(released));
    let router = Router::new().websocket("/blocked", move |_| {
        Blocked(released.lock().unwrap().take().unwrap())
    });
    let server = TestServer::serving(router, |server| server);
    let mut client = Client::connect(&server);
    client.send(request("/blocked").as_bytes());
    assert!(client.is_silent_for(Duration::from_millis(200)));
    release.send(()).unwrap();
    assert!(client.receive_head().starts_with("HTTP/1.1 101 "));
}

#[test]
fn members_on_all_workers_see_messages_in_the_same_order() {
    const MEMBERS: usize = 6;
    const MESSAGES: usize = 300;
    let server = TestServer::with(|server| server.with_workers(3));
    let clients: Vec<Client> = (0..MEMBERS)
        .map(|_| Client::open(&server, "/broadcast/order"))
        .collect();
    let publishers: Vec<_> = clients
        .iter()
        .enumerate()
        .map(|(publisher, client)| {
            let mut stream = client.stream.try_clone().unwrap();
            std::thread::spawn(move || {
                for sequence in 0..MESSAGES {
                    let text = format!("{publisher}:{sequence}");
                    stream.write_all(&frame(0x81, text.as_bytes())).unwrap();
                }
            })
        })
        .collect();
    let logs: Vec<_> = clients
        .into_iter()
        .map(|mut client| {
            std::thread::spawn(move || {
                (0..MEMBERS * MESSAGES)
                    .map(|_| String::from_utf8(client.receive().1).unwrap())
                    .collect::<Vec<_>>()
            })
        })
        .collect();
    publishers
        .into_iter()
        .for_each(|thread| thread.join().unwrap());
    let logs: Vec<Vec<String>> = logs.into_iter().map(|log| log.join().unwrap()).collect();
    for log in &logs {
        assert_eq!(log, &logs[0], "two members saw different orders");
    }
    for publisher in 0..MEMBERS {
        let prefix = format!("{publisher}:");
        let own: Vec<_> = logs[0]
            .iter()
            .filter(|text| text.starts_with(&prefix))
            .collect();
        let expected: Vec<_> = (0..MESSAGES)
            .map(|sequence| format!("{prefix}{sequence}"))
            .collect();
        assert_eq!(own, expected.iter().collect::<Vec<_>>());
    }
}

#[test]
fn pages_answer_http_and_the_root_is_both_page_and_echo() {
    let mut client = Client::connect(TestServer::shared());
    for (path, expected) in [("/", "/ws/chat/"), ("/healthz", "ok")] {
        client.send(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes());
        let head = client.receive_head().to_ascii_lowercase();
        assert!(head.starts_with("http/1.1 200 "), "{head}");
        let length = head.split("content-length: ").nth(1).unwrap();
        let length: usize = length.split("\r\n").next().unwrap().parse().unwrap();
        let mut body = vec![0; length];
        std::io::Read::read_exact(&mut client.stream, &mut body).unwrap();
        assert!(
            String::from_utf8(body).unwrap().contains(expected),
            "{path}"
        );
    }
    // A 405 lists the methods that the page accepts.
    let mut other = Client::connect(TestServer::shared());
    other.send(b"DELETE /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let head = other.receive_head();
    assert!(head.starts_with("HTTP/1.1 405 "), "{head}");
    assert!(head.contains("\r\nAllow: GET, HEAD\r\n"), "{head}");
    // The same connection can become a WebSocket.
    client.send(request("/").as_bytes());
    assert!(client.receive_head().starts_with("HTTP/1.1 101 "));
    client.send_text("hi");
    client.receives(b"\x81\x02hi");
}

/// A client that sends and leaves at once gets its answer first, even if a room answers: in one
/// segment, with a Close or with FIN, alone or after a burst.
#[test]
fn answers_from_rooms_come_before_the_close() {
    let patient = || {
        TestServer::with(|server| {
            server.with_settings(Settings {
                // Otherwise the client would be closed for reading the burst's answers too slowly,
                slow_consumer: SlowConsumer {
                    max_bytes: usize::MAX,
                    max_messages: usize::MAX,
                },
                // or for publishing the burst too fast.
                max_publish_rate: None,
                ..Settings::default()
            })
        })
    };
    let cases: [(&str, &str, &[&str]); 4] = [
        ("/broadcast", "hi", &["hi"]),
        ("/broadcast/topic", "hi", &["hi"]),
        ("/ws/1", "hi", &["Client 1: hi", "Client 1 says: hi"]),
        (
            "/ws/chat/lobby/",
            r#"{"message":"hi"}"#,
            &[r#"{"message": "hi"}"#],
        ),
    ];
    for (path, text, answers) in cases {
        for (times, closes) in [(1, true), (1, false), (20_000, true), (20_000, false)] {
            let mut sent = frame(0x81, text.as_bytes()).repeat(times);
            if closes {
                sent.extend(close_frame(1000, b"bye"));
            }
            // Each case has its own server: on a shared one, messages about the last client's
            // leaving would come in between.
            let server = patient();
            let mut client = Client::open(&server, path);
            let mut writer = client.stream.try_clone().unwrap();
            let writer = std::thread::spawn(move || {
                std::io::Write::write_all(&mut writer, &sent).unwrap();
                if !closes {
                    writer.shutdown(std::net::Shutdown::Write).unwrap();
                }
            });
            for _ in 0..times {
                for answer in answers {
                    client.receives_text(answer);
                }
            }
            if closes {
                client.receives(b"\x88\x05\x03\xE8bye");
            }
            client.ends();
            writer.join().unwrap();
        }
    }
}
