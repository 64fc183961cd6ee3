//! Parses the query of a request target: `name=value&name=value`.

use std::borrow::Cow;

/// Returns the first value of the parameter `name`, or an empty string if it has no value. `None`
/// if the query does not contain the parameter.
pub(crate) fn parameter<'q>(query: &'q str, name: &str) -> Option<Cow<'q, str>> {
    let mut parameters = parameters(query);
    parameters.find_map(|(key, value)| (key == name).then_some(value))
}

/// All parameters: names as sent, values with escapes and plus signs decoded.
pub(crate) fn parameters(query: &str) -> impl Iterator<Item = (&str, Cow<'_, str>)> {
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    pairs.map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (name, unescaped(value))
    })
}

/// Decodes escapes and plus signs. A malformed escape stays as it was sent; invalid UTF-8 is
/// replaced.
fn unescaped(value: &str) -> Cow<'_, str> {
    if !value.contains(['%', '+']) {
        return Cow::Borrowed(value);
    }
    let value = value.replace('+', " ");
    let mut pieces = value.split('%');
    let mut bytes = pieces.next().unwrap_or_default().as_bytes().to_vec();
    for piece in pieces {
        let escape = piece
            .split_at_checked(2)
            .and_then(|(digits, rest)| Some((u8::from_str_radix(digits, 16).ok()?, rest)));
        let (byte, rest) = escape.unwrap_or((b'%', piece));
        bytes.push(byte);
        bytes.extend_from_slice(rest.as_bytes());
    }
    Cow::Owned(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_value_of_a_name_counts_and_its_escapes_are_decoded() {
        for (query, expected) in [
            ("", None),
            ("b=1", None),
            ("xa=1&a%=2&A=3", None),
            ("a", Some("")),
            ("&&a=&a=1", Some("")),
            ("b=2&a=1&a=2", Some("1")),
            ("a=b=c", Some("b=c")),
            ("a=1+2%2B3%26", Some("1 2+3&")),
            ("a=%C3%a4", Some("ä")),
            ("a=%ff", Some("\u{FFFD}")),
            ("a=%", Some("%")),
            ("a=%4", Some("%4")),
            ("a=%+4%zz%é", Some("% 4%zz%é")),
            ("%61=1", None),
        ] {
            let value = parameter(query, "a");
            assert_eq!(value.as_deref(), expected, "{query}");
        }
    }
}
