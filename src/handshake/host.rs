//! The host of a request, and the hosts that the policy allows.

use core::net::{Ipv4Addr, Ipv6Addr};
use std::fmt;
use std::str::FromStr;

/// A host that a request may name: `example.com`, or `*.example.com` for all its subdomains. With a
/// port, only that port is allowed; without one, any port.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AllowedHost {
    hosts: Hosts,
    port: Option<u16>,
}

/// The text is not a valid host.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct InvalidHost(String);

impl fmt::Display for InvalidHost {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let advice = match self.0.strip_prefix('.') {
            _ if self.0 == "*" => "leave it out to allow any".into(),
            _ if self.0.contains('*') => {
                "a star must be the whole first label; use *.example.com for all subdomains".into()
            }
            Some(host) => {
                let host = host.escape_debug();
                format!("use {host} for this host and *.{host} for its subdomains")
            }
            None => "use example.com, *.example.com, example.com:8000 or [::1]:8000".to_owned(),
        };
        write!(
            formatter,
            "invalid host '{}': {advice}",
            self.0.escape_debug()
        )
    }
}

impl std::error::Error for InvalidHost {}

impl FromStr for AllowedHost {
    type Err = InvalidHost;

    fn from_str(text: &str) -> Result<AllowedHost, InvalidHost> {
        let parsed = Authority::parse(text).and_then(|Authority { host, port }| {
            let hosts = Hosts::parse(host)?;
            Some(AllowedHost { hosts, port })
        });
        parsed.ok_or_else(|| InvalidHost(text.into()))
    }
}

impl AllowedHost {
    pub(super) fn admits(&self, authority: &Authority<'_>) -> bool {
        let port_matches = match (self.port, authority.port) {
            (None, _) => true,
            // A client leaves out the default port of its scheme.
            (Some(allowed), None) => allowed == 80 || allowed == 443,
            (Some(allowed), Some(port)) => allowed == port,
        };
        port_matches && self.hosts.admit(authority.host)
    }
}

/// One host, or all subdomains of one: a star before the first dot.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Hosts(String);

impl Hosts {
    /// Accepts one star, in place of the first label. An address has no subdomains.
    pub(super) fn parse(host: &str) -> Option<Hosts> {
        let is_valid = match host.strip_prefix("*.") {
            Some(parent) => are_labels(parent) && parent.parse::<Ipv4Addr>().is_err(),
            None => !host.contains('*') && !host.starts_with('.'),
        };
        is_valid.then(|| Hosts(host.into()))
    }

    pub(super) fn admit(&self, host: &str) -> bool {
        let Some(below) = self.0.strip_prefix('*') else {
            return self.0.eq_ignore_ascii_case(host);
        };
        let length = host.len().saturating_sub(below.len());
        host.split_at_checked(length)
            .is_some_and(|(labels, end)| end.eq_ignore_ascii_case(below) && are_labels(labels))
    }
}

/// Whether `text` is a sequence of valid DNS labels.
fn are_labels(text: &str) -> bool {
    let is_in_label = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    text.split('.')
        .all(|label| !label.is_empty() && label.bytes().all(is_in_label))
}

/// A host with an optional port, as in the Host header (RFC 9110 §7.2).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Authority<'a> {
    pub(super) host: &'a str,
    pub(super) port: Option<u16>,
}

impl<'a> Authority<'a> {
    pub(super) fn parse(text: &'a str) -> Option<Authority<'a>> {
        let (host, port) = match text.rsplit_once(':') {
            // Not a colon inside the brackets of an IPv6 address.
            Some((host, port)) if !port.ends_with(']') => (host, port),
            _ => (text, ""),
        };
        let port = match port {
            "" => None,
            _ if port.starts_with('+') => return None,
            _ => Some(port.parse().ok()?),
        };
        is_host(host).then_some(Authority { host, port })
    }
}

/// Whether `host` is a name, an IPv4 address, or an IPv6 address in brackets (RFC 3986 §3.2.2). The
/// grammar allows a comma; this function does not, because a comma shows that two Host headers were
/// joined.
fn is_host(host: &str) -> bool {
    if let Some(literal) = host.strip_prefix('[') {
        return literal
            .strip_suffix(']')
            .is_some_and(|address| address.parse::<Ipv6Addr>().is_ok());
    }
    !host.is_empty()
        && host
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+;=".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_authority_is_a_host_with_an_optional_port() {
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
            let parsed = Authority::parse(text).map(|authority| (authority.host, authority.port));
            assert_eq!(parsed, expected, "{text}");
        }
    }

    #[test]
    fn an_allowed_host_without_a_port_admits_any_port() {
        for (allowed, authority, expected) in [
            ("a.example", "A.example", true),
            ("a.example", "a.example:8000", true),
            ("a.example", "b.example", false),
            ("a.example:80", "a.example", true),
            ("a.example:443", "a.example", true),
            ("a.example:8000", "a.example", false),
            ("a.example:8000", "a.example:8000", true),
            ("a.example:8000", "a.example:80", false),
            ("*.a.example", "b.a.example", true),
            ("*.A.example", "c.B.a.Example:8000", true),
            ("*.a.example:8000", "b.a.example:8000", true),
            ("*.a.example:8000", "b.a.example:80", false),
            ("*.a.example", "a.example", false),
            ("*.a.example", ".a.example", false),
            ("*.a.example", "b..a.example", false),
            ("*.a.example", "ba.example", false),
            ("*.a.example", "b.a.example.evil", false),
            ("*.a.example", "*.a.example", false),
            ("*.localhost", "x.localhost", true),
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
    fn an_invalid_host_is_refused_with_a_hint() {
        for (text, advice) in [
            ("*", "leave it out to allow any"),
            ("a.*.example", "use *.example.com"),
            ("*a.example", "use *.example.com"),
            ("*.*.example", "use *.example.com"),
            ("a.example:*", "use *.example.com"),
            ("*.127.0.0.1", "use *.example.com"),
            ("*.[::1]", "use *.example.com"),
            ("*.", "use *.example.com"),
            (".a.example", "use a.example for this host and *.a.example"),
            ("a/b", "use example.com"),
            ("https://a.example", "use example.com"),
            ("", "use example.com"),
        ] {
            let error = text.parse::<AllowedHost>().unwrap_err().to_string();
            assert!(
                error.starts_with(&format!("invalid host '{text}': ")),
                "{error}"
            );
            assert!(error.contains(advice), "{error}");
        }
    }
}
