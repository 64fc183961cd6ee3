//! Compression and context takeover, tested against another implementation (flate2).

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};

use super::{ContextTakeover, Deflate, DeflateParameters, Deflater, LongCompression};
use crate::protocol::frame::Expectation;
use crate::protocol::mask::apply_masking_key;
use crate::protocol::sender::{Sender, encode_compressed_message};
use crate::protocol::{AssemblyPool, FrameHeader, Message, OpCode, SizeLimits};
use crate::protocol::{ProtocolError, Receiver, Role};

const EAGER: Deflate = Deflate {
    level: 6,
    min_size: 0,
    context_takeover: ContextTakeover::Both,
    window_bits: 15,
};

const MAX: usize = Deflate::MAX_SIZE;

const PARAMETERS: DeflateParameters = DeflateParameters {
    server_no_context_takeover: true,
    client_no_context_takeover: true,
    server_max_window_bits: 15,
    client_max_window_bits: 15,
};

fn sender(server_max_window_bits: u8) -> Sender {
    Sender::with_deflate(&DeflateParameters {
        server_no_context_takeover: false,
        client_no_context_takeover: false,
        server_max_window_bits,
        client_max_window_bits: 15,
    })
}

/// The text that a peer with context takeover reads from `frames`.
fn inflate(peer: &mut Decompress, mut frames: &[u8]) -> Vec<u8> {
    let expected = Expectation {
        role: Role::Client,
        fragmented: false,
        compressed: false,
        deflate: true,
        assembled: 0,
        limits: SizeLimits::default(),
    };
    let mut text = Vec::with_capacity(2 << 20);
    while let Some((header, length)) = FrameHeader::decode(frames, &expected).unwrap() {
        let (payload, rest) = frames[length..].split_at(header.payload_length.try_into().unwrap());
        if header.rsv1 {
            let payload = [payload, &[0, 0, 0xFF, 0xFF]].concat();
            let flush = FlushDecompress::Sync;
            peer.decompress_vec(&payload, &mut text, flush).unwrap();
        } else {
            text.extend_from_slice(payload);
        }
        frames = rest;
    }
    text
}

#[test]
fn what_is_shared_may_stand_between_what_refers_to_earlier_messages() {
    for window_bits in [9, 15] {
        let (mut sender, mut deflater) = (sender(window_bits), Deflater::new());
        let mut peer = Decompress::new(false);
        let same = b"the quick brown fox jumps over the lazy dog ".repeat(3);
        let mut lengths = Vec::new();
        for round in 0..60 {
            let text = [&same[..], &[b'a' + round % 26; 40]].concat();
            let message = Message::Binary(&text);
            let mut output = Vec::new();
            if round % 5 == 3 {
                assert!(sender.accepts_compressed(15, text.len()));
                let deflate = &EAGER;
                assert!(encode_compressed_message(
                    message,
                    deflate,
                    &mut deflater,
                    &mut output
                ));
                sender.sent_compressed();
            } else {
                let long = sender.send_compressed(message, &EAGER, &mut deflater, &mut output);
                assert!(long.is_none());
            }
            assert!(inflate(&mut peer, &output) == text, "round {round}");
            lengths.push(output.len());
        }
        // The second message refers to the first; a message after a shared message refers to no
        // earlier message.
        assert!(lengths[1] < lengths[0] / 2, "{lengths:?}");
        assert!(lengths[4] > lengths[1] * 2, "{lengths:?}");
    }
}

/// Completes a message that [`Sender::send_compressed`] has begun.
fn complete(
    long: Option<LongCompression>,
    text: &[u8],
    deflater: &mut Deflater,
    output: &mut Vec<u8>,
) {
    if let Some(mut long) = long {
        while !long.step(text, deflater) {}
        long.send(output);
    }
}

