//! The deflate codec: zlib's algorithm, fed and emptied piece by piece.

use core::fmt;

use zlib_rs::{DeflateConfig, DeflateFlush, Inflate, InflateFlush, Status};

use super::{DeflateParameters, InvalidData, TakeoverContext};

/// Every message ends with an empty stored block, of which the last four bytes do not travel
/// (§7.2.1).
const TAIL: [u8; 4] = [0x00, 0x00, 0xFF, 0xFF];

/// Decompresses one message at a time.
pub(in crate::protocol) struct Inflater {
    stream: Inflate,
    /// The last byte that was decompressed of this message.
    last: Option<u8>,
    /// A block that calls itself the last has ended, and nothing has come after it.
    is_ended: bool,
    /// The stream holds all text since its window was filled: no block called itself the last.
    is_continuous: bool,
}

impl Default for Inflater {
    fn default() -> Inflater {
        Inflater {
            // The largest window inflates what any smaller one deflated (§7.1.2.2).
            stream: Inflate::new(false, DeflateParameters::MAX_WINDOW_BITS),
            last: None,
            is_ended: false,
            is_continuous: true,
        }
    }
}

impl Inflater {
    /// Bytes that one holds.
    pub(in crate::protocol) const BYTES: usize = 48 << 10;

    /// What beginning a message counts as, in bytes inflated: resetting and filling the window.
    pub(in crate::protocol) const BEGINNING: usize = 512;

    /// Begins a message. `history` is the text that it may refer to, the older part first. All of
    /// it is copied.
    pub(in crate::protocol) fn begin(&mut self, history: [&[u8]; 2]) {
        self.stream.reset(false);
        for part in history {
            if !part.is_empty() {
                // A raw stream takes any dictionary at its beginning, in parts, too.
                let _ = self.stream.set_dictionary(part);
            }
        }
        self.is_continuous = true;
        self.resume();
    }

    /// Begins a message that follows the last one: the window still holds the text before it.
    pub(in crate::protocol) fn resume(&mut self) {
        self.last = None;
        self.is_ended = false;
    }

    /// Whether the next message of the same client can [`resume`](Inflater::resume).
    pub(in crate::protocol) fn is_continuous(&self) -> bool {
        self.is_continuous
    }

    /// Takes bytes off the front of `input`, and says how many it put into `output` and whether
    /// all was well after them. Until they are fewer than there is room for, more may follow
    /// without further input.
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
        // Each has one byte more than belongs to the block that it ends, a block without content.
        const REST_OF_EMPTY_BLOCK: &[u8] = &[0x00, 0x00, 0xFF, 0xFF, 0x00];
        const EMPTY_BLOCK: &[u8] = &[0x00, 0x00, 0x00, 0xFF, 0xFF, 0x00];
        let end = match self.last {
            // zlib flushes nothing when it has nothing new, so some clients send an empty message
            // as no data at all.
            None => return Ok(()),
            Some(_) if self.is_ended => return Ok(()),
            // The bits before the tail are zeros, so this client has sent the tail as well.
            Some(0x80..) => EMPTY_BLOCK,
            Some(_) => REST_OF_EMPTY_BLOCK,
        };
        // Inflating stops between two blocks: right before that byte only if the message is complete.
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

/// Compresses messages, for any number of connections: each begins from nothing but what its
/// connection has kept of the text before.
#[derive(Default)]
pub struct Deflater {
    /// One for each window, made on first use.
    streams: [Option<ZStream>; WINDOWS],
    output: Vec<u8>,
    /// Bytes that went in since [`Deflater::take_deflated`].
    deflated: usize,
}

const WINDOWS: usize =
    (DeflateParameters::MAX_WINDOW_BITS - DeflateParameters::MIN_WINDOW_BITS + 1) as usize;

struct ZStream {
    deflate: zlib_rs::Deflate,
    level: u8,
}

impl Deflater {
    /// Bytes of output that are kept for the next message.
    const KEPT: usize = 1 << 20;

