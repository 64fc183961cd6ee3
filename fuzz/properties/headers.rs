//! Request heads made of headers, mostly valid ones, against a second, naive implementation of the
//! rules for opening handshakes and access: both give the same status for every combination of
//! faults.

use std::sync::LazyLock;
use std::time::{Duration, Instant};

use arbitrary::{Arbitrary, Unstructured};
use frameloop::Deflate;
use frameloop::handshake::{self, AllowOrigin, AllowedHost, HandshakeError, Origin, Policy};
use frameloop::handshake::{Subprotocols, Token};
use http::request::Parts;
use http::{HeaderName, HeaderValue, Method, Version};

use super::extensions::naive_offers;

#[derive(Arbitrary, Debug)]
struct Head<'a> {
    method: u8,
    target: u8,
    is_http_1_0: bool,
    /// Which of the five headers of a valid head are left out; the upper three bits choose the
    /// server's policy.
    left_out: u8,
    fields: Vec<(u8, Value<'a>)>,
}

#[derive(Arbitrary, Debug)]
enum Value<'a> {
    /// A value that the tables of the tests contain.
    Known(u8),
    Any(&'a [u8]),
    /// The valid value, with something before or after it.
    Around(&'a [u8], &'a [u8]),
}

/// The headers that matter, each with a valid value.
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
    ("authorization", "Bearer s3cret"),
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

