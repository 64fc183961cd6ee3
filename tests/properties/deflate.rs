//! permessage-deflate: cut anywhere it gives the same, and another implementation reads what this
//! one writes and the other way about.

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};
use frameloop::protocol::{
    Deflate, DeflateParameters, Deflater, Limits, Message, Receiver, Role, Sender,
};
use proptest::prelude::*;

use crate::receiver::{Frame, LIMITS, Received, cut, receive_by};

fn parameters() -> impl Strategy<Value = DeflateParameters> {
    let window = 9_u8..=15;
    (any::<bool>(), any::<bool>(), window.clone(), window).prop_map(
        |(server, client, server_window, client_window)| DeflateParameters {
            server_no_context_takeover: server,
            client_no_context_takeover: client,
            server_max_window_bits: server_window,
            client_max_window_bits: client_window,
        },
    )
}

/// Texts that repeat themselves and each other, near and far.
fn texts() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let phrase = prop::collection::vec(any::<u8>(), 1..200);
    let phrases = prop::collection::vec(phrase, 1..20);
    let picks = prop::collection::vec(any::<prop::sample::Index>(), 0..150);
    (phrases, prop::collection::vec(picks, 1..6)).prop_map(|(phrases, messages)| {
        let text = |picks: Vec<prop::sample::Index>| -> Vec<u8> {
            let pieces = picks.iter().map(|pick| pick.get(&phrases).as_slice());
            pieces.collect::<Vec<_>>().concat()
        };
        messages.into_iter().map(text).collect()
    })
}

fn settings(level: u8) -> Deflate {
    let mut deflate = Deflate::default();
    deflate.level = level;
    deflate.min_size = 0;
    deflate
}

/// Compressed messages, each in fragments of its own cut, some of them spoilt.
fn compressed_frames() -> impl Strategy<Value = Vec<u8>> {
    let message = (
        prop_oneof![
            3 => texts().prop_map(|texts| texts.concat()),
            3 => ".{0,300}".prop_map(String::into_bytes),
            1 => (60_000_usize..120_000).prop_map(|length| vec![b'a'; length]),
            1 => (20_000_usize..60_000).prop_map(|count| "é".repeat(count).into_bytes()),
        ],
        0..10_u32,
        prop::collection::vec(any::<prop::sample::Index>(), 0..4),
        any::<bool>(),
        prop::option::weighted(0.3, (any::<prop::sample::Index>(), any::<u8>())),
    );
    let message = message.prop_map(|(text, level, cuts, is_text, spoilt)| {
        let mut codec = Compress::new(Compression::new(level), false);
        let mut payload = compress(&mut codec, &text);
        if let Some((index, octet)) = spoilt {
            let index = index.index(payload.len());
            payload[index] = octet;
        }
        let pieces = cut(&payload, &cuts);
        let last = pieces.len() - 1;
        let frames = pieces.iter().enumerate().map(|(index, piece)| {
            let opcode = match index {
                0 => 0x40 | if is_text { 1 } else { 2 },
                _ => 0,
            };
            let fin = if index == last { 0x80 } else { 0 };
            Frame {
                first: fin | opcode,
                payload: piece.to_vec(),
                masked: true,
                key: [1, 2, 3, 4],
            }
        });
        frames.flat_map(|frame| frame.octets()).collect::<Vec<_>>()
    });
    prop::collection::vec(message, 1..4).prop_map(|messages| messages.concat())
}

fn compress(codec: &mut Compress, text: &[u8]) -> Vec<u8> {
    let mut payload = Vec::with_capacity(text.len() * 2 + 1_024);
    codec
        .compress_vec(text, &mut payload, FlushCompress::Sync)
        .unwrap();
    payload.strip_suffix(b"\x00\x00\xFF\xFF").unwrap().to_vec()
}

fn server(parameters: &DeflateParameters) -> Receiver {
    Receiver::new(Role::Server, LIMITS).with_deflate(parameters)
}

