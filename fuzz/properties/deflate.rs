//! permessage-deflate: our messages are read back, by us and by another zlib; messages of another
//! zlib are read back; corrupt input fails; and nothing inflates beyond the limit.
//!
//! ```text
//! input = parameters level *message
//! message = what length payload
//! ```

use std::cell::RefCell;

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};
use frameloop::Deflate;
use frameloop::protocol::sender::{encode_compressed_message, encode_message};
use frameloop::protocol::{
    DeflateParameters, Deflater, Message, Receiver, Role, Sender, SizeLimits,
};

use super::client::{Frame, Received, read_frames};
use super::receiver::receive;

const LIMITS: SizeLimits = SizeLimits {
    max_message_size: 20_000,
    max_frame_size: 20_000,
};

pub(crate) fn check(input: &[u8]) {
    let [flags, level, rest @ ..] = input else {
        return;
    };
    let parameters = DeflateParameters {
        server_no_context_takeover: flags & 1 != 0,
        client_no_context_takeover: flags & 2 != 0,
        server_max_window_bits: 9 + (flags >> 2) % 7,
        client_max_window_bits: 9 + (flags >> 5) % 7,
    };
    match level >> 6 {
        0 => send(&parameters, level % 10, &messages(rest), false),
        // Every other message is encoded once for several connections.
        3 => send(&parameters, level % 10, &messages(rest), true),
        1 => receive_from_another(&parameters, level % 10, &messages(rest)),
        _ => corrupt(&parameters, rest),
    }
}

thread_local! {
    /// Reused between inputs: creating one costs more than most inputs.
    static DEFLATER: RefCell<Deflater> = const { RefCell::new(Deflater::new()) };
    static THEIRS: RefCell<Decompress> = RefCell::new(Decompress::new(false));
}

/// Payloads, some of them a byte or another payload many times over.
fn messages(mut rest: &[u8]) -> Vec<Vec<u8>> {
    let mut messages: Vec<Vec<u8>> = Vec::new();
    while let [what, length, after @ ..] = rest {
        let (payload, after) = after.split_at(usize::from(*length).min(after.len()));
        let before = messages.last().cloned().unwrap_or_default();
        messages.push(match what % 4 {
            0 => payload.to_vec(),
            1 => payload.repeat(1 + usize::from(what / 4)),
            2 => [&before, payload].concat(),
            _ => [payload, &before]
                .concat()
                .repeat(1 + usize::from(what / 32)),
        });
        messages.last_mut().expect("one").truncate(10_000);
        rest = after;
        if messages.len() == 8 {
            break;
        }
    }
    messages
}

/// Our messages are read back, by us and by another zlib.
fn send(parameters: &DeflateParameters, level: u8, messages: &[Vec<u8>], shared: bool) {
    let mut settings = Deflate::default();
    settings.level = level.max(1);
    settings.min_size = 0;
    let mut sender = Sender::with_deflate(parameters);
    let mut bytes = Vec::new();
    for (index, message) in messages.iter().enumerate() {
        let is_accepted = sender.accepts_compressed(settings.window_bits, message.len());
        let window = 1 << parameters.server_max_window_bits;
        assert_eq!(is_accepted, message.len() <= window || window == 1 << 15);
        let message = Message::Binary(message);
        DEFLATER.with_borrow_mut(|deflater| {
            if !(shared && index % 2 == 1) {
                let long = sender.send_compressed(message, &settings, deflater, &mut bytes);
                assert!(long.is_none(), "messages are at most 10,000 bytes long");
            } else if is_accepted
                && encode_compressed_message(message, &settings, deflater, &mut bytes)
            {
                sender.sent_compressed();
            } else {
                encode_message(message, &mut bytes);
            }
        });
    }
    let expected: Vec<Received> = messages.iter().cloned().map(Received::Binary).collect();
    let ours = Receiver::new(Role::Client, SizeLimits::default()).with_deflate(parameters);
    let outcome = receive(ours, &[&bytes], false);
    assert_eq!((&outcome.messages, outcome.error), (&expected, None));

    THEIRS.with_borrow_mut(|theirs| read_by_another(theirs, parameters, &bytes, messages));
}

