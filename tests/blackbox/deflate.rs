//! permessage-deflate, RFC 7692: rows D1 to D30, and its limits.

use std::fmt::Write;

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};
use frameloop::protocol::ContextTakeover;
use frameloop::protocol::SizeLimits;
use frameloop::{Deflate, Handler, Membership, Message, Rooms, Router, Settings, WebSocket};

use crate::client::{Client, close_frame, frame, reply, request};
use crate::server::TestServer;

const OFFER: &str = "permessage-deflate";

/// Opens a WebSocket with this extension offer. Returns the server's `Sec-WebSocket-Extensions`.
fn open(server: &TestServer, path: &str, offer: &str) -> (Client, Option<String>) {
    let mut client = Client::connect(server);
    let mut head = request(path);
    head.truncate(head.len() - 2);
    let _ = write!(head, "Sec-WebSocket-Extensions: {offer}\r\n\r\n");
    client.send(head.as_bytes());
    let head = client.receive_head();
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    let answers: Vec<_> = head
        .lines()
        .filter_map(|line| line.strip_prefix("Sec-WebSocket-Extensions: "))
        .map(str::to_owned)
        .collect();
    assert!(answers.len() <= 1, "{answers:?}");
    (client, answers.into_iter().next())
}

/// A client of a server with these compression settings.
fn open_with(deflate: Deflate) -> (TestServer, Client) {
    let server = serving(deflate);
    let (client, answer) = open(&server, "/echo", OFFER);
    assert!(answer.is_some());
    (server, client)
}

fn serving(deflate: Deflate) -> TestServer {
    TestServer::with(|server| {
        server.with_settings(Settings {
            deflate: Some(deflate),
            ..Settings::default()
        })
    })
}

/// Compresses messages of any length.
fn eager() -> Deflate {
    let mut deflate = Deflate::default();
    deflate.min_size = 0;
    deflate
}

fn with_takeover() -> Deflate {
    let mut deflate = eager();
    deflate.context_takeover = ContextTakeover::Both;
    deflate
}

/// One side of a compressed connection, written independently of the server's code.
struct Codec {
    compress: Compress,
    decompress: Decompress,
}

impl Codec {
    fn new() -> Codec {
        Codec {
            compress: Compress::new(Compression::best(), false),
            decompress: Decompress::new(false),
        }
    }

    /// Compresses a message that may refer to earlier ones.
    fn deflate(&mut self, text: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(text.len() + 1_024);
        self.compress
            .compress_vec(text, &mut bytes, FlushCompress::Sync)
            .unwrap();
        assert!(bytes.ends_with(b"\x00\x00\xFF\xFF"));
        bytes.truncate(bytes.len() - 4);
        bytes
    }

    fn inflate(&mut self, bytes: &[u8]) -> Vec<u8> {
        let bytes = [bytes, b"\x00\x00\xFF\xFF"].concat();
        let mut text = Vec::with_capacity(2 << 20);
        self.decompress
            .decompress_vec(&bytes, &mut text, FlushDecompress::Sync)
            .unwrap();
        text
    }
}

fn deflate(text: &[u8]) -> Vec<u8> {
    Codec::new().deflate(text)
}

/// The next message: its opcode, its text, and whether it was compressed.
fn receive(client: &mut Client) -> (u8, Vec<u8>, bool) {
    let (first, payload) = client.receive();
    match first & 0x40 {
        0 => (first, payload, false),
        _ => (first & !0x40, Codec::new().inflate(&payload), true),
    }
}

