//! Size limits, and the cost of a client that reads nothing.

use std::io::Write;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use frameloop::Settings;
use frameloop::engine::Deadlines;
use frameloop::protocol::SizeLimits;

use crate::client::{Client, frame, reply};
use crate::server::TestServer;

fn small() -> TestServer {
    TestServer::with(|server| {
        server.with_settings(Settings {
            limits: SizeLimits {
                max_message_size: 10,
                max_frame_size: 8,
            },
            ..Settings::default()
        })
    })
}

#[test]
fn f14_a_message_of_16_mib_passes_and_one_byte_more_is_refused() {
    let mut client = Client::open(TestServer::shared(), "/echo");
    let largest = vec![0xA5; 16 << 20];
    client.send(&frame(0x82, &largest));
    client.receives(&reply(0x82, &largest));
    // The header suffices for the refusal.
    client.send(b"\x82\xFF\0\0\0\0\x01\0\0\x01");
    client.closes_with(1009);
}

#[test]
fn a6_limits_are_inclusive_and_count_all_fragments() {
    let server = small();
    type Sent = Vec<Vec<u8>>;
    let cases: [(&str, Sent, Option<&[u8]>); 6] = [
        (
            "a frame at its limit",
            vec![frame(0x81, b"12345678")],
            Some(b"12345678"),
        ),
        (
            "a frame over its limit",
            vec![frame(0x81, b"123456789")],
            None,
        ),
        (
            "a message at its limit",
            vec![frame(0x01, b"12345678"), frame(0x80, b"90")],
            Some(b"1234567890"),
        ),
        (
            "a message over its limit",
            vec![frame(0x01, b"12345678"), frame(0x80, b"901")],
            None,
        ),
        (
            "attack 4: one-byte fragments",
            [frame(0x01, b"1")]
                .into_iter()
                .chain((0..10).map(|_| frame(0x00, b"1")))
                .collect(),
            None,
        ),
        (
            "control frames do not count",
            vec![
                frame(0x01, b"12345678"),
                frame(0x89, b"1234567890"),
                frame(0x80, b""),
            ],
            Some(b"12345678"),
        ),
    ];
    for (name, sent, received) in cases {
        println!("{name}");
        let mut client = Client::open(&server, "/echo");
        client.send(&sent.concat());
        match received {
            Some(text) => {
                let (mut first, mut payload) = client.receive();
                if first == 0x8A {
                    (first, payload) = client.receive();
                }
                assert_eq!((first, payload.as_slice()), (0x81, text));
            }
            None => client.closes_with(1009),
        }
    }
}

/// Attack 3: the default limit applies to the sum of the fragments.
#[test]
fn attack_3_16_mib_in_fragments_pass_and_one_byte_more_is_refused() {
    const FRAGMENT: usize = 1 << 20;
    let mut client = Client::open(TestServer::shared(), "/echo");
    let fragment = vec![0xA5; FRAGMENT];
    let mut begun = frame(0x02, &fragment);
    begun.extend(frame(0x00, &fragment).repeat(15));
    client.send(&begun);
    client.send(&frame(0x80, b""));
    client.receives(&reply(0x82, &vec![0xA5; 16 * FRAGMENT]));
    client.send(&begun);
    // A header for one more byte suffices for the refusal.
    client.send(b"\x00\x81");
    client.closes_with(1009);
}

/// Attack 10: unsolicited Pongs are ignored.
#[test]
fn attack_10_a_flood_of_pongs_is_ignored() {
    const PONGS: usize = 100_000;
    let mut client = Client::open(TestServer::shared(), "/echo");
    let pongs = frame(0x8A, &[b'p'; 125]).repeat(PONGS / 100);
    client.send(&frame(0x01, b"be"));
    for _ in 0..100 {
        client.send(&pongs);
    }
    client.send(&frame(0x80, b"fore"));
    client.receives_text("before");
}

/// Attack 2: the server reserves no memory for a declared length.
#[test]
fn attack_2_declared_lengths_reserve_nothing() {
    const CLIENTS: usize = 300;
    let mut clients: Vec<Client> = (0..CLIENTS)
        .map(|_| Client::open(TestServer::shared(), "/echo"))
        .collect();
    let before = resident();
    for client in &mut clients {
        client.send(b"\x82\xFF\0\0\0\0\x01\0\0\0\0\0\0\0");
    }
    // The server has read all headers once later connections get answers.
    for _ in 0..4 {
        let mut other = Client::open(TestServer::shared(), "/echo");
        other.send_text("read?");
        other.receives_text("read?");
    }
    let grown = resident().saturating_sub(before);
    println!("attack 2: {grown} bytes for {CLIENTS} claims of 16 MiB");
    assert!(grown < 64 << 20, "{grown} bytes");
}

