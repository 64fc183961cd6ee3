//! The access policy: which clients may connect.

use std::fmt;
use std::str::FromStr;

use http::header;
use http::request::Parts;
use subtle::ConstantTimeEq;

use super::forwarded::TrustedProxies;
use super::host::AllowedHost;
use super::origin::AllowOrigin;
use super::query;

/// Which clients may open a WebSocket. Default: all.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    /// The origins from which browsers may connect (RFC 6455 §10.2). Default: any.
    pub allowed_origins: AllowOrigin,
    /// Refuses requests without an Origin header; browsers always send one. Default: `false`.
    pub require_origin: bool,
    /// The hosts that a request may name, as a defence against DNS rebinding. Default: empty, which
    /// allows any host.
    pub allowed_hosts: Vec<AllowedHost>,
    /// The secret that a client must send to open a WebSocket, as `Authorization: Bearer TOKEN` or,
    /// from a browser, as `?token=TOKEN`. Default: `None`, no token needed.
    pub token: Option<Token>,
    /// Proxies whose forwarding header is trusted. Default: none.
    pub trusted_proxies: TrustedProxies,
}

/// A secret that clients send. It is compared in constant time, and `Debug` does not print it.
#[derive(Clone)]
pub struct Token(String);

/// The text is not a valid token.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct InvalidToken;

impl Token {
    /// Whether the request carries this token. A Bearer header takes precedence over the query.
    pub(super) fn admits(&self, request: &Parts) -> bool {
        let header = request
            .headers
            .get(header::AUTHORIZATION)
            .and_then(|value| value.as_bytes().split_at_checked(7))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case(b"bearer "))
            .map(|(_, token)| token);
        let parameter = query::parameter(request.uri.query().unwrap_or_default(), "token");
        header
            .or(parameter.as_deref().map(str::as_bytes))
            .is_some_and(|shown| self.0.as_bytes().ct_eq(shown).into())
    }
}

impl FromStr for Token {
    type Err = InvalidToken;

    /// Accepts the characters that a query needs no escapes for (RFC 3986 §2.3).
    fn from_str(text: &str) -> Result<Token, InvalidToken> {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
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
        formatter.write_str(
            "invalid token: use letters, digits and -._~; make one with: openssl rand -hex 16",
        )
    }
}

impl std::error::Error for InvalidToken {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_read_from_the_header_or_else_from_the_query() {
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
            (None, "/ws?token=s3cre%74", true),
            // A Bearer header takes precedence.
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
            "Debug must not print the secret"
        );
    }

    #[test]
    fn an_invalid_token_is_refused_with_a_hint() {
        for text in ["", "a b", "a/b", "a%20"] {
            let error = text.parse::<Token>().unwrap_err();
            assert!(error.to_string().contains("openssl rand"), "{text}");
        }
        assert!("aZ09-._~".parse::<Token>().is_ok());
    }
}
