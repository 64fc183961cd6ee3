//! Random ids.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;

/// The id of a session or of a socket: 120 random bits as 20 characters of base64url.
#[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Sid([u8; 20]);

/// The error if a text is not an id.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct InvalidSid;

impl Sid {
    /// Returns a new id; `None` if the system has no random bytes.
    pub(super) fn random() -> Option<Sid> {
        let mut bytes = [0; 15];
        getrandom::fill(&mut bytes).ok()?;
        let mut text = [0; 20];
        BASE64.encode_slice(bytes, &mut text).ok()?;
        Some(Sid(text))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default() // always ASCII
    }
}

impl FromStr for Sid {
    type Err = InvalidSid;

    fn from_str(text: &str) -> Result<Sid, InvalidSid> {
        let is_base64url = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
        let bytes: [u8; 20] = text.as_bytes().try_into().map_err(|_| InvalidSid)?;
        let is_sid = bytes.iter().all(|byte| is_base64url(*byte));
        is_sid.then_some(Sid(bytes)).ok_or(InvalidSid)
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

impl fmt::Display for InvalidSid {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an id has 20 letters, digits, - and _")
    }
}

impl std::error::Error for InvalidSid {}