/// The steps of a long message refer to earlier steps and to earlier messages, as far as the window
/// reaches. Blocks that do not compress may follow.
#[test]
fn long_messages_are_compressed_in_steps_that_refer_to_each_other() {
    const STEP: usize = LongCompression::STEP;
    let noise = std::iter::successors(Some(1_u32), |last| {
        Some(last.wrapping_mul(1_664_525).wrapping_add(1_013_904_223))
    });
    let mut noise: Vec<u8> = noise.map(|n| (n >> 24) as u8).take(2 * STEP).collect();
    noise[..STEP - 40].fill(7);
    let words = b"the quick brown fox jumps over the lazy dog ";
    for (window_bits, level) in [(9, 1), (9, 6), (15, 1), (15, 9)] {
        let (mut sender, mut deflater) = (sender(window_bits), Deflater::new());
        let deflate = Deflate { level, ..EAGER };
        let mut peer = Decompress::new(false);
        for length in [
            STEP,
            STEP + 1,
            30,
            2 * STEP,
            200,
            3 * STEP + 7,
            MAX,
            MAX + 1,
        ] {
            for text in [words.repeat(length / words.len() + 1), noise.repeat(10)] {
                let text = &text[..length];
                let mut output = Vec::new();
                let message = Message::Binary(text);
                let long = sender.send_compressed(message, &deflate, &mut deflater, &mut output);
                assert!(long.is_none() || length > STEP);
                complete(long, text, &mut deflater, &mut output);
                assert!(
                    inflate(&mut peer, &output) == text,
                    "{length} {window_bits}"
                );
                let is_compressed = output[0] & 0x40 != 0;
                assert!(is_compressed == (length <= MAX) || length <= STEP);
            }
        }
    }
}

/// Blocks of a deflater that fails are stored.
#[test]
fn stored_blocks_continue_a_long_message() {
    let text = [7; 3 * LongCompression::STEP];
    let mut deflater = Deflater::new();
    let message = Message::Text(std::str::from_utf8(&text).unwrap());
    let mut long = LongCompression::of_shared(message, &EAGER, &mut deflater).unwrap();
    long.store(&text[LongCompression::STEP..]);
    let mut output = Vec::new();
    long.send(&mut output);
    assert!(inflate(&mut Decompress::new(false), &output) == text);
}

#[test]
fn what_is_shared_is_for_windows_that_hold_it() {
    for (window_bits, of_message, length, expected) in [
        (15, 15, 1 << 20, true),
        (9, 9, 1 << 20, true),
        (10, 9, 1 << 20, true),
        (9, 15, 512, true),
        (9, 15, 513, false),
        (12, 15, 4_096, true),
        (12, 15, 4_097, false),
    ] {
        let accepts = sender(window_bits).accepts_compressed(of_message, length);
        assert_eq!(accepts, expected, "{window_bits} {of_message} {length}");
    }
    assert!(!Sender::default().accepts_compressed(15, 1));
}

#[test]
fn what_inflates_to_the_limit_is_let_in_and_no_byte_more() {
    // The receiver inflates in steps of 16 KiB.
    for length in [1, 16_383, 16_384, 16_385, 32_768, 100_000] {
        let text = vec![b'a'; length];
        let mut payload = Vec::with_capacity(1_000);
        let mut compress = Compress::new(Compression::best(), false);
        let flush = FlushCompress::Sync;
        compress.compress_vec(&text, &mut payload, flush).unwrap();
        let header = FrameHeader {
            fin: true,
            rsv1: true,
            opcode: OpCode::Text,
            masking_key: Some([0; 4]),
            payload_length: payload.len() as u64 - 4,
        };
        for (max, expected) in [
            (length, Ok(length)),
            (length - 1, Err(ProtocolError::MessageTooBig)),
        ] {
            let limits = SizeLimits {
                max_message_size: max,
                max_frame_size: 16 << 10,
            };
            let mut receiver = Receiver::new(Role::Server, limits).with_deflate(&PARAMETERS);
            let mut bytes = [header.encode().as_ref(), &payload[..payload.len() - 4]].concat();
            let mut pool = AssemblyPool::default();
            let received = receiver.receive(&mut bytes.as_mut_slice(), &mut pool);
            let received = received.map(|message| match message {
                Some(Message::Text(text)) => text.len(),
                other => panic!("{other:?}"),
            });
            assert_eq!(received, expected, "{length} in {max}");
        }
    }
}

