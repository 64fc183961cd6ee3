//! Request heads made of fields, each most often a sound one, against a second, naive reading of
//! the rules for opening handshakes: the same status for every combination of faults.

use std::time::{Duration, Instant};

use arbitrary::{Arbitrary, Unstructured};
use frameloop::handshake::{self, Policy, Subprotocols};
use http::request::Parts;
use http::{HeaderName, HeaderValue, Method, Version};

use super::extensions::naive_offers;

#[derive(Arbitrary, Debug)]
struct Head<'a> {
    method: u8,
    target: u8,
    is_http_1_0: bool,
    /// Which of the six fields of a sound head are left out.
    left_out: u8,
    fields: Vec<(u8, Value<'a>)>,
}

#[derive(Arbitrary, Debug)]
enum Value<'a> {
    /// One that the tables of the tests know.
    Known(u8),
    Any(&'a [u8]),
    /// The sound value, with something before or after it.
    Around(&'a [u8], &'a [u8]),
}

/// The fields that matter, each with a sound value.
const FIELDS: [(&str, &str); 13] = [
    ("host", "localhost:8000"),
    ("upgrade", "websocket"),
    ("connection", "Upgrade"),
    ("sec-websocket-version", "13"),
    ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ("origin", "http://localhost:8000"),
    ("sec-websocket-protocol", "chat, superchat"),
    (
        "sec-websocket-extensions",
        "permessage-deflate; client_max_window_bits",
    ),
    ("content-length", "0"),
    ("transfer-encoding", "chunked"),
    ("sec-websocket-accept", "x"),
    ("authorization", "Bearer x"),
    ("x-anything", "y"),
];

const KNOWN: [&str; 26] = [
    "",
    ",",
    "h2c",
    "h2c, websocket",
    "WebSocket",
    "keep-alive, Upgrade",
    "upgrade",
    "close",
    "8",
    "13, 8",
    "013",
    "AAAAAAAAAAAAAAAAAAAAAB==",
    "AQIDBAUGBwgJCgsMDQ4P",
    "dGhlIHNhbXBsZSBub25jZQ",
    "null",
    "a, a",
    "a,,b",
    "a b",
    "[::1]:80",
    "[::1",
    "a:99999",
    "a:",
    "user@a",
    "5",
    "0",
    "\ta ",
];

pub(crate) fn check(input: &[u8]) {
    let Ok(head) = Head::arbitrary_take_rest(Unstructured::new(input)) else {
        return;
    };
    let Some(parts) = head.parts() else {
        return;
    };
    let policy = Policy::default();
    let ours = handshake::check_host(&parts, &policy)
        .and_then(|()| handshake::accept(&parts, &policy, &Subprotocols::FirstOffered, None));
    let status = match &ours {
        Ok(accepted) => {
            let response = accepted.response();
            let subprotocol = naive_subprotocols(&parts).and_then(|offers| offers.first().cloned());
            assert_eq!(accepted.subprotocol().map(str::to_owned), subprotocol);
            response.status()
        }
        Err(error) => error.status(),
    };
    assert_eq!(status.as_u16(), naive_status(&parts), "{parts:?}");
    check_time(&head);
}

impl Head<'_> {
    fn parts(&self) -> Option<Parts> {
        const METHODS: [Method; 5] = [
            Method::GET,
            Method::POST,
            Method::HEAD,
            Method::OPTIONS,
            Method::CONNECT,
        ];
        const TARGETS: [&str; 6] = [
            "/ws",
            "/ws?x=1",
            "http://other/ws",
            "x:80",
            "*",
            "http://u@other/ws",
        ];
        let pick = |octet: u8, sound: u8, length: usize| match octet < sound {
            true => 0,
            false => usize::from(octet) % length,
        };
        let mut request = http::Request::builder()
            .method(&METHODS[pick(self.method, 200, METHODS.len())])
            .uri(TARGETS[pick(self.target, 200, TARGETS.len())])
            .version(match self.is_http_1_0 && self.method % 8 == 1 {
                true => Version::HTTP_10,
                false => Version::HTTP_11,
            });
        for (index, (name, value)) in FIELDS[..5].iter().enumerate() {
            if self.left_out & (1 << index) == 0 {
                request = request.header(*name, *value);
            }
        }
        for (name, value) in self.fields.iter().take(8) {
            let (name, sound) = FIELDS[usize::from(*name) % FIELDS.len()];
            let value = value.octets(sound);
            request = request.header(
                HeaderName::from_static(name),
                HeaderValue::from_bytes(&value).ok()?,
            );
        }
        Some(request.body(()).ok()?.into_parts().0)
    }
}

impl Value<'_> {
    fn octets(&self, sound: &str) -> Vec<u8> {
        match self {
            Value::Known(index) => KNOWN[usize::from(*index) % KNOWN.len()].into(),
            Value::Any(octets) => octets.to_vec(),
            Value::Around(before, after) => [before, sound.as_bytes(), after].concat(),
        }
    }
}

