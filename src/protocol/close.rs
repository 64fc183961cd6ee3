//! The payload of a Close frame (RFC 6455 §5.5.1) and the status codes that may be sent (§7.4).

use core::fmt;

pub use tungstenite::protocol::frame::coding::CloseCode;

use super::ProtocolError;

/// The content of a Close frame: a status code and a human-readable reason.
///
/// In a received frame, [`may_travel`] accepts the code, and the reason is at most 123 bytes of
/// UTF-8.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct CloseFrame<'a> {
    /// Status code (§7.4).
    pub code: CloseCode,
    /// Reason, at most [`CloseFrame::MAX_REASON`] bytes on the wire.
    pub reason: &'a str,
}

impl<'a> CloseFrame<'a> {
    /// Maximum length of the reason in bytes: a control frame holds 125 bytes, two of them the
    /// code.
    pub const MAX_REASON: usize = 123;

    /// Decodes the payload of a Close frame. `None` if the payload is empty: a Close without a
    /// code.
    ///
    /// # Errors
    /// [`ProtocolError::OneByteClose`], [`ProtocolError::InvalidCloseCode`] or
    /// [`ProtocolError::InvalidCloseReason`].
    pub fn decode(payload: &'a [u8]) -> Result<Option<CloseFrame<'a>>, ProtocolError> {
        let Some((code, reason)) = payload.split_first_chunk::<2>() else {
            return if payload.is_empty() {
                Ok(None)
            } else {
                Err(ProtocolError::OneByteClose) // §5.5.1
            };
        };
        let code = u16::from_be_bytes(*code);
        if !may_travel(code) {
            return Err(ProtocolError::InvalidCloseCode); // §7.4
        }
        let reason = core::str::from_utf8(reason).map_err(|_| ProtocolError::InvalidCloseReason)?; // §5.5.1
        Ok(Some(CloseFrame {
            code: CloseCode::from(code),
            reason,
        }))
    }

    /// Encodes the payload: the code in network byte order, then the reason, truncated at a
    /// character boundary to at most [`CloseFrame::MAX_REASON`] bytes.
    pub fn encode(&self) -> Vec<u8> {
        let (reason, _) = self
            .reason
            .split_at(self.reason.floor_char_boundary(Self::MAX_REASON));
        [&u16::from(self.code).to_be_bytes(), reason.as_bytes()].concat()
    }
}

impl fmt::Display for CloseFrame<'_> {
    /// Writes the code and the escaped reason: a hostile reason cannot forge a log line.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "{} \"{}\"",
            u16::from(self.code),
            self.reason.escape_debug()
        )
    }
}

/// Whether a peer may send this status code in a Close frame.
///
/// 1004, 1005, 1006 and 1015 are reserved or local (§7.4.1); 1012 to 1014 are registered with
/// IANA; 3000 to 4999 belong to libraries and applications (§7.4.2).
pub const fn may_travel(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_close_payload_reads_back_as_it_was_written() {
        let frame = CloseFrame {
            code: CloseCode::Away,
            reason: "bye",
        };
        assert_eq!(frame.encode(), b"\x03\xE9bye");
        assert_eq!(CloseFrame::decode(b"\x03\xE9bye"), Ok(Some(frame)));
    }

    #[test]
    fn a_hostile_reason_forges_no_log_line() {
        let frame = CloseFrame {
            code: CloseCode::Normal,
            reason: "\"\nERROR \u{1b}[31m\u{202e}é",
        };
        let shown = "1000 \"\\\"\\nERROR \\u{1b}[31m\\u{202e}é\"";
        assert_eq!(frame.to_string(), shown);
    }

    #[test]
    fn a_long_reason_is_cut_between_characters() {
        let reason = "é".repeat(100);
        let frame = CloseFrame {
            code: CloseCode::Normal,
            reason: &reason,
        };
        let payload = frame.encode();
        assert_eq!(payload.len(), 2 + 122);
        assert!(CloseFrame::decode(&payload).is_ok());
    }

    #[test]
    fn every_code_is_kept_or_refused_as_the_table_of_section_7_4_says() {
        for code in 0..=u16::MAX {
            let legal = [
                1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014,
            ];
            let is_legal = legal.contains(&code) || (3000..5000).contains(&code);
            let bytes = code.to_be_bytes();
            let decoded = CloseFrame::decode(&bytes).map(|frame| frame.unwrap().encode());
            let expected = match is_legal {
                true => Ok(bytes.to_vec()),
                false => Err(ProtocolError::InvalidCloseCode),
            };
            assert_eq!(decoded, expected, "{code}");
        }
    }

    #[test]
    fn broken_payloads_fail_with_their_own_error() {
        assert_eq!(CloseFrame::decode(b""), Ok(None));
        assert_eq!(
            CloseFrame::decode(b"\x03"),
            Err(ProtocolError::OneByteClose)
        );
        for reason in [&b"\xFF"[..], b"\xE2\x82", b"\xED\xA0\x80", b"\xC0\x80"] {
            let payload = [b"\x03\xE8", reason].concat();
            assert_eq!(
                CloseFrame::decode(&payload),
                Err(ProtocolError::InvalidCloseReason)
            );
        }
    }
}