/// Receives one compressed message of a client as a server.
fn receive(payload: &[u8]) -> Result<Vec<u8>, ProtocolError> {
    let header = FrameHeader {
        fin: true,
        rsv1: true,
        opcode: OpCode::Binary,
        masking_key: Some([0; 4]),
        payload_length: payload.len() as u64,
    };
    let mut receiver = Receiver::new(Role::Server, SizeLimits::default()).with_deflate(&PARAMETERS);
    let mut bytes = [header.encode().as_ref(), payload].concat();
    let mut pool = AssemblyPool::default();
    let received = receiver.receive(&mut bytes.as_mut_slice(), &mut pool)?;
    match received {
        Some(Message::Binary(text)) => Ok(text.to_vec()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_message_may_end_its_stream_and_go_on_with_another() {
    // RFC 7692 §7.2.3.3 to §7.2.3.6
    let hello = b"\xF2\x48\xCD\xC9\xC9\x07\x00";
    let last = b"\xF3\x48\xCD\xC9\xC9\x07\x00\x00";
    let stored = b"\x00\x05\x00\xFA\xFF\x48\x65\x6C\x6C\x6F\x00";
    let broken = Err(ProtocolError::InvalidCompressedData);
    for (payload, expected) in [
        (&hello[..], Ok(&b"Hello"[..])),
        (&last[..], Ok(b"Hello")),
        (&stored[..], Ok(b"Hello")),
        (&[&last[..7], hello].concat(), Ok(b"HelloHello")),
        (&[&last[..7], last].concat(), Ok(b"HelloHello")),
        (&last[..7], Ok(b"Hello")),
        (b"\x00", Ok(b"")),
        (b"", Ok(b"")),
        // A stored block that ends too early, a stored block with a wrong length, no block.
        (&stored[..9], broken),
        (b"\x00\x05\x00\xFA\xFE\x48\x65\x6C\x6C\x6F\x00", broken),
        (b"\x07", broken),
        // The client may send the tail.
        (&[&hello[..], b"\x00\x00\xFF\xFF"].concat(), Ok(b"Hello")),
    ] {
        assert_eq!(
            receive(payload),
            expected.map(<[u8]>::to_vec),
            "{payload:02X?}"
        );
    }
}

#[test]
fn one_deflater_serves_every_level_and_window_as_if_it_had_no_other() {
    let words = [
        "frame",
        "payload",
        "masking key",
        "close",
        "ping",
        "pong",
        "é",
    ];
    let text: String = (0..4_000_usize)
        .map(|n| words[(n * n + n / 7) % words.len()])
        .collect();
    let compress = |deflater: &mut Deflater, level, window_bits| {
        let deflate = Deflate {
            level,
            window_bits,
            ..EAGER
        };
        let mut output = Vec::new();
        assert!(encode_compressed_message(
            Message::Text(&text),
            &deflate,
            deflater,
            &mut output
        ));
        output
    };
    let mut one = Deflater::new();
    let mut lengths = Vec::new();
    for (level, window_bits) in [(1, 15), (9, 15), (9, 9), (1, 9), (9, 15), (1, 15)] {
        let output = compress(&mut one, level, window_bits);
        let fresh = compress(&mut Deflater::new(), level, window_bits);
        assert!(output == fresh, "level {level}, window of 2^{window_bits}");
        lengths.push(output.len());
    }
    assert!(
        lengths[1] < lengths[0] && lengths[1] < lengths[2],
        "{lengths:?}"
    );
}

/// The rest of the input is masked again, so that the caller can pass it to the receiver later.
#[test]
fn inflating_stops_at_an_allowance_and_goes_on() {
    const STEP: usize = 64 << 10;
    let mut compress = Compress::new(Compression::best(), false);
    let mut payload = Vec::with_capacity(10_000);
    compress
        .compress_vec(&vec![0; 1 << 20], &mut payload, FlushCompress::Sync)
        .unwrap();
    payload.truncate(payload.len() - 4);
    let key = [0x37, 0xFA, 0x21, 0x3D];
    apply_masking_key(&mut payload, key, 0);
    let header = FrameHeader {
        rsv1: true,
        fin: true,
        opcode: OpCode::Binary,
        masking_key: Some(key),
        payload_length: payload.len() as u64,
    };
    let frames = [header.encode().as_ref(), &payload].concat().repeat(2);
    let mut receiver = Receiver::new(Role::Server, SizeLimits::default()).with_deflate(&PARAMETERS);
    let mut pool = AssemblyPool::default();
    let (mut input, mut messages, mut stops) = (frames.clone(), 0, 0);
    loop {
        pool.allow(STEP);
        let mut rest = &mut *input;
        while let Some(message) = receiver.receive(&mut rest, &mut pool).unwrap() {
            assert!(matches!(message, Message::Binary(text) if text == vec![0; 1 << 20]));
            messages += 1;
        }
        let rest = rest.to_vec();
        assert!(frames.ends_with(&rest), "it is masked again");
        if rest.is_empty() {
            break;
        }
        stops += 1;
        input = rest;
    }
    assert_eq!(messages, 2);
    assert!((30..=34).contains(&stops), "{stops}");
}

/// A copied window and a kept inflater give the same result.
#[test]
fn an_inflater_that_was_kept_makes_the_same_of_everything() {
    let context = DeflateParameters {
        client_no_context_takeover: false,
        ..PARAMETERS
    };
    let mut seed = 20_u32;
    let mut random = |below: usize| {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (seed >> 8) as usize % below
    };
    let words = [
        "frame", "payload", "mask", "close", "ping", "pong", "é", "0",
    ];
    for _ in 0..30 {
        let mut pools = [(); 3].map(|()| AssemblyPool::default());
        // All receivers get the same messages. The inflater of the first receiver is kept, that of
        // the second is lost at random, that of the third is never kept.
        let mut receivers = [(); 3]
            .map(|()| Receiver::new(Role::Server, SizeLimits::default()).with_deflate(&context));
        let mut compress = Compress::new(
            Compression::new(u32::try_from(1 + random(9)).unwrap()),
            false,
        );
        let broken = random(60);
        for round in 0..60 {
            let length = random(1_500);
            let text: String = (0..length).map(|_| words[random(words.len())]).collect();
            let mut payload = Vec::with_capacity(2 * text.len() + 100);
            let flush = match random(10) {
                0 => FlushCompress::Full,
                _ => FlushCompress::Sync,
            };
            compress
                .compress_vec(text.as_bytes(), &mut payload, flush)
                .unwrap();
            payload.truncate(payload.len() - 4);
            if round == broken {
                let at = random(payload.len());
                match random(2) {
                    0 => payload.truncate(at),
                    _ => payload[at] ^= 1 << random(8),
                }
            }
            let header = FrameHeader {
                fin: true,
                rsv1: true,
                opcode: OpCode::Binary,
                masking_key: Some([0; 4]),
                payload_length: payload.len() as u64,
            };
            let frame = [header.encode().as_ref(), &payload].concat();
            let other = random(2);
            let results = [(0, 0), (1, other), (2, 2)].map(|(receiver, pool)| {
                let mut bytes = frame.clone();
                let mut input = bytes.as_mut_slice();
                match receivers[receiver].receive(&mut input, &mut pools[pool]) {
                    Ok(Some(Message::Binary(received))) => Ok(received.to_vec()),
                    Ok(other) => panic!("{other:?}"),
                    Err(error) => Err(error),
                }
            });
            pools[2].shrink();
            assert!(results[0] == results[1] && results[0] == results[2]);
            match &results[0] {
                Ok(received) if round != broken => assert!(received == text.as_bytes()),
                Ok(_) => break,
                Err(_) => {
                    assert_eq!(round, broken);
                    break;
                }
            }
        }
    }
}
