//! The closing handshake, RFC 6455 §5.5.1 and §7: all ways in which it begins and ends.

use std::io::{Read, Write};
use std::thread;
use std::time::{Duration, Instant};

use frameloop::Settings;
use frameloop::engine::Deadlines;

use crate::client::{Client, PATIENCE, close_frame, frame, reply};
use crate::server::TestServer;

fn echo() -> Client {
    Client::open(TestServer::shared(), "/echo")
}

/// What a client sends, and the bytes that it must receive before FIN.
struct Case {
    name: &'static str,
    sent: Vec<u8>,
    received: Vec<u8>,
}

fn case(name: &'static str, sent: &[&[u8]], received: &[&[u8]]) -> Case {
    Case {
        name,
        sent: sent.concat(),
        received: received.concat(),
    }
}

fn cases() -> Vec<Case> {
    let bye = close_frame(1000, b"bye");
    let bye_reply = reply(0x88, b"\x03\xE8bye");
    let longest = [b'r'; 123];
    let hostile = "\0\x1B]0;x\x07\n\u{202E}".as_bytes();
    vec![
        case("C1 empty", &[&frame(0x88, b"")], &[b"\x88\x00"]),
        case(
            "C2 a code",
            &[&close_frame(1000, b"")],
            &[b"\x88\x02\x03\xE8"],
        ),
        case("C3 a code and a reason", &[&bye], &[&bye_reply]),
        case(
            "C5 the longest reason",
            &[&close_frame(1000, &longest)],
            &[&reply(0x88, &[&b"\x03\xE8"[..], &longest].concat())],
        ),
        case(
            "C9 a hostile reason",
            &[&close_frame(4000, hostile)],
            &[&reply(0x88, &[&b"\x0F\xA0"[..], hostile].concat())],
        ),
        case(
            "C13 two Closes",
            &[&bye, &close_frame(1001, b"")],
            &[&bye_reply],
        ),
        case(
            "C14 then a Ping",
            &[&bye, &frame(0x89, b"p")],
            &[&bye_reply],
        ),
        case(
            "C14 then a text",
            &[&bye, &frame(0x81, b"t")],
            &[&bye_reply],
        ),
        case("C14 then garbage", &[&bye, &[0xFF; 1_000]], &[&bye_reply]),
        case(
            "C15 after two texts",
            &[&frame(0x81, b"a"), &frame(0x81, b"b"), &bye],
            &[b"\x81\x01a\x81\x01b", &bye_reply],
        ),
        case(
            "C17 after a first fragment",
            &[&frame(0x01, b"a"), &bye],
            &[&bye_reply],
        ),
        case(
            "C18 between fragments",
            &[&frame(0x01, b"a"), &bye, &frame(0x80, b"b")],
            &[&bye_reply],
        ),
        case(
            "C19 inside another frame's payload",
            &[&frame(0x82, b"\x88\x82\0\0\0\0\x03\xE8"), &bye],
            &[&reply(0x82, b"\x88\x82\0\0\0\0\x03\xE8"), &bye_reply],
        ),
        case(
            "C41 after a Ping",
            &[&frame(0x89, b"p"), &bye],
            &[b"\x8A\x01p", &bye_reply],
        ),
    ]
}

#[test]
fn a_close_is_echoed_after_the_messages_before_it() {
    for Case {
        name,
        sent,
        received,
    } in cases()
    {
        println!("{name}");
        let mut client = echo();
        client.send(&sent);
        client.receives(&received);
        client.ends();
    }
}

#[test]
fn c20_a_close_split_at_any_byte_gets_the_same_answer() {
    for Case {
        name,
        sent,
        received,
    } in cases().into_iter().filter(|case| case.sent.len() < 100)
    {
        for cut in 1..sent.len() {
            println!("{name}, cut at {cut}");
            let mut client = echo();
            // The server may have ended its side after a Close, but it still reads the rest.
            client.send_cut(&sent, cut);
            client.receives(&received);
            client.ends();
        }
    }
}

