//! Decoding and encoding of frame headers (RFC 6455 §5.2).
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +-+-+-+-+-------+-+-------------+-------------------------------+
//! |F|R|R|R| opcode|M| payload len |  extended length: 0, 2 or 8   |
//! |I|S|S|S|  (4)  |A|     (7)     |  bytes; then, if MASK is set, |
//! |N|V|V|V|       |S|             |  4 bytes of masking key       |
//! | |1|2|3|       |K|             |                               |
//! +-+-+-+-+-------+-+-------------+-------------------------------+
//! ```

use super::{ProtocolError, Role, SizeLimits};

/// The type of a frame (§11.8).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub enum OpCode {
    /// 0x0, a further fragment of the current message.
    Continuation = 0x0,
    /// 0x1, a text message or its first fragment.
    Text = 0x1,
    /// 0x2, a binary message or its first fragment.
    Binary = 0x2,
    /// 0x8
    Close = 0x8,
    /// 0x9
    Ping = 0x9,
    /// 0xA
    Pong = 0xA,
}

impl OpCode {
    /// Whether this is a control frame. Control frames may be sent between fragments and are never
    /// fragmented (§5.5).
    pub const fn is_control(self) -> bool {
        (self as u8) & 0x8 != 0
    }

    const fn decode(byte: u8) -> Option<OpCode> {
        match byte & 0x0F {
            0x0 => Some(OpCode::Continuation),
            0x1 => Some(OpCode::Text),
            0x2 => Some(OpCode::Binary),
            0x8 => Some(OpCode::Close),
            0x9 => Some(OpCode::Ping),
            0xA => Some(OpCode::Pong),
            _ => None,
        }
    }
}

/// A frame's header.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct FrameHeader {
    /// FIN: this frame is the last or only fragment of its message.
    pub fin: bool,
    /// RSV1: this frame begins a compressed message (RFC 7692 §6).
    pub rsv1: bool,
    /// The type of the frame.
    pub opcode: OpCode,
    /// The key that masks the payload; present in frames from a client (§5.3).
    pub masking_key: Option<[u8; 4]>,
    /// Payload length in bytes, below 2^63.
    pub payload_length: u64,
}

/// The state of the receiver that decides whether the next header is valid.
#[derive(Clone, Copy, Debug)]
pub struct Expectation {
    /// The receiving end: decides whether frames must be masked.
    pub role: Role,
    /// Whether a fragmented message is incomplete.
    pub fragmented: bool,
    /// Whether the incomplete message is compressed.
    pub compressed: bool,
    /// Whether messages may be compressed.
    pub deflate: bool,
    /// Size in bytes of the incomplete message so far.
    pub assembled: usize,
    /// The size limits.
    pub limits: SizeLimits,
}

impl FrameHeader {
    /// Maximum length of a header in bytes.
    pub const MAX_LENGTH: usize = 14;

    /// Decodes the header at the beginning of `bytes`. Returns the header and its length in bytes;
    /// `None` if the header is incomplete.
    ///
    /// Each rule is checked as soon as its byte is available, in the order of the bytes, so the
    /// error does not depend on how the input is split.
    ///
    /// # Errors
    /// The [`ProtocolError`] of the first broken rule. The payload is not checked.
    #[inline(always)]
    pub fn decode(
        bytes: &[u8],
        expected: &Expectation,
    ) -> Result<Option<(FrameHeader, usize)>, ProtocolError> {
        let Some((&first, rest)) = bytes.split_first() else {
            return Ok(None);
        };
        let (fin, rsv1, opcode) = decode_first(first, expected)?;

        let Some((&second, rest)) = rest.split_first() else {
            return Ok(None);
        };
        match (expected.role, second & 0x80 != 0) {
            (Role::Server, false) => return Err(ProtocolError::UnmaskedFrame), // §5.1
            (Role::Client, true) => return Err(ProtocolError::MaskedFrame),    // §5.1
            _ => {}
        }
        let short = second & 0x7F;
        if opcode.is_control() && short > 125 {
            return Err(ProtocolError::OversizedControlFrame); // §5.5
        }
        let Some((payload_length, rest)) = decode_length(short, rest)? else {
            return Ok(None);
        };
        check_size(opcode, rsv1, payload_length, expected)?;

        let (masking_key, rest) = match (expected.role, rest.split_first_chunk::<4>()) {
            (Role::Client, _) => (None, rest),
            (Role::Server, Some((key, rest))) => (Some(*key), rest),
            (Role::Server, None) => return Ok(None),
        };
        let header = FrameHeader {
            fin,
            rsv1,
            opcode,
            masking_key,
            payload_length,
        };
        Ok(Some((header, bytes.len().saturating_sub(rest.len()))))
    }

