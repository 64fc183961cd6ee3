//! Parses the frames that a server sends, and compares the payloads as they arrive.

use super::numbering::{Numbering, SEQUENCE, nearest};
use super::ring::Ring;
use crate::protocol::frame::Expectation;
use crate::protocol::{FrameHeader, OpCode, ProtocolError, Role, SizeLimits};

/// Receives the replies and control frames of a connection.
pub(super) trait Replies {
    /// The message number to assume for a reply that carries no number.
    fn expected(&self) -> u64;
    /// Handles a complete data message.
    fn reply(&mut self, reply: Reply);
    /// Handles a control frame.
    fn control(&mut self, opcode: OpCode, payload: &[u8]);
    /// The number of the next reply, and how many replies from that one on may be counted together
    /// by [`Replies::in_order`]. `None`: each reply must be handled.
    fn run(&self) -> Option<(u64, u64)>;
    /// Counts `count` replies of `length` bytes, received in the order given by [`Replies::run`].
    fn in_order(&mut self, count: u64, length: usize);
    /// Whether payloads are compared byte for byte.
    fn compares(&self) -> bool;
}

/// A data message.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reply {
    /// The number that the message carries. If messages carry no numbers, the value of
    /// [`Replies::expected`]. `None` if the digits are not readable.
    pub(super) number: Option<u64>,
    /// The payload equals the sent payload, byte for byte.
    pub(super) is_intact: bool,
    /// Bytes of payload.
    pub(super) length: usize,
}

/// Parser state between two reads.
#[derive(Debug, Default)]
pub(super) struct Incoming {
    head: [u8; FrameHeader::MAX_LENGTH],
    head_length: u8,
    frame: Option<IncomingFrame>,
    message: Option<PartialMessage>,
    /// The received part of a control frame's payload.
    control: Vec<u8>,
}

#[derive(Clone, Copy, Debug)]
struct IncomingFrame {
    opcode: OpCode,
    fin: bool,
    left: u64,
    key: Option<[u8; 4]>,
}

/// A data message of which a part has been received.
#[derive(Clone, Copy, Debug)]
struct PartialMessage {
    is_right_kind: bool,
    /// Bytes received so far.
    length: usize,
    /// The bytes of the message number.
    number: [u8; 16],
    /// The slot to compare the payload with; `None` until the number is complete.
    slot: Option<usize>,
    /// All bytes compared so far are equal.
    is_equal: bool,
    read: Option<u64>,
}

impl Incoming {
    /// Parses all of `input`.
    ///
    /// # Errors
    /// The rule of RFC 6455 that the server violated.
    #[inline]
    pub(super) fn feed(
        &mut self,
        mut input: &[u8],
        ring: &mut Ring,
        replies: &mut impl Replies,
    ) -> Result<(), ProtocolError> {
        if self.is_between()
            && let Some((number, most)) = replies.run()
        {
            let (count, bytes, length) = ring.replies_in(input, number, most);
            if count > 0 {
                replies.in_order(count, length);
                input = &input[bytes..];
            }
        }
        let ring = &*ring;
        let mask = if ring.is_raw { 4 } else { 0 };
        while let Some(&first) = input.first() {
            if (first == ring.first_byte || first == ring.first_byte_compressed)
                && self.is_between()
                && let Some((header, length)) = short_header(input, mask)
                && let Some(payload) = input.get(header..header + length)
            {
                let key = ring.is_raw.then(|| input[..header].last_chunk().copied());
                replies.reply(whole(payload, key.flatten(), ring, replies));
                input = &input[header + length..];
            } else {
                let taken = self.step(input, ring, replies)?;
                input = &input[taken..];
            }
        }
        Ok(())
    }

    #[inline]
    fn is_between(&self) -> bool {
        self.head_length == 0 && self.frame.is_none() && self.message.is_none()
    }

    /// Parses up to the end of a header, a payload or the input. Returns the bytes parsed.
    fn step(
        &mut self,
        input: &[u8],
        ring: &Ring,
        replies: &mut impl Replies,
    ) -> Result<usize, ProtocolError> {
        if self.frame.is_none() {
            return self.header(input, ring, replies);
        }
        self.payload(input, ring, replies)
    }