#[test]
fn invalid_close_frames_fail_the_connection() {
    for (name, sent, code) in [
        ("C4 one byte", frame(0x88, b"\x03"), 1002),
        ("C6 126 bytes", frame(0x88, &[b'\x03'; 126]), 1002),
        ("C8 not UTF-8", close_frame(1000, b"\xFF"), 1007),
        ("C8 truncated", close_frame(1000, b"\xE2\x82"), 1007),
        ("C8 a surrogate", close_frame(1000, b"\xED\xA0\x80"), 1007),
        ("C8 overlong", close_frame(1000, b"\xC0\x80"), 1007),
        ("C10 without FIN", frame(0x08, b"\x03\xE8"), 1002),
        ("C11 not masked", b"\x88\x02\x03\xE8".to_vec(), 1002),
        ("C12 RSV1", frame(0xC8, b"\x03\xE8"), 1002),
        ("C12 RSV2", frame(0xA8, b"\x03\xE8"), 1002),
        ("C12 RSV3", frame(0x98, b"\x03\xE8"), 1002),
        (
            "C39 inside a message",
            [frame(0x01, b"a"), frame(0x81, b"b")].concat(),
            1002,
        ),
    ] {
        println!("{name}");
        let mut client = echo();
        client.send(&sent);
        client.closes_with(code);
    }
}

/// C7: the codes at the edges of each range. A unit test of the protocol decodes every code.
#[test]
fn c7_each_close_code_is_echoed_or_refused() {
    let codes = [
        0, 1, 999, 1_099, 1_100, 2_000, 2_999, 3_000, 3_999, 4_000, 4_999, 5_000,
    ];
    for code in (1_000..=1_016).chain(codes).chain([0x7FFF, 0x8000, 0xFFFF]) {
        let mut client = echo();
        client.send(&close_frame(code, b""));
        if matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999) {
            client.receives(&reply(0x88, &code.to_be_bytes()));
        } else {
            let (first, payload) = client.receive();
            assert_eq!((first, &payload[..2]), (0x88, &b"\x03\xEA"[..]), "{code}");
        }
        client.ends();
    }
}

#[test]
fn c16_a_large_echo_arrives_whole_before_the_close_at_a_slow_reader() {
    let payload = vec![b'x'; 16 << 20];
    let mut client = echo();
    let mut writer = client.stream.try_clone().unwrap();
    let sent = [frame(0x81, &payload), close_frame(1000, b"bye")].concat();
    let writer = thread::spawn(move || writer.write_all(&sent).unwrap());
    // The client reads only after it has sent everything: the server must hold the echo.
    writer.join().unwrap();
    client.receives(&reply(0x81, &payload));
    client.receives(b"\x88\x05\x03\xE8bye");
    client.ends();
}

#[test]
fn a_fin_without_a_close_is_answered_with_fin_alone() {
    let whole = [frame(0x81, b"a"), frame(0x82, b"b")].concat();
    for (name, sent, received) in [
        (
            "C21 half a Close",
            close_frame(1000, b"bye")[..7].to_vec(),
            vec![],
        ),
        ("C22 idle", vec![], vec![]),
        (
            "C23 after whole messages",
            whole.clone(),
            b"\x81\x01a\x82\x01b".to_vec(),
        ),
        (
            "C24 after part of a message",
            [whole, frame(0x81, b"cut off")[..8].to_vec()].concat(),
            b"\x81\x01a\x82\x01b".to_vec(),
        ),
        ("C24 after a fragment", frame(0x01, b"a"), vec![]),
        (
            "C25 after a Close",
            close_frame(1000, b""),
            b"\x88\x02\x03\xE8".to_vec(),
        ),
    ] {
        println!("{name}");
        let mut client = echo();
        client.send(&sent);
        client.finish();
        client.receives(&received);
        client.ends();
    }
}

#[test]
fn c28_a_client_that_never_sends_fin_is_dropped_after_the_linger() {
    let server = TestServer::with(|server| {
        server.with_settings(Settings {
            deadlines: Deadlines {
                linger: Duration::from_millis(200),
                ..Deadlines::default()
            },
            ..Settings::default()
        })
    });
    let mut client = Client::open(&server, "/echo");
    client.send(&close_frame(1000, b""));
    client.receives(b"\x88\x02\x03\xE8");
    // FIN has arrived. The client sends no FIN: it sends single bytes, fewer than the server
    // accepts after a Close, until RST shows that the server has freed the connection.
    assert_eq!(client.stream.read(&mut [0]).unwrap(), 0);
    let began = Instant::now();
    while client.stream.write_all(&[0]).is_ok() {
        assert!(began.elapsed() < PATIENCE, "the connection is still open");
        thread::park_timeout(Duration::from_millis(10));
    }
    let took = began.elapsed();
    assert!(took > Duration::from_millis(100), "cut after {took:?}");
}

