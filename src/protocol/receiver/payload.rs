//! The payloads that have to be kept: of frames that straddle inputs, of fragments (RFC 6455 §5.4),
//! and of compressed messages (RFC 7692 §7.2.2).

use super::{FragmentedMessage, ReadState, Receiver, control_message, take};
use crate::protocol::assembly::{Assembly, AssemblyPool};
use crate::protocol::mask::apply_masking_key;
use crate::protocol::{FrameHeader, Message, OpCode, ProtocolError, SizeLimits};

impl Receiver {
    /// Space to read the payload under way straight into, at most as much as is still to come of
    /// it; `None` if no large payload is under way: then the input has to come through
    /// [`Receiver::receive`]. [`Receiver::advance`] takes the bytes that were read into it.
    #[inline]
    pub fn payload_space(&mut self, pool: &mut AssemblyPool) -> Option<&mut [u8]> {
        const WORTH_IT: u64 = 64 << 10;
        match self.reading {
            ReadState::Payload { header, remaining }
                if remaining >= WORTH_IT
                    && !header.opcode.is_control()
                    && !self.is_compressed() =>
            {
                let assembly = self.assembly.get_or_insert_with(|| pool.take());
                let wanted = usize::try_from(remaining).unwrap_or(usize::MAX);
                // Without space for it the input comes through `receive`, which says so.
                assembly.space(wanted, pool).ok()
            }
            _ => None,
        }
    }

    /// Takes `bytes` that were read into [`Receiver::payload_space`]: unmasks and checks them
    /// where they are. A message that they complete comes from the next [`Receiver::receive`].
    ///
    /// # Errors
    /// [`ProtocolError::InvalidUtf8`]
    pub fn advance(&mut self, bytes: usize) -> Result<(), ProtocolError> {
        let ReadState::Payload { header, remaining } = self.reading else {
            return Ok(());
        };
        let text = self.is_text();
        if let Some(assembly) = &mut self.assembly {
            if let Some(key) = header.masking_key {
                apply_masking_key(assembly.arrived(bytes), key, offset(&header, remaining));
            }
            assembly.advance(bytes);
            if text && let Err(error) = assembly.validate_last(bytes) {
                return Err(self.fail(error));
            }
        }
        self.reading = ReadState::Payload {
            header,
            remaining: remaining.saturating_sub(bytes as u64),
        };
        Ok(())
    }

    /// Begins a frame whose payload has to be kept.
    pub(super) fn begin_payload(&mut self, header: &FrameHeader) -> Result<(), ProtocolError> {
        self.reading = ReadState::Payload {
            header: *header,
            remaining: header.payload_length,
        };
        if !header.opcode.is_control() {
            let message = self.fragmented.get_or_insert(FragmentedMessage {
                opcode: header.opcode,
                compressed: header.rsv1,
                empty_fragments: 0,
            });
            if header.payload_length > 0 {
                message.empty_fragments = 0;
            } else {
                message.empty_fragments = message.empty_fragments.saturating_add(1);
                if message.empty_fragments > SizeLimits::MAX_EMPTY_FRAGMENTS {
                    return Err(self.fail(ProtocolError::EmptyFragments)); // §10.4
                }
            }
        }
        Ok(())
    }

    /// Keeps what the input has of the payload under way.
    pub(super) fn receive_payload(
        &mut self,
        input: &mut &mut [u8],
        header: FrameHeader,
        remaining: u64,
        pool: &mut AssemblyPool,
    ) -> Result<(), ProtocolError> {
        let length = usize::try_from(remaining)
            .unwrap_or(usize::MAX)
            .min(input.len());
        let piece = take(input, length);
        if let Some(key) = header.masking_key {
            apply_masking_key(piece, key, offset(&header, remaining));
        }
        self.reading = ReadState::Payload {
            header,
            remaining: remaining.saturating_sub(length as u64),
        };
        if header.opcode.is_control() {
            let control = self.control.get_or_insert_with(|| pool.take());
            let kept = control.append(piece, remaining, pool);
            return kept.map_err(|error| self.fail(error));
        }
        let text = self.is_text();
        let assembly = self.assembly.get_or_insert_with(|| pool.take());
        if text && let Err(error) = assembly.validate(piece) {
            return Err(self.fail(error));
        }
        let expected = if header.fin { remaining } else { u64::MAX };
        let kept = assembly.append(piece, expected, pool);
        kept.map_err(|error| self.fail(error))
    }

