//! Who may connect: allowed origins and allowed hosts.

use core::net::Ipv6Addr;
use std::fmt;
use std::str::FromStr;

use http::request::Parts;
use http::{HeaderMap, header};
use subtle::ConstantTimeEq;

/// Who may open a WebSocket. By default anybody may.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    /// The origins that browsers may connect from (RFC 6455 §10.2).
    pub allowed_origins: AllowOrigin,
    /// Refuse clients that send no Origin: all but browsers.
    pub require_origin: bool,
    /// The hosts that requests may be for; empty means any. A defence against DNS rebinding.
    pub allowed_hosts: Vec<AllowedHost>,
    /// What every WebSocket must bring, as `Authorization: Bearer TOKEN` or, from a browser, as
    /// `?token=TOKEN`.
    pub token: Option<Token>,
}

/// A secret that clients show. It is compared in a time that does not depend on what they sent,
/// and not shown by `Debug`.
#[derive(Clone)]
pub struct Token(String);

/// This is no token.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct InvalidToken;

impl Token {
    /// Whether a request shows this token.
    pub(super) fn admits(&self, request: &Parts) -> bool {
        let header = request
            .headers
            .get(header::AUTHORIZATION)
            .and_then(|value| value.as_bytes().split_at_checked(7))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case(b"bearer "))
            .map(|(_, token)| token);
        let query = request.uri.query().unwrap_or_default();
        let parameter = query
            .split('&')
            .find_map(|parameter| parameter.strip_prefix("token="))
            .map(str::as_bytes);
        header
            .or(parameter)
            .is_some_and(|shown| self.0.as_bytes().ct_eq(shown).into())
    }
}

impl FromStr for Token {
    type Err = InvalidToken;

    /// Takes what a query carries without escapes (RFC 3986 §2.3).
    fn from_str(text: &str) -> Result<Token, InvalidToken> {
        let is_plain = |octet: u8| octet.is_ascii_alphanumeric() || b"-._~".contains(&octet);
        let is_token = !text.is_empty() && text.bytes().all(is_plain);
        is_token.then(|| Token(text.to_owned())).ok_or(InvalidToken)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Token")
    }
}

impl fmt::Display for InvalidToken {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .write_str("a token is letters, digits and -._~; make one with: openssl rand -hex 16")
    }
}

impl std::error::Error for InvalidToken {}

/// The origins that browsers may connect from.
#[derive(Clone, Debug, Default)]
pub enum AllowOrigin {
    /// Any, `null` included.
    #[default]
    Any,
    /// These and no others: there is no exemption for IP addresses, subdomains or `null`.
    Listed(Vec<Origin>),
}

impl AllowOrigin {
    /// Whether a request's Origin is listed, where `Any` lists none.
    pub(crate) fn names(&self, headers: &HeaderMap) -> bool {
        let origin = headers.get(header::ORIGIN);
        let is_admitted = origin.is_some_and(|origin| self.admits(origin.as_bytes()));
        is_admitted && !matches!(self, AllowOrigin::Any)
    }

    pub(super) fn admits(&self, origin: &[u8]) -> bool {
        match self {
            AllowOrigin::Any => true,
            AllowOrigin::Listed(origins) => std::str::from_utf8(origin)
                .ok()
                .and_then(|origin| origin.parse::<Origin>().ok())
                .is_some_and(|origin| origins.contains(&origin)),
        }
    }
}

/// An origin (RFC 6454 §6): scheme, host and port, or `null`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Origin {
    /// Lower case, with no port that is the scheme's default.
    serialized: String,
}

/// This is no origin.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct InvalidOrigin(String);

impl fmt::Display for InvalidOrigin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "'{}' is no origin; write https://example.com, http://localhost:3000 or null",
            self.0.escape_debug()
        )
    }
}

impl std::error::Error for InvalidOrigin {}

impl FromStr for Origin {
    type Err = InvalidOrigin;