    fn header(
        &mut self,
        input: &[u8],
        ring: &Ring,
        replies: &mut impl Replies,
    ) -> Result<usize, ProtocolError> {
        let before = usize::from(self.head_length);
        let copied = input.len().min(self.head.len() - before);
        self.head[before..before + copied].copy_from_slice(&input[..copied]);
        let expected = Expectation {
            role: if ring.is_raw {
                Role::Server
            } else {
                Role::Client
            },
            fragmented: self.message.is_some(),
            compressed: ring.is_compressed,
            deflate: ring.is_compressed,
            assembled: 0,
            limits: SizeLimits {
                max_message_size: usize::MAX,
                max_frame_size: usize::MAX,
            },
        };
        let Some((header, length)) = FrameHeader::decode(&self.head[..before + copied], &expected)?
        else {
            self.head_length = (before + copied) as u8;
            return Ok(copied);
        };
        self.head_length = 0;
        let opcode = header.opcode;
        self.frame = Some(IncomingFrame {
            opcode,
            fin: header.fin,
            left: header.payload_length,
            key: header.masking_key.filter(|_| ring.is_raw),
        });
        if matches!(opcode, OpCode::Text | OpCode::Binary) {
            self.message = Some(PartialMessage {
                is_right_kind: opcode as u8 == ring.first_byte & 0x0F,
                length: 0,
                number: [0; 16],
                slot: None,
                is_equal: true,
                read: None,
            });
        }
        if header.payload_length == 0 {
            self.end_of_frame(ring, replies);
        }
        Ok(length - before)
    }

    fn payload(
        &mut self,
        input: &[u8],
        ring: &Ring,
        replies: &mut impl Replies,
    ) -> Result<usize, ProtocolError> {
        let Some(frame) = &mut self.frame else {
            return Ok(0);
        };
        let taken = usize::try_from(frame.left).map_or(input.len(), |left| left.min(input.len()));
        frame.left -= taken as u64;
        let (is_control, key, is_over) = (frame.opcode.is_control(), frame.key, frame.left == 0);
        let part = &input[..taken];
        if is_control {
            self.control.extend_from_slice(part);
        } else if let Some(message) = &mut self.message {
            message.take(part, key, ring, replies);
        }
        if is_over {
            self.end_of_frame(ring, replies);
        }
        Ok(taken)
    }

    fn end_of_frame(&mut self, ring: &Ring, replies: &mut impl Replies) {
        let Some(frame) = self.frame.take() else {
            return;
        };
        if frame.opcode.is_control() {
            replies.control(frame.opcode, &self.control);
            self.control.clear();
        } else if frame.fin
            && let Some(mut message) = self.message.take()
        {
            let expected = replies.expected();
            replies.reply(message.end(ring, expected));
        }
    }
}

impl PartialMessage {
    fn take(&mut self, mut part: &[u8], key: Option<[u8; 4]>, ring: &Ring, replies: &impl Replies) {
        let wanted = ring.numbering.length();
        if self.length < wanted {
            let (number, rest) = part.split_at(part.len().min(wanted - self.length));
            self.number[self.length..self.length + number.len()].copy_from_slice(number);
            self.length += number.len();
            part = rest;
            if self.length < wanted {
                return;
            }
        }
        let slot = match self.slot {
            Some(slot) => slot,
            None => self.identify(key, ring, replies.expected()),
        };
        if replies.compares() && self.is_equal && !ring.is_compressed {
            let reply = ring
                .payload(slot)
                .get(self.length..self.length + part.len());
            self.is_equal = reply == Some(part);
        }
        self.length += part.len();
    }

    fn identify(&mut self, key: Option<[u8; 4]>, ring: &Ring, expected: u64) -> usize {
        self.read = number(&self.number, key, ring, expected);
        let slot = ring.slot(self.read.unwrap_or(expected) & SEQUENCE);
        self.slot = Some(slot);
        slot
    }

