//! Inputs that are mostly valid, in the format of each property.

use flate2::{Compress, Compression, FlushCompress};
use proptest::prelude::*;
use proptest::sample::Index;

use crate::properties::client::Frame;

/// Mostly well-formed client frames, in a mostly valid order.
pub(crate) fn frames() -> impl Strategy<Value = Vec<u8>> {
    let first = prop_oneof![
        8 => prop::sample::select(vec![0x81_u8, 0x82, 0x01, 0x02, 0x00, 0x80]),
        3 => prop::sample::select(vec![0x89_u8, 0x8A]),
        1 => Just(0x88_u8),
        1 => any::<u8>(),
    ];
    let payload = prop_oneof![
        4 => prop::collection::vec(any::<u8>(), 0..20),
        4 => ".{0,12}".prop_map(String::into_bytes),
        1 => prop::collection::vec(any::<u8>(), 120..140),
        1 => (60_000_usize..70_000).prop_map(|length| vec![b'a'; length]),
        1 => (30_000_usize..40_000).prop_map(|count| "é".repeat(count).into_bytes()),
    ];
    let key = prop::option::weighted(0.99, any::<[u8; 4]>());
    let frame = (first, payload, key).prop_map(|(first, mut payload, key)| {
        if first & 0x08 != 0 {
            payload.truncate(125);
        }
        if first & 0x0F == 8 && payload.len() >= 2 {
            payload[0] = 3;
        }
        let payload = &payload;
        Frame {
            first,
            payload,
            key,
        }
        .bytes()
    });
    prop::collection::vec(frame, 0..8).prop_map(|frames| frames.concat())
}

/// Compressed messages, fragmented at random, some of them corrupt.
fn compressed_frames() -> impl Strategy<Value = Vec<u8>> {
    let message = (
        prop_oneof![
            6 => ".{0,300}".prop_map(String::into_bytes),
            1 => (60_000_usize..120_000).prop_map(|length| vec![b'a'; length]),
            1 => (20_000_usize..60_000).prop_map(|count| "é".repeat(count).into_bytes()),
        ],
        0..10_u32,
        prop::collection::vec(any::<Index>(), 0..4),
        any::<bool>(),
        prop::option::weighted(0.3, (any::<Index>(), any::<u8>())),
    );
    let message = message.prop_map(|(text, level, cuts, is_text, spoilt)| {
        let mut payload = compress(&text, level);
        if let Some((index, byte)) = spoilt {
            let index = index.index(payload.len());
            payload[index] = byte;
        }
        let pieces = cut(&payload, &cuts);
        let last = pieces.len() - 1;
        let frames = pieces.iter().enumerate().map(|(index, payload)| {
            let opcode = match index {
                0 => 0x40 | if is_text { 1 } else { 2 },
                _ => 0,
            };
            let first = opcode | if index == last { 0x80 } else { 0 };
            let key = Some([1, 2, 3, 4]);
            Frame {
                first,
                payload,
                key,
            }
            .bytes()
        });
        frames.flatten().collect::<Vec<_>>()
    });
    prop::collection::vec(message, 1..4).prop_map(|messages| messages.concat())
}

/// For the receiver: its settings, the cuts of its input, and the input.
pub(crate) fn receiver() -> impl Strategy<Value = Vec<u8>> {
    let bytes = prop_oneof![
        3 => frames().prop_map(|bytes| (0, bytes)),
        1 => compressed_frames().prop_map(|bytes| (2, bytes)),
    ];
    let cuts = prop::collection::vec(any::<u16>(), 0..16);
    (bytes, cuts, any::<bool>(), any::<bool>(), 0..3_u8).prop_map(
        |((deflate, bytes), cuts, takeover, direct, limits)| {
            let flags = deflate | u8::from(takeover) << 2 | u8::from(direct) << 3;
            let mut input = vec![flags, limits, cuts.len() as u8];
            input.extend(cuts.iter().flat_map(|cut| cut.to_be_bytes()));
            input.extend(bytes);
            input
        },
    )
}

/// Lists of extension offers, mostly of one extension.
pub(crate) fn extensions() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop::sample::select(vec![
        "permessage-deflate",
        "permessage-deflate",
        "; ",
        ";",
        ", ",
        "\n",
        "=",
        "\"",
        "\\",
        "10",
        "8",
        "16",
        "client_max_window_bits",
        "server_max_window_bits",
        "client_no_context_takeover",
        "server_no_context_takeover",
        "foo",
        " ",
        "\t",
        "é",
    ]);
    (any::<u8>(), prop::collection::vec(piece, 0..16))
        .prop_map(|(policy, pieces)| [&[policy], pieces.concat().as_bytes()].concat())
}