    /// A deflater without any memory yet.
    pub const fn new() -> Deflater {
        Deflater {
            streams: [const { None }; WINDOWS],
            output: Vec::new(),
            deflated: 0,
        }
    }

    /// Bytes that were compressed since the last call, before compression.
    pub fn take_deflated(&mut self) -> usize {
        core::mem::take(&mut self.deflated)
    }

    /// The payload of a compressed message (§7.2.1); `None` if it would not be smaller.
    pub(in crate::protocol) fn deflate(
        &mut self,
        payload: &[u8],
        level: u8,
        context: &TakeoverContext,
    ) -> Option<&[u8]> {
        // Room for the worst case, literals of nine bits. A stream that is given up in the middle
        // must not be used again: a reset does not make it forget the block that it was in.
        let length = payload.len();
        self.deflated = self.deflated.saturating_add(length);
        let room = length.saturating_add(length / 8).saturating_add(64);
        if self.output.capacity() > Self::KEPT.max(room) {
            self.output = Vec::new();
        }
        if self.output.len() < room {
            self.output.resize(room, 0);
        }
        let output = self.output.get_mut(..room)?;

        let window_bits = context.window_bits.clamp(
            DeflateParameters::MIN_WINDOW_BITS,
            DeflateParameters::MAX_WINDOW_BITS,
        );
        let index = usize::from(window_bits.abs_diff(DeflateParameters::MIN_WINDOW_BITS));
        let place = self.streams.get_mut(index)?;
        let mut stream = match place.take() {
            Some(mut stream) if stream.level == level => {
                stream.deflate.reset();
                stream
            }
            _ => ZStream::new(level, window_bits),
        };
        let history = context.history.parts().concat(); // 4 KiB
        if !history.is_empty() {
            stream.deflate.set_dictionary(&history).ok()?;
        }
        let status = stream
            .deflate
            .compress(payload, output, DeflateFlush::SyncFlush);
        let made = bytes(0, stream.deflate.total_out());
        let is_whole = status == Ok(Status::Ok)
            && bytes(0, stream.deflate.total_in()) == length
            && made < room;
        if is_whole {
            *place = Some(stream);
        }
        let compressed = self.output.get(..made)?.strip_suffix(&TAIL)?;
        Some(compressed).filter(|compressed| is_whole && compressed.len() < length)
    }
}

impl ZStream {
    fn new(level: u8, window_bits: u8) -> ZStream {
        ZStream {
            deflate: zlib_rs::Deflate::new_with_config(DeflateConfig {
                level: i32::from(level.clamp(1, 9)),
                // Negative: without a header and a checksum.
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

/// The difference of two of zlib's counters, which count what went through slices.
fn bytes(before: u64, after: u64) -> usize {
    usize::try_from(after.saturating_sub(before)).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deflater_keeps_a_stream_for_each_window_and_an_output_of_1_mib_at_most() {
        let mut deflater = Deflater::new();
        assert_eq!(deflater.streams.len(), 7);
        let mut capacity_after = |length: usize| {
            let context = TakeoverContext::none(15);
            assert!(deflater.deflate(&vec![7; length], 1, &context).is_some());
            deflater.output.capacity()
        };
        let for_worst_case = |length: usize| length + length / 8 + 64;
        assert!(capacity_after(1_000) <= for_worst_case(1_000));
        let large = capacity_after(500_000);
        assert!((500_000..=for_worst_case(500_000)).contains(&large));
        // That is kept; what is larger is not.
        assert_eq!(capacity_after(1_000), large);
        assert!(capacity_after(3 << 20) > 3 << 20);
        assert!(capacity_after(1_000) <= Deflater::KEPT);
    }

    #[test]
    fn codecs_show_what_they_are_and_nothing_of_what_went_through() {
        assert_eq!(format!("{:?}", Deflater::new()), "Deflater { .. }");
        assert_eq!(format!("{:?}", Inflater::default()), "Inflater { .. }");
    }
}
