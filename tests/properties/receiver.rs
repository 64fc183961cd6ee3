//! The receiver's master property: *any way of cutting the octets gives the same messages and the
//! same error.*

use frameloop::protocol::{
    AssemblyPool, FrameHeader, Limits, Message, OpCode, ProtocolError, Receiver, Role, mask,
};
use proptest::prelude::*;

/// A message that outlives its buffer.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Received {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<(u16, String)>),
}

impl From<Message<'_>> for Received {
    fn from(message: Message<'_>) -> Received {
        match message {
            Message::Text(text) => Received::Text(text.into()),
            Message::Binary(payload) => Received::Binary(payload.into()),
            Message::Ping(payload) => Received::Ping(payload.into()),
            Message::Pong(payload) => Received::Pong(payload.into()),
            Message::Close(frame) => {
                Received::Close(frame.map(|frame| (u16::from(frame.code), frame.reason.to_owned())))
            }
        }
    }
}

/// What a receiver makes of octets that arrive in these pieces. Pieces of large payloads go
/// straight into its space if `direct`.
pub(crate) fn receive(
    pieces: &[&[u8]],
    limits: Limits,
    direct: bool,
) -> (Vec<Received>, Option<ProtocolError>) {
    receive_by(Receiver::new(Role::Server, limits), pieces, direct)
}

/// [`receive`], by this receiver.
pub(crate) fn receive_by(
    mut receiver: Receiver,
    pieces: &[&[u8]],
    direct: bool,
) -> (Vec<Received>, Option<ProtocolError>) {
    let mut pool = AssemblyPool::default();
    let mut messages = Vec::new();
    for piece in pieces {
        let mut piece = *piece;
        while direct && let Some(space) = receiver.payload_space(&mut pool) {
            let octets = space.len().min(piece.len());
            if octets == 0 {
                break;
            }
            space[..octets].copy_from_slice(&piece[..octets]);
            piece = &piece[octets..];
            if let Err(error) = receiver.advance(octets) {
                return (messages, Some(error));
            }
        }
        let mut buffer = piece.to_vec();
        let mut input = buffer.as_mut_slice();
        loop {
            match receiver.receive(&mut input, &mut pool) {
                Ok(Some(message)) => messages.push(message.into()),
                Ok(None) => break,
                Err(error) => return (messages, Some(error)),
            }
        }
        assert!(input.is_empty(), "the receiver left input over");
    }
    (messages, None)
}

/// The octets of a frame that a client may or may not send.
#[derive(Clone, Debug)]
pub(crate) struct Frame {
    pub(crate) first: u8,
    pub(crate) payload: Vec<u8>,
    pub(crate) masked: bool,
    pub(crate) key: [u8; 4],
}

impl Frame {
    pub(crate) fn octets(&self) -> Vec<u8> {
        let mut octets = FrameHeader {
            rsv1: false,
            fin: true,
            opcode: OpCode::Binary,
            masking_key: self.masked.then_some(self.key),
            payload_length: self.payload.len() as u64,
        }
        .encode()
        .as_ref()
        .to_vec();
        octets[0] = self.first;
        let start = octets.len();
        octets.extend(&self.payload);
        if self.masked {
            mask::apply_masking_key(&mut octets[start..], self.key, 0);
        }
        octets
    }
}

fn payload() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => prop::collection::vec(any::<u8>(), 0..20),
        4 => ".{0,12}".prop_map(String::into_bytes),
        1 => prop::collection::vec(any::<u8>(), 120..140),
        1 => (60_000_usize..70_000).prop_map(|length| vec![b'a'; length]),
        1 => (30_000_usize..40_000).prop_map(|count| "é".repeat(count).into_bytes()),
    ]
}

/// Mostly well-formed frames, in mostly sensible order.
pub(crate) fn frames() -> impl Strategy<Value = Vec<u8>> {
    let first = prop_oneof![
        8 => prop::sample::select(vec![0x81_u8, 0x82, 0x01, 0x02, 0x00, 0x80]),
        3 => prop::sample::select(vec![0x89_u8, 0x8A]),
        1 => Just(0x88_u8),
        1 => any::<u8>(),
    ];
    let frame = (
        first,
        payload(),
        prop::bool::weighted(0.99),
        any::<[u8; 4]>(),
    )
        .prop_map(|(first, payload, masked, key)| {
            let mut frame = Frame {
                first,
                payload,
                masked,
                key,
            };
            if first & 0x08 != 0 {
                frame.payload.truncate(125);
            }
            if first & 0x0F == 8 && frame.payload.len() >= 2 {
                frame.payload[0] = 3;
            }
            frame.octets()
        });
    prop::collection::vec(frame, 0..8).prop_map(|frames| frames.concat())
}

pub(crate) fn cut<'a>(octets: &'a [u8], cuts: &[prop::sample::Index]) -> Vec<&'a [u8]> {
    let mut places: Vec<usize> = cuts.iter().map(|cut| cut.index(octets.len() + 1)).collect();
    places.extend([0, octets.len()]);
    places.sort_unstable();
    places
        .windows(2)
        .map(|pair| &octets[pair[0]..pair[1]])
        .collect()
}

pub(crate) const LIMITS: Limits = Limits {
    max_message_size: 100_000,
    max_frame_size: 80_000,
};

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_cutting_gives_the_same_messages_and_the_same_error(
        octets in frames(),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
        direct in any::<bool>(),
    ) {
        let whole = receive(&[&octets], LIMITS, false);
        let pieces = cut(&octets, &cuts);
        prop_assert_eq!(&receive(&pieces, LIMITS, direct), &whole);
    }

    #[test]
    fn octet_by_octet_gives_the_same_too(octets in frames()) {
        // The first octets will do, also of what is cut off in the middle.
        let octets = &octets[..octets.len().min(2_000)];
        let whole = receive(&[octets], LIMITS, false);
        let pieces: Vec<&[u8]> = octets.chunks(1).collect();
        prop_assert_eq!(&receive(&pieces, LIMITS, false), &whole);
    }

    #[test]
    fn random_octets_never_panic_and_cut_the_same(
        octets in prop::collection::vec(any::<u8>(), 0..200),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
    ) {
        let whole = receive(&[&octets], Limits::default(), false);
        prop_assert_eq!(&receive(&cut(&octets, &cuts), Limits::default(), true), &whole);
    }
}