#[rustfmt::skip] // one row, one line
#[test]
fn d1_to_d20_offers_are_answered_or_declined() {
    let server = TestServer::shared();
    for (row, offer, expected) in [
        ("D1", "permessage-deflate", Some("")),
        ("D2", "permessage-deflate; client_max_window_bits", Some("")),
        ("D3", "permessage-deflate; client_max_window_bits=10", Some("")),
        ("D4", "permessage-deflate; client_max_window_bits=8", Some("")),
        ("D9", "permessage-deflate; server_no_context_takeover", Some("; server_no_context_takeover")),
        ("D10", "permessage-deflate; client_no_context_takeover", Some("; client_no_context_takeover")),
        ("D5", "permessage-deflate; client_max_window_bits=16", None),
        ("D6", "permessage-deflate; server_max_window_bits=9", Some("; server_max_window_bits=9")),
        ("D7", "permessage-deflate; server_max_window_bits=8", None),
        ("D12", "permessage-deflate; server_no_context_takeover; server_no_context_takeover", None),
        ("D15", "permessage-deflate; server_max_window_bits=8, permessage-deflate", Some("")),
        ("E2", "foo, permessage-deflate", Some("")),
        ("E6", "PERMESSAGE-DEFLATE", None),
    ] {
        let (mut client, answer) = open(server, "/echo", offer);
        let expected = expected.map(|more| format!("permessage-deflate{more}"));
        assert_eq!(answer, expected, "{row}: {offer}");
        if answer.is_none() {
            client.send(&frame(0xC1, b"\xF2\x48\xCD\xC9\xC9\x07\x00"));
            client.closes_with(1002);
        }
    }
    let server = TestServer::with(|server| {
        server.with_settings(Settings { deflate: None, ..Settings::default() })
    });
    assert_eq!(open(&server, "/echo", OFFER).1, None, "D19");
}

/// "Hello" as RFC 7692 §7.2.3 prints it, and in other encodings.
#[test]
fn d21_d25_d27_every_block_type_is_inflated() {
    type Row<'a> = (&'a str, u8, Vec<&'a [u8]>, &'a [u8]);
    let rows: [Row<'_>; 13] = [
        (
            "D21 fixed Huffman",
            0x81,
            vec![b"\xF2\x48\xCD\xC9\xC9\x07\x00"],
            b"Hello",
        ),
        (
            "D21 two fragments",
            0x81,
            vec![b"\xF2\x48\xCD", b"\xC9\xC9\x07\x00"],
            b"Hello",
        ),
        (
            "D21 binary",
            0x82,
            vec![b"\xF2\x48\xCD\xC9\xC9\x07\x00"],
            b"Hello",
        ),
        ("D25 empty", 0x81, vec![b"\x00"], b""),
        ("D25 of nothing", 0x81, vec![b""], b""),
        (
            "D25 an empty message in fragments",
            0x82,
            vec![b"", b"", b""],
            b"",
        ),
        (
            "D27 stored",
            0x81,
            vec![b"\x00\x05\x00\xFA\xFFHello\x00"],
            b"Hello",
        ),
        (
            "D27 last block",
            0x81,
            vec![b"\xF3\x48\xCD\xC9\xC9\x07\x00\x00"],
            b"Hello",
        ),
        (
            "D27 a final block at the end",
            0x81,
            vec![b"\xF3\x48\xCD\xC9\xC9\x07\x00"],
            b"Hello",
        ),
        (
            "D27 two blocks",
            0x81,
            vec![b"\xF2\x48\x05\x00\x00\x00\xFF\xFF\xCA\xC9\xC9\x07\x00"],
            b"Hello",
        ),
        (
            "D27 a final block, then another",
            0x81,
            vec![b"\xF3\x48\xCD\xC9\xC9\x07\x00\xF2\x48\xCD\xC9\xC9\x07\x00"],
            b"HelloHello",
        ),
        (
            "D27 trailing empty blocks",
            0x81,
            vec![b"\xF2\x48\xCD\xC9\xC9\x07\x00\x00\x00\xFF\xFF\x00\x00\x00\xFF\xFF\x00"],
            b"Hello",
        ),
        (
            "D27 a tail that the client did not strip",
            0x81,
            vec![b"\xF2\x48\xCD\xC9\xC9\x07\x00\x00\x00\xFF\xFF", b""],
            b"Hello",
        ),
    ];
    let (_server, mut client) = open_with(Deflate::default());
    for (row, first, fragments, text) in rows {
        let last = fragments.len() - 1;
        for (index, fragment) in fragments.iter().enumerate() {
            let fin = if index == last { 0x80 } else { 0 };
            let opcode = if index == 0 { first & 0x0F | 0x40 } else { 0 };
            client.send(&frame(fin | opcode, fragment));
        }
        assert_eq!(receive(&mut client), (first, text.to_vec(), false), "{row}");
    }
    let text = b"dynamic Huffman codes pay for text that is long enough ".repeat(9);
    let dynamic = deflate(&text);
    assert_eq!(dynamic[0] & 0x06, 0x04, "BTYPE");
    client.send(&frame(0xC2, &dynamic));
    assert_eq!(receive(&mut client), (0x82, text, false));
}

