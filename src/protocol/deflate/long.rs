//! The compression of a long message in steps, so that other connections get their turns in
//! between.

use super::{Deflate, Deflater, TAIL, TakeoverContext, window};
use crate::protocol::sender::{FrameSink, put};
use crate::protocol::{Message, OpCode};

/// A data message that is being compressed. Its owner keeps the payload.
#[derive(Clone, Debug)]
pub struct LongCompression {
    opcode: OpCode,
    level: u8,
    window_bits: u8,
    /// Bytes of the payload.
    length: usize,
    /// Bytes of the payload that are compressed.
    done: usize,
    /// Whole blocks. Bound: `done` bytes, and five more for each step.
    output: Vec<u8>,
}

impl LongCompression {
    /// Bytes that are compressed in one step: 64 KiB, in about half a millisecond. A message of at
    /// most this size is compressed at once.
    pub const STEP: usize = 64 << 10;

    /// Compresses the first step of a message for fan-out, without reference to earlier messages.
    /// `None` if the message is not long, too long, or its first step does not become smaller.
    pub fn of_shared(
        message: Message<'_>,
        deflate: &Deflate,
        deflater: &mut Deflater,
    ) -> Option<LongCompression> {
        let context = TakeoverContext::none(deflate.window_bits);
        let (opcode, payload) = message.frame()?;
        let is_long = (Self::STEP + 1..=Deflate::MAX_SIZE).contains(&payload.len());
        is_long.then_some(())?;
        LongCompression::begin(opcode, payload, deflate.level, &context, deflater)
    }

    /// Compresses the first step. `None` if it does not become smaller: then the message is sent
    /// uncompressed. Otherwise the whole message is sent compressed.
    pub(in crate::protocol) fn begin(
        opcode: OpCode,
        payload: &[u8],
        level: u8,
        context: &TakeoverContext,
        deflater: &mut Deflater,
    ) -> Option<LongCompression> {
        let (first, _) = payload.split_at(payload.len().min(Self::STEP));
        let earlier = context.history.parts().concat(); // at most 4 KiB
        let blocks = deflater.blocks(first, level, context.window_bits, &earlier);
        (blocks.ends_with(&TAIL) && blocks.len() < first.len()).then(|| LongCompression {
            opcode,
            level,
            window_bits: context.window_bits,
            length: payload.len(),
            done: first.len(),
            output: blocks.to_vec(),
        })
    }

    /// Compresses the next step of the payload, the last part of `frame`. Returns whether the
    /// payload is complete.
    pub fn step(&mut self, frame: &[u8], deflater: &mut Deflater) -> bool {
        let (_, payload) = frame.split_at(frame.len().saturating_sub(self.length));
        let (before, rest) = payload.split_at(self.done.min(payload.len()));
        let (next, rest) = rest.split_at(rest.len().min(Self::STEP));
        let (_, earlier) = before.split_at(before.len().saturating_sub(window(self.window_bits)));
        let blocks = deflater.blocks(next, self.level, self.window_bits, earlier);
        if blocks.ends_with(&TAIL) {
            self.output.extend_from_slice(blocks);
        } else {
            self.store(next);
        }
        self.done = self.done.saturating_add(next.len());
        rest.is_empty()
    }

    /// Appends text as uncompressed blocks (RFC 1951 §3.2.4): what has been compressed is part of
    /// the same message.
    pub(super) fn store(&mut self, text: &[u8]) {
        for block in text.chunks(usize::from(u16::MAX)) {
            let length = u16::try_from(block.len()).unwrap_or(u16::MAX);
            self.output.push(0);
            self.output.extend_from_slice(&length.to_le_bytes());
            self.output.extend_from_slice(&(!length).to_le_bytes());
            self.output.extend_from_slice(block);
        }
        self.output.extend_from_slice(&[0]);
        self.output.extend_from_slice(&TAIL);
    }

    /// Writes the complete message as one frame.
    pub fn send(&self, output: &mut impl FrameSink) {
        let payload = self.output.strip_suffix(&TAIL).unwrap_or(&self.output);
        put(true, self.opcode, true, payload, output);
    }

    /// Memory of the compressed part, in bytes.
    pub fn size(&self) -> usize {
        self.output.capacity()
    }
}
