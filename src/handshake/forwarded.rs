//! The client address behind a proxy: `X-Forwarded-For` and `Forwarded` (RFC 7239).

use std::net::{IpAddr, SocketAddr};

use http::{HeaderMap, HeaderName};
use ipnet::IpNet;

use super::headers::{elements, is_token};

/// Proxies whose forwarding header is trusted. Default: none.
///
/// Each proxy appends the address of its own peer to a list. So only the end of the list comes from
/// trusted proxies; a client may have invented the part before.
#[derive(Clone, Debug, Default)]
pub struct TrustedProxies {
    /// The networks from which trusted proxies connect.
    pub networks: Vec<IpNet>,
    /// Whether every peer on a Unix domain socket is a trusted proxy.
    pub unix: bool,
    /// The header that the proxies write. The other header is ignored: proxies pass it through
    /// unread.
    pub header: ForwardedHeader,
}

/// A header that contains the address of a proxy's client.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum ForwardedHeader {
    /// `X-Forwarded-For`: addresses, with or without a port.
    #[default]
    XForwardedFor,
    /// `Forwarded` (RFC 7239 §4); its parameter `for` is read.
    Forwarded,
}

impl TrustedProxies {
    /// Whether `address` belongs to a trusted proxy.
    pub fn contains(&self, address: IpAddr) -> bool {
        let mut networks = self.networks.iter();
        networks.any(|network| network.contains(&address.to_canonical()))
    }

    /// The client's address in a request from a trusted proxy: the last address in the list that
    /// does not belong to a trusted proxy. All lines of the header form one list. An element that
    /// is not an address ends the search, and the address after it counts. The port is 0 if the
    /// element has none.
    pub fn client(&self, headers: &HeaderMap) -> Option<SocketAddr> {
        const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
        let (name, parse) = match self.header {
            ForwardedHeader::XForwardedFor => (X_FORWARDED_FOR, address as Parse),
            ForwardedHeader::Forwarded => (http::header::FORWARDED, forwarded_for as Parse),
        };
        let mut client = None;
        for hop in elements(headers, &name).rev().map_while(parse) {
            client = Some(hop);
            if !self.contains(hop.ip()) {
                break;
            }
        }
        client
    }
}

type Parse = fn(&[u8]) -> Option<SocketAddr>;

/// `192.0.2.1`, `192.0.2.1:4711`, `2001:db8::1`, `[2001:db8::1]` or `[2001:db8::1]:4711`.
fn address(text: &[u8]) -> Option<SocketAddr> {
    let text = std::str::from_utf8(text).ok()?;
    let without_port = || match text.strip_prefix('[') {
        Some(rest) => rest.strip_suffix(']')?.parse().ok().map(IpAddr::V6),
        None => text.parse().ok(),
    };
    let with_port = text.parse().ok();
    with_port.or_else(|| Some(SocketAddr::new(without_port()?, 0)))
}

/// The address in an element of Forwarded, such as `for="[2001:db8::1]:4711";proto=https`. A comma
/// inside a quoted string has cut the element in two, and neither half is valid. So a client cannot
/// forge an element, for example with commas in its Host.
fn forwarded_for(element: &[u8]) -> Option<SocketAddr> {
    let mut client = None;
    for pair in element.split(|byte| *byte == b';') {
        let equals = pair.iter().position(|byte| *byte == b'=')?;
        let (name, value) = pair.split_at_checked(equals)?;
        let value = unquoted(value.get(1..)?)?;
        let name = name.trim_ascii();
        if !is_token(name) {
            return None;
        }
        if name.eq_ignore_ascii_case(b"for") && client.replace(value).is_some() {
            return None; // RFC 7239 §4: at most once
        }
    }
    // `for=unknown` and `for=_hidden` are not addresses.
    address(client?)
}