fn read_by_another(
    theirs: &mut Decompress,
    parameters: &DeflateParameters,
    bytes: &[u8],
    messages: &[Vec<u8>],
) {
    theirs.reset(false);
    for (frame, message) in read_frames(bytes).0.iter().zip(messages) {
        if frame.first & 0x40 == 0 {
            assert_eq!(&frame.payload, message);
            continue;
        }
        assert!(
            frame.payload.len() < message.len(),
            "a compressed message is not smaller"
        );
        if parameters.server_no_context_takeover {
            theirs.reset(false);
        }
        assert_eq!(
            inflate(theirs, &frame.payload, message.len()).as_ref(),
            Some(message)
        );
    }
}

/// Messages of another zlib are read back.
fn receive_from_another(parameters: &DeflateParameters, level: u8, messages: &[Vec<u8>]) {
    let expected: Vec<Received> = messages.iter().cloned().map(Received::Binary).collect();
    let mut codec = Compress::new(Compression::new(u32::from(level)), false);
    let mut bytes = Vec::new();
    for message in messages {
        if parameters.client_no_context_takeover {
            codec.reset();
        }
        let mut payload = Vec::with_capacity(message.len() * 2 + 1_024);
        codec
            .compress_vec(message, &mut payload, FlushCompress::Sync)
            .expect("a payload");
        let payload = payload.strip_suffix(b"\x00\x00\xFF\xFF").expect("a flush");
        bytes.extend(
            Frame {
                first: 0xC2,
                payload,
                key: Some([1, 2, 3, 4]),
            }
            .bytes(),
        );
    }
    // The other zlib always uses the largest window.
    let parameters = DeflateParameters {
        client_max_window_bits: 15,
        ..*parameters
    };
    let ours = Receiver::new(Role::Server, SizeLimits::default()).with_deflate(&parameters);
    let outcome = receive(ours, &[&bytes], false);
    assert_eq!((outcome.messages, outcome.error), (expected, None));
}

/// An arbitrary compressed payload: both implementations inflate it to the same message, or reject
/// it.
fn corrupt(parameters: &DeflateParameters, payload: &[u8]) {
    let bytes = Frame {
        first: 0xC2,
        payload,
        key: Some([1, 2, 3, 4]),
    }
    .bytes();
    let new = || Receiver::new(Role::Server, LIMITS).with_deflate(parameters);
    let whole = receive(new(), &[&bytes], false);
    let pieces: Vec<&[u8]> = bytes.chunks(1 + payload.len() / 7).collect();
    assert_eq!(receive(new(), &pieces, true), whole);
    let theirs = THEIRS.with_borrow_mut(|theirs| {
        theirs.reset(false);
        inflate(theirs, payload, LIMITS.max_message_size + 1)
    });
    match (&whole.messages[..], whole.error, theirs) {
        ([Received::Binary(ours)], None, Some(theirs)) => assert_eq!(*ours, theirs),
        ([Received::Binary(ours)], None, None) => {
            assert!(ours.len() <= LIMITS.max_message_size);
        }
        ([], Some(_), _) => {}
        other => panic!("{other:?}"),
    }
}

/// The other zlib's inflation of a payload; `None` if it fails or exceeds the limit.
fn inflate(codec: &mut Decompress, payload: &[u8], most: usize) -> Option<Vec<u8>> {
    let payload = [payload, b"\x00\x00\xFF\xFF"].concat();
    let mut text = Vec::with_capacity(most + 64);
    match codec.decompress_vec(&payload, &mut text, FlushDecompress::Sync) {
        Ok(Status::Ok | Status::BufError) if text.len() <= most => Some(text),
        _ => None,
    }
}
