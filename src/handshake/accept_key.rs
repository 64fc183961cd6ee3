//! Sec-WebSocket-Key and Sec-WebSocket-Accept (RFC 6455 §4.2.2).

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use sha1::{Digest, Sha1};

const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// Accepts any value in the unused bits of a key's last character: the answer hashes the key's
/// text, not the decoded bytes.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true),
);

/// Whether `key` is the base64 form of 16 bytes (§4.1).
pub fn is_key(key: &[u8]) -> bool {
    let mut nonce = [0; 18];
    key.len() == 24 && BASE64.decode_slice(key, &mut nonce) == Ok(16)
}

/// The value of Sec-WebSocket-Accept for a client's Sec-WebSocket-Key. It proves that the server
/// has read the key.
///
/// ```
/// use frameloop::handshake::accept_key::accept_key;
///
/// assert_eq!(
///     accept_key(b"dGhlIHNhbXBsZSBub25jZQ=="),
///     "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=",
/// );
/// ```
pub fn accept_key(key: &[u8]) -> String {
    BASE64.encode(Sha1::new().chain_update(key).chain_update(GUID).finalize())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_the_base64_of_16_bytes() {
        for (key, expected) in [
            ("dGhlIHNhbXBsZSBub25jZQ==", true),
            ("AAAAAAAAAAAAAAAAAAAAAB==", true), // 63: spare bits
            ("", false),
            ("AQIDBAUGBwgJCgsMDQ4P", false),     // 61: 15 bytes
            ("AQIDBAUGBwgJCgsMDQ4PEBE=", false), // 61: 17 bytes
            ("dGhlIHNhbXBsZSBub25jZQ", false),   // 62: no padding
            ("dGhlIHNhbXBsZSBub25jZQ=", false),
            ("dGhl_HNhbXBsZSBub25jZQ==", false), // 62: base64url
            ("dGhl HNhbXBsZSBub25jZQ==", false),
            ("dGhlIHNhbXBsZSBub25jZQ===", false),
        ] {
            assert_eq!(is_key(key.as_bytes()), expected, "{key}");
        }
        assert!(!is_key(b"dGhl\xFFHNhbXBsZSBub25jZQ=="));
    }
}