    fn from_str(text: &str) -> Result<Origin, InvalidOrigin> {
        if text == "null" {
            return Ok(Origin {
                serialized: text.into(),
            });
        }
        let invalid = || InvalidOrigin(text.into());
        let (scheme, authority) = text.split_once("://").ok_or_else(invalid)?;
        let (host, port) = Authority::parse(authority).ok_or_else(invalid)?.parts();
        let is_scheme = scheme.starts_with(|first: char| first.is_ascii_alphabetic())
            && scheme
                .bytes()
                .all(|octet| octet.is_ascii_alphanumeric() || b"+-.".contains(&octet));
        if !is_scheme {
            return Err(invalid());
        }
        let scheme = scheme.to_ascii_lowercase();
        let default_port = match scheme.as_str() {
            "http" | "ws" => Some(80),
            "https" | "wss" => Some(443),
            _ => None,
        };
        let host = host.to_ascii_lowercase();
        let port = port.filter(|port| Some(*port) != default_port);
        Ok(Origin {
            serialized: match port {
                Some(port) => format!("{scheme}://{host}:{port}"),
                None => format!("{scheme}://{host}"),
            },
        })
    }
}

/// A host that requests may be for: with a port that one only, without one any.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AllowedHost {
    host: String,
    port: Option<u16>,
}

/// This is no host.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct InvalidHost(String);

impl fmt::Display for InvalidHost {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "'{}' is no host; write example.com, example.com:8000 or [::1]:8000",
            self.0.escape_debug()
        )
    }
}

impl std::error::Error for InvalidHost {}

impl FromStr for AllowedHost {
    type Err = InvalidHost;

    fn from_str(text: &str) -> Result<AllowedHost, InvalidHost> {
        let (host, port) = Authority::parse(text)
            .ok_or_else(|| InvalidHost(text.into()))?
            .parts();
        Ok(AllowedHost {
            host: host.to_ascii_lowercase(),
            port,
        })
    }
}

impl AllowedHost {
    pub(super) fn admits(&self, authority: &Authority<'_>) -> bool {
        let port_matches = match (self.port, authority.port) {
            (None, _) => true,
            // What the client left out is its scheme's default.
            (Some(allowed), None) => allowed == 80 || allowed == 443,
            (Some(allowed), Some(port)) => allowed == port,
        };
        port_matches && self.host.eq_ignore_ascii_case(authority.host)
    }
}

/// A host and perhaps a port, as in a Host field (RFC 9110 §7.2).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Authority<'a> {
    host: &'a str,
    port: Option<u16>,
}

