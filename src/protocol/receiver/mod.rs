//! Bytes in, messages out (RFC 6455 §5, §6.2).
//!
//! ```text
//!    whole messages: nothing is kept
//!         ┌───────┐
//!         ▼       │   in pieces, or fragments             payload all there
//!   ┌─▶ Start ────┴───▶ Header ─────────────────▶ Payload ──────────────────▶ Delivered ─┐
//!   │     │               │  ▲                       │                            │      │
//!   │     │               │  └───────────────────────┼── the message goes on ─────┘      │
//!   │     ▼               ▼                          ▼                                   │
//!   │   Discard ◀── a rule is broken, or a Close ────┘                                   │
//!   └────────────────────────────────────────────────────────────────────────────────────┘
//! ```

use super::assembly::{Assembly, AssemblyPool};
use super::deflate::{DeflateParameters, TakeoverContext};
use super::frame::Expectation;
use super::mask::apply_masking_key;
use super::{CloseFrame, FrameHeader, Message, OpCode, ProtocolError, SizeLimits, utf8};

/// Which end of the connection this is (§5.1): a server receives masked frames, a client
/// unmasked ones.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Role {
    /// Receives from a client.
    Server,
    /// Receives from a server.
    Client,
}

/// The receiving half of a connection.
///
/// It keeps only what is partial: at most 14 bytes of a header, and the payload of a message
/// that straddles inputs. Cutting the input differently never changes the messages or the error.
#[derive(Debug)]
pub struct Receiver {
    role: Role,
    limits: SizeLimits,
    reading: ReadState,
    /// The data message whose first fragment has arrived and whose last has not.
    fragmented: Option<FragmentedMessage>,
    /// The payload of the data message under way, once some of it had to be kept.
    assembly: Option<Box<Assembly>>,
    /// The payload of a control frame that straddles inputs.
    control: Option<Box<Assembly>>,
    /// Messages may be compressed.
    inflate: Option<Box<TakeoverContext>>,
}

#[derive(Debug)]
enum ReadState {
    /// Between messages: nothing is kept.
    Start,
    /// The first `length` bytes of a header.
    Header {
        bytes: [u8; FrameHeader::MAX_LENGTH],
        length: u8,
    },
    /// `remaining` bytes of a frame's payload are still to come.
    Payload { header: FrameHeader, remaining: u64 },
    /// `assembly` or `control` was handed out as a message and is free again.
    Delivered,
    /// After a Close or a failure the rest of the input means nothing (§5.5.1, §7.1.7).
    Discard,
}

impl ReadState {
    const NEXT_HEADER: ReadState = ReadState::Header {
        bytes: [0; FrameHeader::MAX_LENGTH],
        length: 0,
    };
}

#[derive(Clone, Copy, Debug)]
struct FragmentedMessage {
    opcode: OpCode,
    compressed: bool,
    empty_fragments: u16,
}

impl Receiver {
    /// A receiver at the beginning of a connection.
    pub fn new(role: Role, limits: SizeLimits) -> Receiver {
        Receiver {
            role,
            limits,
            reading: ReadState::Start,
            fragmented: None,
            assembly: None,
            control: None,
            inflate: None,
        }
    }

    /// A receiver whose messages may be compressed (RFC 7692).
    #[must_use]
    pub fn with_deflate(mut self, parameters: &DeflateParameters) -> Receiver {
        self.inflate = Some(Box::new(match self.role {
            Role::Server => TakeoverContext::of_client(parameters),
            Role::Client => TakeoverContext::of_server(parameters),
        }));
        self
    }

    /// Bytes of the budget that the message under way holds.
    pub fn held(&self) -> usize {
        self.assembly.as_ref().map_or(0, |assembly| assembly.held())
    }