    fn end(&mut self, ring: &Ring, expected: u64) -> Reply {
        let slot = match self.slot {
            Some(slot) => slot,
            None if self.length < ring.numbering.length() => ring.slot(expected & SEQUENCE),
            None => self.identify(None, ring, expected),
        };
        Reply {
            number: self.read,
            is_intact: self.is_right_kind
                && self.is_equal
                && (ring.is_compressed || self.length == ring.payload(slot).len()),
            length: self.length,
        }
    }
}

/// The number at the start of a payload. If the payload carries only the lower half, the upper half
/// is derived from `expected`.
#[inline]
fn number(payload: &[u8], key: Option<[u8; 4]>, ring: &Ring, expected: u64) -> Option<u64> {
    let mut bytes = [0; 16];
    let payload = match key {
        None => payload,
        Some(key) => {
            let length = payload.len().min(16);
            bytes[..length].copy_from_slice(&payload[..length]);
            crate::protocol::mask::apply_masking_key(&mut bytes, key, 0);
            &bytes[..]
        }
    };
    match ring.numbering {
        Numbering::None => Some(expected),
        short @ Numbering::Hex(8) => {
            let low = short.read(payload)?;
            Some(nearest(low as u32, expected))
        }
        whole => whole.read(payload),
    }
}

#[inline]
pub(super) fn whole(
    payload: &[u8],
    key: Option<[u8; 4]>,
    ring: &Ring,
    replies: &impl Replies,
) -> Reply {
    let expected = replies.expected();
    let length = ring.numbering.length();
    if payload.len() < length {
        return Reply {
            number: None,
            is_intact: false,
            length: payload.len(),
        };
    }
    let number = number(payload, key, ring, expected);
    if ring.is_compressed {
        return Reply {
            number,
            is_intact: true,
            length: payload.len(),
        };
    }
    let right = ring.payload(ring.slot(number.unwrap_or(expected) & SEQUENCE));
    let is_intact = payload.len() == right.len()
        && (!replies.compares() || payload[length..] == right[length..]);
    Reply {
        number,
        is_intact,
        length: payload.len(),
    }
}

