//! The deflate codec: zlib's algorithm, with input and output in pieces.

use core::fmt;

use zlib_rs::{DeflateConfig, DeflateFlush, Inflate, InflateFlush, Status};

use super::{DeflateParameters, InvalidData};

/// Decompresses one message at a time.
pub(in crate::protocol) struct Inflater {
    stream: Inflate,
    /// The last input byte of this message; `None` before the first byte.
    last: Option<u8>,
    /// A block marked as final has ended, and no input has followed.
    is_ended: bool,
    /// The window holds all text since it was filled: no block was marked as final.
    is_continuous: bool,
}

impl Default for Inflater {
    fn default() -> Inflater {
        Inflater {
            // The largest window can inflate data that was deflated with any smaller window
            // (§7.1.2.2).
            stream: Inflate::new(false, DeflateParameters::MAX_WINDOW_BITS),
            last: None,
            is_ended: false,
            is_continuous: true,
        }
    }
}

impl Inflater {
    /// Memory of one inflater, in bytes.
    pub(in crate::protocol) const BYTES: usize = 48 << 10;

    /// The cost of beginning a message, as a number of inflated bytes: resetting the stream and
    /// filling the window.
    pub(in crate::protocol) const BEGINNING: usize = 512;

    /// Begins a message. `history` is the text that the message may refer to, the older part first.
    /// The whole text is copied.
    pub(in crate::protocol) fn begin(&mut self, history: [&[u8]; 2]) {
        self.stream.reset(false);
        for part in history {
            if !part.is_empty() {
                // A raw stream accepts any dictionary at its beginning, also in parts.
                let _ = self.stream.set_dictionary(part);
            }
        }
        self.is_continuous = true;
        self.resume();
    }

    /// Begins the next message of the same client: the window still holds the earlier text.
    pub(in crate::protocol) fn resume(&mut self) {
        self.last = None;
        self.is_ended = false;
    }

    /// Whether the next message of the same client can [`resume`](Inflater::resume).
    pub(in crate::protocol) fn is_continuous(&self) -> bool {
        self.is_continuous
    }

    /// Inflates bytes from the front of `input` and removes them. Returns the number of bytes
    /// written to `output`, and whether the data after them is valid. If `output` is full, more
    /// output may follow without further input.
    pub(in crate::protocol) fn inflate(
        &mut self,
        input: &mut &[u8],
        output: &mut [u8],
    ) -> (usize, Result<(), InvalidData>) {
        let (before_in, before_out) = (self.stream.total_in(), self.stream.total_out());
        let status = self
            .stream
            .decompress(input, output, InflateFlush::SyncFlush);
        let taken = bytes(before_in, self.stream.total_in());
        let made = bytes(before_out, self.stream.total_out());
        let (done, rest) = input.split_at(taken.min(input.len()));
        *input = rest;
        if let Some(last) = done.last() {
            self.last = Some(*last);
            self.is_ended = false;
        }
        let is_stuck = taken == 0 && made == 0 && !rest.is_empty();
        match status {
            Ok(Status::StreamEnd) => {
                // More blocks may follow (§7.2.3.4): a sender that ends a stream begins a new one.
                self.stream.reset(false);
                self.is_ended = true;
                self.is_continuous = false;
                (made, Ok(()))
            }
            Ok(Status::Ok | Status::BufError) if !is_stuck => (made, Ok(())),
            _ => (made, Err(InvalidData)),
        }
    }

    /// Ends the message.
    ///
    /// # Errors
    /// [`InvalidData`] if its last block is not complete.
    pub(in crate::protocol) fn finish(&mut self) -> Result<(), InvalidData> {
        // Both constants end an empty block and contain one byte after it.
        const REST_OF_EMPTY_BLOCK: &[u8] = &[0x00, 0x00, 0xFF, 0xFF, 0x00];
        const EMPTY_BLOCK: &[u8] = &[0x00, 0x00, 0x00, 0xFF, 0xFF, 0x00];
        let end = match self.last {
            // zlib writes nothing if it is flushed without new input, so some clients send an empty
            // message without any data.
            None => return Ok(()),
            Some(_) if self.is_ended => return Ok(()),
            // Without the tail, the highest bit of the last byte is zero. Here it is one, so the
            // client has sent the tail.
            Some(0x80..) => EMPTY_BLOCK,
            Some(_) => REST_OF_EMPTY_BLOCK,
        };
        // Inflation stops between two blocks. It stops right before the additional byte only if the
        // message is complete.
        let (before, made) = (self.stream.total_in(), self.stream.total_out());
        let status = self
            .stream
            .decompress(end, &mut [0; 8], InflateFlush::Block);
        let is_complete = status == Ok(Status::Ok)
            && bytes(before, self.stream.total_in()) == end.len().saturating_sub(1)
            && made == self.stream.total_out();
        is_complete.then_some(()).ok_or(InvalidData)
    }
}