    /// Takes bytes off the front of `input` up to the end of the next message, unmasking them in
    /// place, and returns that message; `None` when the input is used up, or when so much was
    /// inflated as the pool [allows](AssemblyPool::allow): then the rest of the input is left.
    ///
    /// The message borrows from the input or, if it straddled, from the receiver. After a Close,
    /// or an error, all further input is discarded.
    ///
    /// # Errors
    /// The [`ProtocolError`] of the rule that the peer broke, once.
    pub fn receive<'r, 'i: 'r>(
        &'r mut self,
        input: &mut &'i mut [u8],
        pool: &mut AssemblyPool,
    ) -> Result<Option<Message<'r>>, ProtocolError> {
        match self.receive_whole(input) {
            Ok(None) => self.receive_piecewise(input, pool),
            received => received,
        }
    }

    /// [`Receiver::receive`] in the common case: the next message, if it is a data message in one
    /// frame that the input holds whole, so that nothing is kept and nothing is copied. Whatever
    /// else the input begins with is left where it is, for [`Receiver::receive_piecewise`].
    ///
    /// Who calls the two one after the other has the message in registers where it is whole, and
    /// in memory only otherwise.
    #[inline(always)]
    pub(crate) fn receive_whole<'i>(
        &mut self,
        input: &mut &'i mut [u8],
    ) -> Result<Option<Message<'i>>, ProtocolError> {
        if !matches!(self.reading, ReadState::Start) {
            return Ok(None);
        }
        let Some((opcode, payload)) = self.whole_message(input) else {
            return Ok(None);
        };
        if opcode != OpCode::Text {
            return Ok(Some(Message::Binary(payload)));
        }
        match utf8::validate(payload) {
            Ok(text) => Ok(Some(Message::Text(text))),
            Err(_) => Err(self.fail(ProtocolError::InvalidUtf8)), // §8.1
        }
    }

    /// Space to read the payload under way straight into, at most as much as is still to come of
    /// it; `None` when the input should come through [`Receiver::receive`]: there is no large
    /// payload under way. Bytes read into it are to be told with [`Receiver::advance`].
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

    /// The sizes that this receiver keeps to.
    pub const fn limits(&self) -> &SizeLimits {
        &self.limits
    }

    /// Whether a message has begun and not ended: some of its bytes are still owed.
    pub const fn is_inside_message(&self) -> bool {
        matches!(self.reading, ReadState::Payload { .. }) || self.fragmented.is_some()
    }

    /// Discards all further input.
    pub fn discard(&mut self) {
        self.reading = ReadState::Discard;
        self.fragmented = None;
        self.assembly = None;
    }

    /// The payload of a data message in one frame, if the input holds one whole.
    #[inline(always)]
    fn whole_message<'i>(&self, input: &mut &'i mut [u8]) -> Option<(OpCode, &'i [u8])> {
        if !matches!(input.first(), Some(0x81 | 0x82)) {
            return None; // neither text nor binary, no FIN, or reserved bits
        }
        let expected = Expectation {
            role: self.role,
            fragmented: false,
            compressed: false,
            // A compressed message is no common case.
            deflate: false,
            assembled: 0,
            limits: self.limits,
        };
        let (header, taken) = FrameHeader::decode(input, &expected).ok()??;
        let (_, rest) = input.split_at_checked(taken)?;
        let length = usize::try_from(header.payload_length).ok()?;
        if rest.len() < length {
            return None;
        }
        take(input, taken);
        let payload = take_unmasked(input, length, header.masking_key);
        Some((header.opcode, payload))
    }

    /// [`Receiver::receive`] in all cases: control frames, fragments, frames that straddle inputs,
    /// and errors, too.
    #[inline(always)]
    pub(crate) fn receive_piecewise<'r, 'i: 'r>(
        &'r mut self,
        input: &mut &'i mut [u8],
        pool: &mut AssemblyPool,
    ) -> Result<Option<Message<'r>>, ProtocolError> {
        match self.reading {
            ReadState::Start if input.is_empty() => Ok(None),
            _ => self.receive_pieces(input, pool),
        }
    }

    fn receive_pieces<'r, 'i: 'r>(
        &'r mut self,
        input: &mut &'i mut [u8],
        pool: &mut AssemblyPool,
    ) -> Result<Option<Message<'r>>, ProtocolError> {
        loop {
            match self.reading {
                ReadState::Start if input.is_empty() => return Ok(None),
                ReadState::Start => self.reading = ReadState::NEXT_HEADER,
                ReadState::Header { .. } => {
                    if input.is_empty() {
                        return Ok(None);
                    }
                    let Some(header) = self.receive_header(input)? else {
                        return Ok(None);
                    };
                    let whole = usize::try_from(header.payload_length)
                        .ok()
                        .filter(|length| *length <= input.len());
                    let single =
                        header.fin && header.opcode != OpCode::Continuation && !header.rsv1;
                    if let (Some(length), true) = (whole, single) {
                        self.reading = self.next();
                        let payload = take_unmasked(input, length, header.masking_key);
                        return self.message(header.opcode, payload).map(Some);
                    }
                    self.begin_payload(&header)?;
                }
                ReadState::Payload { header, remaining } => {
                    if remaining > 0 {
                        if input.is_empty() {
                            return Ok(None);
                        }
                        if !self.is_compressed() || header.opcode.is_control() {
                            self.receive_payload(input, header, remaining, pool)?;
                        } else if pool.is_spent() {
                            return Ok(None);
                        } else {
                            self.receive_compressed(input, header, remaining, pool)?;
                        }
                    } else if header.fin {
                        return self.straddling_message(&header, pool).map(Some);
                    } else {
                        self.reading = ReadState::NEXT_HEADER;
                    }
                }
                ReadState::Delivered => self.release(pool),
                ReadState::Discard => {
                    *input = &mut [];
                    return Ok(None);
                }
            }
        }
    }

    /// Gives back what the last message was kept in, now that it has been handled: for a connection
    /// whose next message has to wait.
    pub(crate) fn release_delivered(&mut self, pool: &mut AssemblyPool) {
        if let ReadState::Delivered = self.reading {
            self.release(pool);
        }
    }

    /// What is read after a message or control frame.
    fn next(&self) -> ReadState {
        match self.fragmented {
            None => ReadState::Start,
            Some(_) => ReadState::NEXT_HEADER,
        }
    }

    /// Completes the header that earlier inputs began, if they did, and takes it off the input.
    #[inline]
    fn receive_header(
        &mut self,
        input: &mut &mut [u8],
    ) -> Result<Option<FrameHeader>, ProtocolError> {
        let ReadState::Header { bytes, length } = &mut self.reading else {
            return Ok(None);
        };
        let held = usize::from(*length);
        let begun = match held {
            0 => &**input,
            _ => keep_header(bytes, length, input),
        };
        let expected = Expectation {
            role: self.role,
            fragmented: self.fragmented.is_some(),
            compressed: self.fragmented.is_some_and(|message| message.compressed),
            deflate: self.inflate.is_some(),
            assembled: self.assembly.as_ref().map_or(0, |assembly| assembly.len()),
            limits: self.limits,
        };
        match FrameHeader::decode(begun, &expected) {
            Ok(Some((header, taken))) => {
                *length = 0;
                take(input, taken.saturating_sub(held));
                Ok(Some(header))
            }
            Ok(None) => {
                if held == 0 {
                    keep_header(bytes, length, input);
                }
                *input = &mut [];
                Ok(None)
            }
            Err(error) => Err(self.fail(error)),
        }
    }

    /// A frame begins whose payload is to be kept.
    fn begin_payload(&mut self, header: &FrameHeader) -> Result<(), ProtocolError> {
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
    fn receive_payload(
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
    fn receive_compressed(
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
    fn straddling_message(
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

    /// The message of a single frame that the input holds whole.
    fn message<'a>(
        &mut self,
        opcode: OpCode,
        payload: &'a [u8],
    ) -> Result<Message<'a>, ProtocolError> {
        let message = match opcode {
            OpCode::Text => return self.text(payload),
            OpCode::Binary | OpCode::Continuation => return Ok(Message::Binary(payload)),
            OpCode::Close | OpCode::Ping | OpCode::Pong => control_message(opcode, payload),
        };
        match message {
            Ok(Message::Close(_)) => self.discard(),
            Err(error) => return Err(self.fail(error)),
            Ok(_) => {}
        }
        message
    }

    #[inline]
    fn text<'a>(&mut self, payload: &'a [u8]) -> Result<Message<'a>, ProtocolError> {
        match utf8::validate(payload) {
            Ok(text) => Ok(Message::Text(text)),
            Err(_) => Err(self.fail(ProtocolError::InvalidUtf8)), // §8.1
        }
    }

    fn is_text(&self) -> bool {
        self.fragmented
            .is_some_and(|message| message.opcode == OpCode::Text)
    }

    fn is_compressed(&self) -> bool {
        self.fragmented.is_some_and(|message| message.compressed)
    }

    /// The buffer of the message handed out last is free again.
    #[cold]
    fn release(&mut self, pool: &mut AssemblyPool) {
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

    #[cold]
    fn fail(&mut self, error: ProtocolError) -> ProtocolError {
        self.discard();
        error
    }
}

