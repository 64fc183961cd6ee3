//! UTF-8 is validated while it arrives: RFC 6455 §8.1.

use crate::client::{Client, frame, reply};
use crate::server::TestServer;

fn echo() -> Client {
    Client::open(TestServer::shared(), "/echo")
}

/// Texts whose last byte is the first invalid one.
const BROKEN: [&[u8]; 10] = [
    b"\xFF",
    b"\xFE",
    b"\x80",
    b"\xC0",
    b"\xED\xA0",
    b"\xE0\x80",
    b"\xF0\x80",
    b"\xF4\x90",
    b"\xF5",
    b"\xCE\xBA\xE1\xBD\xB9\xF4\x90",
];

/// Attack 52: the frame declares 4,096 bytes, and fails at the first invalid byte.
#[test]
fn attack_52_an_unfinished_frame_fails_at_its_first_invalid_byte() {
    for text in BROKEN {
        let whole = frame(0x81, &[text, &vec![b' '; 4_096 - text.len()]].concat());
        let header = 8;
        let mut client = echo();
        client.send_cut(&whole[..header + text.len()], header + text.len() - 1);
        client.closes_with(1007);
        // The same in a later fragment.
        let mut later = whole;
        later[0] = 0x80;
        let mut client = echo();
        client.send(&frame(0x01, "fine é".as_bytes()));
        client.send_cut(&later[..header + text.len()], header + text.len() - 1);
        client.closes_with(1007);
    }
}

/// Large payloads take another path: the server reads them directly into the message buffer.
#[test]
fn attack_52_an_unfinished_frame_of_a_megabyte_fails_at_its_first_invalid_byte() {
    for text in BROKEN {
        let fine = "é".repeat(150_000);
        let whole = frame(0x81, &[fine.as_bytes(), text, &[b' '; 1 << 20]].concat());
        let bad = 14 + fine.len() + text.len();
        let mut client = echo();
        client.send(&whole[..100_001]);
        client.send(&whole[100_001..bad - 1]);
        assert!(client.is_silent_for(std::time::Duration::from_millis(10)));
        client.send(&whole[bad - 1..bad]);
        client.closes_with(1007);
    }
}

#[test]
fn invalid_bytes_fail_in_whole_frames_and_in_fragments() {
    for text in BROKEN {
        let text = [b"fine until ", text].concat();
        let mut client = echo();
        client.send(&frame(0x81, &text));
        client.closes_with(1007);
        for cut in 0..text.len() {
            let mut client = echo();
            client.send(&frame(0x01, &text[..cut]));
            client.send(&frame(0x00, &text[cut..]));
            client.closes_with(1007);
        }
    }
}

#[test]
fn a_message_must_not_end_inside_a_character() {
    for text in [&b"\xC3"[..], b"\xE2\x82", b"\xF0\x9F\x98"] {
        let mut client = echo();
        client.send(&frame(0x81, text));
        client.closes_with(1007);
        let mut client = echo();
        client.send(&frame(0x01, text));
        client.send(&frame(0x80, b""));
        client.closes_with(1007);
    }
}

#[test]
fn attack_53_valid_text_passes_in_any_fragmentation() {
    let text = "κόσμε 你好 😀\u{10FFFF}";
    let mut client = echo();
    for cut in 0..=text.len() {
        client.send(&frame(0x01, &text.as_bytes()[..cut]));
        client.send(&frame(0x80, &text.as_bytes()[cut..]));
        client.receives_text(text);
    }
    for (index, byte) in text.as_bytes().chunks(1).take(text.len() - 1).enumerate() {
        client.send(&frame(if index == 0 { 0x01 } else { 0x00 }, byte));
    }
    client.send(&frame(0x80, &text.as_bytes()[text.len() - 1..]));
    client.receives_text(text);
}

#[test]
fn large_texts_pass_in_every_alphabet() {
    let mut client = echo();
    for text in [
        "a".repeat(1 << 20),
        "é".repeat(1 << 19),
        "中".repeat(300_000),
        "😀".repeat(1 << 18),
    ] {
        client.send(&frame(0x81, text.as_bytes()));
        client.receives(&reply(0x81, text.as_bytes()));
    }
}

#[test]
fn binary_messages_may_contain_any_byte() {
    let mut client = echo();
    for payload in BROKEN {
        client.send(&frame(0x82, payload));
        client.receives(&reply(0x82, payload));
    }
}
