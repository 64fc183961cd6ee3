//! The format between frameloop processes: each message is a MessagePack array `[version, node,
//! sequence, payload]` on a Redis channel for each room.
//!
//! The payload is a MessagePack string for Text and a MessagePack binary for Binary. The node is a
//! random number that each process picks at its start. The sequence counts the messages of that
//! process in that room: a missing number means that messages were lost.

use std::collections::HashMap;

use rmpv::ValueRef;

use crate::protocol::Message;

const VERSION: u64 = 1;

/// A message with its publisher and sequence number.
#[derive(Debug, PartialEq)]
pub(super) struct Published<'a> {
    pub(super) node: u64,
    pub(super) sequence: u64,
    pub(super) message: Message<'a>,
}

impl Published<'_> {
    /// Encodes the message; `None` for a control frame.
    pub(super) fn encode(&self) -> Option<Vec<u8>> {
        let payload = match self.message {
            Message::Text(text) => ValueRef::from(text),
            Message::Binary(payload) => ValueRef::from(payload),
            Message::Ping(_) | Message::Pong(_) | Message::Close(_) => return None,
        };
        let numbers = [VERSION, self.node, self.sequence].map(ValueRef::from);
        let value = ValueRef::Array(numbers.into_iter().chain([payload]).collect());
        let mut bytes = Vec::new();
        // Writing to a vector cannot fail.
        rmpv::encode::write_value_ref(&mut bytes, &value).ok()?;
        Some(bytes)
    }
}

/// Decodes a message from Redis; `None` for other bytes.
pub(super) fn decode(mut bytes: &[u8]) -> Option<Published<'_>> {
    const ARRAY_OF_FOUR: u8 = 0x94;
    bytes = bytes.strip_prefix(&[ARRAY_OF_FOUR])?;
    let mut number = || scalar(&mut bytes)?.as_u64();
    let (version, node, sequence) = (number()?, number()?, number()?);
    let message = match scalar(&mut bytes)? {
        ValueRef::String(text) => Message::Text(text.into_str()?),
        ValueRef::Binary(payload) => Message::Binary(payload),
        _ => return None,
    };
    let is_valid = bytes.is_empty() && version == VERSION;
    is_valid.then_some(Published {
        node,
        sequence,
        message,
    })
}

/// Reads the next value; `None` for arrays and maps, because a few bytes of those could allocate
/// much memory.
fn scalar<'a>(bytes: &mut &'a [u8]) -> Option<ValueRef<'a>> {
    match bytes.first()? {
        0x80..=0x9F | 0xDC..=0xDF => None,
        _ => rmpv::decode::read_value_ref(bytes).ok(),
    }
}

/// The last sequence number of each publishing process. Bound: [`Sequences::MAX`] processes.
#[derive(Debug, Default)]
pub(super) struct Sequences(HashMap<u64, u64>);

impl Sequences {
    /// More processes than this never share a room: then the numbers are forged, and all are
    /// forgotten.
    const MAX: usize = 1_024;

    /// Stores a sequence number. Returns how many numbers are missing before it. A number that is
    /// not larger than the last one is a new start of the process in this room, with nothing
    /// missing.
    pub(super) fn see(&mut self, node: u64, sequence: u64) -> u64 {
        if self.0.len() >= Self::MAX {
            self.0.clear();
        }
        match self.0.insert(node, sequence) {
            Some(last) if sequence > last => sequence - last - 1,
            _ => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HI: &[u8] = b"\x94\x01\xCD\x01\x00\x07\xA2hi";

    #[test]
    fn messages_are_arrays_of_four() {
        let published = |message| Published {
            node: 256,
            sequence: 7,
            message,
        };
        for (message, bytes) in [
            (Message::Text("hi"), Some(HI)),
            (
                Message::Binary(b"\xFF"),
                Some(&b"\x94\x01\xCD\x01\x00\x07\xC4\x01\xFF"[..]),
            ),
            (Message::Ping(b"hi"), None),
        ] {
            assert_eq!(published(message).encode().as_deref(), bytes);
            if let Some(bytes) = bytes {
                assert_eq!(decode(bytes), Some(published(message)));
            }
        }
    }

    #[test]
    fn other_bytes_are_refused() {
        let other_version = [b"\x94\x02", &HI[2..]].concat();
        let not_utf8 = [&HI[..6], b"\xA1\xFF"].concat();
        let longer = [HI, b"\x00"].concat();
        for bytes in [
            &b""[..],
            b"short",
            &HI[..HI.len() - 1],
            &other_version,
            &not_utf8,
            &longer,
            b"\x95\x01\x01\x01\x01\x01",
            b"\x94\x01\x01\x01\x01",
            b"\xDD\xFF\xFF\xFF\xFF",
            b"\xC6\xFF\xFF\xFF\xFF",
        ] {
            assert_eq!(decode(bytes), None, "{bytes:?}");
        }
        let deep = [0x91; 1_000_000];
        assert_eq!(decode(&deep), None);
    }

    #[test]
    fn missing_sequence_numbers_are_counted() {
        let mut sequences = Sequences::default();
        for (node, sequence, left_out) in [
            (1, 5, 0),
            (1, 6, 0),
            (2, 9, 0),
            (1, 9, 2),
            (2, 10, 0),
            (1, 0, 0),
            (1, 1, 0),
        ] {
            assert_eq!(sequences.see(node, sequence), left_out, "{node} {sequence}");
        }
    }
}