/// Lengths of header and payload; `None` if 64 KiB or more, not minimal, or wrongly masked.
#[inline]
fn short_header(input: &[u8], mask: usize) -> Option<(usize, usize)> {
    let second = usize::from(*input.get(1)?);
    let (short, is_masked) = (second & 0x7F, second & 0x80 != 0);
    if is_masked != (mask != 0) {
        return None;
    }
    match short {
        0..=125 => Some((2 + mask, short)),
        126 => {
            let length = usize::from(u16::from_be_bytes([*input.get(2)?, *input.get(3)?]));
            (length > 125).then_some((4 + mask, length))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::load::plan::{Content, Messages, Text};
    use proptest::prelude::*;

    #[derive(Default)]
    struct Heard {
        replies: Vec<(Option<u64>, bool)>,
        controls: Vec<(OpCode, Vec<u8>)>,
    }

    impl Replies for Heard {
        fn expected(&self) -> u64 {
            self.replies.len() as u64
        }
        fn reply(&mut self, reply: Reply) {
            self.replies.push((reply.number, reply.is_intact));
        }
        fn control(&mut self, opcode: OpCode, payload: &[u8]) {
            self.controls.push((opcode, payload.to_vec()));
        }
        fn run(&self) -> Option<(u64, u64)> {
            Some((self.expected(), u64::MAX))
        }
        fn in_order(&mut self, count: u64, _: usize) {
            let first = self.expected();
            let numbers = first..first + count;
            self.replies
                .extend(numbers.map(|number| (Some(number), true)));
        }
        fn compares(&self) -> bool {
            true
        }
    }

    fn ring(size: usize, text: Option<Text>, is_raw: bool) -> Ring {
        let messages = Messages {
            content: Content::Sizes {
                from: size,
                to: size,
            },
            text,
            ..Messages::default()
        };
        Ring::new(&messages, 4, is_raw, 1)
    }

    /// The replies of an echo server to the first `count` messages.
    fn answers(ring: &mut Ring, count: u64) -> Vec<u8> {
        let mut answers = Vec::new();
        for number in 0..count {
            let slot = ring.slot(number);
            let request = ring.frames(slot, 1, number).0.to_vec();
            if ring.is_raw {
                answers.extend(request);
                continue;
            }
            let mut payload = ring.payload(slot).to_vec();
            let length = ring.numbering.length();
            payload[..length].copy_from_slice(&ring.numbering.write(number)[..length]);
            let header = FrameHeader {
                fin: true,
                rsv1: false,
                opcode: if ring.first_byte == 0x81 {
                    OpCode::Text
                } else {
                    OpCode::Binary
                },
                masking_key: None,
                payload_length: payload.len() as u64,
            };
            answers.extend_from_slice(header.encode().as_ref());
            answers.extend(payload);
        }
        answers
    }

    proptest! {
        /// Every reply is recognised, intact and with its number, however reads split the bytes.
        #[test]
        fn cuts_change_nothing(
            size in prop_oneof![0..40_usize, 120..130_usize, 65_530..65_540_usize],
            text in prop_oneof![Just(None), Just(Some(Text::Ascii)), Just(Some(Text::Multibyte))],
            is_raw: bool,
            cuts in proptest::collection::vec(1..200_usize, 1..50),
        ) {
            let mut ring = ring(size, text, is_raw);
            let answers = answers(&mut ring, 5);
            let mut incoming = Incoming::default();
            let mut heard = Heard::default();
            let mut rest = &answers[..];
            for cut in cuts.into_iter().chain([usize::MAX]) {
                let (part, after) = rest.split_at(cut.min(rest.len()));
                incoming.feed(part, &mut ring, &mut heard).unwrap();
                rest = after;
            }
            let all: Vec<_> = (0..5).map(|number| (Some(number), true)).collect();
            prop_assert_eq!(heard.replies, all);
        }

        /// One changed bit of a payload is detected, in a single reply and in a batch of replies.
        #[test]
        fn a_changed_bit_is_seen(
            size in 8..300_usize,
            count in 1..5_u64,
            changed: prop::sample::Index,
            place: prop::sample::Index,
            bit in 0..8_u8,
        ) {
            let mut ring = ring(size, None, false);
            let mut answers = answers(&mut ring, count);
            let whole = answers.len() / count as usize;
            let end = (changed.index(count as usize) + 1) * whole;
            answers[end - size + place.index(size)] ^= 1 << bit;
            let mut heard = Heard::default();
            Incoming::default().feed(&answers, &mut ring, &mut heard).unwrap();
            let right: Vec<_> = (0..count).map(|number| (Some(number), true)).collect();
            prop_assert_ne!(heard.replies, right);
        }
    }

    #[test]
    fn fragments_and_control_frames_between_them_are_one_reply() {
        let mut ring = ring(8, None, false);
        let mut heard = Heard::default();
        let input = b"\x02\x03\0\0\0\x89\x02hi\x80\x05\0\0\0\0\0";
        let mut incoming = Incoming::default();
        for byte in input {
            incoming.feed(&[*byte], &mut ring, &mut heard).unwrap();
        }
        assert_eq!(heard.replies, [(Some(0), true)]);
        assert_eq!(heard.controls, [(OpCode::Ping, b"hi".to_vec())]);
    }

    #[test]
    fn broken_rules_are_told() {
        for (input, error) in [
            (&b"\x82\x80\0\0\0\0"[..], ProtocolError::MaskedFrame),
            (b"\x83\0", ProtocolError::ReservedOpCode),
            (b"\xC2\0", ProtocolError::ReservedBit),
            (b"\x82\x7E\0\x05", ProtocolError::NonMinimalLength),
            (b"\x80\0", ProtocolError::UnexpectedContinuation),
        ] {
            let mut ring = ring(8, None, false);
            let result = Incoming::default().feed(input, &mut ring, &mut Heard::default());
            assert_eq!(result, Err(error));
        }
    }
}