/// A token, or the text of a quoted string without escapes; `None` for anything else.
fn unquoted(value: &[u8]) -> Option<&[u8]> {
    let value = value.trim_ascii();
    match value.strip_prefix(b"\"") {
        None => is_token(value).then_some(value),
        Some(rest) => rest
            .strip_suffix(b"\"")
            .filter(|text| !text.iter().any(|byte| b"\"\\".contains(byte))),
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn client(header: ForwardedHeader, lines: &[&str]) -> Option<String> {
        let trusted = TrustedProxies {
            networks: ["10.0.0.0/8", "2001:db8:ffff::/48"]
                .map(|network| network.parse().unwrap())
                .into(),
            unix: false,
            header,
        };
        let name = match header {
            ForwardedHeader::XForwardedFor => "x-forwarded-for",
            ForwardedHeader::Forwarded => "forwarded",
        };
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(name, HeaderValue::from_str(line).unwrap());
        }
        trusted.client(&headers).map(|client| client.to_string())
    }

    #[test]
    fn the_last_hop_that_is_not_trusted_counts() {
        for (lines, expected) in [
            (&[][..], None),
            (&["192.0.2.1"][..], Some("192.0.2.1:0")),
            (&["192.0.2.1:4711"], Some("192.0.2.1:4711")),
            (&["2001:db8::1"], Some("[2001:db8::1]:0")),
            (&["[2001:db8::1]"], Some("[2001:db8::1]:0")),
            (&["[2001:db8::1]:4711"], Some("[2001:db8::1]:4711")),
            (&["198.51.100.1, 192.0.2.1"], Some("192.0.2.1:0")),
            (&["198.51.100.1, 192.0.2.1, 10.0.0.1"], Some("192.0.2.1:0")),
            (&["192.0.2.1", "10.0.0.1,10.0.0.2"], Some("192.0.2.1:0")),
            (&["192.0.2.1", "2001:db8:ffff::1"], Some("192.0.2.1:0")),
            (&["192.0.2.1, ::ffff:10.0.0.1"], Some("192.0.2.1:0")),
            (&["198.51.100.1", "192.0.2.1"], Some("192.0.2.1:0")),
            // All are proxies: the first address counts.
            (&["10.0.0.1, 10.0.0.2"], Some("10.0.0.1:0")),
            // Empty elements are ignored (RFC 9110 §5.6.1).
            (&["192.0.2.1, ,", ""], Some("192.0.2.1:0")),
            (&["192.0.2.1, unknown"], None),
            (&["192.0.2.1, unknown, 10.0.0.1"], Some("10.0.0.1:0")),
            (&["192.0.2.1, evil\"192.0.2.2"], None),
            (&["192.0.2.1 192.0.2.2"], None),
            (&["192.0.2.256"], None),
            (&["192.0.2.1:"], None),
            (&["192.0.2.1:99999"], None),
            (&["[192.0.2.1]"], None),
            (&["localhost"], None),
        ] {
            let found = client(ForwardedHeader::XForwardedFor, lines);
            assert_eq!(found.as_deref(), expected, "{lines:?}");
        }
    }

    #[test]
    fn an_element_of_forwarded_that_a_comma_has_cut_is_invalid() {
        for (lines, expected) in [
            (&["for=192.0.2.1"][..], Some("192.0.2.1:0")),
            (
                &["For=\"192.0.2.1:4711\";proto=https"][..],
                Some("192.0.2.1:4711"),
            ),
            (
                &["host=a ; for=\"[2001:db8::1]:4711\""],
                Some("[2001:db8::1]:4711"),
            ),
            (&["for=\"[2001:db8::1]\""], Some("[2001:db8::1]:0")),
            (
                &["for=192.0.2.1", "for=10.0.0.1;by=10.0.0.2"],
                Some("192.0.2.1:0"),
            ),
            (&["for=192.0.2.1, for=unknown"], None),
            (
                &["for=192.0.2.1, for=_hidden, for=10.0.0.1"],
                Some("10.0.0.1:0"),
            ),
            (&["for=192.0.2.1, proto=https"], None),
            (&["for=192.0.2.1;for=192.0.2.2"], None),
            (&["192.0.2.1"], None),
            // An unclosed quote of a client does not swallow the next element.
            (&["for=\"evil", "for=192.0.2.1"], Some("192.0.2.1:0")),
            // A proxy quotes text that came from a client.
            (&["for=10.0.0.1;host=\"a, for=192.0.2.1\""], None),
            (&["for=10.0.0.1;host=\"a, for=192.0.2.1, b\""], None),
            (&["for=10.0.0.1;host=\"a, for=192.0.2.1;x=\\\"\\\"\""], None),
            (&["for=10.0.0.1;host=\"a, for=192.0.2.1;x=\""], None),
        ] {
            let found = client(ForwardedHeader::Forwarded, lines);
            assert_eq!(found.as_deref(), expected, "{lines:?}");
        }
    }
}