#[test]
fn d22_d23_reserved_bits_outside_a_compressed_messages_first_frame_fail() {
    let hello = b"\xF2\x48\xCD\xC9\xC9\x07\x00";
    for (row, frames) in [
        (
            "D22 on a continuation",
            vec![frame(0x41, b"\xF2\x48"), frame(0xC0, b"\xCD")],
        ),
        (
            "D22 on a continuation of an uncompressed message",
            vec![frame(0x01, b"a"), frame(0xC0, hello)],
        ),
        ("D22 on a Ping", vec![frame(0xC9, b"")]),
        ("D22 on a Close", vec![frame(0xC8, b"")]),
        ("D23 RSV2", vec![frame(0xA1, b"a")]),
        ("D23 RSV3", vec![frame(0x91, b"a")]),
        ("D23 RSV1 and RSV2", vec![frame(0xE1, hello)]),
        ("opcode 3", vec![frame(0xC3, hello)]),
    ] {
        let (mut client, _) = open(TestServer::shared(), "/echo", OFFER);
        client.send(&frames.concat());
        let (first, payload) = client.receive();
        assert_eq!(
            (first, &payload[..2]),
            (0x88, &1002_u16.to_be_bytes()[..]),
            "{row}"
        );
        client.ends();
    }
}

#[test]
fn d24_uncompressed_messages_may_come_between_compressed_ones() {
    let (_server, mut client) = open_with(with_takeover());
    let mut codec = Codec::new();
    for round in 0..5 {
        client.send_text("plain");
        let (_, payload) = client.receive();
        assert!(payload == b"plain", "too short to compress");
        let text = format!("a text that says again what it has said {round}").repeat(5);
        let compressed = codec.deflate(text.as_bytes());
        client.send(&frame(0xC1, &compressed));
        let (first, payload) = client.receive();
        assert_eq!(first, 0xC1);
        assert_eq!(codec.inflate(&payload), text.as_bytes(), "round {round}");
    }
}

#[test]
fn d26_without_context_takeover_a_reference_to_an_earlier_message_fails() {
    let text = b"what has been said before can be referred to ".repeat(3);
    let mut without = Deflate::default();
    without.context_takeover = ContextTakeover::None;
    const DECLINED: &str = "permessage-deflate; client_no_context_takeover";
    for (deflate, offer, is_valid) in [
        (without, OFFER, false),
        (Deflate::default(), OFFER, true),
        (Deflate::default(), DECLINED, false),
        (with_takeover(), OFFER, true),
        (with_takeover(), DECLINED, false),
    ] {
        let server = serving(deflate);
        let (mut client, _) = open(&server, "/echo", offer);
        let mut codec = Codec::new();
        client.send(&frame(0xC1, &codec.deflate(&text)));
        client.receive();
        let second = codec.deflate(&text);
        assert!(
            second.len() < text.len() / 4,
            "the second message does not refer to the first"
        );
        client.send(&frame(0xC1, &second));
        match is_valid {
            true => drop(client.receive()),
            false => client.closes_with(1007),
        }
    }
}