const NO_TAKEOVER: DeflateParameters = DeflateParameters {
    server_no_context_takeover: true,
    client_no_context_takeover: true,
    server_max_window_bits: 15,
    client_max_window_bits: 15,
};

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_cutting_inflates_to_the_same_messages_and_the_same_error(
        octets in compressed_frames(),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
        takeover in any::<bool>(),
    ) {
        let parameters = DeflateParameters { client_no_context_takeover: !takeover, ..NO_TAKEOVER };
        let whole = receive_by(server(&parameters), &[&octets], false);
        let pieces = cut(&octets, &cuts);
        prop_assert_eq!(&receive_by(server(&parameters), &pieces, true), &whole);
        if octets.len() < 2_000 {
            let pieces: Vec<&[u8]> = octets.chunks(1).collect();
            prop_assert_eq!(&receive_by(server(&parameters), &pieces, false), &whole);
        }
    }

    #[test]
    fn what_is_sent_reads_back_by_us_and_by_another(
        texts in texts(),
        parameters in parameters(),
        level in 1_u8..=9,
    ) {
        let mut sender = Sender::with_deflate(&parameters);
        let mut deflater = Deflater::new();
        let mut frames = Vec::new();
        for text in &texts {
            let message = Message::Binary(text);
            sender.send_compressed(message, &settings(level), &mut deflater, &mut frames);
        }
        let ours = Receiver::new(Role::Client, Limits::default()).with_deflate(&parameters);
        let expected: Vec<_> = texts.iter().cloned().map(Received::Binary).collect();
        prop_assert_eq!(receive_by(ours, &[&frames], false), (expected, None));

        // The other one keeps no more than the window, and takes what it is given slowly.
        let mut theirs = Decompress::new(false);
        let mut rest = frames.as_slice();
        for text in &texts {
            let (first, payload) = split_frame(&mut rest);
            if first & 0x40 == 0 {
                prop_assert_eq!(payload, text.as_slice());
                continue;
            }
            if parameters.server_no_context_takeover {
                theirs.reset(false);
            }
            let payload = [payload, b"\x00\x00\xFF\xFF"].concat();
            let mut read = Vec::with_capacity(text.len() + 64);
            theirs.decompress_vec(&payload, &mut read, FlushDecompress::Sync).unwrap();
            prop_assert_eq!(&read, text);
        }
    }

    #[test]
    fn what_another_sends_reads_back(
        texts in texts(),
        level in 0..10_u32,
        takeover in any::<bool>(),
    ) {
        let parameters = DeflateParameters { client_no_context_takeover: !takeover, ..NO_TAKEOVER };
        let mut codec = Compress::new(Compression::new(level), false);
        let mut frames = Vec::new();
        for text in &texts {
            if !takeover {
                codec.reset();
            }
            let payload = compress(&mut codec, text);
            frames.extend(Frame { first: 0xC2, payload, masked: true, key: [9; 4] }.octets());
        }
        let expected: Vec<_> = texts.into_iter().map(Received::Binary).collect();
        prop_assert_eq!(receive_by(server(&parameters), &[&frames], false), (expected, None));
    }

    #[test]
    fn random_octets_inflate_to_something_or_fail(
        payload in prop::collection::vec(any::<u8>(), 0..200),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
    ) {
        let octets = Frame { first: 0xC1, payload, masked: true, key: [7; 4] }.octets();
        let whole = receive_by(server(&NO_TAKEOVER), &[&octets], false);
        prop_assert_eq!(&receive_by(server(&NO_TAKEOVER), &cut(&octets, &cuts), false), &whole);
    }
}

/// Takes an unmasked frame off the front: its first octet and its payload.
fn split_frame<'a>(octets: &mut &'a [u8]) -> (u8, &'a [u8]) {
    let (header, length) = match octets[1] {
        126 => (4, usize::from(u16::from_be_bytes([octets[2], octets[3]]))),
        length => (2, usize::from(length)),
    };
    let first = octets[0];
    let (frame, rest) = octets.split_at(header + length);
    *octets = rest;
    (first, &frame[header..])
}
