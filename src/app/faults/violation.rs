//! The protocol violations that a client can request by name.

use clap::ValueEnum;
use http::{HeaderName, HeaderValue, header};

use crate::protocol::OpCode;

/// A violation of the protocol by the server, to test how a client reacts.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub(super) enum Violation {
    AcceptKey,
    Subprotocol,
    Extension,
    Opcode,
    ControlOpcode,
    Rsv1,
    Rsv2,
    Rsv3,
    Utf8,
    Masked,
    OversizedControl,
    FragmentedControl,
    Length,
    LengthMsb,
    Truncated,
    Continuation,
    Interleaved,
    #[value(name = "one_octet_close")]
    OneByteClose,
    CloseCode,
    CloseReason,
    AfterClose,
}

impl Violation {
    /// The names of all violations, as clients write them.
    pub(super) fn names() -> impl Iterator<Item = String> {
        let all = Violation::value_variants().iter();
        all.filter_map(|one| Some(one.to_possible_value()?.get_name().to_owned()))
    }

    /// The wrong field of the 101 response, for a violation of the handshake (RFC 6455 §4.1).
    pub(super) fn of_handshake(self) -> Option<(HeaderName, HeaderValue)> {
        let (name, wrong) = match self {
            Violation::AcceptKey => (header::SEC_WEBSOCKET_ACCEPT, "AAAAAAAAAAAAAAAAAAAAAAAAAAA="),
            Violation::Subprotocol => (header::SEC_WEBSOCKET_PROTOCOL, "not.offered"),
            Violation::Extension => (header::SEC_WEBSOCKET_EXTENSIONS, "x-not-offered"),
            _ => return None,
        };
        Some((name, HeaderValue::from_static(wrong)))
    }

    /// Whether no frame may follow, because the client waits for the rest of this one.
    pub(super) fn ends(self) -> bool {
        self == Violation::Truncated
    }

    /// The opcode under which the frames are counted in place of an echo with `opcode`; `None` if
    /// they are not counted.
    pub(super) fn kind(self, opcode: OpCode) -> Option<OpCode> {
        match self {
            Violation::ControlOpcode
            | Violation::OversizedControl
            | Violation::FragmentedControl
            | Violation::OneByteClose
            | Violation::CloseCode
            | Violation::CloseReason => Some(OpCode::Close),
            Violation::Truncated => None,
            _ => Some(opcode),
        }
    }

    /// The bytes to send in place of an echo of `payload`; `None` for a violation of the handshake.
    pub(super) fn frames(self, opcode: u8, payload: &[u8]) -> Option<Vec<u8>> {
        let whole = |first: u8| [&[first], &*length(payload.len()), payload].concat();
        Some(match self {
            Violation::AcceptKey | Violation::Subprotocol | Violation::Extension => return None,
            Violation::Opcode => whole(0x83),                // §5.2
            Violation::ControlOpcode => vec![0x8B, 0x00],    // §5.2
            Violation::Rsv1 => whole(0xC0 | opcode),         // §5.2
            Violation::Rsv2 => whole(0xA0 | opcode),         // §5.2
            Violation::Rsv3 => whole(0x90 | opcode),         // §5.2
            Violation::Utf8 => vec![0x81, 0x02, 0xC3, 0x28], // §8.1
            Violation::Masked => {
                // A key of zeros leaves the payload unchanged (§5.1).
                let mut length = length(payload.len());
                length[0] |= 0x80;
                [&[0x80 | opcode], &*length, &[0; 4], payload].concat()
            }
            Violation::OversizedControl => {
                [&[0x89, 126, 0x00, 126][..], &[b'x'; 126]].concat() // §5.5
            }
            Violation::FragmentedControl => vec![0x09, 0x00], // §5.5
            Violation::Length => {
                let length = (payload.len() as u64).to_be_bytes();
                let (form, bytes) = match payload.len() {
                    0..=125 => (126, &length[6..]),
                    _ => (127, &length[..]),
                };
                // Beyond 65,535 bytes no longer form exists, so the echo is cut.
                let payload = payload.get(..0xFFFF).unwrap_or(payload);
                let bytes = match payload.len() {
                    0xFFFF => &[0, 0, 0, 0, 0, 0, 0xFF, 0xFF],
                    _ => bytes,
                };
                [&[0x80 | opcode, form], bytes, payload].concat() // §5.2
            }
            Violation::LengthMsb => vec![0x82, 127, 0x80, 0, 0, 0, 0, 0, 0, 0], // §5.2
            Violation::Truncated => {
                let half = payload.len() / 2;
                let bytes = length(payload.len().max(1));
                [&[0x80 | opcode], &*bytes, &payload[..half]].concat() // §7.1.1
            }
            Violation::Continuation => whole(0x80), // §5.4
            Violation::Interleaved => vec![0x01, 0x01, b'a', 0x81, 0x01, b'b'], // §5.4
            Violation::OneByteClose => vec![0x88, 0x01, 0x03], // §5.5.1
            Violation::CloseCode => vec![0x88, 0x02, 0x03, 0xED], // 1005, §7.4.1
            Violation::CloseReason => vec![0x88, 0x04, 0x03, 0xE8, 0xC3, 0x28], // §5.5.1
            Violation::AfterClose => {
                [&[0x88, 0x02, 0x03, 0xE8][..], &whole(0x80 | opcode)].concat() // §5.5.1
            }
        })
    }
}

/// The length field of a frame in its shortest form, without a mask bit (§5.2).
fn length(bytes: usize) -> Vec<u8> {
    match bytes {
        0..=125 => vec![bytes as u8],
        126..=0xFFFF => [&[126], &(bytes as u16).to_be_bytes()[..]].concat(),
        _ => [&[127], &(bytes as u64).to_be_bytes()[..]].concat(),
    }
}
