//! Header values as lists and tokens (RFC 9110 §5.6), read in one pass. The only white space that a
//! header value can hold is space and tab.

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
        .map(<[u8]>::trim_ascii)
        .filter(|element| !element.is_empty())
}

/// Parses each element of a list header. `None` if one is invalid, or if the header is there and has
/// no element.
pub(super) fn list<'a, T>(
    headers: &'a HeaderMap,
    name: &HeaderName,
    parse: impl FnMut(&'a [u8]) -> Option<T>,
) -> Option<Vec<T>> {
    if !headers.contains_key(name) {
        return Some(Vec::new());
    }
    let list: Option<Vec<T>> = elements(headers, name).map(parse).collect();
    list.filter(|list| !list.is_empty())
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
        (Some(line), None) => Single::Once(line.as_bytes().trim_ascii()),
        (Some(_), Some(_)) => Single::Repeated,
    }
}

/// Whether `bytes` is a token (§5.6.2): at least one visible character, no delimiters.
pub(super) fn is_token(bytes: &[u8]) -> bool {
    let is_in_token = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    !bytes.is_empty() && bytes.iter().all(is_in_token)
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
}
