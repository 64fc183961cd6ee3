//! Header values as lists and tokens (RFC 9110 §5.6), read in one pass.

use http::{HeaderMap, HeaderName};

/// The elements of a list header. All lines of the header form one list; empty elements are skipped
/// (§5.6.1).
pub(super) fn elements<'a>(
    headers: &'a HeaderMap,
    name: &HeaderName,
) -> impl DoubleEndedIterator<Item = &'a [u8]> {
    headers
        .get_all(name)
        .iter()
        .flat_map(|line| line.as_bytes().split(|byte| *byte == b','))
        .map(trim)
        .filter(|element| !element.is_empty())
}

/// Whether a list header contains `token`, ignoring case.
pub(super) fn has_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    elements(headers, name).any(|element| element.eq_ignore_ascii_case(token.as_bytes()))
}

/// The value of a header that must not be repeated.
pub(super) enum Single<'a> {
    Missing,
    Once(&'a [u8]),
    Repeated,
}

/// Reads a header that must not be repeated.
pub(super) fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Single<'a> {
    let mut lines = headers.get_all(name).iter();
    match (lines.next(), lines.next()) {
        (None, _) => Single::Missing,
        (Some(line), None) => Single::Once(trim(line.as_bytes())),
        (Some(_), Some(_)) => Single::Repeated,
    }
}

/// Whether `bytes` is a token (§5.6.2): at least one visible character, no delimiters.
pub(super) fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|byte| is_token_byte(*byte))
}

pub(super) fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Strips white space from both ends (§5.6.3).
pub(super) fn trim(bytes: &[u8]) -> &[u8] {
    let is_space = |byte: &u8| matches!(byte, b' ' | b'\t');
    let start = bytes.iter().take_while(|byte| is_space(byte)).count();
    let bytes = bytes.get(start..).unwrap_or_default();
    let end = bytes.iter().rev().take_while(|byte| is_space(byte)).count();
    bytes
        .get(..bytes.len().saturating_sub(end))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_visible_characters_except_delimiters() {
        let tokens =
            b"!#$%&'*+-.0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ^_`abcdefghijklmnopqrstuvwxyz|~";
        for byte in 0..=u8::MAX {
            assert_eq!(is_token(&[byte]), tokens.contains(&byte), "{byte:#04x}");
        }
        assert!(!is_token(b""));
    }

    #[test]
    fn white_space_is_space_and_tab_only() {
        for (bytes, expected) in [
            (&b" \t a b\t "[..], &b"a b"[..]),
            (b"a", b"a"),
            (b" \t", b""),
            (b"", b""),
            (b"\x0Ba\xA0", b"\x0Ba\xA0"),
        ] {
            assert_eq!(trim(bytes), expected);
        }
    }
}
