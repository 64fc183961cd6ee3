//! The origin of a request, and the origins that the policy allows.

use std::fmt;
use std::str::FromStr;

use http::{HeaderMap, header};

use super::host::{Authority, Hosts};

/// The origins from which browsers may connect. Default: [`Any`](AllowOrigin::Any).
#[derive(Clone, Debug, Default)]
pub enum AllowOrigin {
    /// Any origin, `null` included.
    #[default]
    Any,
    /// Only these origins. IP addresses and `null` must be listed, too.
    Listed(Vec<Origin>),
}

impl AllowOrigin {
    /// Whether the request's Origin is in the list. Always `false` for `Any`.
    pub(crate) fn names(&self, headers: &HeaderMap) -> bool {
        let origin = headers.get(header::ORIGIN);
        let is_admitted = origin.is_some_and(|origin| self.admits(origin.as_bytes()));
        is_admitted && !matches!(self, AllowOrigin::Any)
    }

    pub(super) fn admits(&self, origin: &[u8]) -> bool {
        match self {
            AllowOrigin::Any => true,
            AllowOrigin::Listed(origins) => std::str::from_utf8(origin)
                .is_ok_and(|origin| origins.iter().any(|allowed| allowed.admits(origin))),
        }
    }
}

/// An allowed origin (RFC 6454 §6): scheme, host and port, such as `https://example.com`, or
/// `https://*.example.com` for all subdomains. Clients without a host send texts such as `null` or
/// `file://`, which are compared literally.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Origin(OriginKind);

#[derive(Clone, Debug, Eq, PartialEq)]
enum OriginKind {
    /// Compared byte by byte.
    Literal(String),
    /// Scheme, hosts and port; `None` is the default port of the scheme.
    Tuple(String, Hosts, Option<u16>),
}

/// The text is not a valid origin.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct InvalidOrigin(String);

impl fmt::Display for InvalidOrigin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let advice = match &*self.0 {
            "*" => "leave it out to allow any",
            text if text.contains('*') => {
                "a star must be the whole first label of the host; use https://*.example.com for all subdomains"
            }
            _ => "use https://example.com, http://localhost:3000, file:// or null",
        };
        write!(
            formatter,
            "invalid origin '{}': {advice}",
            self.0.escape_debug()
        )
    }
}

impl std::error::Error for InvalidOrigin {}

impl FromStr for Origin {
    type Err = InvalidOrigin;

    fn from_str(text: &str) -> Result<Origin, InvalidOrigin> {
        let tuple = parts(text).and_then(|(scheme, host, port)| {
            let hosts = Hosts::parse(host)?;
            Some(OriginKind::Tuple(scheme.into(), hosts, port))
        });
        // With other schemes the host may be empty or a dot, as in `file://` and `app://.`.
        let is_visible = |byte: u8| byte.is_ascii_graphic() && !b"*,".contains(&byte);
        let is_literal = text == "null"
            || split(text).is_some_and(|(scheme, rest)| {
                default_port(scheme).is_none() && rest.bytes().all(is_visible)
            });
        let literal = || is_literal.then(|| OriginKind::Literal(text.into()));
        tuple
            .or_else(literal)
            .map(Origin)
            .ok_or_else(|| InvalidOrigin(text.into()))
    }
}

impl Origin {
    fn admits(&self, origin: &str) -> bool {
        match &self.0 {
            OriginKind::Literal(text) => text == origin,
            OriginKind::Tuple(scheme, hosts, port) => {
                parts(origin).is_some_and(|(sent_scheme, host, sent_port)| {
                    let is_same = sent_scheme.eq_ignore_ascii_case(scheme) && sent_port == *port;
                    is_same && hosts.admit(host)
                })
            }
        }
    }
}

/// Splits `text` into the scheme and the part after `://`.
fn split(text: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = text.split_once("://")?;
    let is_scheme = scheme.starts_with(|first: char| first.is_ascii_alphabetic())
        && scheme
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
    is_scheme.then_some((scheme, rest))
}

/// The scheme, host and port of an origin; the port is `None` if it is the default of the scheme.
fn parts(text: &str) -> Option<(&str, &str, Option<u16>)> {
    let (scheme, rest) = split(text)?;
    let Authority { host, port } = Authority::parse(rest)?;
    let port = port.filter(|port| Some(*port) != default_port(scheme));
    Some((scheme, host, port))
}