    /// The header of the rest of the frame, after the first `bytes` bytes of its payload.
    pub(super) fn after(mut self, bytes: usize) -> FrameHeader {
        if let Some(key) = &mut self.masking_key {
            key.rotate_left(bytes % 4);
        }
        self.payload_length = self.payload_length.saturating_sub(bytes as u64);
        self
    }

    /// Encodes this header in its shortest form.
    #[inline]
    pub fn encode(&self) -> EncodedHeader {
        let mut bytes = [0; Self::MAX_LENGTH];
        let mask = if self.masking_key.is_some() { 0x80 } else { 0 };
        bytes[0] = u8::from(self.fin) << 7 | u8::from(self.rsv1) << 6 | self.opcode as u8;
        let extended: u8 = match self.payload_length {
            length @ 0..=125 => {
                bytes[1] = mask | length.to_be_bytes()[7];
                0
            }
            length @ 126..=0xFFFF => {
                bytes[1] = mask | 126;
                bytes[2..4].copy_from_slice(&length.to_be_bytes()[6..]);
                2
            }
            length => {
                bytes[1] = mask | 127;
                bytes[2..10].copy_from_slice(&length.to_be_bytes());
                8
            }
        };
        let mut length = extended.saturating_add(2);
        if let Some(key) = self.masking_key {
            for (place, byte) in bytes.iter_mut().skip(usize::from(length)).zip(key) {
                *place = byte;
            }
            length = length.saturating_add(4);
        }
        EncodedHeader { bytes, length }
    }
}

/// An encoded header: 2 to 14 bytes.
#[derive(Clone, Copy, Debug)]
pub struct EncodedHeader {
    bytes: [u8; FrameHeader::MAX_LENGTH],
    length: u8,
}

impl EncodedHeader {
    /// Whether this is the header of a text frame.
    #[inline(always)]
    pub const fn is_text(&self) -> bool {
        self.bytes[0] & 0x0F == OpCode::Text as u8
    }

    /// Whether this is the header of a control frame (RFC 6455 §5.5).
    #[inline(always)]
    pub const fn is_control(&self) -> bool {
        self.bytes[0] & 0x08 != 0
    }

    /// Appends the header to a buffer.
    #[inline]
    pub fn append_to(&self, buffer: &mut Vec<u8>) {
        // Append all 14 bytes, then truncate: a copy of fixed size is two instructions, a copy of
        // variable size is a function call.
        let end = buffer.len().saturating_add(usize::from(self.length));
        buffer.extend_from_slice(&self.bytes);
        buffer.truncate(end);
    }
}

impl AsRef<[u8]> for EncodedHeader {
    #[inline]
    fn as_ref(&self) -> &[u8] {
        self.bytes
            .get(..usize::from(self.length))
            .unwrap_or_default()
    }
}

/// Decodes the first byte: FIN, RSV1 to RSV3 and the opcode. Returns FIN, RSV1 and the opcode.
#[inline]
fn decode_first(byte: u8, expected: &Expectation) -> Result<(bool, bool, OpCode), ProtocolError> {
    let fragmented = expected.fragmented;
    let reserved = byte & 0x70;
    if reserved != 0 && !begins_compressed_message(byte, expected) {
        return Err(ProtocolError::ReservedBit); // §5.2
    }
    let opcode = OpCode::decode(byte).ok_or(ProtocolError::ReservedOpCode)?; // §5.2
    let fin = byte & 0x80 != 0;
    match opcode {
        OpCode::Close | OpCode::Ping | OpCode::Pong if !fin => {
            Err(ProtocolError::FragmentedControlFrame) // §5.5
        }
        OpCode::Continuation if !fragmented => Err(ProtocolError::UnexpectedContinuation), // §5.4
        OpCode::Text | OpCode::Binary if fragmented => Err(ProtocolError::ExpectedContinuation), // §5.4
        _ => Ok((fin, reserved != 0, opcode)),
    }
}

/// Whether only RSV1 is set, on a text or binary frame (RFC 7692 §6).
#[cold]
fn begins_compressed_message(byte: u8, expected: &Expectation) -> bool {
    expected.deflate && matches!(byte & 0x7F, 0x41 | 0x42)
}

