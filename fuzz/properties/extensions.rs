//! Sec-WebSocket-Extensions: the grammar against a naive parser, answers within the client's
//! offers, and time linear in the length of the input.
//!
//! ```text
//! input = policy *( line %x0A )
//! ```

use frameloop::Deflate;
use frameloop::handshake::{Policy, Subprotocols, accept, extensions};
use frameloop::protocol::ContextTakeover;
use http::{HeaderMap, HeaderValue, header};

use super::headers::{assert_linear, is_token_character};

/// An extension and its parameters.
pub(crate) type Offer = (String, Vec<(String, Option<String>)>);

pub(crate) fn check(input: &[u8]) {
    let Some((policy, rest)) = input.split_first() else {
        return;
    };
    let lines: Vec<&[u8]> = rest.split(|byte| *byte == b'\n').take(8).collect();
    let Some(headers) = headers(&lines) else {
        return;
    };
    let lines: Vec<&[u8]> = lines.iter().map(|line| line.trim_ascii()).collect();
    let ours = extensions::offers(&headers).ok().map(|offers| {
        let offer = |offer: &extensions::Offer<'_>| {
            let parameters = offer
                .parameters
                .iter()
                .map(|(name, value)| (name.to_string(), value.as_ref().map(ToString::to_string)));
            (offer.name.to_owned(), parameters.collect())
        };
        offers.iter().map(offer).collect::<Vec<Offer>>()
    });
    let naive = naive_offers(&lines);
    assert_eq!(ours, naive);
    if let Some(offers) = naive {
        check_answer(*policy, &headers, &offers);
    }
    check_time(rest);
}

fn headers(lines: &[&[u8]]) -> Option<HeaderMap> {
    let mut headers = HeaderMap::new();
    for line in lines {
        let value = HeaderValue::from_bytes(line).ok()?;
        headers.append(header::SEC_WEBSOCKET_EXTENSIONS, value);
    }
    Some(headers)
}

/// All offers, parsed character by character; none if the syntax is invalid.
pub(crate) fn naive_offers(lines: &[&[u8]]) -> Option<Vec<Offer>> {
    let mut offers = Vec::new();
    for line in lines {
        let line = std::str::from_utf8(line).ok()?;
        for element in split_outside_quotes(line, ',')? {
            if element.is_empty() {
                continue;
            }
            let mut parts = split_outside_quotes(element, ';')?.into_iter();
            let name = parts.next().filter(|name| is_token(name))?;
            let parameters = parts.map(parameter).collect::<Option<Vec<_>>>()?;
            offers.push((name.to_owned(), parameters));
        }
    }
    (lines.is_empty() || !offers.is_empty()).then_some(offers)
}

fn parameter(text: &str) -> Option<(String, Option<String>)> {
    let (name, value) = match text.split_once('=') {
        Some((name, value)) => (trim(name), Some(trim(value))),
        None => (text, None),
    };
    let value = match value {
        Some(quoted) if quoted.starts_with('"') => {
            let mut characters = quoted[1..].chars();
            let mut text = String::new();
            loop {
                match characters.next()? {
                    '"' => break,
                    '\\' => text.push(characters.next()?),
                    character => text.push(character),
                }
            }
            characters.next().is_none().then_some(())?;
            Some(text)
        }
        value => value.map(str::to_owned),
    };
    let is_sound = is_token(name) && value.as_deref().is_none_or(is_token);
    is_sound.then(|| (name.to_owned(), value))
}

fn split_outside_quotes(text: &str, separator: char) -> Option<Vec<&str>> {
    let (mut pieces, mut begin) = (Vec::new(), 0);
    let (mut is_quoted, mut is_escaped) = (false, false);
    for (index, character) in text.char_indices() {
        match character {
            _ if is_escaped => is_escaped = false,
            '\\' if is_quoted => is_escaped = true,
            '"' => is_quoted = !is_quoted,
            _ if character == separator && !is_quoted => {
                pieces.push(trim(&text[begin..index]));
                begin = index + 1;
            }
            _ => {}
        }
    }
    pieces.push(trim(&text[begin..]));
    (!is_quoted).then_some(pieces)
}

