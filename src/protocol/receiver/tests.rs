//! Cases that the properties of the fuzz corpus do not distinguish.

use super::*;

/// Receives these frames of a client, masked with zeros. Returns the size of the last binary
/// message, or the first error.
fn last(frames: &[(u8, usize)]) -> Result<Option<usize>, ProtocolError> {
    let mut receiver = Receiver::new(Role::Server, SizeLimits::default());
    let mut pool = AssemblyPool::default();
    let mut last = None;
    for (first, length) in frames {
        let header = FrameHeader {
            fin: first & 0x80 != 0,
            rsv1: false,
            opcode: match first & 0x0F {
                0 => OpCode::Continuation,
                2 => OpCode::Binary,
                _ => OpCode::Ping,
            },
            masking_key: Some([0; 4]),
            payload_length: *length as u64,
        };
        let mut bytes = [header.encode().as_ref(), &vec![0; *length]].concat();
        let mut input = bytes.as_mut_slice();
        while let Some(message) = receiver.receive(&mut input, &mut pool)? {
            if let Message::Binary(payload) = message {
                last = Some(payload.len());
            }
        }
    }
    Ok(last)
}

#[test]
fn so_many_empty_fragments_may_follow_one_another_and_no_more() {
    const MAX: usize = SizeLimits::MAX_EMPTY_FRAGMENTS as usize;
    let empty = |count: usize| vec![(0x00, 0); count];
    let too_many = Err(ProtocolError::EmptyFragments);
    for (frames, expected) in [
        (
            [&[(0x02, 1)][..], &empty(MAX), &[(0x80, 1)]].concat(),
            Ok(Some(2)),
        ),
        ([&[(0x02, 1)][..], &empty(MAX + 1)].concat(), too_many),
        // The first and the last fragment count, too.
        (
            [&[(0x02, 0)][..], &empty(MAX - 1), &[(0x80, 1)]].concat(),
            Ok(Some(1)),
        ),
        ([&[(0x02, 0)][..], &empty(MAX)].concat(), too_many),
        (
            [&[(0x02, 1)][..], &empty(MAX), &[(0x80, 0)]].concat(),
            too_many,
        ),
        // One byte of payload resets the count; a Ping neither counts nor resets it.
        (
            [
                &[(0x02, 1)][..],
                &empty(MAX),
                &[(0x00, 1)],
                &empty(MAX),
                &[(0x80, 1)],
            ]
            .concat(),
            Ok(Some(3)),
        ),
        (
            [&[(0x02, 1)][..], &empty(MAX), &[(0x89, 0)], &empty(1)].concat(),
            too_many,
        ),
        (
            [
                &[(0x02, 1)][..],
                &empty(MAX),
                &[(0x80, 1), (0x02, 0)],
                &empty(MAX - 1),
            ]
            .concat(),
            Ok(Some(2)),
        ),
    ] {
        assert_eq!(last(&frames), expected, "{} frames", frames.len());
    }
}

#[test]
fn a_whole_message_is_taken_at_once_and_all_else_is_left_where_it_is() {
    let cases: [(&[u8], Option<Message<'_>>, usize); 9] = [
        (b"\x81\x82\0\0\0\0hi", Some(Message::Text("hi")), 0),
        (b"\x82\x82\0\0\0\0hi", Some(Message::Binary(b"hi")), 0),
        (b"\x82\x81\x01\0\0\0h\x82", Some(Message::Binary(b"i")), 1),
        (b"", None, 0),
        (b"\x82\x82\0\0\0\0h", None, 7), // incomplete
        (b"\x02\x81\0\0\0\0h", None, 7), // a fragment
        (b"\x89\x80\0\0\0\0", None, 6),  // a Ping
        (b"\xC2\x81\0\0\0\0h", None, 7), // a reserved bit
        (b"\x82\x01h", None, 3),         // not masked
    ];
    for (bytes, expected, left) in cases {
        let mut bytes = bytes.to_vec();
        let mut input = &mut bytes[..];
        let mut receiver = Receiver::new(Role::Server, SizeLimits::default());
        assert_eq!(receiver.receive_whole(&mut input), Ok(expected));
        assert_eq!(input.len(), left, "{expected:?}");
    }
    let mut bytes = *b"\x81\x81\0\0\0\0\xFF";
    let mut receiver = Receiver::new(Role::Server, SizeLimits::default());
    let received = receiver.receive_whole(&mut &mut bytes[..]);
    assert_eq!(received, Err(ProtocolError::InvalidUtf8));
}