fn default_port(scheme: &str) -> Option<u16> {
    match scheme.to_ascii_lowercase().as_str() {
        "http" | "ws" => Some(80),
        "https" | "wss" => Some(443),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
            ("https://*.good.example", "https://a.good.example", true),
            (
                "https://*.good.example",
                "https://B.a.Good.Example:443",
                true,
            ),
            (
                "https://*.good.example:8443",
                "https://a.good.example:8443",
                true,
            ),
            (
                "https://*.good.example:8443",
                "https://a.good.example",
                false,
            ),
            ("https://*.good.example", "https://good.example", false),
            ("https://*.good.example", "https://.good.example", false),
            ("https://*.good.example", "https://evilgood.example", false),
            ("https://*.good.example", "http://a.good.example", false),
            (
                "https://*.good.example",
                "https://a.good.example:8443",
                false,
            ),
            (
                "https://*.good.example",
                "https://a.good.example.evil.test",
                false,
            ),
            (
                "https://*.good.example",
                "https://evil.test/.good.example",
                false,
            ),
            (
                "https://*.good.example",
                "https://evil.test:1.good.example",
                false,
            ),
            ("file://", "file://", true),
            ("file://", "file:///", false),
            ("file://", "https://", false),
            ("app://.", "app://.", true),
            ("app://.", "app://..", false),
            ("app://obsidian.md", "app://obsidian.md", true),
            ("capacitor://localhost", "capacitor://localhost", true),
            (
                "chrome-extension://abcdefghijklmnop",
                "chrome-extension://abcdefghijklmnop",
                true,
            ),
            ("moz-extension://0d8f-4e", "moz-extension://0d8f-4f", false),
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
    }

    #[test]
    fn an_invalid_origin_is_refused_with_a_hint() {
        for (text, advice) in [
            ("*", "leave it out to allow any"),
            ("https://*", "use https://*.example.com"),
            ("*.a.example", "use https://*.example.com"),
            ("https://a.*.example", "use https://*.example.com"),
            ("https://*a.example", "use https://*.example.com"),
            ("https://*.*.example", "use https://*.example.com"),
            ("*://a.example", "use https://*.example.com"),
            ("http*://a.example", "use https://*.example.com"),
            ("https://a.example:*", "use https://*.example.com"),
            ("https://*.127.0.0.1", "use https://*.example.com"),
            ("app://*", "use https://*.example.com"),
            ("good.example", "use https://example.com"),
            ("localhost:3000", "use https://example.com"),
            ("https://", "use https://example.com"),
            ("https://good.example/", "use https://example.com"),
            ("://x", "use https://example.com"),
            ("1x://y", "use https://example.com"),
            ("a/b", "use https://example.com"),
            ("", "use https://example.com"),
        ] {
            let error = text.parse::<Origin>().unwrap_err().to_string();
            assert!(
                error.starts_with(&format!("invalid origin '{text}': ")),
                "{error}"
            );
            assert!(error.contains(advice), "{error}");
        }
    }

    /// Electron, Cordova and ESP8266 libraries, Capacitor, Ionic, Tauri, Obsidian, browser
    /// extensions, sandboxed frames: each is admitted only by listing the origin that it sends.
    #[test]
    fn origins_that_real_clients_send_can_be_listed_literally() {
        const SENT: [&str; 12] = [
            "null",
            "file://",
            "app://.",
            "app://obsidian.md",
            "capacitor://localhost",
            "ionic://localhost",
            "tauri://localhost",
            "http://tauri.localhost",
            "chrome-extension://cjpalhdlnbpafiamejdnhcphjbkeiagm",
            "moz-extension://cd9ecb34-fdb0-4d4e-bd8e-1e5ef17a2b9c",
            "vscode-webview://0k4r8qk9v8s0t0d5h4i3",
            "ms-appx-web://5f9c2b1e.app",
        ];
        for listed in SENT {
            let allowed = AllowOrigin::Listed(vec![listed.parse().unwrap()]);
            for sent in SENT {
                let is_admitted = allowed.admits(sent.as_bytes());
                assert_eq!(is_admitted, sent == listed, "{listed} listed, {sent} sent");
            }
        }
    }
}
