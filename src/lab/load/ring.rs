//! The messages of a load, prepared once: masked frames to send, and payloads to compare replies
//! with. A message is a slot of the ring with the message number written into it.

use fastrand::Rng;

use super::numbering::{Numbering, SEQUENCE};
use super::plan::{Compression, Content, Messages, Text};
use crate::protocol::deflate::ContextTakeover;
use crate::protocol::frame::EncodedHeader;
use crate::protocol::mask::apply_masking_key;
use crate::protocol::sender::encode_compressed_message;
use crate::protocol::{Deflate, Deflater, FrameHeader, FrameSink, Message, OpCode};

/// The slots. All connections of a thread share them.
#[derive(Debug)]
pub(super) struct Ring {
    /// The frames of all slots, concatenated.
    frames: Vec<u8>,
    /// The expected reply payloads of all slots. Masked if the server is a raw TCP echo.
    payloads: Vec<u8>,
    slots: Vec<RingSlot>,
    /// The expected replies of all slots, each as one unmasked frame.
    replies: Vec<u8>,
    /// Length in bytes of one whole reply and of its header. `None` unless all replies have the
    /// same length and carry a binary number.
    reply_size: Option<(usize, usize)>,
    /// The fragments of all slots.
    fragments: Vec<Fragment>,
    pub(super) numbering: Numbering,
    pub(super) is_raw: bool,
    /// The first byte of an uncompressed reply in one frame.
    pub(super) first_byte: u8,
    /// The first byte of a compressed reply in one frame.
    pub(super) first_byte_compressed: u8,
    /// Messages were compressed once, when they were prepared.
    pub(super) is_compressed: bool,
    fresh_masks: bool,
    /// Compressor, if messages are compressed at each send.
    fresh: Option<Fresh>,
}

#[derive(Clone, Copy, Debug)]
struct RingSlot {
    frames: (usize, usize),
    payload: (usize, usize),
    fragments: (usize, usize),
}

/// One frame. The four bytes before the payload are the masking key.
#[derive(Clone, Copy, Debug)]
struct Fragment {
    payload: (usize, usize),
}

/// State for compressing each message when it is sent.
#[derive(Debug, Default)]
struct Fresh {
    deflater: Deflater,
    frames: Vec<u8>,
}

/// Bound: bytes of prepared payloads. Beyond it, messages repeat.
const MOST_BYTES: usize = 8 << 20;
/// Number of slots for messages of different sizes.
const SIZES: usize = 256;

impl Ring {
    /// `batch` is the number of messages that one write sends.
    pub(super) fn new(messages: &Messages, batch: usize, is_raw: bool, seed: u64) -> Ring {
        let mut random = Rng::with_seed(seed);
        let payloads = payloads(messages, batch, &mut random);
        let shortest = payloads.iter().map(Vec::len).min().unwrap_or(0);
        let opcode = match messages.text {
            Some(_) => OpCode::Text,
            None => OpCode::Binary,
        };
        let is_compressed = messages.compression == Some(Compression::Once);
        let mut ring = Ring {
            frames: Vec::new(),
            payloads: Vec::new(),
            slots: Vec::new(),
            replies: Vec::new(),
            reply_size: None,
            fragments: Vec::new(),
            numbering: Numbering::of(messages, shortest),
            is_raw,
            first_byte: 0x80 | opcode as u8,
            first_byte_compressed: match is_compressed {
                true => 0xC0 | opcode as u8,
                false => 0x80 | opcode as u8,
            },
            is_compressed,
            fresh: (messages.compression == Some(Compression::Fresh)).then(Fresh::default),
            fresh_masks: messages.fresh_masks,
        };
        let mut deflater = Deflater::new();
        for payload in payloads {
            let compressed = match is_compressed {
                true => compressed(&payload, opcode, &mut deflater),
                false => None,
            };
            let is_compressed = compressed.is_some();
            let payload = compressed.unwrap_or(payload);
            ring.add(
                &payload,
                is_compressed,
                opcode,
                messages.fragment,
                &mut random,
            );
        }
        ring.make_replies();
        ring
    }