fn control_message(opcode: OpCode, payload: &[u8]) -> Result<Message<'_>, ProtocolError> {
    Ok(match opcode {
        OpCode::Ping => Message::Ping(payload),
        OpCode::Pong => Message::Pong(payload),
        _ => Message::Close(CloseFrame::decode(payload)?),
    })
}

/// Appends what the input has of a header to the first `length` bytes of it, and gives all.
#[cold]
fn keep_header<'a>(
    bytes: &'a mut [u8; FrameHeader::MAX_LENGTH],
    length: &mut u8,
    input: &[u8],
) -> &'a [u8] {
    for (place, byte) in bytes.iter_mut().skip(usize::from(*length)).zip(input) {
        *place = *byte;
        *length = length.saturating_add(1);
    }
    bytes.get(..usize::from(*length)).unwrap_or_default()
}

/// How far into its frame's payload the next byte is.
fn offset(header: &FrameHeader, remaining: u64) -> usize {
    // Only its place within the key counts, so the narrowing loses nothing.
    usize::try_from(header.payload_length.saturating_sub(remaining) % 4).unwrap_or_default()
}

#[inline]
fn take<'i>(input: &mut &'i mut [u8], length: usize) -> &'i mut [u8] {
    let whole = core::mem::take(input);
    let length = length.min(whole.len());
    let (head, tail) = whole.split_at_mut(length);
    *input = tail;
    head
}

#[inline(always)]
fn take_unmasked<'i>(
    input: &mut &'i mut [u8],
    length: usize,
    masking_key: Option<[u8; 4]>,
) -> &'i [u8] {
    let payload = take(input, length);
    if let Some(key) = masking_key {
        apply_masking_key(payload, key, 0);
    }
    payload
}

#[cfg(test)]
mod tests;