    /// Keeps what a piece of the compressed payload under way inflates to, as far as the pool
    /// allows.
    pub(super) fn receive_compressed(
        &mut self,
        input: &mut &mut [u8],
        header: FrameHeader,
        remaining: u64,
        pool: &mut AssemblyPool,
    ) -> Result<(), ProtocolError> {
        /// What is left of a piece has been unmasked and masked again for nothing.
        const PIECE: usize = 16 << 10;
        let length = usize::try_from(remaining).unwrap_or(usize::MAX).min(PIECE);
        let (piece, _) = input.split_at_mut(length.min(input.len()));
        if let Some(key) = header.masking_key {
            apply_masking_key(piece, key, offset(&header, remaining));
        }
        let mut rest = &*piece;
        let inflated = self.inflate(&mut rest, pool);
        let taken = piece.len().saturating_sub(rest.len());
        let remaining = remaining.saturating_sub(taken as u64);
        let (_, rest) = piece.split_at_mut(taken);
        if let Some(key) = header.masking_key {
            apply_masking_key(rest, key, offset(&header, remaining));
        }
        take(input, taken);
        self.reading = ReadState::Payload { header, remaining };
        inflated.map_err(|error| self.fail(error))
    }

    /// Takes bytes off a piece of a compressed message and keeps what they inflate to.
    fn inflate(&mut self, piece: &mut &[u8], pool: &mut AssemblyPool) -> Result<(), ProtocolError> {
        let text = self.is_text();
        let max = self.limits.max_message_size;
        let assembly = self.assembly.get_or_insert_with(|| pool.take());
        assembly.inflate(piece, self.inflate.as_deref(), max, text, pool)
    }

    /// The message that a frame completes whose payload was kept.
    pub(super) fn straddling_message(
        &mut self,
        header: &FrameHeader,
        pool: &mut AssemblyPool,
    ) -> Result<Message<'_>, ProtocolError> {
        self.reading = ReadState::Delivered;
        if header.opcode.is_control() {
            if header.opcode == OpCode::Close {
                self.discard(); // also if it is wrong, which no other control frame can be
            }
            let payload = self.control.as_deref().map(Assembly::payload);
            return control_message(header.opcode, payload.unwrap_or_default());
        }
        if self.is_compressed()
            && let Some(assembly) = &mut self.assembly
            && let Err(error) = assembly.end_inflation(self.inflate.as_deref_mut(), pool)
        {
            return Err(self.fail(error));
        }
        let text = self.is_text();
        self.fragmented = None;
        let assembly = self.assembly.as_deref();
        if text && assembly.is_some_and(Assembly::ends_inside_a_character) {
            return Err(self.fail(ProtocolError::InvalidUtf8)); // §8.1
        }
        match &self.assembly {
            Some(assembly) if text => assembly.text().map(Message::Text),
            Some(assembly) => Ok(Message::Binary(assembly.payload())),
            None if text => Ok(Message::Text("")),
            None => Ok(Message::Binary(&[])),
        }
    }

    /// Gives back what the last message was kept in, now that it has been handled: for a connection
    /// whose next message has to wait.
    pub(crate) fn release_delivered(&mut self, pool: &mut AssemblyPool) {
        if let ReadState::Delivered = self.reading {
            self.release(pool);
        }
    }

    fn is_text(&self) -> bool {
        self.fragmented
            .is_some_and(|message| message.opcode == OpCode::Text)
    }

    pub(super) fn is_compressed(&self) -> bool {
        self.fragmented.is_some_and(|message| message.compressed)
    }

    /// The buffer of the message handed out last is free again.
    #[cold]
    pub(super) fn release(&mut self, pool: &mut AssemblyPool) {
        self.reading = self.next();
        if let Some(control) = self.control.take() {
            pool.put(control);
        }
        if self.fragmented.is_none()
            && let Some(assembly) = self.assembly.take()
        {
            pool.put(assembly);
        }
    }
}

/// How far into its frame's payload the next byte is.
fn offset(header: &FrameHeader, remaining: u64) -> usize {
    // Only its place within the key counts, so the narrowing loses nothing.
    usize::try_from(header.payload_length.saturating_sub(remaining) % 4).unwrap_or_default()
}