    fn make_replies(&mut self) {
        let size = self.payload(0).len();
        let is_alike = self
            .slots
            .iter()
            .all(|slot| slot.payload.1 - slot.payload.0 == size);
        if !is_alike || self.is_raw || self.numbering != Numbering::Binary {
            return;
        }
        for slot in 0..self.slots.len() {
            let header = FrameHeader {
                fin: true,
                rsv1: false,
                opcode: OpCode::Binary,
                masking_key: None,
                payload_length: size as u64,
            };
            self.replies.extend_from_slice(header.encode().as_ref());
            let RingSlot { payload, .. } = self.slots[slot];
            self.replies
                .extend_from_slice(&self.payloads[payload.0..payload.1]);
        }
        let whole = self.replies.len() / self.slots.len();
        self.reply_size = Some((whole, whole - size));
    }

    /// Compares the start of `input` with up to `most` expected replies from `number` on, in one
    /// comparison. Returns the number of matching replies, their length in bytes, and the length of
    /// one payload. All are 0 if the comparison fails or fewer than two replies are complete.
    #[inline]
    pub(super) fn replies_in(
        &mut self,
        input: &[u8],
        number: u64,
        most: u64,
    ) -> (u64, usize, usize) {
        const NONE: (u64, usize, usize) = (0, 0, 0);
        let Some((size, header)) = self.reply_size else {
            return NONE;
        };
        let slot = self.slot(number & SEQUENCE);
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        let count = (input.len() / size).min(self.slots.len() - slot).min(most);
        if count < 2 {
            return NONE;
        }
        let expected = &mut self.replies[slot * size..(slot + count) * size];
        for (reply, number) in expected.chunks_exact_mut(size).zip(number..) {
            if let Some(place) = reply[header..].first_chunk_mut() {
                *place = number.to_be_bytes();
            }
        }
        match input.starts_with(expected) {
            true => (count as u64, count * size, size - header),
            false => NONE,
        }
    }

    fn add(
        &mut self,
        payload: &[u8],
        mut is_compressed: bool,
        opcode: OpCode,
        fragment: Option<usize>,
        random: &mut Rng,
    ) {
        let begin = (self.frames.len(), self.payloads.len(), self.fragments.len());
        let size = fragment.unwrap_or(usize::MAX).max(1);
        let mut rest = payload;
        let mut opcode = opcode;
        loop {
            let (part, after) = rest.split_at(size.min(rest.len()));
            let key = random.u32(..).to_ne_bytes();
            let first = (after.is_empty(), is_compressed, opcode);
            put_frame(&mut self.frames, first, key, part);
            let at = self.frames.len() - part.len();
            is_compressed = false; // only the first frame has RSV1 set (RFC 7692 §6)
            self.fragments.push(Fragment {
                payload: (at, self.frames.len()),
            });
            if self.is_raw {
                self.payloads.extend_from_slice(&self.frames[at..]);
            }
            (rest, opcode) = (after, OpCode::Continuation);
            if rest.is_empty() {
                break;
            }
        }
        if !self.is_raw {
            self.payloads.extend_from_slice(payload);
        }
        self.slots.push(RingSlot {
            frames: (begin.0, self.frames.len()),
            payload: (begin.1, self.payloads.len()),
            fragments: (begin.2, self.fragments.len()),
        });
    }

    pub(super) fn slots(&self) -> usize {
        self.slots.len()
    }

    /// The slot of a message by its number.
    #[inline]
    pub(super) fn slot(&self, number: u64) -> usize {
        match self.slots.len() as u64 {
            // A division takes longer than all other work for a small message.
            slots if slots.is_power_of_two() => (number & (slots - 1)) as usize,
            slots => (number % slots) as usize,
        }
    }

    /// The expected payload of a reply to the message in `slot`. The bytes of the message number
    /// are undefined.
    #[inline]
    pub(super) fn payload(&self, slot: usize) -> &[u8] {
        let RingSlot { payload, .. } = self.slots[slot];
        &self.payloads[payload.0..payload.1]
    }