impl<'a> Authority<'a> {
    pub(super) fn parse(text: &'a str) -> Option<Authority<'a>> {
        let end_of_literal = text.find(']').map_or(0, |end| end.saturating_add(1));
        let (host, port) = match text.get(end_of_literal..)?.find(':') {
            Some(colon) => {
                let (host, port) = text.split_at(end_of_literal.saturating_add(colon));
                (host, port.strip_prefix(':')?)
            }
            None => (text, ""),
        };
        let port = match port {
            "" => None,
            port if port.bytes().all(|octet| octet.is_ascii_digit()) => Some(port.parse().ok()?),
            _ => return None,
        };
        is_host(host).then_some(Authority { host, port })
    }

    fn parts(self) -> (&'a str, Option<u16>) {
        (self.host, self.port)
    }
}

/// A name, an IPv4 address, or an IPv6 address in brackets (RFC 3986 §3.2.2). A comma, which the
/// grammar would take, is what two joined Host fields look like, and is not.
fn is_host(host: &str) -> bool {
    if let Some(literal) = host.strip_prefix('[') {
        return literal
            .strip_suffix(']')
            .is_some_and(|address| address.parse::<Ipv6Addr>().is_ok());
    }
    !host.is_empty()
        && host
            .bytes()
            .all(|octet| octet.is_ascii_alphanumeric() || b"-._~%!$&'()*+;=".contains(&octet))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn authorities_are_a_host_and_perhaps_a_port() {
        for (text, expected) in [
            ("a", Some(("a", None))),
            ("a:80", Some(("a", Some(80)))),
            ("a:", Some(("a", None))),
            ("127.0.0.1:8000", Some(("127.0.0.1", Some(8000)))),
            ("[::1]", Some(("[::1]", None))),
            ("[::1]:80", Some(("[::1]", Some(80)))),
            ("", None),
            ("a b/c", None),
            ("a,b", None),
            ("[::1", None),
            ("[::1]x", None),
            ("[x]", None),
            ("a:99999", None),
            ("a:+80", None),
            ("a:80:80", None),
            ("user@a", None),
        ] {
            let parsed = Authority::parse(text).map(Authority::parts);
            assert_eq!(parsed, expected, "{text}");
        }
    }

    #[test]
    fn origins_are_compared_whole() {
        let listed = |origin: &str| AllowOrigin::Listed(vec![origin.parse().unwrap()]);
        for (allowed, origin, expected) in [
            ("https://good.example", "https://good.example", true),
            ("https://good.example", "HTTPS://Good.Example:443", true),
            ("https://good.example", "http://good.example", false),
            ("https://good.example", "https://good.example:8443", false),
            (
                "https://good.example",
                "https://good.example.evil.test",
                false,
            ),
            ("https://good.example", "https://evilgood.example", false),
            ("https://good.example", "https://good.example/path", false),
            (
                "https://good.example",
                "https://good.example, https://good.example",
                false,
            ),
            ("https://good.example", "null", false),
            ("https://good.example", "https://127.0.0.1", false),
            ("http://127.0.0.1:3000", "http://127.0.0.1:3000", true),
            ("http://good.example", "http://good.example:80", true),
            ("ws://good.example:80", "ws://good.example", true),
            ("wss://good.example", "wss://good.example:80", false),
            ("null", "null", true),
            ("null", "https://null", false),
        ] {
            assert_eq!(
                listed(allowed).admits(origin.as_bytes()),
                expected,
                "{origin}"
            );
        }
        assert!(!listed("https://good.example").admits(b"https://good.example\xFF"));
        for text in ["", "good.example", "://x", "https://", "1x://y"] {
            assert!(text.parse::<Origin>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_host_without_a_port_is_for_any_port() {
        for (allowed, authority, expected) in [
            ("a.example", "A.example", true),
            ("a.example", "a.example:8000", true),
            ("a.example", "b.example", false),
            ("a.example:80", "a.example", true),
            ("a.example:443", "a.example", true),
            ("a.example:8000", "a.example", false),
            ("a.example:8000", "a.example:8000", true),
            ("a.example:8000", "a.example:80", false),
        ] {
            let allowed: AllowedHost = allowed.parse().unwrap();
            let authority = Authority::parse(authority).unwrap();
            assert_eq!(
                allowed.admits(&authority),
                expected,
                "{allowed:?} {authority:?}"
            );
        }
    }

    #[test]
    fn a_token_is_shown_whole_in_a_header_or_else_in_the_query() {
        let token: Token = "s3cret".parse().unwrap();
        for (authorization, target, expected) in [
            (Some("Bearer s3cret"), "/ws", true),
            (Some("bearer s3cret"), "/ws", true),
            (Some("Basic s3cret"), "/ws", false),
            (Some("Bearer s3cret "), "/ws", false),
            (Some("Bearer s3cre"), "/ws", false),
            (Some("Bearer"), "/ws", false),
            (None, "/ws", false),
            (None, "/ws?token=s3cret", true),
            (None, "/ws?a=b&token=s3cret", true),
            (None, "/ws?xtoken=s3cret", false),
            (None, "/ws?token=", false),
            // The header is what counts where there is one.
            (Some("Bearer wrong"), "/ws?token=s3cret", false),
            (Some("Basic x"), "/ws?token=s3cret", true),
        ] {
            let mut request = http::Request::get(target);
            if let Some(value) = authorization {
                request = request.header(header::AUTHORIZATION, value);
            }
            let (request, ()) = request.body(()).unwrap().into_parts();
            assert_eq!(
                token.admits(&request),
                expected,
                "{authorization:?} {target}"
            );
        }
        assert_eq!(
            format!("{token:?}"),
            "Token",
            "it is a secret, in a log too"
        );
    }

    #[test]
    fn whoever_writes_it_wrongly_is_told_how_it_is_written() {
        for text in ["", "a b", "a/b", "a%20"] {
            let error = text.parse::<Token>().unwrap_err();
            assert!(error.to_string().contains("openssl rand"), "{text}");
        }
        assert!("aZ09-._~".parse::<Token>().is_ok());
        let error = "a/b".parse::<Origin>().unwrap_err().to_string();
        assert!(error.starts_with("'a/b' is no origin; write "), "{error}");
        let error = "a/b".parse::<AllowedHost>().unwrap_err().to_string();
        assert!(error.starts_with("'a/b' is no host; write "), "{error}");
    }
}