#[test]
fn d28_the_message_limit_counts_inflated_bytes() {
    let server = TestServer::with(|server| {
        server.with_settings(Settings {
            limits: SizeLimits {
                max_message_size: 100_000,
                max_frame_size: 100_000,
            },
            ..Settings::default()
        })
    });
    let random: Vec<u8> = std::iter::repeat_with(|| fastrand::u8(..))
        .take(100_000)
        .collect();
    for exact in [vec![b'a'; 100_000], random] {
        let (mut client, _) = open(&server, "/echo", OFFER);
        // The last fragment inflates to nothing, exactly at the limit.
        let compressed = deflate(&exact);
        client.send(&frame(0x42, &compressed));
        client.send(&frame(0x80, b"\x00\x00\xFF\xFF\x00"));
        assert_eq!(receive(&mut client).1, exact);
        let more = [&exact[..], b"b"].concat();
        client.send(&frame(0xC2, &deflate(&more)));
        client.closes_with(1009);
    }
}

#[test]
fn d29_invalid_utf8_fails_while_the_message_inflates() {
    for (row, text, is_fin) in [
        ("whole", &b"ab\xFFcd"[..], true),
        ("an unfinished message", b"ab\xFF", false),
        ("broken off", b"ab\xE2\x82", true),
        ("a surrogate", b"\xED\xA0\x80", true),
    ] {
        let (mut client, _) = open(TestServer::shared(), "/echo", OFFER);
        let mut payload = deflate(text);
        if !is_fin {
            payload.extend(b"\x00\x00\xFF\xFF");
        }
        client.send(&frame(if is_fin { 0xC1 } else { 0x41 }, &payload));
        let (first, payload) = client.receive();
        assert_eq!(
            (first, &payload[..2]),
            (0x88, &1007_u16.to_be_bytes()[..]),
            "{row}"
        );
    }
    // A character may straddle the boundary of two 16 KiB inflation steps.
    let text = format!("a{}", "€😀".repeat(20_000));
    let (mut client, _) = open(TestServer::shared(), "/echo", OFFER);
    client.send(&frame(0xC1, &deflate(text.as_bytes())));
    assert!(receive(&mut client).1 == text.as_bytes());
}

#[test]
fn d30_a_compressed_message_in_10_000_fragments_with_pings_between() {
    let mut random = fastrand::Rng::with_seed(7);
    let text: Vec<u8> = std::iter::repeat_with(|| random.u8(..))
        .take(9_995)
        .collect();
    let compressed = deflate(&text);
    assert!(compressed.len() >= 10_000, "{}", compressed.len());
    let (mut client, _) = open(TestServer::shared(), "/echo", OFFER);
    let last = compressed.len() - 1;
    let mut bytes = Vec::new();
    for (index, byte) in compressed.iter().enumerate() {
        let opcode = if index == 0 { 0x42 } else { 0 };
        let fin = if index == last { 0x80 } else { 0 };
        bytes.extend(frame(fin | opcode, &[*byte]));
        if index % 100 == 50 {
            bytes.extend(frame(0x89, b"between"));
        }
    }
    client.send(&bytes);
    for _ in 0..compressed.len() / 100 {
        assert_eq!(client.receive(), (0x8A, b"between".to_vec()));
    }
    assert!(receive(&mut client).1 == text);
}

#[test]
fn a16_invalid_deflate_data_is_refused() {
    let hello = b"\xF2\x48\xCD\xC9\xC9\x07\x00";
    let rows: [(&str, &[u8]); 6] = [
        ("all ones", b"\xFF\xFF\xFF\xFF\xFF"),
        ("truncated inside a block", &hello[..4]),
        ("truncated before its end", &hello[..6]),
        (
            "a stored block with missing bytes",
            b"\x00\x05\x00\xFA\xFFHel",
        ),
        (
            "a stored block with a wrong length",
            b"\x00\x05\x00\x00\x00Hello\x00",
        ),
        (
            "garbage after the final block",
            b"\xF3\x48\xCD\xC9\xC9\x07\x00\xFF\xFF",
        ),
    ];
    for (row, payload) in rows {
        let (mut client, _) = open(TestServer::shared(), "/echo", OFFER);
        client.send(&frame(0xC1, payload));
        let (first, payload) = client.receive();
        assert_eq!(
            (first, &payload[..2]),
            (0x88, &1007_u16.to_be_bytes()[..]),
            "{row}"
        );
        client.ends();
    }
}

