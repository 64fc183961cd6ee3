//! Decoding of frames and assembly of messages (RFC 6455 §5, §6.2).
//!
//! ```text
//!    whole messages: nothing is kept
//!         ┌───────┐
//!         ▼       │   in pieces, or fragments             payload complete
//!   ┌─▶ Start ────┴───▶ Header ─────────────────▶ Payload ──────────────────▶ Delivered ─┐
//!   │     │               │  ▲                       │                            │      │
//!   │     │               │  └───────────────────────┼── the message goes on ─────┘      │
//!   │     ▼               ▼                          ▼                                   │
//!   │   Discard ◀── a rule is broken, or a Close ────┘                                   │
//!   └────────────────────────────────────────────────────────────────────────────────────┘
//! ```

mod payload;

use super::assembly::{Assembly, AssemblyPool};
use super::deflate::{DeflateParameters, TakeoverContext};
use super::frame::Expectation;
use super::mask::unmask;
use super::{CloseFrame, FrameHeader, Message, OpCode, ProtocolError, SizeLimits, utf8};

/// The receiving end of a connection (§5.1): a server receives masked frames, a client receives
/// unmasked frames.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Role {
    /// Receives from a client.
    Server,
    /// Receives from a server.
    Client,
}

/// The receiving half of a connection.
///
/// A receiver stores only incomplete parts: at most 14 bytes of a header, and the payload of a
/// message that arrives in several inputs. The messages and the error do not depend on how the
/// input is split.
#[derive(Debug)]
pub struct Receiver {
    role: Role,
    limits: SizeLimits,
    reading: ReadState,
    /// The data message that has begun and is incomplete.
    fragmented: Option<FragmentedMessage>,
    /// The stored payloads: of the incomplete data message, and of a control frame that arrives in
    /// several inputs.
    assembly: Option<Box<Assembly>>,
    /// `Some` if messages may be compressed.
    inflate: Option<Box<TakeoverContext>>,
}

#[derive(Debug)]
enum ReadState {
    /// Between messages: nothing is stored.
    Start,
    /// Inside a header: `bytes[..length]` is received.
    Header {
        bytes: [u8; FrameHeader::MAX_LENGTH],
        length: u8,
    },
    /// Inside a payload: the header of the rest of the frame.
    Payload(FrameHeader),
    /// A payload in `assembly` was returned as a message and can be released.
    Delivered,
    /// After a Close or a failure: the rest of the input is ignored (§5.5.1, §7.1.7).
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

    /// Bytes of the budget held for the incomplete message.
    pub fn held(&self) -> usize {
        self.assembly.as_ref().map_or(0, |assembly| assembly.held())
    }

    /// Removes bytes from the front of `input` up to the end of the next message, unmasks them in
    /// place, and returns the message. `None` if the input is used up, or if the pool's
    /// [allowance](AssemblyPool::allow) is spent: then the rest of the input stays in `input`.
    ///
    /// The message borrows from the input or, if it arrived in several inputs, from the receiver.
    /// After a Close or an error, all further input is discarded.
    ///
    /// # Errors
    /// The [`ProtocolError`] of the rule that the peer broke, returned once.
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

    /// [`Receiver::receive`] for the common case: a data message in one frame that the input holds
    /// whole. Nothing is stored and nothing is copied. All other input stays in place, for
    /// [`Receiver::receive_piecewise`].
    ///
    /// A caller that tries this first gets a whole message in registers; only other messages are
    /// passed through memory.
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
        let text = utf8::validate(payload).map_err(|error| self.fail(error.into()))?;
        Ok(Some(Message::Text(text)))
    }

    /// The size limits of this receiver.
    pub const fn limits(&self) -> &SizeLimits {
        &self.limits
    }

    /// Whether a message has begun and is incomplete.
    pub const fn is_inside_message(&self) -> bool {
        matches!(self.reading, ReadState::Payload(_)) || self.fragmented.is_some()
    }

    /// Discards all further input.
    pub fn discard(&mut self) {
        self.reading = ReadState::Discard;
        self.fragmented = None;
        self.assembly = None;
    }

    /// The opcode and payload of a data message in one frame, if the input holds the whole frame.
    #[inline(always)]
    fn whole_message<'i>(&self, input: &mut &'i mut [u8]) -> Option<(OpCode, &'i [u8])> {
        if !matches!(input.first(), Some(0x81 | 0x82)) {
            return None; // neither text nor binary, no FIN, or reserved bits
        }
        let expected = Expectation {
            role: self.role,
            fragmented: false,
            compressed: false,
            // `receive_piecewise` handles compressed messages.
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

    /// [`Receiver::receive`] for all cases, including control frames, fragments, frames that arrive
    /// in several inputs, and errors.
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
                    pool.frames = pool.frames.wrapping_add(1);
                    let single =
                        header.fin && header.opcode != OpCode::Continuation && !header.rsv1;
                    let length = usize::try_from(header.payload_length).ok();
                    let whole = length.filter(|length| single && *length <= input.len());
                    if let Some(length) = whole {
                        self.reading = self.next();
                        let payload = take_unmasked(input, length, header.masking_key);
                        if header.opcode == OpCode::Close {
                            self.discard();
                        }
                        let message = message(header.opcode, payload).map(Some);
                        return message.map_err(|error| self.fail(error));
                    }
                    self.begin_payload(&header)?;
                }
                ReadState::Payload(header) => {
                    if header.payload_length > 0 {
                        if input.is_empty() {
                            return Ok(None);
                        }
                        let received = if !self.is_compressed() || header.opcode.is_control() {
                            self.receive_payload(input, header, pool)
                        } else if pool.is_spent() {
                            return Ok(None);
                        } else {
                            self.receive_compressed(input, header, pool)
                        };
                        received.map_err(|error| self.fail(error))?;
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

    /// The state after a message or control frame.
    fn next(&self) -> ReadState {
        match self.fragmented {
            None => ReadState::Start,
            Some(_) => ReadState::NEXT_HEADER,
        }
    }

    /// Decodes the next header, which earlier inputs may have begun, and removes it from the input.
    /// `None` if the header is incomplete.
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

    #[cold]
    fn fail(&mut self, error: ProtocolError) -> ProtocolError {
        self.discard();
        error
    }
}

/// Makes a message of its type and its whole payload.
fn message(opcode: OpCode, payload: &[u8]) -> Result<Message<'_>, ProtocolError> {
    Ok(match opcode {
        OpCode::Text => Message::Text(utf8::validate(payload)?),
        OpCode::Binary | OpCode::Continuation => Message::Binary(payload),
        OpCode::Ping => Message::Ping(payload),
        OpCode::Pong => Message::Pong(payload),
        OpCode::Close => Message::Close(CloseFrame::decode(payload)?),
    })
}

/// Appends the input to the `length` header bytes in `bytes`, as far as it fits, and returns the
/// result.
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
    unmask(payload, masking_key);
    payload
}

#[cfg(test)]
mod tests;