/// The access policy in its simplest form.
#[derive(Default)]
pub(crate) struct NaivePolicy {
    /// `None` allows any origin.
    origins: Option<[&'static str; 3]>,
    require_origin: bool,
    /// `None` allows any host.
    hosts: Option<[&'static str; 3]>,
    token: Option<&'static str>,
}

/// A server's settings, and its subprotocols and extension.
struct Server {
    policy: Policy,
    naive: NaivePolicy,
    subprotocols: Subprotocols,
    deflate: Option<Deflate>,
}

static SERVERS: LazyLock<[Server; 8]> = LazyLock::new(|| {
    std::array::from_fn(|index| {
        let all = index == 7;
        let naive = NaivePolicy {
            origins: (all || index == 1).then_some([
                "http://localhost:8000",
                "null",
                "wss://a:443",
            ]),
            require_origin: all || index == 2,
            hosts: (all || index == 3).then_some(["LocalHost", "[::1]:80", "a:8000"]),
            token: (all || index == 4).then_some("s3cret"),
        };
        Server {
            policy: naive.policy(),
            naive,
            subprotocols: match index {
                5 => Subprotocols::None,
                6 | 7 => Subprotocols::Supported(vec!["superchat".into(), "5".into()]),
                _ => Subprotocols::FirstOffered,
            },
            deflate: (index >= 5).then(Deflate::default),
        }
    })
});

pub(crate) fn check(input: &[u8]) {
    let Ok(head) = Head::arbitrary_take_rest(Unstructured::new(input)) else {
        return;
    };
    let Some(parts) = head.parts() else {
        return;
    };
    let server = &SERVERS[usize::from(head.left_out >> 5)];
    let policy = &server.policy;
    let host = handshake::check_host(&parts, policy);
    let ours = host.and_then(|()| {
        handshake::accept(
            &parts,
            policy,
            &server.subprotocols,
            server.deflate.as_ref(),
        )
    });
    let status = match &ours {
        Ok(accepted) => {
            let response = accepted.response();
            assert_eq!(
                accepted.subprotocol(),
                server.naive_subprotocol(&parts).as_deref()
            );
            let extensions = response.headers().get("sec-websocket-extensions");
            assert_eq!(extensions.is_some(), accepted.deflate().is_some());
            response.status()
        }
        Err(error) => check_refusal(*error),
    };
    assert_eq!(
        status.as_u16(),
        naive_status(&parts, &server.naive),
        "{parts:?}"
    );
    if host.is_ok() {
        let page = handshake::check_page(&parts, policy);
        let status = page.map_or_else(|error| error.status().as_u16(), |()| 200);
        assert_eq!(
            status,
            naive_page_status(&parts, &server.naive),
            "{parts:?}"
        );
    }
    check_refusal(HandshakeError::ALL[usize::from(head.target) % HandshakeError::ALL.len()]);
    assert!(ours.is_err() || handshake::wants_upgrade(&parts));
    for (_, value) in head.fields.iter().take(8) {
        check_settings(&String::from_utf8_lossy(
            &value.bytes("http://localhost:8000"),
        ));
    }
    check_time(&head);
}

/// A refusal contains advice, closes the connection, and has the headers that its status requires.
fn check_refusal(error: HandshakeError) -> http::StatusCode {
    let response = error.response();
    let value = |name: &str| response.headers().get(name)?.to_str().ok();
    assert_eq!(*response.body(), error.to_string());
    assert_eq!(
        value("content-length"),
        Some(&*response.body().len().to_string())
    );
    assert!(value("connection").is_some_and(|value| value.ends_with("close")));
    let demanded = match response.status().as_u16() {
        401 => value("www-authenticate") == Some("Bearer"),
        405 => value("allow") == Some("GET"),
        426 => {
            value("upgrade") == Some("websocket") && value("sec-websocket-version") == Some("13")
        }
        _ => true,
    };
    assert!(demanded, "{response:?}");
    response.status()
}

/// A valid setting is accepted. An invalid one is quoted so that it cannot forge a log line.
fn check_settings(text: &str) {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-._~".contains(c);
    let says = |error: Option<String>| {
        let text = error.unwrap_or_default();
        assert!(!text.contains(char::is_control), "{text}");
        text.is_empty()
    };
    let token = text.parse::<Token>();
    assert_eq!(
        token.is_ok(),
        !text.is_empty() && text.chars().all(is_plain)
    );
    assert!(
        token
            .as_ref()
            .is_ok_and(|token| format!("{token:?}") == "Token")
            || token.is_err()
    );
    says(token.err().map(|error| error.to_string()));
    let host = text.parse::<AllowedHost>().err();
    assert_eq!(
        says(host.map(|error| error.to_string())),
        naive_authority(text).is_some_and(|(host, _)| is_allowable(&host))
    );
    let origin = text.parse::<Origin>().err();
    assert_eq!(
        says(origin.map(|error| error.to_string())),
        naive_origin(text).is_some_and(|(_, host, _)| is_allowable(&host)) || is_literal(text)
    );
}

/// Whether a host may be listed. A star is allowed only as the first label of a name.
fn is_allowable(host: &str) -> bool {
    let is_label = |label: &str| {
        let is_allowed = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
        !label.is_empty() && label.chars().all(is_allowed)
    };
    match host.split_once("*.") {
        Some(("", name)) => {
            name.split('.').all(is_label) && name.parse::<std::net::Ipv4Addr>().is_err()
        }
        _ => !host.contains('*') && !host.starts_with('.'),
    }
}

/// Whether this is an origin of another scheme than the web's, which is compared literally.
fn is_literal(text: &str) -> bool {
    let Some((scheme, rest)) = text.split_once("://") else {
        return false;
    };
    let is_web = ["http", "https", "ws", "wss"].contains(&&*scheme.to_ascii_lowercase());
    let is_scheme = naive_origin(&format!("{scheme}://a")).is_some();
    let is_plain = |c: char| c.is_ascii_graphic() && !"*,".contains(c);
    is_scheme && !is_web && rest.chars().all(is_plain)
}

impl NaivePolicy {
    fn policy(&self) -> Policy {
        let origin = |origin: &str| origin.parse::<Origin>().expect("an origin");
        let host = |host: &str| host.parse::<AllowedHost>().expect("a host");
        Policy {
            allowed_origins: match self.origins {
                None => AllowOrigin::Any,
                Some(origins) => AllowOrigin::Listed(origins.map(origin).into()),
            },
            require_origin: self.require_origin,
            allowed_hosts: self
                .hosts
                .map_or(Vec::new(), |hosts| hosts.map(host).into()),
            token: self.token.map(|token| token.parse().expect("a token")),
            ..Policy::default()
        }
    }

    fn admits_origin(&self, origin: &[u8]) -> bool {
        let Some(allowed) = self.origins else {
            return true;
        };
        let origin = std::str::from_utf8(origin).ok().and_then(naive_origin);
        origin.is_some_and(|origin| allowed.map(naive_origin).contains(&Some(origin)))
    }

    /// Whether requests for this host and port are allowed.
    fn admits_host(&self, asked: Option<(String, Option<u16>)>) -> bool {
        let Some(allowed) = self.hosts else {
            return true;
        };
        asked.is_some_and(|(host, port)| {
            allowed
                .into_iter()
                .filter_map(naive_authority)
                .any(|allowed| {
                    let ports = match (allowed.1, port) {
                        (None, _) => true,
                        (Some(80 | 443), None) => true,
                        (allowed, port) => allowed == port,
                    };
                    ports && allowed.0 == host
                })
        })
    }

    fn admits_token(&self, head: &Parts) -> bool {
        let Some(token) = self.token else {
            return true;
        };
        let bearer = head.headers.get("authorization").and_then(|value| {
            let (scheme, shown) = value.as_bytes().split_at_checked(7)?;
            scheme.eq_ignore_ascii_case(b"Bearer ").then_some(shown)
        });
        match bearer {
            Some(shown) => shown == token.as_bytes(),
            None => head
                .uri
                .query()
                .is_some_and(|query| query.ends_with("token=s3cret")),
        }
    }
}

impl Server {
    fn naive_subprotocol(&self, head: &Parts) -> Option<String> {
        let offers = naive_subprotocols(head).expect("the request was accepted");
        let mut offers = offers.into_iter();
        match &self.subprotocols {
            Subprotocols::None => None,
            Subprotocols::FirstOffered => offers.next(),
            Subprotocols::Supported(supported) => offers.find(|offer| supported.contains(offer)),
        }
    }
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
            "/ws?x=1&token=s3cret",
            "http://other/ws",
            "x:80",
            "*",
            "http://u@other/ws",
        ];
        let pick = |byte: u8, sound: u8, length: usize| match byte < sound {
            true => 0,
            false => usize::from(byte) % length,
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
            let value = value.bytes(sound);
            request = request.header(
                HeaderName::from_static(name),
                HeaderValue::from_bytes(&value).ok()?,
            );
        }
        Some(request.body(()).ok()?.into_parts().0)
    }
}