#[test]
fn messages_are_compressed_if_that_makes_them_smaller() {
    let text = br#"{"id":1,"user":"alice"},"#.repeat(100);
    let noise: Vec<u8> = std::iter::repeat_with(|| fastrand::u8(..))
        .take(5_000)
        .collect();
    let (mut client, _) = open(TestServer::shared(), "/echo", OFFER);
    for (text, is_compressed) in [
        (&text[..], true),
        (&text[..1_024], true),
        (&text[..1_023], false),
        (&noise, false),
        (b"", false),
    ] {
        for first in [0x82, 0xC2] {
            let payload = if first == 0x82 {
                text.to_vec()
            } else {
                deflate(text)
            };
            client.send(&frame(first, &payload));
            assert_eq!(receive(&mut client), (0x82, text.to_vec(), is_compressed));
        }
    }
    // Without an offer, nothing is compressed.
    let mut client = Client::open(TestServer::shared(), "/echo");
    client.send(&frame(0x82, &text));
    client.receives(&reply(0x82, &text));
}

/// Incompressible data is sent uncompressed and leaves no trace in the compressor's state.
#[test]
fn messages_after_an_incompressible_one_arrive_whole() {
    for level in [1, 2, 6] {
        let mut deflate = eager();
        deflate.level = level;
        let server = TestServer::with(|server| {
            let deflate = Some(deflate);
            server.with_workers(1).with_settings(Settings {
                deflate,
                ..Settings::default()
            })
        });
        let (mut client, _) = open(&server, "/echo", OFFER);
        let mut random = fastrand::Rng::with_seed(3);
        for round in 0..40 {
            let length = [1, 30, 5_000, 100_000][round % 4];
            let noise: Vec<u8> = std::iter::repeat_with(|| random.u8(..))
                .take(length)
                .collect();
            let text = b"frameloop ".repeat(length / 10 + 20);
            for (message, is_compressed) in [(noise, false), (text, true)] {
                client.send(&frame(0x82, &message));
                let received = receive(&mut client);
                assert!(received == (0x82, message, is_compressed), "round {round}");
            }
        }
    }
}

/// The replies to long messages keep their order, also before the answer to a Close, and for a
/// client that reads late.
#[test]
fn replies_to_long_messages_keep_their_order() {
    let (_server, mut client) = open_with(with_takeover());
    let text = b"frameloop ".repeat(100_000);
    let lengths = [700_000, 10, 70_000, 1_000_000, 0, 65_537, 200];
    for length in lengths {
        client.send(&frame(0x82, &text[..length]));
        client.send(&frame(0x89, b"ping"));
    }
    client.send(&close_frame(1000, b"bye"));
    let mut codec = Codec::new();
    for length in lengths {
        let (first, payload) = client.receive();
        let payload = match first {
            0xC2 => codec.inflate(&payload),
            _ => payload,
        };
        assert!(payload == text[..length], "{length}");
        assert_eq!(client.receive(), (0x8A, b"ping".to_vec()), "{length}");
    }
    client.receives(&reply(0x88, b"\x03\xE8bye"));
}

/// By default a client's messages may refer to its earlier ones, up to 32 KiB back; the server's
/// messages never do.
#[test]
fn by_default_only_the_client_uses_context_takeover() {
    let (_server, mut client) = open_with(eager());
    let mut codec = Codec::new();
    let mut random = fastrand::Rng::with_seed(20);
    let phrases: Vec<Vec<u8>> = (0..300)
        .map(|_| std::iter::repeat_with(|| random.u8(..)).take(100).collect())
        .collect();
    for (round, count) in (0..200).zip([3, 1, 40, 7, 0, 330].into_iter().cycle()) {
        let text: Vec<u8> = (0..count)
            .flat_map(|_| phrases[random.usize(..300)].clone())
            .collect();
        client.send(&frame(0xC2, &codec.deflate(&text)));
        assert!(receive(&mut client).1 == text, "round {round}"); // each message inflates on its own
    }
}

