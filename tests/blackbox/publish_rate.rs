//! How fast a client may publish (attack 54): first back-pressure, and 1008 if the client does not
//! slow down.

use std::collections::HashSet;
use std::io::{ErrorKind, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use frameloop::Settings;
use frameloop::app::{self, AppSettings};
use frameloop::engine::Deadlines;

use crate::client::{Client, PATIENCE, close_frame, frame, reply};
use crate::report::{Kind, figure};
use crate::server::TestServer;

/// A server with this publishing rate, in messages a second, and this throttle timeout.
fn server(rate: u32, throttle_timeout: Duration) -> TestServer {
    TestServer::with(|server| {
        server.with_settings(Settings {
            max_publish_rate: Some(rate),
            deadlines: Deadlines {
                throttle_timeout,
                ..Deadlines::default()
            },
            ..Settings::default()
        })
    })
}

fn numbered(numbers: std::ops::Range<u32>) -> Vec<u8> {
    numbers
        .flat_map(|number| frame(0x82, &number.to_be_bytes()))
        .collect()
}

fn receives_numbered(client: &mut Client, numbers: std::ops::Range<u32>) {
    for number in numbers {
        assert_eq!(client.receive(), (0x82, number.to_be_bytes().to_vec()));
    }
}

#[test]
fn attack_54_a_burst_beyond_the_rate_is_throttled_without_loss() {
    const RATE: u32 = 100;
    let server = server(RATE, PATIENCE);
    let mut member = Client::open(&server, "/broadcast/burst");
    let mut publisher = Client::open(&server, "/broadcast/burst");
    let began = Instant::now();
    publisher.send(&[numbered(0..2 * RATE), close_frame(1000, b"done")].concat());
    receives_numbered(&mut member, 0..RATE);
    receives_numbered(&mut member, RATE..2 * RATE);
    let took = began.elapsed();
    // The first second's worth is free. The rest takes a second, less the error of a coarse clock.
    assert!(took > Duration::from_millis(800), "{took:?}");
    receives_numbered(&mut publisher, 0..2 * RATE);
    publisher.receives(&reply(0x88, b"\x03\xE8done"));
    publisher.ends();
    // The rate is counted per client.
    let mut publisher = Client::open(&server, "/broadcast/burst");
    publisher.send(&numbered(0..RATE));
    receives_numbered(&mut publisher, 0..RATE);
}

#[test]
fn attack_54_a_publisher_at_line_rate_is_limited_to_its_rate() {
    const MEMBERS: usize = 100;
    const ROUNDS: usize = 400;
    let server = TestServer::with(|server| server.with_workers(1));
    // The messages to the members meanwhile fit into their socket buffers.
    let members: Vec<Client> = (0..MEMBERS)
        .map(|_| Client::open(&server, "/broadcast/storm"))
        .collect();
    let publisher = Client::open(&server, "/broadcast/storm");
    let mut writer = publisher.stream.try_clone().unwrap();
    let over = Arc::new(AtomicBool::new(false));
    let began = Instant::now();
    let flood = {
        let over = Arc::clone(&over);
        thread::spawn(move || {
            writer
                .set_write_timeout(Some(Duration::from_millis(20)))
                .unwrap();
            let message = frame(0x81, b"storm");
            let messages = message.repeat(1_000);
            let mut sent = 0;
            while !over.load(Ordering::SeqCst) {
                sent += writer.write(&messages[sent % message.len()..]).unwrap_or(0);
            }
        })
    };
    let mut others: Vec<Client> = (0..2)
        .map(|_| Client::open(&server, "/broadcast/calm"))
        .collect();
    let mut times = Vec::new();
    for _ in 0..ROUNDS {
        let sent = Instant::now();
        others[0].send_text("calm");
        for other in &mut others {
            other.receives_text("calm");
        }
        times.push(sent.elapsed());
        thread::park_timeout(Duration::from_millis(2));
    }
    over.store(true, Ordering::SeqCst);
    flood.join().unwrap();
    let took = began.elapsed();
    let mut bytes = Vec::new();
    members[0].stream.set_nonblocking(true).unwrap();
    let nothing_more = (&members[0].stream).read_to_end(&mut bytes).unwrap_err();
    assert_eq!(nothing_more.kind(), ErrorKind::WouldBlock);
    let published = bytes.len() / reply(0x81, b"storm").len();
    times.sort();
    figure(
        Kind::Attack,
        54,
        format_args!(
            "a publisher at line rate to {MEMBERS} members: messages; p99 in another room"
        ),
        "<= 1,000 and 1,000 a second; -",
        format_args!(
            "{published} in {took:.1?}, each sent {} times; {:.1?}",
            MEMBERS + 1,
            times[ROUNDS * 99 / 100]
        ),
    );
    let most = 1_000.0 + 1_000.0 * took.as_secs_f64();
    assert!(published >= 1_000, "{published}");
    assert!(published as f64 <= most * 1.05 + 100.0, "{published}");
}

#[test]
fn attack_54_a_client_that_publishes_too_fast_is_closed() {
    let throttle_timeout = Duration::from_millis(500);
    let server = server(50, throttle_timeout);
    let mut member = Client::open(&server, "/broadcast/persistent");
    let mut publisher = Client::open(&server, "/broadcast/persistent");
    let mut writer = publisher.stream.try_clone().unwrap();
    let began = Instant::now();
    let flood = thread::spawn(move || {
        let messages = frame(0x81, b"x").repeat(1_000);
        while writer.write_all(&messages).is_ok() {}
    });
    let mut count = 0;
    let (code, reason) = loop {
        match publisher.receive() {
            (0x81, _) if count < 10_000 => count += 1,
            (first, payload) => break (first, payload),
        }
    };
    let took = began.elapsed();
    assert_eq!(
        (code, &*reason),
        (0x88, &b"\x03\xF0publishing too fast"[..])
    );
    // Ends the flood, if the server's reset has not ended it already.
    let _ = publisher.stream.shutdown(std::net::Shutdown::Both);
    flood.join().unwrap();
    for _ in 0..count {
        member.receives_text("x");
    }
    member.send_text("still here");
    member.receives_text("still here");
    figure(
        Kind::Attack,
        54,
        "publishing at line rate for longer than the throttle timeout, 500 ms (default 10 s): Close",
        "1008 after 0.5 s",
        format_args!("1008 after {took:.1?}, {count} messages at 50 a second"),
    );
    assert!(took > throttle_timeout * 8 / 10, "{took:?}");
}

/// A client whose burst is over when the throttle ends is not closed.
#[test]
fn attack_54_short_bursts_are_throttled_and_never_closed() {
    const RATE: u32 = 100;
    let throttle_timeout = Duration::from_millis(400);
    let server = server(RATE, throttle_timeout);
    let mut publisher = Client::open(&server, "/broadcast/bursts");
    let began = Instant::now();
    let mut numbers = 0..RATE;
    while began.elapsed() < throttle_timeout * 4 {
        publisher.send(&numbered(numbers.clone()));
        receives_numbered(&mut publisher, numbers.clone());
        numbers = numbers.end..numbers.end + RATE / 10;
    }
    assert!(
        numbers.end > 2 * RATE,
        "{numbers:?}: the client was throttled too much"
    );
}

#[test]
fn attack_54_echoes_and_control_frames_do_not_count_as_publishing() {
    const MESSAGES: u32 = 1_000;
    let server = server(1, Duration::from_millis(100));
    let mut client = Client::open(&server, "/echo");
    client.send(&numbered(0..MESSAGES));
    receives_numbered(&mut client, 0..MESSAGES);
    let mut client = Client::open(&server, "/broadcast/pings");
    client.send(&frame(0x89, b"?").repeat(MESSAGES as usize));
    for _ in 0..MESSAGES {
        client.receives(&reply(0x8A, b"?"));
    }
}

/// A throttled client receives the Close of a drain, and the server reads its answer.
#[test]
fn attack_54_a_drain_does_not_wait_for_a_throttled_client() {
    let server = server(1, PATIENCE);
    let mut publisher = Client::open(&server, "/broadcast/drain");
    publisher.send(&numbered(0..1_000));
    receives_numbered(&mut publisher, 0..1);
    let began = Instant::now();
    server.shutdown.drain();
    let mut received = publisher.receive();
    while received.0 == 0x82 {
        received = publisher.receive();
    }
    assert_eq!(received, (0x88, b"\x03\xE9".to_vec()));
    publisher.send(&close_frame(1001, b""));
    publisher.ends();
    server.stopped().unwrap();
    assert!(began.elapsed() < PATIENCE / 2, "{:?}", began.elapsed());
}

/// Attack 70: a message that fills a member's queue costs its sender as much.
#[test]
fn attack_70_a_message_counts_once_and_again_for_each_64_kib() {
    const RATE: u32 = 100;
    const MESSAGES: u32 = 12;
    const SIZE: usize = 1 << 20;
    let server = server(RATE, PATIENCE);
    let mut member = Client::open(&server, "/broadcast/large");
    let mut publisher = Client::open(&server, "/broadcast/large");
    let began = Instant::now();
    for _ in 0..MESSAGES {
        publisher.send(&frame(0x82, &vec![7; SIZE]));
        // Both read each message before the next, so neither is slow.
        assert_eq!(member.receive().1.len(), SIZE);
        assert_eq!(publisher.receive().1.len(), SIZE);
    }
    let took = began.elapsed();
    figure(
        Kind::Attack,
        70,
        "12 messages of 1 MiB, each counted as 17, at a rate of 100 a second with a burst of 100: time",
        ">= 0.8 s",
        format_args!("{took:.1?}"),
    );
    assert!(took > Duration::from_millis(800), "{took:?}");
}

/// Attack 70: members with small receive buffers that read at a steady pace.
#[test]
fn attack_70_members_that_read_steadily_lose_no_large_message() {
    const MEMBERS: usize = 10;
    const MESSAGES: u8 = 24;
    const SIZE: usize = (1 << 20) - 16;
    let server = TestServer::with(|server| server);
    let expected: Vec<u8> = (0..MESSAGES)
        .flat_map(|number| reply(0x82, &vec![number; SIZE]))
        .collect();
    let members: Vec<_> = (0..MEMBERS)
        .map(|_| Client::open(&server, "/broadcast/steady"))
        .collect();
    let mut publisher = Client::open(&server, "/broadcast/steady");
    let mut own = publisher.stream.try_clone().unwrap();
    let began = Instant::now();
    let lost = thread::scope(|scope| {
        scope.spawn(move || own.read_exact(&mut vec![0; MESSAGES as usize * SIZE]));
        let readers: Vec<_> = members
            .into_iter()
            .map(|member| scope.spawn(|| reads_steadily(member, &expected)))
            .collect();
        for number in 0..MESSAGES {
            publisher.send(&frame(0x82, &vec![number; SIZE]));
        }
        let lasted = readers.into_iter().map(|reader| reader.join().unwrap());
        lasted.filter(|has_all| !has_all).count()
    });
    figure(
        Kind::Attack,
        70,
        "24 messages of 1 MiB at full rate to 10 members that read 5 MiB/s into buffers of 64 KiB: members lost",
        0,
        format_args!("{lost} in {:.1?}", began.elapsed()),
    );
    assert_eq!(lost, 0);
}

/// Reads 256 KiB each 50 ms. Whether these bytes come.
fn reads_steadily(mut member: Client, expected: &[u8]) -> bool {
    rustix::net::sockopt::set_socket_recv_buffer_size(&member.stream, 64 << 10).unwrap();
    let mut part = vec![0; 256 << 10];
    let mut next = Instant::now();
    expected.chunks(part.len()).all(|expected| {
        next += Duration::from_millis(50);
        thread::sleep(next.saturating_duration_since(Instant::now()));
        let part = &mut part[..expected.len()];
        member.stream.read_exact(part).is_ok() && part == expected
    })
}

/// Attack 70: a message that exceeds every queue closes its sender, not the members.
#[test]
fn attack_70_a_message_larger_than_a_queue_closes_its_sender_and_no_member() {
    const MEMBERS: usize = 10;
    let server = TestServer::with(|server| server);
    for path in ["/broadcast/huge", "/ws/7", "/ws/chat/huge/"] {
        let mut members: Vec<_> = (0..MEMBERS).map(|_| Client::open(&server, path)).collect();
        for _ in 0..2 {
            let mut publisher = Client::open(&server, path);
            publisher.send(&frame(0x81, &vec![b'7'; (1 << 20) + 1])[..20]);
            // The departure of the previous publisher may be announced first.
            let close = loop {
                let (first, payload) = publisher.receive();
                if first != 0x81 {
                    break (first, payload.get(..2).map(<[u8]>::to_vec));
                }
            };
            assert_eq!(close, (0x88, Some(1_009_u16.to_be_bytes().to_vec())));
            publisher.ends();
        }
        let text = "{\"message\":\"still here\"}";
        members[0].send_text(text);
        for member in &mut members {
            while !String::from_utf8_lossy(&member.receive().1).contains("still here") {}
        }
    }
    figure(
        Kind::Attack,
        70,
        "messages of 1 MiB and one byte to 10 members: Close to the sender; members lost",
        "1009; 0",
        "1009; 0",
    );
}

/// Attack 70: what members would get counts too, and so does the number of values.
#[test]
fn attack_70_a_chat_message_that_grows_closes_its_sender_and_no_member() {
    let server = TestServer::shared();
    let values = |count: usize| format!("{{\"message\":[{}1]}}", "1,".repeat(count - 1));
    let escapes = |count: usize| format!("{{\"message\":\"{}\"}}", "é".repeat(count));
    let mut member = Client::open(server, "/ws/chat/grows/");
    for (text, is_refused) in [
        (values(9_000), false),
        (values(10_001), true),
        (escapes(100_000), false),
        (escapes(200_000), true),
    ] {
        let mut publisher = Client::open(server, "/ws/chat/grows/");
        publisher.send_text(&text);
        let (first, payload) = publisher.receive();
        match is_refused {
            true => assert_eq!((first, &*payload), (0x88, &b"\x03\xF1message too big"[..])),
            false => assert_eq!(member.receive(), (first, payload)),
        }
    }
    member.send_text("{\"message\":1}");
    member.receives_text("{\"message\": 1}");
}

/// Attack 70: the size of the inflated message counts.
#[cfg(feature = "deflate")]
#[test]
fn attack_70_a_message_that_inflates_beyond_a_queue_closes_its_sender_and_no_member() {
    const SIZE: usize = 16 << 20;
    let server = TestServer::with(|server| server);
    let mut codec = flate2::Compress::new(flate2::Compression::best(), false);
    let mut bomb = Vec::with_capacity(64 << 10);
    codec
        .compress_vec(&vec![0; SIZE], &mut bomb, flate2::FlushCompress::Sync)
        .unwrap();
    bomb.truncate(bomb.len() - 4);
    let mut members: Vec<_> = (0..10)
        .map(|_| Client::open(&server, "/broadcast/bomb"))
        .collect();
    for _ in 0..2 {
        let mut publisher = Client::connect(&server);
        let offer = "\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n";
        let request = crate::client::request("/broadcast/bomb").replacen("\r\n\r\n", offer, 1);
        publisher.send(request.as_bytes());
        assert!(publisher.receive_head().contains("permessage-deflate"));
        publisher.send(&frame(0xC2, &bomb));
        publisher.closes_with(1009);
    }
    members[0].send_text("still here");
    for member in &mut members {
        member.receives_text("still here");
    }
    figure(
        Kind::Attack,
        70,
        "two messages of 16 KiB that inflate to 16 MiB, to 10 members: members lost",
        "0",
        "0",
    );
}

/// A client that connects and leaves in a loop makes the server publish a notice each time.
#[test]
fn attack_54_the_notices_of_leaving_clients_have_a_rate_and_none_is_lost() {
    const RATE: u32 = 2;
    const CLIENTS: u32 = 20;
    let router = app::router_with(AppSettings {
        max_publish_rate: Some(RATE),
        ..AppSettings::default()
    });
    let server = TestServer::serving(router, |server| server);
    let mut member = Client::open(&server, "/ws/0");
    let leavers: Vec<Client> = (1..=CLIENTS)
        .map(|number| Client::open(&server, &format!("/ws/{number}")))
        .collect();
    let began = Instant::now();
    drop(leavers);
    let mut left = HashSet::new();
    let mut receives = |count| {
        for _ in 0..count {
            left.insert(String::from_utf8(member.receive().1).unwrap());
        }
        began.elapsed()
    };
    receives(RATE);
    // The rest waits for a token, and then arrives together.
    let (next, last) = (receives(1), receives(CLIENTS - RATE - 1));
    figure(
        Kind::Attack,
        54,
        format_args!(
            "{CLIENTS} clients of /ws/ID leave, {RATE} messages a second: notices; time of the next after {RATE}, and of the last"
        ),
        format_args!("{CLIENTS}; >= 0.5 s"),
        format_args!("{}; {next:.1?}, {last:.1?}", left.len()),
    );
    assert!(next > Duration::from_millis(450), "{next:?}");
    let expected = (1..=CLIENTS).map(|number| format!("Client {number} left"));
    assert_eq!(left, expected.collect());
}