/// Decodes the payload length. `short` is the 7-bit length.
#[inline]
fn decode_length(short: u8, rest: &[u8]) -> Result<Option<(u64, &[u8])>, ProtocolError> {
    let (length, minimum, rest) = match short {
        126 => match rest.split_first_chunk::<2>() {
            Some((bytes, rest)) => (u64::from(u16::from_be_bytes(*bytes)), 126, rest),
            None => return Ok(None),
        },
        127 => match rest.split_first_chunk::<8>() {
            Some((bytes, rest)) => (u64::from_be_bytes(*bytes), 0x1_0000, rest),
            None => return Ok(None),
        },
        short => (u64::from(short), 0, rest),
    };
    if length >> 63 != 0 {
        return Err(ProtocolError::LengthMsbSet); // §5.2
    }
    if length < minimum {
        return Err(ProtocolError::NonMinimalLength); // §5.2
    }
    Ok(Some((length, rest)))
}

#[inline]
fn check_size(
    opcode: OpCode,
    rsv1: bool,
    payload_length: u64,
    expected: &Expectation,
) -> Result<(), ProtocolError> {
    if opcode.is_control() {
        return Ok(());
    }
    let limits = &expected.limits;
    let error = if payload_length > limits.max_frame_size as u64 {
        ProtocolError::FrameTooBig // §7.4.1, 1009
    } else if payload_length.saturating_add(expected.assembled as u64)
        > limits.max_message_size as u64
    {
        ProtocolError::MessageTooBig // §7.4.1, 1009
    } else {
        return Ok(());
    };
    if rsv1 || expected.compressed {
        return check_compressed_size(payload_length, limits);
    }
    Err(error)
}