/// The windows of clients count towards the budget of unfinished input. When more than half of it
/// is in use, new connections decline the extension.
#[test]
fn windows_count_towards_the_budget_and_a_full_budget_declines_the_extension() {
    let server = TestServer::with(|server| {
        server.with_workers(1).with_settings(Settings {
            max_unfinished_size: 1 << 20,
            ..Settings::default()
        })
    });
    let text: Vec<u8> = std::iter::repeat_with(|| fastrand::u8(..))
        .take(32 << 10)
        .collect();
    let compressed = frame(0xC2, &deflate(&text));
    let mut clients = Vec::new();
    let declined = (0..40).find(|_| {
        let (mut client, answer) = open(&server, "/echo", OFFER);
        if answer.is_some() {
            client.send(&compressed);
            assert!(receive(&mut client).1 == text);
            clients.push(client);
        }
        answer.is_none()
    });
    // 512 KiB, less the inflater and the buffers of the worker.
    assert!((8..=16).contains(&declined.unwrap()), "{declined:?}");
    // Connections that have negotiated the extension keep it.
    for client in &mut clients {
        client.send(&compressed);
        assert!(receive(client).1 == text);
    }
    let mut left = clients.split_off(1);
    while let Some(mut client) = left.pop() {
        client.send(&close_frame(1000, b""));
        client.closes_with(1000);
    }
    assert_eq!(open(&server, "/echo", OFFER).1.as_deref(), Some(OFFER));
}

/// Messages refer to earlier ones, but no farther back than the window.
#[test]
fn context_takeover_works_both_ways_with_every_window_size() {
    for bits in 9..=15 {
        let mut deflate = with_takeover();
        deflate.window_bits = bits;
        for level in [1, 6] {
            deflate.level = level;
            let server = serving(deflate);
            let (mut client, answer) = open(&server, "/echo", OFFER);
            let named = answer
                .unwrap()
                .contains(&format!("server_max_window_bits={bits}"));
            assert_eq!(named, bits < 15);
            let mut codec = Codec::new();
            let mut random = fastrand::Rng::with_seed(u64::from(bits));
            let phrases: Vec<Vec<u8>> = (0..40)
                .map(|_| std::iter::repeat_with(|| random.u8(..)).take(50).collect())
                .collect();
            for _ in 0..60 {
                let count = random.usize(1..60);
                let text: Vec<u8> = (0..count)
                    .flat_map(|_| phrases[random.usize(..40)].clone())
                    .collect();
                client.send(&frame(0xC2, &codec.deflate(&text)));
                let (first, payload) = client.receive();
                let received = match first {
                    0xC2 => codec.inflate(&payload),
                    _ => payload,
                };
                assert!(received == text, "window {bits}, level {level}");
            }
        }
    }
}

#[test]
fn context_takeover_shortens_a_repeated_message() {
    let (_server, mut client) = open_with(with_takeover());
    let text: Vec<u8> = (0..200_u32)
        .flat_map(|number| format!("{:x} ", number.wrapping_mul(2_654_435_761)).into_bytes())
        .collect();
    let mut codec = Codec::new();
    let mut lengths = Vec::new();
    for _ in 0..3 {
        client.send(&frame(0x81, &text));
        let (first, payload) = client.receive();
        assert_eq!(first, 0xC1);
        lengths.push(payload.len());
        assert_eq!(codec.inflate(&payload), text);
    }
    assert!(
        lengths[0] > 1_000 && lengths[1] < 50 && lengths[2] < 50,
        "{lengths:?}"
    );
}

