//! The protocol rules that a peer can break, and the close code for each rule.

use core::fmt;

use super::CloseCode;

/// A rule of RFC 6455 that the peer broke. The connection then fails (§7.1.7): a Close frame with
/// [`close_code`](ProtocolError::close_code) is sent, and all further input is discarded.
///
/// | variant | close code | section |
/// |---|---|---|
/// | `ReservedBit`, `ReservedOpCode` | 1002 | §5.2 |
/// | `NonMinimalLength`, `LengthMsbSet` | 1002 | §5.2 |
/// | `UnmaskedFrame`, `MaskedFrame` | 1002 | §5.1 |
/// | `FragmentedControlFrame`, `OversizedControlFrame` | 1002 | §5.5 |
/// | `UnexpectedContinuation`, `ExpectedContinuation` | 1002 | §5.4 |
/// | `OneByteClose`, `InvalidCloseCode` | 1002 | §5.5.1, §7.4 |
/// | `InvalidCloseReason` | 1007 | §5.5.1 |
/// | `InvalidUtf8` | 1007 | §8.1 |
/// | `InvalidCompressedData` | 1007 | RFC 7692 §7.2.2 |
/// | `FrameTooBig`, `MessageTooBig` | 1009 | §7.4.1 |
/// | `EmptyFragments` | 1008 | §10.4 |
/// | `BudgetExceeded` | 1013 | §10.4 |
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum ProtocolError {
    /// RSV1, RSV2 or RSV3 is set and no extension gives it a meaning.
    ReservedBit,
    /// Opcode 0x3-0x7 or 0xB-0xF.
    ReservedOpCode,
    /// A payload length that is not in its shortest form.
    NonMinimalLength,
    /// A 64-bit payload length with its most significant bit set.
    LengthMsbSet,
    /// A frame from a client without a masking key.
    UnmaskedFrame,
    /// A frame from a server with a masking key.
    MaskedFrame,
    /// A control frame without FIN.
    FragmentedControlFrame,
    /// A control frame with more than 125 bytes of payload.
    OversizedControlFrame,
    /// A continuation frame outside a fragmented message.
    UnexpectedContinuation,
    /// A new data frame inside a fragmented message.
    ExpectedContinuation,
    /// A Close frame whose payload is a single byte.
    OneByteClose,
    /// A Close frame with a status code that a peer may not send.
    InvalidCloseCode,
    /// A Close frame whose reason is not UTF-8.
    InvalidCloseReason,
    /// A text message that is not UTF-8.
    InvalidUtf8,
    /// A compressed message that cannot be decompressed.
    InvalidCompressedData,
    /// A frame larger than [`SizeLimits::max_frame_size`](super::SizeLimits::max_frame_size).
    FrameTooBig,
    /// A message larger than [`SizeLimits::max_message_size`](super::SizeLimits::max_message_size).
    MessageTooBig,
    /// More empty fragments in a row than
    /// [`SizeLimits::MAX_EMPTY_FRAGMENTS`](super::SizeLimits::MAX_EMPTY_FRAGMENTS).
    EmptyFragments,
    /// The memory budget for received data is exhausted
    /// ([`AssemblyBudget`](super::AssemblyBudget)). The peer broke no rule.
    BudgetExceeded,
}

impl ProtocolError {
    /// All variants, for tests and tables.
    pub const ALL: [ProtocolError; 19] = [
        ProtocolError::ReservedBit,
        ProtocolError::ReservedOpCode,
        ProtocolError::NonMinimalLength,
        ProtocolError::LengthMsbSet,
        ProtocolError::UnmaskedFrame,
        ProtocolError::MaskedFrame,
        ProtocolError::FragmentedControlFrame,
        ProtocolError::OversizedControlFrame,
        ProtocolError::UnexpectedContinuation,
        ProtocolError::ExpectedContinuation,
        ProtocolError::OneByteClose,
        ProtocolError::InvalidCloseCode,
        ProtocolError::InvalidCloseReason,
        ProtocolError::InvalidUtf8,
        ProtocolError::InvalidCompressedData,
        ProtocolError::FrameTooBig,
        ProtocolError::MessageTooBig,
        ProtocolError::EmptyFragments,
        ProtocolError::BudgetExceeded,
    ];

    /// The status code of the Close frame that is sent for this error.
    pub const fn close_code(self) -> CloseCode {
        self.close().0
    }

    /// The reason in the Close frame: a fixed text, never bytes from the peer.
    pub const fn reason(self) -> &'static str {
        self.close().1
    }

    const fn close(self) -> (CloseCode, &'static str) {
        use CloseCode::{Again, Invalid, Policy, Protocol, Size};
        match self {
            ProtocolError::ReservedBit => (Protocol, "reserved bit set"),
            ProtocolError::ReservedOpCode => (Protocol, "reserved opcode"),
            ProtocolError::NonMinimalLength => (Protocol, "length not in its shortest form"),
            ProtocolError::LengthMsbSet => (Protocol, "length with its top bit set"),
            ProtocolError::UnmaskedFrame => (Protocol, "client frame not masked"),
            ProtocolError::MaskedFrame => (Protocol, "server frame masked"),
            ProtocolError::FragmentedControlFrame => (Protocol, "fragmented control frame"),
            ProtocolError::OversizedControlFrame => (Protocol, "control frame over 125 bytes"),
            ProtocolError::UnexpectedContinuation => (Protocol, "continuation of no message"),
            ProtocolError::ExpectedContinuation => {
                (Protocol, "new message inside a fragmented one")
            }
            ProtocolError::OneByteClose => (Protocol, "close payload of one byte"),
            ProtocolError::InvalidCloseCode => (Protocol, "invalid close code"),
            ProtocolError::InvalidCloseReason => (Invalid, "close reason is not UTF-8"),
            ProtocolError::InvalidUtf8 => (Invalid, "text is not UTF-8"),
            ProtocolError::InvalidCompressedData => (Invalid, "invalid compressed data"),
            ProtocolError::FrameTooBig => (Size, "frame too big"),
            ProtocolError::MessageTooBig => (Size, "message too big"),
            ProtocolError::EmptyFragments => (Policy, "too many empty fragments"),
            ProtocolError::BudgetExceeded => (Again, "no memory for unfinished messages"),
        }
    }
}

impl fmt::Display for ProtocolError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.reason())
    }
}

impl core::error::Error for ProtocolError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_is_answered_with_a_code_that_may_travel_and_a_reason_that_fits() {
        for error in ProtocolError::ALL {
            let code = u16::from(error.close_code());
            assert!(
                matches!(code, 1002 | 1007 | 1008 | 1009 | 1013),
                "{error:?}"
            );
            // Each reason is unique and short enough for a Close frame.
            let reason = error.reason();
            let same = ProtocolError::ALL.iter().filter(|e| e.reason() == reason);
            assert_eq!(same.count(), 1, "{error:?}");
            assert!((1..=123).contains(&reason.len()), "{error:?}");
            assert_eq!(error.to_string(), reason);
        }
    }
}
