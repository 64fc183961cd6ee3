//! UTF-8 validation as the bytes arrive (RFC 6455 §8.1). Validation fails at the first invalid
//! byte, even in the middle of an unfinished frame.

#[cfg(not(feature = "simd"))]
use core::{str as basic, str as compat};

#[cfg(feature = "simd")]
use simdutf8::{basic, compat};

/// Returns the bytes as text.
///
/// # Errors
/// [`InvalidUtf8`] if the bytes are not UTF-8.
#[inline]
pub fn validate(bytes: &[u8]) -> Result<&str, InvalidUtf8> {
    basic::from_utf8(bytes).map_err(|_| InvalidUtf8)
}

/// Validates a text that arrives in pieces. A piece may end inside a character.
///
/// Invariant: `carried[..length]` is the incomplete character at the end of the last piece, at most
/// 3 bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Utf8Validator {
    carried: [u8; 4],
    length: u8,
}

/// The text is not UTF-8, and no further bytes can make it valid.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct InvalidUtf8;

impl Utf8Validator {
    /// Validates the next piece of the text.
    ///
    /// # Errors
    /// [`InvalidUtf8`] if no continuation could make the text valid.
    pub fn validate(&mut self, mut piece: &[u8]) -> Result<(), InvalidUtf8> {
        // Complete the incomplete character of the last piece byte by byte.
        while self.length > 0 {
            let Some((&byte, rest)) = piece.split_first() else {
                return Ok(());
            };
            piece = rest;
            let (mut character, length) = (self.carried, usize::from(self.length));
            if let Some(place) = character.get_mut(length) {
                *place = byte;
            }
            self.length = 0;
            self.check(character.get(..=length).unwrap_or_default())?;
        }
        self.check(piece)
    }

    /// Whether the text may end here: the last character is complete.
    pub const fn is_complete(&self) -> bool {
        self.length == 0
    }

    /// Checks a piece that begins at a character boundary. Stores an incomplete character at the
    /// end of the piece in `carried`.
    fn check(&mut self, piece: &[u8]) -> Result<(), InvalidUtf8> {
        // This check reports the position of the error; `basic` is faster but does not.
        let Err(error) = compat::from_utf8(piece) else {
            return Ok(());
        };
        if error.error_len().is_some() {
            return Err(InvalidUtf8);
        }
        let broken_off = piece.get(error.valid_up_to()..).unwrap_or_default();
        for (place, byte) in self.carried.iter_mut().zip(broken_off) {
            *place = *byte;
            self.length = self.length.saturating_add(1);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn validate(pieces: &[&[u8]]) -> Result<bool, InvalidUtf8> {
        let mut validator = Utf8Validator::default();
        for piece in pieces {
            validator.validate(piece)?;
        }
        Ok(validator.is_complete())
    }

    #[test]
    fn valid_text_passes_however_it_is_cut() {
        let text = "κόσμε, ça va? 你好 😀 \u{10FFFF}\u{7FF}\u{800}".as_bytes();
        for first in 0..=text.len() {
            for second in first..=text.len() {
                let pieces = [&text[..first], &text[first..second], &text[second..]];
                assert_eq!(validate(&pieces), Ok(true), "cut at {first} and {second}");
            }
        }
    }

    #[test]
    fn invalid_text_fails_at_its_first_bad_byte_however_it_is_cut() {
        let cases: [(&[u8], usize); 9] = [
            (b"a\xFF", 2),
            (b"\xC0\x80", 1),
            (b"\xE0\x80\x80", 2),
            (b"\xED\xA0\x80", 2),
            (b"\xF0\x80\x80\x80", 2),
            (b"\xF4\x90\x80\x80", 2),
            (b"\xF5", 1),
            (b"\x80", 1),
            (b"\xE2\x82a", 3),
        ];
        for (text, bad) in cases {
            let bytes: Vec<&[u8]> = text.chunks(1).collect();
            assert_eq!(validate(&bytes[..bad]), Err(InvalidUtf8), "{text:02X?}");
            assert!(validate(&bytes[..bad - 1]).is_ok(), "{text:02X?}");
            for cut in 0..=text.len() {
                let pieces = [&text[..cut], &text[cut..]];
                assert_eq!(
                    validate(&pieces),
                    Err(InvalidUtf8),
                    "{text:02X?} cut at {cut}"
                );
            }
        }
    }

    #[test]
    fn a_broken_off_character_is_not_complete() {
        for text in [&b"\xC3"[..], b"\xE2\x82", b"\xF0\x9F\x98"] {
            assert_eq!(validate(&[text]), Ok(false));
        }
    }
}
