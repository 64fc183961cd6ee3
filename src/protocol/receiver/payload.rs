//! Payloads that must be stored: of frames that arrive in several inputs, of fragments (RFC 6455
//! §5.4), and of compressed messages (RFC 7692 §7.2.2).

use super::{FragmentedMessage, ReadState, Receiver, message, take, take_unmasked};
use crate::protocol::assembly::{Assembly, AssemblyPool};
use crate::protocol::mask::unmask;
use crate::protocol::{FrameHeader, Message, OpCode, ProtocolError, SizeLimits};

impl Receiver {
    /// Space to read the current payload into directly, at most as large as the missing part.
    /// `None` unless at least 64 KiB of an uncompressed data message are missing and the budget
    /// suffices: then the input must be passed to [`Receiver::receive`]. After a read into the
    /// space, call [`Receiver::advance`].
    #[inline]
    pub fn payload_space(&mut self, pool: &mut AssemblyPool) -> Option<&mut [u8]> {
        const WORTH_IT: u64 = 64 << 10;
        match self.reading {
            ReadState::Payload(header)
                if header.payload_length >= WORTH_IT
                    && !header.opcode.is_control()
                    && !self.is_compressed() =>
            {
                let assembly = self.assembly.get_or_insert_with(|| pool.take());
                let wanted = usize::try_from(header.payload_length).unwrap_or(usize::MAX);
                // If the budget is exhausted, `receive` gets the input and returns the error.
                assembly.space(wanted, pool).ok()
            }
            _ => None,
        }
    }

    /// Unmasks and validates, in place, `bytes` bytes that were read into
    /// [`Receiver::payload_space`]. The next [`Receiver::receive`] returns the message if it is
    /// complete.
    ///
    /// # Errors
    /// [`ProtocolError::InvalidUtf8`] if a text message is not UTF-8.
    pub fn advance(&mut self, bytes: usize) -> Result<(), ProtocolError> {
        let ReadState::Payload(header) = self.reading else {
            return Ok(());
        };
        let text = self.is_text();
        self.reading = ReadState::Payload(header.after(bytes));
        let assembly = self.assembly.as_mut();
        let advanced = assembly.map(|assembly| assembly.advance(bytes, header.masking_key, text));
        advanced.unwrap_or(Ok(())).map_err(|error| self.fail(error))
    }

    /// Begins a frame whose payload must be stored.
    pub(super) fn begin_payload(&mut self, header: &FrameHeader) -> Result<(), ProtocolError> {
        if header.opcode == OpCode::Close {
            self.discard(); // no data message is completed after a Close
        }
        self.reading = ReadState::Payload(*header);
        if header.opcode.is_control() {
            return Ok(());
        }
        let message = self.fragmented.get_or_insert(FragmentedMessage {
            opcode: header.opcode,
            compressed: header.rsv1,
            empty_fragments: 0,
        });
        message.empty_fragments = match header.payload_length {
            0 => message.empty_fragments.saturating_add(1),
            _ => 0,
        };
        match message.empty_fragments > SizeLimits::MAX_EMPTY_FRAGMENTS {
            true => Err(self.fail(ProtocolError::EmptyFragments)), // §10.4
            false => Ok(()),
        }
    }

    /// Stores the part of the current payload that the input holds.
    pub(super) fn receive_payload(
        &mut self,
        input: &mut &mut [u8],
        header: FrameHeader,
        pool: &mut AssemblyPool,
    ) -> Result<(), ProtocolError> {
        let remaining = header.payload_length;
        let length = usize::try_from(remaining).unwrap_or(usize::MAX);
        let piece = take_unmasked(input, length, header.masking_key);
        self.reading = ReadState::Payload(header.after(piece.len()));
        let text = self.is_text();
        let assembly = self.assembly.get_or_insert_with(|| pool.take());
        if header.opcode.is_control() {
            assembly.control.extend_from_slice(piece);
            return Ok(());
        }
        let expected = if header.fin { remaining } else { u64::MAX };
        assembly.append(piece, expected, text, pool)
    }

    /// Inflates a piece of the current payload and stores the output, as far as the pool allows.
    pub(super) fn receive_compressed(
        &mut self,
        input: &mut &mut [u8],
        header: FrameHeader,
        pool: &mut AssemblyPool,
    ) -> Result<(), ProtocolError> {
        /// Maximum size of a piece in bytes. The rest of a piece that is not inflated must be
        /// masked again, so pieces are small.
        const PIECE: usize = 16 << 10;
        let length = usize::try_from(header.payload_length).unwrap_or(usize::MAX);
        let (piece, _) = input.split_at_mut(length.min(PIECE).min(input.len()));
        unmask(piece, header.masking_key);
        let mut rest = &*piece;
        let text = self.is_text();
        let assembly = self.assembly.get_or_insert_with(|| pool.take());
        let (context, max) = (self.inflate.as_deref(), self.limits.max_message_size);
        let inflated = assembly.inflate(&mut rest, context, max, text, pool);
        let taken = piece.len().saturating_sub(rest.len());
        let header = header.after(taken);
        let (_, rest) = piece.split_at_mut(taken);
        unmask(rest, header.masking_key);
        take(input, taken);
        self.reading = ReadState::Payload(header);
        inflated
    }

    /// Returns the message that is complete after a frame with a stored payload.
    pub(super) fn straddling_message(
        &mut self,
        header: &FrameHeader,
        pool: &mut AssemblyPool,
    ) -> Result<Message<'_>, ProtocolError> {
        self.reading = ReadState::Delivered;
        if header.opcode.is_control() {
            if header.opcode == OpCode::Close {
                self.reading = ReadState::Discard; // even an invalid Close; others are always valid
            }
            let payload = self.assembly.as_deref().map(|assembly| &*assembly.control);
            return message(header.opcode, payload.unwrap_or_default());
        }
        if let Some(assembly) = &mut self.assembly
            && let Err(error) = assembly.end(self.inflate.as_deref_mut(), pool)
        {
            return Err(self.fail(error));
        }
        let begun = self.fragmented.take();
        let opcode = begun.map_or(header.opcode, |begun| begun.opcode);
        let payload = self.assembly.as_deref().map(Assembly::payload);
        message(opcode, payload.unwrap_or_default())
    }

    /// Returns the buffer of the last message to the pool after the message is handled, for a
    /// connection whose next message has to wait.
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

    /// Returns the buffer of the last message to the pool.
    #[cold]
    pub(super) fn release(&mut self, pool: &mut AssemblyPool) {
        self.reading = self.next();
        if let Some(assembly) = &mut self.assembly {
            assembly.control.clear();
        }
        if self.fragmented.is_none()
            && let Some(assembly) = self.assembly.take()
        {
            pool.put(assembly);
        }
    }
}