    /// The frames of up to `count` messages from `slot` on, ready to send, and the number of
    /// messages in them: at most the slots up to the end of the ring. `number` is the number of
    /// the first message.
    #[inline]
    pub(super) fn frames(&mut self, slot: usize, count: usize, number: u64) -> (&[u8], usize) {
        let count = count.min(self.slots.len() - slot);
        if self.fresh.is_some() {
            return (self.compress(slot, count, number), count);
        }
        for (slot, number) in (slot..slot + count).zip(number..) {
            self.prepare(slot, number);
        }
        let begin = self.slots[slot].frames.0;
        let end = self.slots[slot + count - 1].frames.1;
        (&self.frames[begin..end], count)
    }

    /// Compresses messages at each send.
    #[cold]
    fn compress(&mut self, slot: usize, count: usize, number: u64) -> &[u8] {
        let Some(fresh) = &mut self.fresh else {
            return &[];
        };
        let opcode = match self.first_byte & 0x0F == OpCode::Text as u8 {
            true => OpCode::Text,
            false => OpCode::Binary,
        };
        fresh.frames.clear();
        for (slot, number) in self.slots[slot..slot + count].iter().zip(number..) {
            let mut payload = self.payloads[slot.payload.0..slot.payload.1].to_vec();
            let length = self.numbering.length();
            payload[..length].copy_from_slice(&self.numbering.write(number)[..length]);
            let compressed = compressed(&payload, opcode, &mut fresh.deflater);
            // The key depends only on the number: after a partial write, the rest of the
            // message must use the same key.
            let key = Rng::with_seed(number).u32(..).to_ne_bytes();
            let first = (true, compressed.is_some(), opcode);
            put_frame(
                &mut fresh.frames,
                first,
                key,
                &compressed.unwrap_or(payload),
            );
        }
        &fresh.frames
    }

    #[inline]
    fn prepare(&mut self, slot: usize, number: u64) {
        let slot = self.slots[slot];
        if self.fresh_masks {
            self.remask(slot, number);
        }
        let at = self.fragments[slot.fragments.0].payload.0;
        match self.numbering {
            Numbering::None => {}
            // One 64-bit operation: this runs for every message.
            Numbering::Binary => {
                if let Some((key, place)) = self.frames[at - 4..].split_first_chunk_mut::<4>()
                    && let Some(place) = place.first_chunk_mut::<8>()
                {
                    let key = u64::from(u32::from_ne_bytes(*key)) * 0x1_0000_0001;
                    *place = (u64::from_ne_bytes(number.to_be_bytes()) ^ key).to_ne_bytes();
                }
            }
            hex => {
                let mut bytes = hex.write(number);
                let key = self.key(at);
                apply_masking_key(&mut bytes, key, 0);
                let length = hex.length();
                self.frames[at..at + length].copy_from_slice(&bytes[..length]);
            }
        }
    }

    fn key(&self, payload: usize) -> [u8; 4] {
        self.frames[..payload]
            .last_chunk()
            .copied()
            .unwrap_or_default()
    }

    /// Masks a message with keys that depend only on its number: after a partial write, the rest of
    /// the message must use the same keys.
    fn remask(&mut self, slot: RingSlot, number: u64) {
        let mut random = Rng::with_seed(number);
        for fragment in slot.fragments.0..slot.fragments.1 {
            let (begin, end) = self.fragments[fragment].payload;
            let (old, new) = (self.key(begin), random.u32(..).to_ne_bytes());
            self.frames[begin - 4..begin].copy_from_slice(&new);
            let change = std::array::from_fn(|place| old[place] ^ new[place]);
            apply_masking_key(&mut self.frames[begin..end], change, 0);
        }
    }
}

