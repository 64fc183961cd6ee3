//! Framing and fragmentation: RFC 6455 §5.

use crate::client::{Client, frame, reply};
use crate::server::TestServer;

fn echo() -> Client {
    Client::open(TestServer::shared(), "/echo")
}

#[test]
fn echoes_use_the_shortest_length_form() {
    let mut client = echo();
    for length in [
        0, 1, 2, 124, 125, 126, 127, 128, 0xFFFE, 0xFFFF, 0x1_0000, 0x1_0001, 300_000,
    ] {
        let payload: Vec<u8> = (0..length).map(|index| (index % 251) as u8).collect();
        client.send(&frame(0x82, &payload));
        client.receives(&reply(0x82, &payload));
    }
}

/// Each case ends with the byte that breaks the rule: the server waits for no more of the frame.
#[test]
fn a_frame_fails_at_the_byte_that_breaks_a_rule() {
    const CASES: [(&str, &[u8], u16); 26] = [
        ("attack 12: RSV1", b"\xC1", 1002),
        ("RSV2", b"\xA1", 1002),
        ("RSV3", b"\x91", 1002),
        ("attack 51: not masked", b"\x81\x01", 1002),
        ("not masked, empty", b"\x82\x00", 1002),
        ("not masked, long", b"\x82\x7F", 1002),
        ("Ping not masked", b"\x89\x00", 1002),
        ("attack 11: fragmented Ping", b"\x09", 1002),
        ("fragmented Pong", b"\x0A", 1002),
        ("fragmented Close", b"\x08", 1002),
        ("attack 11: oversized Ping", b"\x89\xFE", 1002),
        ("oversized Pong", b"\x8A\xFF", 1002),
        ("attack 11, C6: oversized Close", b"\x88\xFE", 1002),
        ("continuation without a message", b"\x80", 1002),
        ("continuation without a message, FIN clear", b"\x00", 1002),
        ("16-bit length of 0", b"\x81\xFE\0\0", 1002),
        ("16-bit length of 125", b"\x82\xFE\0\x7D", 1002),
        ("64-bit length of 0", b"\x81\xFF\0\0\0\0\0\0\0\0", 1002),
        ("64-bit length of 126", b"\x82\xFF\0\0\0\0\0\0\0\x7E", 1002),
        (
            "64-bit length of 65535",
            b"\x82\xFF\0\0\0\0\0\0\xFF\xFF",
            1002,
        ),
        (
            "attack 1: length with its top bit set",
            b"\x82\xFF\x80\0\0\0\0\0\0\0",
            1002,
        ),
        (
            "attack 1: 64-bit length of all ones",
            b"\x82\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF",
            1002,
        ),
        (
            "attack 1: length of 2^63-1",
            b"\x82\xFF\x7F\xFF\xFF\xFF\xFF\xFF\xFF\xFF",
            1009,
        ),
        (
            "attack 1: length just above 2^32",
            b"\x82\xFF\0\0\0\x01\0\0\0\x01",
            1009,
        ),
        (
            "attack 1: fragmented Pong with a length",
            b"\x0A\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF",
            1002,
        ),
        (
            "attack 2: reserved opcode with a length",
            b"\x8B\xFF\0\0\0\0\x01\0\0\0",
            1002,
        ),
    ];
    let reserved_opcodes = (0x03..=0x07).chain(0x0B..=0x0F);
    let reserved_opcodes = reserved_opcodes.flat_map(|opcode| [opcode, 0x80 | opcode]);
    let reserved_bits = (1..=7).flat_map(|bits| [0x81, 0x02, 0x80, 0x89].map(|it| it | bits << 4));
    let reserved = reserved_opcodes
        .chain(reserved_bits)
        .map(|first| (format!("first byte {first:02X}"), vec![first], 1002));
    let cases = CASES.map(|(name, broken, code)| (name.to_owned(), broken.to_vec(), code));
    for (name, broken, code) in cases.into_iter().chain(reserved) {
        println!("{name}");
        let mut client = echo();
        client.send(&broken);
        client.closes_with(code);
        // Complete messages earlier in the segment are answered before the Close.
        let mut client = echo();
        client.send(&[&frame(0x81, b"ok"), &frame(0x89, b"p"), &*broken].concat());
        client.receives(b"\x81\x02ok\x8A\x01p");
        client.closes_with(code);
    }
}