#[test]
fn fan_out_is_compressed_only_for_members_that_negotiated_it() {
    for deflate in [eager(), with_takeover()] {
        let server = serving(deflate);
        let offers = [
            OFFER,
            "permessage-deflate; server_max_window_bits=9",
            "permessage-bzip2",
            "permessage-deflate; server_no_context_takeover",
        ];
        let mut clients: Vec<_> = offers
            .iter()
            .chain(&offers)
            .map(|offer| (open(&server, "/broadcast/forms", offer).0, Codec::new()))
            .collect();
        let short = b"short ".repeat(20);
        let long = br#"{"id":1,"user":"alice"},"#.repeat(100);
        let large = br#"{"id":1,"user":"alice"},"#.repeat(2_000);
        for (round, text) in [&short, &long, &large, &long, &short, &b"a".to_vec()]
            .into_iter()
            .cycle()
            .take(30)
            .enumerate()
        {
            let publisher = round % clients.len();
            clients[publisher].0.send(&frame(0x81, text));
            for (index, (client, codec)) in clients.iter_mut().enumerate() {
                let (first, payload) = client.receive();
                let is_compressed = first == 0xC1;
                let received = match is_compressed {
                    true => codec.inflate(&payload),
                    false => payload,
                };
                assert!(&received == text, "round {round}, client {index}");
                let reads = match index % 4 {
                    1 => text.len() < 512 - 4,
                    2 => false,
                    _ => true,
                };
                assert_eq!(
                    is_compressed,
                    reads && text.len() > 1,
                    "round {round}, client {index}"
                );
            }
        }
    }
}

/// A member's window holds the room's messages, too, so a reply to the member must not refer to text
/// before them.
#[test]
fn a_reply_does_not_refer_to_text_before_a_compressed_fan_out() {
    struct Member(Rooms, Option<Membership>);
    impl Handler for Member {
        fn open(&mut self, socket: &mut WebSocket<'_>) {
            self.1 = self.0.join("room", &socket.peer()).ok();
        }

        fn message(&mut self, socket: &mut WebSocket<'_>, message: Message<'_>) {
            match message {
                Message::Text(_) => socket.send(message),
                message => self.0.publish("room", message),
            }
        }
    }
    let rooms = Rooms::default();
    let router = Router::new().websocket("/", move |_| Member(rooms.clone(), None));
    let server = TestServer::serving(router, |server| {
        server.with_settings(Settings {
            deflate: Some(with_takeover()),
            ..Settings::default()
        })
    });
    let (mut client, _) = open(&server, "/", OFFER);
    let mut codec = Codec::new();
    let text = b"what the reply says, again and again ".repeat(4);
    let published = b"and what the room is sent, which is something else ".repeat(9);
    for first in [0x81, 0x82, 0x81] {
        let payload = if first == 0x81 { &text } else { &published };
        client.send(&frame(first, payload));
        let (received, compressed) = client.receive();
        assert_eq!(received, first | 0x40);
        assert!(&codec.inflate(&compressed) == payload, "{first:02X}");
    }
}

/// Row 13: a decompression bomb costs no more than the message limit.
#[test]
fn a13_a_decompression_bomb_closes_with_1009() {
    const LIMIT: usize = 16 << 20;
    let bomb = deflate(&vec![0; LIMIT + 1]);
    assert!(bomb.len() < 17_000, "{}", bomb.len());
    for fragments in [1, 1_000] {
        let (mut client, _) = open(TestServer::shared(), "/echo", OFFER);
        let pieces: Vec<_> = bomb.chunks(bomb.len().div_ceil(fragments)).collect();
        let mut bytes = Vec::new();
        for (index, piece) in pieces.iter().enumerate() {
            let opcode = if index == 0 { 0x42 } else { 0 };
            let fin = if index + 1 == pieces.len() { 0x80 } else { 0 };
            bytes.extend(frame(fin | opcode, piece));
        }
        client.send(&bytes);
        client.closes_with(1009);
    }
}
