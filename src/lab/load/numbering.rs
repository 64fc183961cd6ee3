//! The number at the start of each message's payload.

use super::plan::{Compression, Content, Messages};

/// Mask of the low 40 bits of a number, which count a connection's messages. The high bits are the
/// connection's own number.
pub(super) const SEQUENCE: u64 = (1 << 40) - 1;

/// How messages carry their numbers.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Numbering {
    /// No number: messages are shorter than 8 bytes, come from a file, or are compressed once.
    None,
    /// 8 bytes, big-endian.
    Binary,
    /// This many hexadecimal digits: 16, or 8 for the lower half of the number.
    Hex(usize),
}

impl Numbering {
    /// Length of the number in bytes.
    pub(super) const fn length(self) -> usize {
        match self {
            Numbering::None => 0,
            Numbering::Binary => 8,
            Numbering::Hex(digits) => digits,
        }
    }

    pub(super) fn of(messages: &Messages, shortest: usize) -> Numbering {
        match (&messages.content, messages.text) {
            (Content::File(_), _) => Numbering::None,
            _ if messages.compression == Some(Compression::Once) => Numbering::None,
            _ if shortest < 8 => Numbering::None,
            (_, None) => Numbering::Binary,
            (_, Some(_)) => Numbering::Hex(if shortest < 16 { 8 } else { 16 }),
        }
    }

    /// The number at the start of a payload; `None` without a number or if a byte is not a digit.
    #[inline]
    pub(super) fn read(self, payload: &[u8]) -> Option<u64> {
        match self {
            Numbering::None => None,
            Numbering::Binary => payload
                .first_chunk()
                .map(|bytes| u64::from_be_bytes(*bytes)),
            Numbering::Hex(digits) => hex(payload.get(..digits)?),
        }
    }

    /// The encoded number. Only the first [`Numbering::length`] bytes are used.
    #[inline]
    pub(super) fn write(self, number: u64) -> [u8; 16] {
        let mut bytes = [0; 16];
        match self {
            Numbering::None => {}
            Numbering::Binary => bytes[..8].copy_from_slice(&number.to_be_bytes()),
            Numbering::Hex(digits) => {
                for (place, byte) in bytes[..digits].iter_mut().rev().enumerate() {
                    *byte = b"0123456789abcdef"[(number >> (4 * place) & 0xF) as usize];
                }
            }
        }
        bytes
    }
}

fn hex(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0, |number, &byte| {
        let value = match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            _ => return None,
        };
        Some(number << 4 | u64::from(value))
    })
}

/// The number nearest to `expected` whose low 32 bits are `low`.
pub(super) fn nearest(low: u32, expected: u64) -> u64 {
    let ahead = low.wrapping_sub(expected as u32).cast_signed();
    expected.saturating_add_signed(ahead.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    #[test]
    fn half_a_number_is_made_whole() {
        for (low, expected, whole) in [
            (5, 5, 5),
            (3, 5, 3),
            (0, 0xFFFF_FFFF, 0x1_0000_0000),
            (0xFFFF_FFFF, 0x1_0000_0000, 0xFFFF_FFFF),
        ] {
            assert_eq!(nearest(low, expected), whole);
        }
    }
}