#[test]
fn only_continuations_may_follow_a_first_fragment() {
    let begun = frame(0x01, b"a");
    let ended = frame(0x80, b"b");
    for (name, before, answers, broken) in [
        ("a text", begun.clone(), &b""[..], &b"\x81"[..]),
        ("a binary", begun.clone(), b"", b"\x82"),
        ("a fragmented text", begun.clone(), b"", b"\x01"),
        ("a fragmented binary", begun.clone(), b"", b"\x02"),
        (
            "a text after a continuation",
            [&*begun, &frame(0x00, b"b")].concat(),
            b"",
            b"\x81",
        ),
        (
            "a text after a Ping",
            [&*begun, &frame(0x89, b"p")].concat(),
            b"\x8A\x01p",
            b"\x81",
        ),
        (
            "a continuation after the last fragment",
            [&*begun, &*ended].concat(),
            b"\x81\x02ab",
            b"\x80",
        ),
        ("a continuation not masked", begun.clone(), b"", b"\x80\x01"),
    ] {
        println!("{name}");
        let mut client = echo();
        client.send(&[&*before, broken].concat());
        client.receives(answers);
        client.closes_with(1002);
    }
}

#[test]
fn a_ping_is_answered_and_a_pong_is_not() {
    let mut client = echo();
    client.send(&frame(0x8A, b"unsolicited"));
    client.send(&frame(0x89, b""));
    client.send(&frame(0x89, &[b'p'; 125]));
    client.receives(b"\x8A\x00");
    client.receives(&reply(0x8A, &[b'p'; 125]));
    // Autobahn 2.10: one Pong for each Ping, in order.
    let pings: Vec<u8> = (0..10).flat_map(|number| frame(0x89, &[number])).collect();
    client.send(&pings);
    for number in 0..10 {
        client.receives(&[0x8A, 1, number]);
    }
}

#[test]
fn fragments_are_reassembled_around_control_frames() {
    let mut client = echo();
    client.send(&frame(0x01, "κό".as_bytes()));
    client.send(&frame(0x89, b"1"));
    client.receives(b"\x8A\x011");
    client.send(&frame(0x00, b""));
    client.send(&frame(0x8A, b"2"));
    client.send(&frame(0x00, "σμ".as_bytes()));
    client.send(&frame(0x89, b"3"));
    client.send(&frame(0x80, "ε".as_bytes()));
    client.receives(b"\x8A\x013");
    client.receives_text("κόσμε");
    for (first, expected) in [(0x01, 0x81), (0x02, 0x82)] {
        client.send(&[frame(first, b""), frame(0x00, b""), frame(0x80, b"")].concat());
        client.receives(&[expected, 0]);
    }
}

#[test]
fn attack_9_control_frames_between_fragments_do_not_disturb_the_message() {
    const PINGS: usize = 20_000;
    let mut client = echo();
    let mut writer = client.stream.try_clone().unwrap();
    let sender = std::thread::spawn(move || {
        let sent = [
            frame(0x01, b"a"),
            frame(0x89, b"").repeat(PINGS),
            frame(0x80, b"b"),
        ]
        .concat();
        std::io::Write::write_all(&mut writer, &sent).unwrap();
    });
    client.receives(&b"\x8A\x00".repeat(PINGS));
    client.receives(b"\x81\x02ab");
    sender.join().unwrap();
}

#[test]
fn segmentation_does_not_change_the_replies() {
    let session = [
        frame(0x81, "ça".as_bytes()),
        frame(0x01, b"fr"),
        frame(0x89, b"p"),
        frame(0x80, b"ag"),
        frame(0x82, &[9; 130]),
        frame(0x88, b"\x03\xE8bye"),
    ]
    .concat();
    let replies = [
        reply(0x81, "ça".as_bytes()),
        reply(0x8A, b"p"),
        reply(0x81, b"frag"),
        reply(0x82, &[9; 130]),
        reply(0x88, b"\x03\xE8bye"),
    ]
    .concat();
    for cut in 0..=session.len() {
        let mut client = echo();
        client.send_cut(&session, cut);
        client.receives(&replies);
        client.ends();
    }
    let mut client = echo();
    for byte in session.chunks(1) {
        client.send(byte);
    }
    client.receives(&replies);
    client.ends();
}

#[test]
fn a_burst_is_answered_in_order_and_completely() {
    const MESSAGES: usize = 10_000;
    let mut client = echo();
    let mut writer = client.stream.try_clone().unwrap();
    let text = |number: usize| format!("{number}:{}", "x".repeat(number % 300));
    let sender = std::thread::spawn(move || {
        let sent: Vec<u8> = (0..MESSAGES)
            .flat_map(|number| frame(0x81, text(number).as_bytes()))
            .collect();
        std::io::Write::write_all(&mut writer, &sent).unwrap();
    });
    for number in 0..MESSAGES {
        client.receives_text(&text(number));
    }
    sender.join().unwrap();
}