impl fmt::Debug for Inflater {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Inflater").finish_non_exhaustive()
    }
}

/// Compresses messages for any number of connections. A message can refer only to the text that its
/// connection keeps.
#[derive(Default)]
pub struct Deflater {
    /// One stream per window size, created on first use.
    streams: [Option<ZStream>; WINDOWS],
    /// Bound: the blocks of one step, a little more than 64 KiB.
    output: Vec<u8>,
    /// Bytes compressed since the last [`Deflater::take_deflated`], before compression.
    deflated: usize,
}

const WINDOWS: usize =
    (DeflateParameters::MAX_WINDOW_BITS - DeflateParameters::MIN_WINDOW_BITS + 1) as usize;

struct ZStream {
    deflate: zlib_rs::Deflate,
    level: u8,
}

impl Deflater {
    /// A deflater that has allocated no memory.
    pub const fn new() -> Deflater {
        Deflater {
            streams: [const { None }; WINDOWS],
            output: Vec::new(),
            deflated: 0,
        }
    }

    /// Returns the number of bytes compressed since the last call, measured before compression.
    pub fn take_deflated(&mut self) -> usize {
        core::mem::take(&mut self.deflated)
    }

    /// Compresses `text`, which may refer to the `earlier` text. Returns whole blocks; the last one
    /// is empty and ends with [`TAIL`](super::TAIL).
    pub(super) fn blocks(
        &mut self,
        text: &[u8],
        level: u8,
        window_bits: u8,
        earlier: &[u8],
    ) -> &[u8] {
        // Make room for the worst case, literals of nine bits. A stream that stops in the middle of
        // a message must not be reused: a reset does not clear the unfinished block.
        let length = text.len();
        self.deflated = self.deflated.saturating_add(length);
        let room = length.saturating_add(length / 8).saturating_add(64);
        if self.output.len() < room {
            self.output.resize(room, 0);
        }
        let window_bits = window_bits.clamp(
            DeflateParameters::MIN_WINDOW_BITS,
            DeflateParameters::MAX_WINDOW_BITS,
        );
        let index = usize::from(window_bits.abs_diff(DeflateParameters::MIN_WINDOW_BITS));
        let Some((place, output)) = self.streams.get_mut(index).zip(self.output.get_mut(..room))
        else {
            return &[];
        };
        let mut stream = match place.take() {
            Some(mut stream) if stream.level == level => {
                stream.deflate.reset();
                stream
            }
            _ => ZStream::new(level, window_bits),
        };
        let is_set = earlier.is_empty() || stream.deflate.set_dictionary(earlier).is_ok();
        let status = stream
            .deflate
            .compress(text, output, DeflateFlush::SyncFlush);
        let made = bytes(0, stream.deflate.total_out());
        let is_whole = status == Ok(Status::Ok)
            && bytes(0, stream.deflate.total_in()) == length
            && made < room;
        if !is_set || !is_whole {
            return &[];
        }
        *place = Some(stream);
        self.output.get(..made).unwrap_or_default()
    }
}

impl ZStream {
    fn new(level: u8, window_bits: u8) -> ZStream {
        ZStream {
            deflate: zlib_rs::Deflate::new_with_config(DeflateConfig {
                level: i32::from(level.clamp(1, 9)),
                // Negative: no header and no checksum.
                window_bits: i32::from(window_bits).saturating_neg(),
                ..DeflateConfig::default()
            }),
            level,
        }
    }
}

impl fmt::Debug for Deflater {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Deflater").finish_non_exhaustive()
    }
}

/// The difference of two zlib counters. It fits into `usize`, because zlib counts bytes of slices.
fn bytes(before: u64, after: u64) -> usize {
    usize::try_from(after.saturating_sub(before)).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codecs_show_what_they_are_and_nothing_of_what_went_through() {
        assert_eq!(format!("{:?}", Deflater::new()), "Deflater { .. }");
        assert_eq!(format!("{:?}", Inflater::default()), "Inflater { .. }");
    }
}