/// Attack 31: a client sends echoes and does not read. The server stops reading, so the client
/// blocks.
#[test]
fn attack_31_the_server_stops_reading_from_a_client_that_does_not_read_its_echoes() {
    let server = TestServer::with(|server| server.with_workers(1));
    let client = Client::open(&server, "/echo");
    client
        .stream
        .set_write_timeout(Some(Duration::from_millis(300)))
        .unwrap();
    let message = frame(0x82, &[0; 60_000]);
    let mut stream = &client.stream;
    let mut sent = 0_usize;
    while sent < 1 << 30 {
        match stream.write(&message) {
            Ok(bytes) => sent += bytes,
            Err(_) => break,
        }
    }
    println!("attack 31: {sent} bytes were sent, socket buffers included");
    assert!(sent < 64 << 20, "{sent} bytes were sent");
    // Other clients are served meanwhile.
    let mut other = Client::open(&server, "/echo");
    other.send_text("hi");
    other.receives_text("hi");
}

/// Attack 32 and C30.
#[test]
fn attack_32_a_client_that_reads_nothing_is_reset_after_the_write_stall() {
    let server = TestServer::with(|server| {
        server.with_settings(Settings {
            deadlines: Deadlines {
                write_stall: Duration::from_millis(300),
                ..Deadlines::default()
            },
            ..Settings::default()
        })
    });
    let client = Client::open(&server, "/echo");
    let mut stream = &client.stream;
    let message = frame(0x82, &[0; 60_000]);
    let broke = (0..100_000).find_map(|_| stream.write_all(&message).err());
    let kind = broke.map(|error| error.kind());
    use std::io::ErrorKind::{BrokenPipe, ConnectionReset};
    assert!(
        matches!(kind, Some(ConnectionReset | BrokenPipe)),
        "{kind:?}"
    );
}

/// F13, C42, attack 30: only the slow consumer is closed; the other members receive every message.
#[test]
fn f13_a_slow_consumer_is_closed_without_delaying_other_members() {
    const MESSAGES: usize = 1_000;
    let server = TestServer::with(|server| server);
    let slow = Client::open(&server, "/broadcast");
    let mut reader = Client::open(&server, "/broadcast");
    let mut publisher = Client::open(&server, "/broadcast");
    let payload = |number: usize| {
        let mut payload = vec![b'.'; 64 << 10];
        payload[..8].copy_from_slice(format!("{number:08}").as_bytes());
        payload
    };
    let (taken, takes) = mpsc::channel();
    let reading = thread::spawn(move || {
        for number in 0..MESSAGES {
            let (_, received) = reader.receive();
            assert_eq!(received, payload(number), "message {number}");
            taken.send(()).unwrap();
        }
    });
    for number in 0..MESSAGES {
        publisher.send(&frame(0x82, &payload(number)));
        let (_, received) = publisher.receive();
        assert_eq!(received.len(), 64 << 10);
        // Waits for the reader: a thread without CPU time would be a slow consumer, too.
        takes.recv().unwrap();
    }
    reading.join().unwrap();
    // The slow consumer got whole messages in order, and then the end.
    let mut slow = slow;
    let mut number = 0;
    loop {
        let mut header = [0; 2];
        if std::io::Read::read_exact(&mut slow.stream, &mut header).is_err() {
            break;
        }
        if header[0] == 0x88 {
            break;
        }
        let mut rest = vec![0; 8 + (64 << 10)];
        if std::io::Read::read_exact(&mut slow.stream, &mut rest).is_err() {
            break;
        }
        assert_eq!(rest[8..], payload(number));
        number += 1;
    }
    println!("F13: the slow consumer got {number} of {MESSAGES} messages");
    assert!(
        number < MESSAGES,
        "the slow consumer received every message"
    );
}

/// C42: a slow consumer that reads on receives the reason.
#[test]
fn c42_a_slow_consumer_is_closed_with_1008() {
    let server = TestServer::with(|server| {
        server.with_workers(1).with_settings(Settings {
            slow_consumer: frameloop::engine::SlowConsumer {
                max_bytes: 64 << 10,
                max_messages: 1_024,
            },
            ..Settings::default()
        })
    });
    let mut slow = Client::open(&server, "/broadcast");
    let mut publisher = Client::open(&server, "/broadcast");
    let message = frame(0x82, &[7; 60_000]);
    for _ in 0..400 {
        publisher.send(&message);
        publisher.receive();
    }
    let last = loop {
        let (first, payload) = slow.receive();
        if first == 0x88 {
            break payload;
        }
    };
    assert_eq!(last, b"\x03\xF0slow consumer");
    slow.ends();
}

/// C40: a member that closes is answered without the rest of the room's messages.
#[test]
fn c40_a_member_that_closes_is_answered_and_the_room_goes_on() {
    let server = TestServer::with(|server| server);
    let mut leaver = Client::open(&server, "/broadcast");
    let mut publisher = Client::open(&server, "/broadcast");
    for _ in 0..500 {
        publisher.send_text("hi");
        publisher.receives_text("hi");
    }
    leaver.send(&crate::client::close_frame(1000, b""));
    let last = loop {
        let (first, payload) = leaver.receive();
        if first == 0x88 {
            break payload;
        }
    };
    assert_eq!(last, b"\x03\xE8");
    leaver.ends();
    publisher.send_text("still here");
    publisher.receives_text("still here");
}

/// The resident memory of this process, in bytes.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .unwrap();
    line.split_whitespace()
        .nth(1)
        .unwrap()
        .parse::<usize>()
        .unwrap()
        << 10
}
