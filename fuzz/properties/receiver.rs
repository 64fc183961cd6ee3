//! The receiver's main property: *any segmentation gives the same messages, and the same error at
//! the same byte*; and the messages contain the bytes that were sent.
//!
//! ```text
//! input = role-and-extension limits cut-count *cut bytes
//! ```

use frameloop::protocol::frame::Expectation;
use frameloop::protocol::{AssemblyPool, DeflateParameters, FrameHeader, OpCode, SizeLimits};
use frameloop::protocol::{ProtocolError, Receiver, Role};

use super::client::Received;

/// The receiver's output for an input.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Outcome {
    pub(crate) messages: Vec<Received>,
    /// The error, and the number of bytes that had arrived, or could have.
    pub(crate) error: Option<ProtocolError>,
}

pub(crate) fn check(input: &[u8]) {
    let [flags, limits, count, rest @ ..] = input else {
        return;
    };
    let count = usize::from(count % 16);
    let Some((cuts, bytes)) = rest.split_at_checked(2 * count) else {
        return;
    };
    let limits = LIMITS[usize::from(*limits) % LIMITS.len()];
    let mut places: Vec<usize> = cuts
        .chunks_exact(2)
        .map(|cut| usize::from(u16::from_be_bytes([cut[0], cut[1]])) % (bytes.len() + 1))
        .chain([0, bytes.len()])
        .collect();
    places.sort_unstable();
    let pieces: Vec<&[u8]> = places
        .windows(2)
        .map(|pair| &bytes[pair[0]..pair[1]])
        .collect();

    let new = || receiver(*flags, limits);
    let whole = receive(new(), &[bytes], false);
    let is_direct = flags & 8 != 0;
    assert_eq!(receive(new(), &pieces, is_direct), whole);
    if bytes.len() <= 256 {
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        assert_eq!(receive(new(), &single, is_direct), whole);
        check_place_of_error(&new, bytes, &whole);
    }
    check_header(bytes, *flags);
}

/// Sizes that a short input can reach, and some that it cannot.
pub(crate) const LIMITS: [SizeLimits; 4] = [
    SizeLimits {
        max_message_size: 16 << 20,
        max_frame_size: 16 << 20,
    },
    SizeLimits {
        max_message_size: 200,
        max_frame_size: 130,
    },
    SizeLimits {
        max_message_size: 100_000,
        max_frame_size: 80_000,
    },
    SizeLimits {
        max_message_size: 0,
        max_frame_size: 0,
    },
];

fn receiver(flags: u8, limits: SizeLimits) -> Receiver {
    let receiver = Receiver::new(role(flags), limits);
    match flags & 2 {
        0 => receiver,
        _ => receiver.with_deflate(&DeflateParameters {
            server_no_context_takeover: flags & 4 != 0,
            client_no_context_takeover: flags & 4 != 0,
            server_max_window_bits: 15,
            client_max_window_bits: 15,
        }),
    }
}

fn role(flags: u8) -> Role {
    match flags & 1 {
        0 => Role::Server,
        _ => Role::Client,
    }
}

/// The receiver's output for bytes in these pieces. With `direct`, pieces of large payloads go
/// directly into its buffer.
pub(crate) fn receive(mut receiver: Receiver, pieces: &[&[u8]], direct: bool) -> Outcome {
    let mut pool = AssemblyPool::default();
    let mut messages = Vec::new();
    let fails = |messages, error| Outcome {
        messages,
        error: Some(error),
    };
    for piece in pieces {
        let mut piece = *piece;
        while direct && let Some(space) = receiver.payload_space(&mut pool) {
            let bytes = space.len().min(piece.len());
            if bytes == 0 {
                break;
            }
            space[..bytes].copy_from_slice(&piece[..bytes]);
            piece = &piece[bytes..];
            if let Err(error) = receiver.advance(bytes) {
                return fails(messages, error);
            }
        }
        let mut buffer = piece.to_vec();
        let mut input = buffer.as_mut_slice();
        loop {
            match receiver.receive(&mut input, &mut pool) {
                Ok(Some(message)) => messages.push(message.into()),
                Ok(None) => break,
                Err(error) => {
                    assert_discards(receiver, &mut pool);
                    return fails(messages, error);
                }
            }
        }
        assert!(input.is_empty(), "the receiver left unread input");
    }
    Outcome {
        messages,
        error: None,
    }
}

/// A failed receiver ignores all input.
fn assert_discards(mut receiver: Receiver, pool: &mut AssemblyPool) {
    let mut frame = *b"\x89\x80\0\0\0\0";
    let mut input = frame.as_mut_slice();
    assert_eq!(receiver.receive(&mut input, pool), Ok(None));
    assert!(input.is_empty() && !receiver.is_inside_message());
}

/// Encoding the decoded header gives the same bytes, and decoding needs all of them.
fn check_header(bytes: &[u8], flags: u8) {
    let expected = Expectation {
        role: role(flags),
        fragmented: bytes.first().is_some_and(|first| first & 0x0F == 0),
        compressed: false,
        deflate: flags & 2 != 0,
        assembled: 0,
        limits: SizeLimits {
            max_message_size: usize::MAX,
            max_frame_size: usize::MAX,
        },
    };
    let Ok(Some((header, length))) = FrameHeader::decode(bytes, &expected) else {
        return;
    };
    let encoded = header.encode();
    assert_eq!(encoded.as_ref(), &bytes[..length]);
    assert_eq!(encoded.is_control(), bytes[0] & 0x0F >= 8);
    assert_eq!(encoded.is_text(), header.opcode == OpCode::Text);
    for cut in 0..length {
        assert_eq!(FrameHeader::decode(&bytes[..cut], &expected), Ok(None));
    }
}

/// An error is reported at the first byte that makes it certain, whatever the segmentation.
fn check_place_of_error(new: &impl Fn() -> Receiver, bytes: &[u8], whole: &Outcome) {
    if whole.error.is_none() {
        return;
    }
    let fails = |length: usize, size: usize| {
        let pieces: Vec<&[u8]> = bytes[..length].chunks(size).collect();
        receive(new(), &pieces, false).error.is_some()
    };
    let place = |size: usize| {
        let mut range = 0..bytes.len();
        while !range.is_empty() {
            let middle = range.start + range.len() / 2;
            match fails(middle, size) {
                true => range.end = middle,
                false => range.start = middle + 1,
            }
        }
        range.start
    };
    assert_eq!(place(1), place(bytes.len().max(1)));
}