/// A handshake with a few lines added or missing, and input after it.
pub(crate) fn request() -> impl Strategy<Value = Vec<u8>> {
    const LINES: [&str; 6] = [
        "GET /ws HTTP/1.1",
        "Host: localhost",
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    ];
    let more = prop::sample::select(vec![
        "Content-Length: 5",
        "Content-Length: 0",
        "Transfer-Encoding: chunked",
        "Origin: null",
        "Host: other",
        "Sec-WebSocket-Protocol: a, b",
        "Sec-WebSocket-Protocol: a, a",
        "Sec-WebSocket-Extensions: a;b=\"c\"",
        "Sec-WebSocket-Extensions: ;",
        "Upgrade: h2c",
        "Connection: close",
        "POST /ws HTTP/1.1",
        "GET / HTTP/1.1",
        "",
        "Sec-WebSocket-Version: 8",
    ]);
    let changes = prop::collection::vec((any::<Index>(), prop::option::of(more)), 0..3);
    (changes, frames()).prop_map(|(changes, frames)| {
        let mut lines = LINES.to_vec();
        for (place, line) in changes {
            match line {
                Some(line) => lines.insert(place.index(lines.len() + 1), line),
                None if lines.len() > 1 => drop(lines.remove(place.index(lines.len()))),
                None => {}
            }
        }
        let head = lines.join("\r\n") + "\r\n\r\n";
        [head.as_bytes(), &frames].concat()
    })
}

/// Parameters and texts, or a compressed message, mostly valid.
pub(crate) fn deflate() -> impl Strategy<Value = Vec<u8>> {
    let spoilt = prop::option::of((any::<Index>(), any::<u8>()));
    let compressed = (".{0,300}", 0..10_u32, spoilt).prop_map(|(text, level, spoilt)| {
        let mut payload = compress(text.as_bytes(), level);
        if let Some((index, byte)) = spoilt {
            let index = index.index(payload.len());
            payload[index] = byte;
        }
        [vec![0x80], payload].concat()
    });
    let rest = prop_oneof![prop::collection::vec(any::<u8>(), 0..2_000), compressed];
    (any::<u8>(), rest).prop_map(|(flags, rest)| [vec![flags], rest].concat())
}

/// Enough bytes for many operations.
pub(crate) fn long() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 300..3_000)
}

fn compress(text: &[u8], level: u32) -> Vec<u8> {
    let mut payload = Vec::with_capacity(text.len() * 2 + 1_024);
    Compress::new(Compression::new(level), false)
        .compress_vec(text, &mut payload, FlushCompress::Sync)
        .unwrap();
    payload.strip_suffix(b"\x00\x00\xFF\xFF").unwrap().to_vec()
}

fn cut<'a>(bytes: &'a [u8], cuts: &[Index]) -> Vec<&'a [u8]> {
    let mut places: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
    places.extend([0, bytes.len()]);
    places.sort_unstable();
    let pieces = places.windows(2).map(|pair| &bytes[pair[0]..pair[1]]);
    pieces.collect()
}

/// Packets of Engine.IO and Socket.IO, mostly valid, to either transport, in a new session or an
/// old one; or steps of a session that may be upgraded.
pub(crate) fn socketio() -> impl Strategy<Value = Vec<u8>> {
    let part = prop_oneof![
        "[0-9b]{1,3}",
        Just("42".to_owned()),
        Just("451-".to_owned()),
        "/n?,",
        Just("[\"e\",".to_owned()),
        Just("{\"_placeholder\":true,\"num\":0}".to_owned()),
        Just("]".to_owned()),
        Just("bAQID".to_owned()),
        Just("\u{1e}".to_owned()),
        "\\PC{0,4}",
    ];
    let packets = (any::<u8>(), prop::collection::vec(part, 0..20)).prop_map(|(how, parts)| {
        let mut input = vec![how];
        input.extend(parts.concat().bytes());
        input
    });
    let steps = prop::collection::vec(0..10_u8, 0..40).prop_map(|steps| {
        let mut input = vec![2];
        input.extend(steps);
        input
    });
    prop_oneof![packets, steps]
}
