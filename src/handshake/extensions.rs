//! Parses Sec-WebSocket-Extensions (RFC 6455 §9.1): a list of offers, each a name with parameters.
//!
//! ```text
//! list      = 1#offer
//! offer     = token *( ";" parameter )
//! parameter = token [ "=" ( token | quoted-string ) ]    ; the quoted text must be a token
//! ```

use std::borrow::Cow;

use http::{HeaderMap, header};

use super::headers::{is_token, list};

/// One extension that a client offers to use.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Offer<'a> {
    /// The extension's registered name, compared byte by byte.
    pub name: &'a str,
    /// The parameters in the order sent, each with its value if it has one.
    pub parameters: Vec<(&'a str, Option<Cow<'a, str>>)>,
}

/// The header breaks the grammar.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct MalformedExtensions;

/// Parses all offers of a request, in the client's order of preference. A request without the
/// header has no offers; a header without an offer is malformed.
///
/// # Errors
/// [`MalformedExtensions`]
pub fn offers(headers: &HeaderMap) -> Result<Vec<Offer<'_>>, MalformedExtensions> {
    list(headers, &header::SEC_WEBSOCKET_EXTENSIONS, offer).ok_or(MalformedExtensions)
}

/// Parses one offer. The caller has split the header at each comma, also inside a quoted string;
/// then neither half is valid. This is right, because a quoted string must contain a token (§9.1),
/// and a token has no comma and no semicolon.
fn offer(element: &[u8]) -> Option<Offer<'_>> {
    let mut pieces = std::str::from_utf8(element).ok()?.split(';');
    let name = token(pieces.next()?)?;
    let parameters = pieces.map(|piece| match piece.split_once('=') {
        Some((name, text)) => Some((token(name)?, Some(value(text)?))),
        None => Some((token(piece)?, None)),
    });
    let parameters = parameters.collect::<Option<_>>()?;
    Some(Offer { name, parameters })
}

fn token(text: &str) -> Option<&str> {
    let text = text.trim_ascii();
    is_token(text.as_bytes()).then_some(text)
}

fn value(text: &str) -> Option<Cow<'_, str>> {
    let Some(rest) = text.trim_ascii().strip_prefix('"') else {
        return token(text).map(Cow::Borrowed);
    };
    let mut characters = rest.strip_suffix('"')?.chars();
    let mut value = String::new();
    while let Some(character) = characters.next() {
        value.push(match character {
            '\\' => characters.next()?,
            character => character,
        });
    }
    is_token(value.as_bytes()).then_some(Cow::Owned(value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn headers(lines: &[&str]) -> HeaderMap {
        lines
            .iter()
            .map(|line| {
                (
                    header::SEC_WEBSOCKET_EXTENSIONS,
                    HeaderValue::from_str(line).unwrap(),
                )
            })
            .collect()
    }

    #[test]
    fn offers_are_read_in_order_over_all_lines() {
        let headers = headers(&["foo, permessage-deflate; a; b=10", ", x;c=\"1\\0\" ,"]);
        let offers = offers(&headers).unwrap();
        let names: Vec<_> = offers.iter().map(|offer| offer.name).collect();
        assert_eq!(names, ["foo", "permessage-deflate", "x"]);
        assert_eq!(
            offers[1].parameters,
            [("a", None), ("b", Some("10".into()))]
        );
        assert_eq!(offers[2].parameters, [("c", Some("10".into()))]);
    }

    #[test]
    fn e4_e5_a_header_that_breaks_the_grammar_is_malformed() {
        for line in [
            "",
            ",",
            " , ,",
            ";",
            "=a",
            "a;",
            "a;b=",
            "a;=b",
            "a b",
            "a;b=\"",
            "a;b=\"\\",
            "a;b=\"x y\"",
            "a;b=\"\"",
            "a;b=\"c\"d",
            "a=b",
            "\"a\"",
            "a;b c",
            "a;b==c",
            "a/b",
        ] {
            assert_eq!(
                offers(&headers(&[line])),
                Err(MalformedExtensions),
                "{line}"
            );
        }
        assert_eq!(offers(&headers(&[])), Ok(vec![]));
        let unclosed = format!("a;b=\"{}", "\\c".repeat(8_000));
        assert_eq!(offers(&headers(&[&unclosed])), Err(MalformedExtensions));
    }
}
