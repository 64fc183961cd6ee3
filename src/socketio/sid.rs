//! Random ids.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;

/// The id of a session or of a socket: 120 random bits as 20 characters of base64url.
#[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Sid([u8; 20]);

impl Sid {
    /// Returns a new id; `None` if the system has no random bytes.
    pub(super) fn random() -> Option<Sid> {
        let mut bytes = [0; 15];
        getrandom::fill(&mut bytes).ok()?;
        let mut text = [0; 20];
        BASE64.encode_slice(bytes, &mut text).ok()?;
        Some(Sid(text))
    }

    /// Returns the id that this text is; `None` if it is not an id.
    pub fn parse(text: &str) -> Option<Sid> {
        let is_base64url = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_".contains(byte);
        let bytes: [u8; 20] = text.as_bytes().try_into().ok()?;
        bytes.iter().all(is_base64url).then_some(Sid(bytes))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default() // always ASCII
    }
}

impl fmt::Display for Sid {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl fmt::Debug for Sid {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}