impl Value<'_> {
    fn bytes(&self, sound: &str) -> Vec<u8> {
        match self {
            Value::Known(index) => KNOWN[usize::from(*index) % KNOWN.len()].into(),
            Value::Any(bytes) => bytes.to_vec(),
            Value::Around(before, after) => [before, sound.as_bytes(), after].concat(),
        }
    }
}

/// The status of a request for an endpoint that accepts any subprotocol.
pub(crate) fn naive_status(head: &Parts, policy: &NaivePolicy) -> u16 {
    let values = |name: &str| -> Vec<&[u8]> {
        let values = head.headers.get_all(name).iter();
        values.map(|value| value.as_bytes().trim_ascii()).collect()
    };
    let has_token = |name: &str, token: &str| {
        let lines = values(name);
        let mut elements = lines
            .iter()
            .flat_map(|line| line.split(|byte| *byte == b','));
        elements.any(|element| element.trim_ascii().eq_ignore_ascii_case(token.as_bytes()))
    };
    let is_1_0 = head.version == Version::HTTP_10;
    let host = match values("host")[..] {
        [host] => match std::str::from_utf8(host).ok().and_then(naive_authority) {
            Some(host) => Some(host),
            None => return 400,
        },
        [] if is_1_0 => None,
        _ => return 400,
    };
    let target = head.uri.to_string();
    let authority = target
        .strip_prefix("http://")
        .and_then(|rest| rest.split('/').next());
    let is_sound_target = match (authority, head.method.as_str()) {
        (Some(authority), _) => naive_authority(authority).is_some(),
        (None, "CONNECT") => !target.starts_with('/') && target != "*",
        (None, "OPTIONS") => target.starts_with('/') || target == "*",
        (None, _) => target.starts_with('/'),
    };
    if !is_sound_target {
        return 400;
    }
    let asked = match authority {
        Some(authority) => naive_authority(authority),
        None if head.method == Method::CONNECT => naive_authority(&target),
        None => host,
    };
    if !policy.admits_host(asked) {
        return 421;
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
    match values("origin")[..] {
        [] if policy.require_origin => return 403,
        [origin] if !policy.admits_origin(origin) => return 403,
        [] | [_] => {}
        _ => return 400,
    }
    if naive_subprotocols(head).is_none() {
        return 400;
    }
    let extensions: Vec<&[u8]> = values("sec-websocket-extensions");
    if naive_offers(&extensions).is_none() {
        return 400;
    }
    match policy.admits_token(head) {
        true => 101,
        false => 401,
    }
}

/// The status of a request for a page on behalf of a client.
fn naive_page_status(head: &Parts, policy: &NaivePolicy) -> u16 {
    let is_preflight = head.method == Method::OPTIONS
        && head.headers.contains_key("origin")
        && head.headers.contains_key("access-control-request-method");
    let origins = head.headers.get_all("origin").iter();
    let origins: Vec<&[u8]> = origins
        .map(|origin| origin.as_bytes().trim_ascii())
        .collect();
    match origins[..] {
        [] if policy.require_origin && head.method != Method::GET => 403,
        [origin] if !policy.admits_origin(origin) => 403,
        [_, _, ..] => 400,
        _ if !is_preflight && !policy.admits_token(head) => 401,
        _ => 200,
    }
}

/// Scheme, host and port, without a default port; or three times `null`.
fn naive_origin(text: &str) -> Option<(String, String, Option<u16>)> {
    if text == "null" {
        return Some((text.into(), text.into(), None));
    }
    let (scheme, authority) = text.split_once("://")?;
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || "+-.".contains(c);
    if !scheme.starts_with(|c: char| c.is_ascii_alphabetic()) || !scheme.chars().all(is_allowed) {
        return None;
    }
    let scheme = scheme.to_ascii_lowercase();
    let (host, port) = naive_authority(authority)?;
    let own = match &*scheme {
        "ws" | "http" => 80,
        "wss" | "https" => 443,
        _ => return Some((scheme, host, port)),
    };
    Some((scheme, host, port.filter(|port| *port != own)))
}

/// The offered subprotocols; `None` if the header is malformed.
fn naive_subprotocols(head: &Parts) -> Option<Vec<String>> {
    let mut offered = Vec::new();
    let lines: Vec<_> = head
        .headers
        .get_all("sec-websocket-protocol")
        .iter()
        .collect();
    for line in &lines {
        for element in line.as_bytes().split(|byte| *byte == b',') {
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

/// A lower-case host, with or without a port.
fn naive_authority(text: &str) -> Option<(String, Option<u16>)> {
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
    let is_sound = is_port && (is_literal || is_name(host));
    is_sound.then(|| (host.to_ascii_lowercase(), port.parse().ok()))
}

/// Base64 of 16 bytes. A decoder may ignore the last four bits.
fn is_key(key: &[u8]) -> bool {
    let is_base64 = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    key.len() == 24 && key[..22].iter().all(is_base64) && &key[22..] == b"=="
}

/// Twice the bytes take twice the time: 16 KiB of the header's value against 8 KiB.
fn check_time(head: &Head<'_>) {
    for (name, value) in head.fields.iter().take(1) {
        let (name, sound) = FIELDS[usize::from(*name) % FIELDS.len()];
        let value = value.bytes(sound);
        let repeated = |length: usize| {
            let unit: Vec<u8> = value.iter().copied().chain([b',']).collect();
            let bytes: Vec<u8> = unit.iter().copied().cycle().take(length).collect();
            let mut parts = head.parts()?;
            let name = HeaderName::from_static(name);
            parts
                .headers
                .insert(name, HeaderValue::from_bytes(&bytes).ok()?);
            Some(parts)
        };
        let (Some(half), Some(whole)) = (repeated(8 << 10), repeated(16 << 10)) else {
            return;
        };
        let accept = |parts: &Parts| {
            let server = &SERVERS[usize::from(head.left_out >> 5)];
            let _ = handshake::check_host(parts, &server.policy);
            let (subprotocols, deflate) = (&server.subprotocols, server.deflate.as_ref());
            let _ = handshake::accept(parts, &server.policy, subprotocols, deflate);
        };
        assert_linear(|| accept(&half), || accept(&whole));
    }
}

/// Asserts that `whole`, which does twice the work of `half`, takes less than 2.5 times as long.
/// Short times are not judged: a quadratic search of 16 KiB takes longer.
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
        "{half:?}, twice the bytes {whole:?}"
    );
}