/// Appends a masked frame with the given FIN bit, RSV1 bit and opcode.
pub(super) fn put_frame(
    to: &mut Vec<u8>,
    (fin, rsv1, opcode): (bool, bool, OpCode),
    key: [u8; 4],
    payload: &[u8],
) {
    let header = FrameHeader {
        fin,
        rsv1,
        opcode,
        masking_key: Some(key),
        payload_length: payload.len() as u64,
    };
    to.extend_from_slice(header.encode().as_ref());
    let at = to.len();
    to.extend_from_slice(payload);
    apply_masking_key(&mut to[at..], key, 0);
}

fn payloads(messages: &Messages, batch: usize, random: &mut Rng) -> Vec<Vec<u8>> {
    match &messages.content {
        Content::File(messages) => messages.clone(),
        Content::Sizes { from, to } if from == to => {
            // One batch is enough, because the numbers make the messages different.
            let slots = batch.clamp(1, (MOST_BYTES / from.max(&1)).max(1));
            (0..slots)
                .map(|_| payload(*from, messages, random))
                .collect()
        }
        Content::Sizes { from, to } => {
            let mut all = Vec::new();
            let mut bytes = 0;
            while all.len() < SIZES && (bytes < MOST_BYTES || all.len() < 2) {
                let size = random.usize(*from..=*to);
                bytes += size;
                all.push(payload(size, messages, random));
            }
            all
        }
    }
}

/// Compresses a payload without context; `None` if the result is not smaller.
fn compressed(payload: &[u8], opcode: OpCode, deflater: &mut Deflater) -> Option<Vec<u8>> {
    struct Payload(Option<Vec<u8>>);
    impl FrameSink for Payload {
        fn frame(&mut self, _: EncodedHeader, payload: &[u8]) {
            self.0 = Some(payload.to_vec());
        }
    }
    let deflate = Deflate {
        level: 1,
        min_size: 0,
        context_takeover: ContextTakeover::None,
        window_bits: 15,
    };
    let text = str::from_utf8(payload)
        .ok()
        .filter(|_| opcode == OpCode::Text);
    let message = text.map_or(Message::Binary(payload), Message::Text);
    let mut output = Payload(None);
    encode_compressed_message(message, &deflate, deflater, &mut output);
    output.0
}

/// Makes text that compresses to about a third of its size.
fn compressible(size: usize, random: &mut Rng) -> Vec<u8> {
    const WORDS: [&str; 16] = [
        "{\"id\":",
        "\"name\":",
        "\"price\":",
        "\"time\":",
        "true",
        "false",
        "null",
        "},",
        "[",
        "],",
        "\"user\"",
        "\"room\"",
        "message ",
        "hello ",
        "0.5",
        ", ",
    ];
    let mut payload = Vec::with_capacity(size + 16);
    while payload.len() < size {
        payload.extend_from_slice(WORDS[random.usize(..WORDS.len())].as_bytes());
        payload.push(random.u8(b'0'..=b'9'));
    }
    payload.truncate(size);
    payload
}

fn payload(size: usize, messages: &Messages, random: &mut Rng) -> Vec<u8> {
    if messages.compression.is_some() {
        return compressible(size, random);
    }
    let mut payload = Vec::with_capacity(size);
    match messages.text {
        None => {
            payload.resize(size, 0);
            random.fill(&mut payload);
        }
        Some(Text::Ascii) => payload.resize_with(size, || random.u8(b' '..=b'~')),
        Some(Text::Multibyte) => {
            // The message number is ASCII digits: no multibyte character may start inside it.
            payload.resize_with(size.min(16), || b'0');
            let mut bytes = [0; 4];
            while payload.len() < size {
                let character = match random.usize(1..=(size - payload.len()).min(4)) {
                    1 => random.char(' '..='~'),
                    2 => random.char('\u{80}'..='\u{7FF}'),
                    3 => random.char('\u{800}'..='\u{D7FF}'),
                    _ => random.char('\u{1_0000}'..='\u{10_FFFF}'),
                };
                payload.extend_from_slice(character.encode_utf8(&mut bytes).as_bytes());
            }
        }
    }
    payload
}
