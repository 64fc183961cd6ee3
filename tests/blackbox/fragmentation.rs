//! Messages in many pieces: fragments, segments, and both at once on many connections.

use std::io::Write;
use std::thread;

use crate::client::{Client, frame, reply};
use crate::server::TestServer;

fn echo() -> Client {
    Client::open(TestServer::shared(), "/echo")
}

/// The frames of a message, cut into fragments of these sizes in rotation.
fn fragments(opcode: u8, payload: &[u8], sizes: &[usize]) -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    let mut rest = payload;
    for size in sizes.iter().cycle() {
        let (fragment, more) = rest.split_at(rest.len().min(*size));
        let fin = if more.is_empty() { 0x80 } else { 0 };
        let opcode = if frames.is_empty() { opcode } else { 0 };
        frames.push(frame(fin | opcode, fragment));
        rest = more;
        if rest.is_empty() {
            break;
        }
    }
    frames
}

/// Bytes 1 to 254 in rotation, starting at `seed`, so that two messages differ in every byte.
fn pattern(seed: usize, length: usize) -> Vec<u8> {
    (0..length)
        .map(|index| ((seed + index) % 254 + 1) as u8)
        .collect()
}

#[test]
fn fragments_of_all_sizes_are_reassembled_around_control_frames() {
    const SIZES: [usize; 12] = [
        1, 0, 125, 126, 65_535, 0, 65_536, 16_383, 16_384, 16_385, 3, 200_000,
    ];
    for (opcode, payload) in [
        (0x02, pattern(7, 1_500_000)),
        (0x01, "1é中😀".repeat(150_000).into_bytes()),
    ] {
        let mut client = echo();
        let mut writer = client.stream.try_clone().unwrap();
        let frames = fragments(opcode, &payload, &SIZES);
        let pings = frames.len();
        let sender = thread::spawn(move || {
            for (number, fragment) in frames.iter().enumerate() {
                let ping = frame(0x89, &number.to_be_bytes());
                writer.write_all(&[&*ping, fragment].concat()).unwrap();
            }
        });
        for number in 0..pings {
            client.receives(&reply(0x8A, &number.to_be_bytes()));
        }
        client.receives(&reply(0x80 | opcode, &payload));
        sender.join().unwrap();
    }
}

#[test]
fn attack_5_131_000_one_byte_fragments_are_one_message() {
    let payload = pattern(0, 131_000);
    let mut client = echo();
    client.send(&fragments(0x02, &payload, &[1]).concat());
    client.receives(&reply(0x82, &payload));
}

#[test]
fn attack_5_one_byte_segments_change_nothing() {
    let text = "é中😀!".repeat(1_000);
    let mut client = echo();
    let single = frame(0x81, text.as_bytes());
    let several = fragments(0x01, text.as_bytes(), &[999, 0, 1]).concat();
    for sent in [single, several] {
        for byte in sent.chunks(1) {
            client.send(byte);
        }
        client.receives(&reply(0x81, text.as_bytes()));
    }
}

/// Connections share buffers, so bytes of one message must not appear in another.
#[test]
fn messages_reassembled_at_the_same_time_do_not_mix() {
    const CLIENTS: usize = 8;
    const LENGTHS: [usize; 6] = [100_000, 10, 40_000, 0, 17_000, 300];
    const PIECE: usize = 1_777;
    let server = TestServer::with(|server| server.with_workers(1));
    let mut clients: Vec<_> = (0..CLIENTS)
        .map(|_| Client::open(&server, "/echo"))
        .collect();
    let payload = |client: usize, length: usize| pattern(client * 31 + length, length);
    let streams: Vec<Vec<u8>> = (0..CLIENTS)
        .map(|client| {
            LENGTHS
                .iter()
                .flat_map(|length| fragments(0x02, &payload(client, *length), &[5_000, 1, 20_000]))
                .collect::<Vec<_>>()
                .concat()
        })
        .collect();
    // Each client in turn sends a piece of fixed size, whatever frame it ends in.
    for round in 0..=streams[0].len() / PIECE {
        for (client, stream) in clients.iter_mut().zip(&streams) {
            let start = (round * PIECE).min(stream.len());
            let end = (start + PIECE).min(stream.len());
            client.send(&stream[start..end]);
        }
    }
    for (number, client) in clients.iter_mut().enumerate() {
        for length in LENGTHS {
            client.receives(&reply(0x82, &payload(number, length)));
        }
    }
}

#[test]
fn attack_6_empty_fragments_are_counted_per_message() {
    const MAX: usize = 1_024;
    let mut client = echo();
    for _ in 0..3 {
        // The most empty fragments in a row, the first and last frame included.
        let between = frame(0x00, b"").repeat(MAX - 2);
        client.send(&[frame(0x01, b""), between, frame(0x80, b"")].concat());
        client.receives(b"\x81\x00");
    }
    // A byte of payload resets the count.
    let (first, most) = (frame(0x01, b"a"), frame(0x00, b"").repeat(MAX));
    client.send(
        &[
            &*first,
            &most,
            &frame(0x00, b"b"),
            &most,
            &frame(0x80, b"c"),
        ]
        .concat(),
    );
    client.receives_text("abc");
    client.send(&[&*first, &most, &frame(0x00, b"")].concat());
    client.closes_with(1008);
}

#[test]
fn a_session_cut_in_three_gives_the_same_replies() {
    let session = [
        frame(0x01, "é".as_bytes()),
        frame(0x89, b"p"),
        frame(0x80, "中".as_bytes()),
        frame(0x88, b"\x03\xE8"),
    ]
    .concat();
    let replies = [
        reply(0x8A, b"p"),
        reply(0x81, "é中".as_bytes()),
        reply(0x88, b"\x03\xE8"),
    ]
    .concat();
    for first in 1..session.len() {
        for second in first..session.len() {
            let mut client = echo();
            client.send(&session[..first]);
            client.send(&session[first..second]);
            client.send(&session[second..]);
            client.receives(&replies);
            client.ends();
        }
    }
}