/// C29: the server discards data after a Close, up to a limit.
#[test]
fn c29_a_client_that_keeps_sending_after_its_close_is_cut_off() {
    let mut client = echo();
    client.send(&close_frame(1000, b""));
    client.receives(b"\x88\x02\x03\xE8");
    let chunk = vec![0; 64 << 10];
    let taken = (0..1_600)
        .take_while(|_| client.stream.write_all(&chunk).is_ok())
        .count()
        * chunk.len();
    println!("C29: {taken} bytes were sent after the Close, socket buffers included");
    assert!(taken < 64 << 20, "{taken} bytes were sent");
}

/// C30: a Close is answered after the pending echoes, even if the client reads them late.
#[test]
fn c30_pending_echoes_come_before_the_close_even_for_a_late_reader() {
    const MESSAGES: usize = 400;
    let payload = vec![b'x'; 60_000];
    let sent = [
        frame(0x82, &payload).repeat(MESSAGES),
        close_frame(1000, b"bye"),
    ]
    .concat();
    let mut client = echo();
    let mut writer = client.stream.try_clone().unwrap();
    let patience = Duration::from_millis(200);
    writer.set_write_timeout(Some(patience)).unwrap();
    let mut taken = 0;
    while let Ok(bytes) = writer.write(&sent[taken..]) {
        taken += bytes;
        assert_ne!(taken, sent.len(), "the server does not stop reading");
    }
    writer.set_write_timeout(Some(PATIENCE)).unwrap();
    let writer = thread::spawn(move || writer.write_all(&sent[taken..]).unwrap());
    for _ in 0..MESSAGES {
        client.receives(&reply(0x82, &payload));
    }
    client.receives(b"\x88\x05\x03\xE8bye");
    client.ends();
    writer.join().unwrap();
}

/// C23: FIN waits for pending echoes.
#[test]
fn c23_a_large_echo_arrives_whole_before_fin() {
    let payload = vec![b'x'; 16 << 20];
    let mut client = echo();
    client.send(&frame(0x81, &payload));
    client.finish();
    client.receives(&reply(0x81, &payload));
    client.ends();
}

/// C38: the Close arrives although the client is sending another megabyte. A message to a room also
/// goes to its sender, but not once the handler has sent a Close.
#[test]
fn nothing_follows_the_servers_close() {
    for leaves in [Vec::new(), close_frame(1000, b""), b"\xFF".to_vec()] {
        let mut client = Client::open(TestServer::shared(), "/ws/chat/nothing_follows/");
        let message = frame(0x81, br#"{"message": "hi"}"#);
        client.send(&[message, frame(0x82, b""), leaves].concat());
        client.finish();
        client.closes_with(1011);
    }
}

#[test]
fn c38_a_close_reaches_a_client_that_is_still_sending() {
    let more = vec![0x5A; 1_000_000];
    for attempt in 0..100 {
        let mut client = echo();
        client.send(&[&b"\x81\x00"[..], &more].concat());
        let (first, payload) = client.receive();
        assert_eq!(
            (first, &payload[..2]),
            (0x88, &b"\x03\xEA"[..]),
            "attempt {attempt}"
        );
        client.ends_while_being_read();
    }
}

/// C38: a client sends a whole message that is too big before it reads.
#[test]
fn c38_a_close_reaches_a_client_that_sends_a_message_too_big() {
    let mut client = echo();
    client.send(&frame(0x82, &vec![0x5A; (16 << 20) + 1]));
    client.closes_with(1009);
}

#[test]
fn a_message_before_a_protocol_error_is_echoed_before_the_close() {
    let mut client = echo();
    client.send(
        &[
            frame(0x81, b"good"),
            frame(0x83, b"bad"),
            frame(0x81, b"late"),
        ]
        .concat(),
    );
    client.receives(b"\x81\x04good");
    client.closes_with(1002);
}

/// C50: the server closes the TCP connection first, so TIME_WAIT stays on its side and a client
/// never runs out of ports.
#[test]
fn c50_thousands_of_clean_closes_leave_no_client_port_in_time_wait() {
    for _ in 0..3_000 {
        let mut client = echo();
        client.send(&close_frame(1000, b""));
        client.receives(b"\x88\x02\x03\xE8");
        client.ends();
    }
}
