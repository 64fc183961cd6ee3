//! The drain: everybody is told, nobody is waited for without end.

use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::client::{Client, close_frame};
use crate::server::TestServer;

#[test]
fn c31_c44_everybody_gets_a_1001_and_the_server_stops_when_all_have_answered() {
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
        "nobody listens any more"
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
    assert!(took >= TIMEOUT, "cut after {took:?}");
}

#[test]
fn attack_56_a_second_stage_cuts_at_once() {
    let server = TestServer::with(|server| server.with_drain_timeout(Duration::from_secs(3_600)));
    let mut silent = Client::open(&server, "/echo");
    server.shutdown.drain();
    silent.receives(b"\x88\x02\x03\xE9");
    server.shutdown.cut();
    server.stopped().unwrap();
}

#[test]
fn what_was_read_before_the_drain_is_answered_before_the_1001() {
    let server = TestServer::with(|server| server);
    let mut client = Client::open(&server, "/echo");
    for number in 0..100 {
        client.send_text(&number.to_string());
    }
    // The hundredth echo shows that all were read.
    for number in 0..100 {
        client.receives_text(&number.to_string());
    }
    server.shutdown.drain();
    client.receives(b"\x88\x02\x03\xE9");
    // C33, C34: what comes after our Close is dropped, and any code answers it.
    client.send_text("late");
    client.send(&close_frame(4000, b"ok"));
    client.ends();
    server.stopped().unwrap();
}

#[test]
fn c35_crossing_closes_are_no_second_close() {
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
fn c36_an_invalid_answer_is_no_second_close() {
    let server = TestServer::with(|server| server);
    let mut client = Client::open(&server, "/echo");
    server.shutdown.drain();
    client.receives(b"\x88\x02\x03\xE9");
    client.send(&close_frame(1005, b""));
    client.ends();
    server.stopped().unwrap();
}
