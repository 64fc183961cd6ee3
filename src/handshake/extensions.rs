//! Parses Sec-WebSocket-Extensions (RFC 6455 §9.1): a list of offers, each a name with parameters.
//!
//! ```text
//! list      = 1#offer
//! offer     = token *( ";" parameter )
//! parameter = token [ "=" ( token | quoted-string ) ]    ; the quoted text must be a token
//! ```

use std::borrow::Cow;

use http::{HeaderMap, header};

use super::headers::is_token_byte;

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
    let lines = headers.get_all(header::SEC_WEBSOCKET_EXTENSIONS);
    let mut offers = Vec::new();
    let mut has_field = false;
    for line in lines {
        has_field = true;
        let line = line.to_str().map_err(|_| MalformedExtensions)?;
        Scanner { rest: line }.list(&mut offers)?;
    }
    if has_field && offers.is_empty() {
        return Err(MalformedExtensions);
    }
    Ok(offers)
}

/// The unread rest of a line. Every step consumes at least one byte, so parsing takes linear time.
struct Scanner<'a> {
    rest: &'a str,
}

impl<'a> Scanner<'a> {
    fn list(&mut self, offers: &mut Vec<Offer<'a>>) -> Result<(), MalformedExtensions> {
        loop {
            self.skip_spaces();
            if !self.rest.is_empty() && !self.rest.starts_with(',') {
                offers.push(self.offer()?);
            }
            if self.rest.is_empty() {
                return Ok(());
            }
            self.expect(',')?;
        }
    }

    fn offer(&mut self) -> Result<Offer<'a>, MalformedExtensions> {
        let name = self.token()?;
        let mut parameters = Vec::new();
        while self.take(';') {
            self.skip_spaces();
            let name = self.token()?;
            let value = match self.take('=') {
                true => Some(self.value()?),
                false => None,
            };
            parameters.push((name, value));
        }
        Ok(Offer { name, parameters })
    }

    fn value(&mut self) -> Result<Cow<'a, str>, MalformedExtensions> {
        self.skip_spaces();
        if !self.rest.starts_with('"') {
            return self.token().map(Cow::Borrowed);
        }
        self.expect('"')?;
        let mut value = String::new();
        loop {
            let mut characters = self.rest.chars();
            let character = match characters.next() {
                Some('"') => break,
                Some('\\') => characters.next(),
                other => other,
            };
            value.push(character.ok_or(MalformedExtensions)?);
            self.rest = characters.as_str();
        }
        self.expect('"')?;
        self.skip_spaces();
        let is_token = !value.is_empty() && value.bytes().all(is_token_byte);
        is_token
            .then_some(Cow::Owned(value))
            .ok_or(MalformedExtensions)
    }

    fn token(&mut self) -> Result<&'a str, MalformedExtensions> {
        let length = self
            .rest
            .bytes()
            .take_while(|byte| is_token_byte(*byte))
            .count();
        let (token, rest) = self.rest.split_at(length);
        self.rest = rest;
        self.skip_spaces();
        (length > 0).then_some(token).ok_or(MalformedExtensions)
    }

    fn take(&mut self, character: char) -> bool {
        match self.rest.strip_prefix(character) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn expect(&mut self, character: char) -> Result<(), MalformedExtensions> {
        self.take(character)
            .then_some(())
            .ok_or(MalformedExtensions)
    }

    fn skip_spaces(&mut self) {
        self.rest = self.rest.trim_start_matches([' ', '\t']);
    }
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