fn trim(text: &str) -> &str {
    text.trim_matches([' ', '\t'])
}

fn is_token(text: &str) -> bool {
    !text.is_empty() && text.chars().all(is_token_character)
}

/// An answer is one of the client's offers, or a restriction of it (RFC 7692 §7.1).
fn check_answer(policy: u8, extensions: &HeaderMap, offers: &[Offer]) {
    let mut deflate = Deflate::default();
    deflate.context_takeover = match policy & 1 {
        0 => ContextTakeover::None,
        _ => ContextTakeover::Both,
    };
    deflate.window_bits = 9 + (policy >> 1) % 7;
    let mut request = http::Request::get("/ws")
        .header("host", "a")
        .header("upgrade", "websocket")
        .header("connection", "Upgrade")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
        .body(())
        .expect("a request");
    request.headers_mut().extend(extensions.clone());
    let (parts, ()) = request.into_parts();
    let answered = accept(
        &parts,
        &Policy::default(),
        &Subprotocols::None,
        Some(&deflate),
    )
    .expect("valid extensions are never refused")
    .response();
    let answers = answered.headers().get_all(header::SEC_WEBSOCKET_EXTENSIONS);
    let answers: Vec<&[u8]> = answers.iter().map(HeaderValue::as_bytes).collect();
    let first = offers.iter().find(|offer| is_acceptable(offer));
    match (&naive_offers(&answers).expect("a valid answer")[..], first) {
        ([], None) => {}
        ([(name, answer)], Some((_, offer))) => {
            assert_eq!(name, "permessage-deflate");
            assert_fits(answer, offer);
        }
        other => panic!("{other:?}"),
    }
}

fn is_acceptable((name, parameters): &Offer) -> bool {
    let is_bits =
        |value: &str| matches!(value, "8" | "9" | "10" | "11" | "12" | "13" | "14" | "15");
    let is_known = parameters
        .iter()
        .all(|(name, value)| match (name.as_str(), value.as_deref()) {
            ("server_no_context_takeover" | "client_no_context_takeover", None) => true,
            // zlib has no window of 256 bytes.
            ("server_max_window_bits", Some(bits)) => is_bits(bits) && bits != "8",
            ("client_max_window_bits", bits) => bits.is_none_or(is_bits),
            _ => false,
        });
    let is_repeated = parameters
        .iter()
        .enumerate()
        .any(|(index, (name, _))| parameters[..index].iter().any(|(other, _)| other == name));
    name == "permessage-deflate" && is_known && !is_repeated
}

fn assert_fits(answer: &[(String, Option<String>)], offer: &[(String, Option<String>)]) {
    let find = |parameters: &[(String, Option<String>)], name: &str| {
        let found = parameters.iter().find(|(found, _)| found == name);
        found.map(|(_, value)| {
            value
                .as_deref()
                .map_or(15, |bits| bits.parse::<u8>().expect("bits"))
        })
    };
    for name in ["server_no_context_takeover", "client_no_context_takeover"] {
        assert!(
            find(offer, name).is_none() || find(answer, name).is_some(),
            "{name}"
        );
    }
    if let Some(most) = find(offer, "server_max_window_bits") {
        assert!(find(answer, "server_max_window_bits").is_some_and(|bits| bits <= most));
    }
    if let Some(bits) = find(answer, "client_max_window_bits") {
        assert!(find(offer, "client_max_window_bits").is_some_and(|most| bits <= most));
    }
}

fn check_time(unit: &[u8]) {
    let repeated = |length: usize| {
        let bytes = unit
            .iter()
            .copied()
            .filter(|byte| *byte != b'\n')
            .chain([b',']);
        let bytes: Vec<u8> = bytes
            .collect::<Vec<_>>()
            .iter()
            .copied()
            .cycle()
            .take(length)
            .collect();
        headers(&[&bytes])
    };
    if let (Some(half), Some(whole)) = (repeated(8 << 10), repeated(16 << 10)) {
        let offers = |headers: &HeaderMap| drop(extensions::offers(headers));
        assert_linear(|| offers(&half), || offers(&whole));
    }
}
