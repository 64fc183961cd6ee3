//! The drain: every client receives a Close, and the wait for its answer is limited.

use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::client::{Client, close_frame, frame, reply};
use crate::report::{Kind, figure};
use crate::server::TestServer;

#[test]
fn c31_c44_a_drain_sends_1001_to_all_clients_and_ends_when_all_have_answered() {
    let server = TestServer::with(|server| server);
    let mut clients: Vec<Client> = (0..50)
        .map(|number| Client::open(&server, ["/echo", "/broadcast"][number % 2]))
        .collect();
    let address = server.address;
    server.shutdown.drain();
    for client in &mut clients {
        client.receives(b"\x88\x02\x03\xE9");
        client.send(&close_frame(1001, b""));
        client.ends();
    }
    drop(clients);
    server.stopped().unwrap();
    assert!(
        TcpStream::connect(address).is_err(),
        "the server still listens"
    );
}

#[test]
fn c32_a_client_that_does_not_answer_is_cut_after_the_drain_timeout() {
    const TIMEOUT: Duration = Duration::from_millis(300);
    let server = TestServer::with(|server| server.with_drain_timeout(TIMEOUT));
    let mut silent = Client::open(&server, "/echo");
    let began = Instant::now();
    server.shutdown.drain();
    silent.receives(b"\x88\x02\x03\xE9");
    server.stopped().unwrap();
    let took = began.elapsed();
    assert!(
        (TIMEOUT..TIMEOUT * 10).contains(&took),
        "cut after {took:?}"
    );
}

#[test]
fn attack_56_a_cut_ends_all_connections_at_once() {
    let server = TestServer::with(|server| server.with_drain_timeout(Duration::from_secs(3_600)));
    let mut silent = Client::open(&server, "/echo");
    server.shutdown.drain();
    silent.receives(b"\x88\x02\x03\xE9");
    server.shutdown.cut();
    server.stopped().unwrap();
}

#[test]
fn messages_read_before_the_drain_are_answered_before_the_1001() {
    let server = TestServer::with(|server| server);
    let mut client = Client::open(&server, "/echo");
    for number in 0..100 {
        client.send_text(&number.to_string());
    }
    // Once the hundredth echo arrives, the server has read all messages.
    for number in 0..100 {
        client.receives_text(&number.to_string());
    }
    server.shutdown.drain();
    client.receives(b"\x88\x02\x03\xE9");
    // C33, C34: input after the server's Close is dropped, and a Close with any code answers it.
    client.send_text("late");
    client.send(&frame(0x89, b"late, too"));
    client.send(&close_frame(4000, b"ok"));
    client.ends();
    server.stopped().unwrap();
}

#[test]
fn c35_crossing_closes_send_one_close_each() {
    let server = TestServer::with(|server| server);
    let mut clients: Vec<Client> = (0..20).map(|_| Client::open(&server, "/echo")).collect();
    server.shutdown.drain();
    for client in &mut clients {
        client.send(&close_frame(1000, b"bye"));
        let (first, payload) = client.receive();
        assert_eq!(first, 0x88);
        assert!(
            [&b"\x03\xE9"[..], b"\x03\xE8bye"].contains(&&payload[..]),
            "{payload:02X?}"
        );
        client.ends();
    }
    server.stopped().unwrap();
}

#[test]
fn c36_an_invalid_answer_to_a_close_causes_no_second_close() {
    let server = TestServer::with(|server| server);
    let mut client = Client::open(&server, "/echo");
    server.shutdown.drain();
    client.receives(b"\x88\x02\x03\xE9");
    client.send(&close_frame(1005, b""));
    client.ends();
    server.stopped().unwrap();
}

#[test]
fn a_large_echo_is_whole_before_the_1001() {
    let payload = vec![b'x'; 16 << 20];
    let echo = reply(0x82, &payload);
    let server = TestServer::with(|server| server);
    let mut client = Client::open(&server, "/echo");
    client.send(&frame(0x82, &payload));
    // The echo starts once the server has read the whole message.
    let (begun, rest) = echo.split_at(10);
    client.receives(begun);
    server.shutdown.drain();
    client.receives(rest);
    client.receives(b"\x88\x02\x03\xE9");
    client.send(&close_frame(1001, b""));
    client.ends();
    server.stopped().unwrap();
}

#[test]
fn messages_published_before_the_drain_are_delivered_before_the_1001() {
    const MESSAGES: usize = 500;
    let server = TestServer::with(|server| server);
    let mut members: Vec<_> = (0..4)
        .map(|_| Client::open(&server, "/broadcast/drain"))
        .collect();
    let sent: Vec<u8> = (0..MESSAGES)
        .flat_map(|number| frame(0x81, number.to_string().as_bytes()))
        .collect();
    members[0].send(&sent);
    // When the publisher has its own copy of the last message, the server has read all of them.
    for number in 0..MESSAGES {
        members[0].receives_text(&number.to_string());
    }
    server.shutdown.drain();
    for (index, member) in members.iter_mut().enumerate() {
        for number in (0..MESSAGES).filter(|_| index != 0) {
            member.receives_text(&number.to_string());
        }
        member.receives(b"\x88\x02\x03\xE9");
        member.send(&close_frame(1001, b""));
        member.ends();
    }
    server.stopped().unwrap();
}

/// C33: a client that sends data after the server's Close has no more time than a silent one.
#[test]
fn a_client_that_sends_data_instead_of_answering_the_close_is_cut() {
    const TIMEOUT: Duration = Duration::from_millis(300);
    let server = TestServer::with(|server| server.with_drain_timeout(TIMEOUT));
    let mut client = Client::open(&server, "/echo");
    let mut writer = client.stream.try_clone().unwrap();
    let began = Instant::now();
    server.shutdown.drain();
    client.receives(b"\x88\x02\x03\xE9");
    let talk = std::thread::spawn(move || {
        let words = [frame(0x81, b"and another thing"), frame(0x89, b"p")].concat();
        while std::io::Write::write_all(&mut writer, &words).is_ok() {}
    });
    server.stopped().unwrap();
    let took = began.elapsed();
    assert!(
        (TIMEOUT..TIMEOUT * 100).contains(&took),
        "cut after {took:?}"
    );
    talk.join().unwrap();
}

/// Attack 56 in short: many clients, some of them silent.
#[test]
fn attack_56_silent_clients_do_not_delay_the_1001_of_others() {
    const CLIENTS: usize = 1_000;
    const SILENT: usize = 100;
    const TIMEOUT: Duration = Duration::from_secs(1);
    let server = TestServer::with(|server| server.with_drain_timeout(TIMEOUT));
    let mut clients: Vec<Client> = (0..CLIENTS)
        .map(|_| Client::open(&server, "/echo"))
        .collect();
    let silent = clients.split_off(CLIENTS - SILENT);
    let began = Instant::now();
    server.shutdown.drain();
    for client in &mut clients {
        client.receives(b"\x88\x02\x03\xE9");
        client.send(&close_frame(1001, b""));
    }
    server.stopped().unwrap();
    let took = began.elapsed();
    drop(silent);
    figure(
        Kind::Attack,
        56,
        "drain of 1,000 clients, 100 of them silent, drain timeout 1 s: clients closed with 1001; time until stopped",
        "900; ~ 1 s",
        format_args!("{}; {took:.1?}", clients.len()),
    );
    assert!(took >= TIMEOUT && took < TIMEOUT * 10, "{took:?}");
}