/// The status that a request gets whose path is an endpoint that takes any subprotocol.
pub(crate) fn naive_status(head: &Parts) -> u16 {
    let values = |name: &str| -> Vec<&[u8]> {
        let values = head.headers.get_all(name).iter();
        values.map(|value| value.as_bytes().trim_ascii()).collect()
    };
    let has_token = |name: &str, token: &str| {
        let lines = values(name);
        let mut elements = lines
            .iter()
            .flat_map(|line| line.split(|octet| *octet == b','));
        elements.any(|element| element.trim_ascii().eq_ignore_ascii_case(token.as_bytes()))
    };
    let is_1_0 = head.version == Version::HTTP_10;
    match values("host")[..] {
        [host] if is_authority(host) => {}
        [] if is_1_0 => {}
        _ => return 400,
    }
    let target = head.uri.to_string();
    let authority = target
        .strip_prefix("http://")
        .and_then(|rest| rest.split('/').next());
    let is_sound_target = match (authority, head.method.as_str()) {
        (Some(authority), "CONNECT") | (Some(authority), _) => {
            head.method != Method::CONNECT && is_authority(authority.as_bytes())
                || head.method == Method::CONNECT && is_authority(authority.as_bytes())
        }
        (None, "CONNECT") => !target.starts_with('/') && target != "*",
        (None, "OPTIONS") => target.starts_with('/') || target == "*",
        (None, _) => target.starts_with('/'),
    };
    if !is_sound_target {
        return 400;
    }
    if head.method != Method::GET {
        return 405;
    }
    let lengths = values("content-length");
    if !values("transfer-encoding").is_empty() || lengths.iter().any(|length| *length != b"0") {
        return 400;
    }
    if is_1_0 || !has_token("upgrade", "websocket") {
        return 426;
    }
    if !has_token("connection", "upgrade") {
        return 400;
    }
    match values("sec-websocket-version")[..] {
        [b"13"] => {}
        [] | [_] => return 426,
        _ => return 400,
    }
    match values("sec-websocket-key")[..] {
        [key] if is_key(key) => {}
        _ => return 400,
    }
    if values("origin").len() > 1 || naive_subprotocols(head).is_none() {
        return 400;
    }
    let extensions: Vec<&[u8]> = values("sec-websocket-extensions");
    if naive_offers(&extensions).is_none() {
        return 400;
    }
    101
}

/// The subprotocols offered; none if the field is malformed.
fn naive_subprotocols(head: &Parts) -> Option<Vec<String>> {
    let mut offered = Vec::new();
    let lines: Vec<_> = head
        .headers
        .get_all("sec-websocket-protocol")
        .iter()
        .collect();
    for line in &lines {
        for element in line.as_bytes().split(|octet| *octet == b',') {
            let element = element.trim_ascii();
            if element.is_empty() {
                continue;
            }
            let token = String::from_utf8(element.to_vec()).ok()?;
            if !token.chars().all(is_token_character) || offered.contains(&token) {
                return None;
            }
            offered.push(token);
        }
    }
    (lines.is_empty() || !offered.is_empty()).then_some(offered)
}

pub(crate) fn is_token_character(character: char) -> bool {
    character.is_ascii_graphic() && !"\"(),/:;<=>?@[\\]{}".contains(character)
}

fn is_authority(text: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(text) else {
        return false;
    };
    let (host, port) = match text.rfind(':') {
        Some(colon) if !text[colon..].contains(']') => (&text[..colon], &text[colon + 1..]),
        _ => (text, ""),
    };
    let is_port = port.is_empty()
        || port.chars().all(|digit| digit.is_ascii_digit()) && port.parse::<u16>().is_ok();
    let is_name = |name: &str| {
        let is_allowed = |c: char| c.is_ascii_alphanumeric() || "-._~%!$&'()*+;=".contains(c);
        !name.is_empty() && name.chars().all(is_allowed)
    };
    let is_literal = host.starts_with('[')
        && host.ends_with(']')
        && host[1..host.len() - 1]
            .parse::<std::net::Ipv6Addr>()
            .is_ok();
    is_port && (is_literal || is_name(host))
}

/// Base64 of 16 octets, of which a decoder may or may not look at the last four bits.
fn is_key(key: &[u8]) -> bool {
    let is_base64 = |octet: &u8| octet.is_ascii_alphanumeric() || matches!(octet, b'+' | b'/');
    key.len() == 24 && key[..22].iter().all(is_base64) && &key[22..] == b"=="
}

/// Twice the octets take twice the time: 16 KiB of the head's values against 8 KiB.
fn check_time(head: &Head<'_>) {
    for (name, value) in head.fields.iter().take(1) {
        let (name, sound) = FIELDS[usize::from(*name) % FIELDS.len()];
        let value = value.octets(sound);
        let repeated = |length: usize| {
            let unit: Vec<u8> = value.iter().copied().chain([b',']).collect();
            let octets: Vec<u8> = unit.iter().copied().cycle().take(length).collect();
            let mut parts = head.parts()?;
            let name = HeaderName::from_static(name);
            parts
                .headers
                .insert(name, HeaderValue::from_bytes(&octets).ok()?);
            Some(parts)
        };
        let (Some(half), Some(whole)) = (repeated(8 << 10), repeated(16 << 10)) else {
            return;
        };
        let accept = |parts: &Parts| {
            let policy = Policy::default();
            let _ = handshake::check_host(parts, &policy);
            let _ = handshake::accept(parts, &policy, &Subprotocols::FirstOffered, None);
        };
        assert_linear(|| accept(&half), || accept(&whole));
    }
}

/// `whole` does twice what `half` does, in less than 2.5 times its time. What is done in no time
/// is not judged: a quadratic search of 16 KiB takes longer.
pub(crate) fn assert_linear(half: impl Fn(), whole: impl Fn()) {
    const NO_TIME: Duration = Duration::from_millis(50);
    let time = |work: &dyn Fn()| {
        let begin = Instant::now();
        work();
        begin.elapsed()
    };
    if time(&whole) < NO_TIME {
        return;
    }
    let best = |work: &dyn Fn()| (0..7).map(|_| time(work)).min().unwrap_or_default();
    let (half, whole) = (best(&half), best(&whole));
    assert!(
        whole < NO_TIME || whole < half * 5 / 2,
        "{half:?}, twice the octets {whole:?}"
    );
}