/// Checks the payload length of a compressed frame. The limits apply to the text, whose size is
/// known only after decompression. An incompressible payload is slightly larger than its text.
#[cold]
fn check_compressed_size(payload_length: u64, limits: &SizeLimits) -> Result<(), ProtocolError> {
    let text = limits.max_frame_size as u64;
    if payload_length > text.saturating_add(text / 64).saturating_add(64) {
        return Err(ProtocolError::FrameTooBig); // §7.4.1, 1009
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVER: Expectation = Expectation {
        role: Role::Server,
        fragmented: false,
        compressed: false,
        deflate: false,
        assembled: 0,
        limits: SizeLimits {
            max_message_size: usize::MAX,
            max_frame_size: usize::MAX,
        },
    };

    #[test]
    fn a_header_reads_back_as_it_was_written() {
        for payload_length in [0, 1, 125, 126, 127, 0xFFFF, 0x1_0000, (1 << 63) - 1] {
            let header = FrameHeader {
                fin: true,
                rsv1: false,
                opcode: OpCode::Binary,
                masking_key: Some([1, 2, 3, 4]),
                payload_length,
            };
            let bytes = header.encode();
            let bytes = bytes.as_ref();
            let decoded = FrameHeader::decode(bytes, &SERVER);
            assert_eq!(decoded, Ok(Some((header, bytes.len()))));
            for cut in 0..bytes.len() {
                assert_eq!(FrameHeader::decode(&bytes[..cut], &SERVER), Ok(None));
            }
        }
    }

    #[test]
    fn each_rule_fails_at_the_byte_that_breaks_it() {
        use ProtocolError::*;
        let cases: [(&[u8], ProtocolError); 14] = [
            (&[0xC1], ReservedBit),
            (&[0xA1], ReservedBit),
            (&[0x91], ReservedBit),
            (&[0x83], ReservedOpCode),
            (&[0x0B], ReservedOpCode),
            (&[0x09], FragmentedControlFrame),
            (&[0x80], UnexpectedContinuation),
            (&[0x81, 0x01], UnmaskedFrame),
            (&[0x89, 0xFE], OversizedControlFrame),
            (&[0x88, 0xFF], OversizedControlFrame),
            (&[0x82, 0xFE, 0, 125], NonMinimalLength),
            (
                &[0x82, 0xFF, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF],
                NonMinimalLength,
            ),
            (&[0x82, 0xFF, 0x80, 0, 0, 0, 0, 0, 0, 0], LengthMsbSet),
            (
                &[0x82, 0xFF, 255, 255, 255, 255, 255, 255, 255, 255],
                LengthMsbSet,
            ),
        ];
        for (bytes, error) in cases {
            assert_eq!(
                FrameHeader::decode(bytes, &SERVER),
                Err(error),
                "{bytes:02X?}"
            );
            let early = FrameHeader::decode(&bytes[..bytes.len() - 1], &SERVER);
            assert_eq!(early, Ok(None), "{bytes:02X?} without its last byte");
        }
    }

    #[test]
    fn every_kind_of_frame_is_told_by_its_first_byte() {
        for (first, opcode, is_control) in [
            (0x00, OpCode::Continuation, false),
            (0x81, OpCode::Text, false),
            (0x82, OpCode::Binary, false),
            (0x88, OpCode::Close, true),
            (0x89, OpCode::Ping, true),
            (0x8A, OpCode::Pong, true),
        ] {
            let expected = Expectation {
                fragmented: opcode == OpCode::Continuation,
                ..SERVER
            };
            // A control frame holds at most 125 bytes.
            let bytes = [first, 0xFD, 1, 2, 3, 4];
            let (header, length) = FrameHeader::decode(&bytes, &expected).unwrap().unwrap();
            assert_eq!((header.opcode, header.payload_length), (opcode, 125));
            assert_eq!((header.fin, length), (first & 0x80 != 0, 6));
            let encoded = header.encode();
            assert_eq!(encoded.as_ref(), bytes);
            assert_eq!(encoded.is_control(), is_control, "{opcode:?}");
            assert_eq!(encoded.is_text(), opcode == OpCode::Text, "{opcode:?}");
        }
    }

    #[test]
    fn a_server_does_not_mask() {
        let expected = Expectation {
            role: Role::Client,
            ..SERVER
        };
        let decode = |bytes: &[u8]| FrameHeader::decode(bytes, &expected);
        assert_eq!(decode(&[0x81, 0x80]), Err(ProtocolError::MaskedFrame));
        assert!(matches!(decode(&[0x81, 0x00]), Ok(Some((_, 2)))));
    }

    #[rustfmt::skip] // one row per line
    #[test]
    fn limits_are_the_largest_that_is_let_in() {
        use ProtocolError::{FrameTooBig, MessageTooBig};
        let limits = SizeLimits { max_message_size: 100, max_frame_size: 64 };
        // RSV1 marks a frame that begins a compressed message, `compressed` a frame that continues
        // a compressed message. The limits apply to the inflated text. Without context takeover, a
        // text of 64 bytes compresses to at most 64 + 64 / 64 + 64 bytes.
        for (first, compressed, assembled, length, outcome) in [
            (0x82, false, 0, 64, None),
            (0x82, false, 0, 65, Some(FrameTooBig)),
            (0x80, false, 36, 64, None),
            (0x80, false, 37, 64, Some(MessageTooBig)),
            (0x80, false, 100, 0, None),
            (0x80, false, 100, 1, Some(MessageTooBig)),
            (0x80, false, 37, 65, Some(FrameTooBig)),
            (0xC2, false, 0, 65, None),
            (0xC2, false, 0, 129, None),
            (0xC2, false, 0, 130, Some(FrameTooBig)),
            (0xC2, false, 0, 1_000, Some(FrameTooBig)),
            (0x80, true, 90, 65, None),
            (0x80, true, 90, 125, None),
            (0x80, true, 0, 1_000, Some(FrameTooBig)),
            // Control frames do not belong to a message.
            (0x89, false, 100, 125, None),
        ] {
            let fragmented = first & 0x0F == 0;
            let deflate = compressed || first & 0x40 != 0;
            let expected = Expectation { fragmented, compressed, deflate, assembled, limits, ..SERVER };
            let header = FrameHeader {
                fin: true,
                rsv1: first & 0x40 != 0,
                opcode: OpCode::decode(first).unwrap(),
                masking_key: Some([0; 4]),
                payload_length: length,
            };
            let decoded = FrameHeader::decode(header.encode().as_ref(), &expected);
            assert_eq!(decoded.err(), outcome, "{first:#X} {compressed} {assembled} {length}");
        }
    }

    #[test]
    fn a_data_frame_inside_a_fragmented_message_must_continue_it() {
        let expected = Expectation {
            fragmented: true,
            ..SERVER
        };
        for first in [0x81, 0x01, 0x82] {
            let error = FrameHeader::decode(&[first], &expected);
            assert_eq!(error, Err(ProtocolError::ExpectedContinuation));
        }
        assert_eq!(FrameHeader::decode(&[0x80], &expected), Ok(None));
        assert_eq!(FrameHeader::decode(&[0x89], &expected), Ok(None));
    }
}
