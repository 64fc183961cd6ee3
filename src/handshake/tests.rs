//! The rows of the request table (RFC 6455 §4.2.1 and related rules). A case is the request of RFC
//! 6455 §1.3 with changes: `Name: value` replaces a header, `+Name: value` adds a line, `-Name`
//! removes the header. The router's tests have the rows about paths, such as row 32.

use http::request::Parts;
use http::{HeaderName, HeaderValue, Request, Version, header};

use super::HandshakeError as Error;
use super::{AllowOrigin, Policy, Subprotocols, accept, check_host, check_page, wants_upgrade};
use crate::protocol::Deflate;

const OPENING: [&str; 5] = [
    "+Host: server.example.com",
    "+Upgrade: websocket",
    "+Connection: Upgrade",
    "+Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    "+Sec-WebSocket-Version: 13",
];

fn request(line: &str, changes: &[&str]) -> Parts {
    let mut words = line.split(' ');
    let mut request = Request::builder()
        .method(words.next().unwrap())
        .uri(words.next().unwrap())
        .version(match words.next() {
            Some("HTTP/1.0") => Version::HTTP_10,
            _ => Version::HTTP_11,
        })
        .body(())
        .unwrap();
    let headers = request.headers_mut();
    for change in OPENING.iter().chain(changes) {
        let (name, value) = change.split_once(':').unwrap_or((change, ""));
        let field: HeaderName = name.trim_start_matches(['+', '-']).parse().unwrap();
        // hyper strips the white space around a value. Here it stays, which is the stricter test.
        let value = || HeaderValue::from_bytes(value.as_bytes()).unwrap();
        match name.as_bytes()[0] {
            b'-' => drop(headers.remove(field)),
            b'+' => drop(headers.append(field, value())),
            _ => drop(headers.insert(field, value())),
        }
    }
    request.into_parts().0
}

fn policy(origins: &[&str], hosts: &[&str]) -> Policy {
    let parsed = |origins: &[&str]| origins.iter().map(|text| text.parse().unwrap()).collect();
    Policy {
        allowed_origins: match origins {
            [] => AllowOrigin::Any,
            origins => AllowOrigin::Listed(parsed(origins)),
        },
        require_origin: false,
        allowed_hosts: hosts.iter().map(|text| text.parse().unwrap()).collect(),
        token: None,
        ..Policy::default()
    }
}

fn answer(
    line: &str,
    changes: &[&str],
    policy: &Policy,
    subprotocols: &Subprotocols,
) -> Result<Option<String>, Error> {
    let request = request(line, changes);
    check_host(&request, policy)?;
    let accepted = accept(&request, policy, subprotocols, None)?;
    Ok(accepted.subprotocol().map(str::to_owned))
}

/// Checks rows of `GET /ws` that need neither a policy nor a subprotocol.
fn check(rows: &[(&str, &[&str], Result<(), Error>)]) {
    for (row, changes, expected) in rows {
        let answer = answer("GET /ws", changes, &Policy::default(), &Subprotocols::None);
        assert_eq!(answer, expected.map(|()| None), "{row}: {changes:?}");
    }
}

#[test]
fn row_1_the_request_of_the_rfc_gets_exactly_these_headers() {
    let request = request(
        "GET /ws",
        &[
            "Sec-WebSocket-Protocol: chat",
            "Sec-WebSocket-Extensions: foo",
        ],
    );
    for (subprotocols, chosen) in [
        (Subprotocols::None, None),
        (Subprotocols::FirstOffered, Some("chat")),
    ] {
        let accepted = accept(&request, &Policy::default(), &subprotocols, None).unwrap();
        let response = accepted.response();
        assert_eq!(response.status(), 101);
        let mut sent: Vec<_> = response
            .headers()
            .iter()
            .map(|(name, value)| (name.as_str(), value.to_str().unwrap()))
            .collect();
        let mut expected = vec![
            ("upgrade", "websocket"),
            ("connection", "Upgrade"),
            ("sec-websocket-accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
        ];
        expected.extend(chosen.map(|chosen| ("sec-websocket-protocol", chosen)));
        sent.sort_unstable();
        expected.sort_unstable();
        assert_eq!(sent, expected);
    }
}

#[rustfmt::skip] // one row, one line
#[test]
fn rows_8_to_22_upgrade_and_connection() {
    check(&[
        ("8", &["-Upgrade", "+UPGRADE: websocket"], Ok(())),
        ("9", &["Upgrade: WebSocket", "Connection: UPGRADE"], Ok(())),
        ("10", &["Upgrade: \t websocket \t", "Connection:\tupgrade "], Ok(())),
        ("11", &["Connection: keep-alive, Upgrade"], Ok(())),
        ("12", &["Connection: keep-alive", "+Connection: Upgrade"], Ok(())),
        ("13", &["Connection: close, Upgrade"], Ok(())),
        ("14", &["Connection: , ,Upgrade,"], Ok(())),
        ("15", &["Connection: Upgraded"], Err(Error::Connection)),
        ("15", &["Connection: xUpgrade"], Err(Error::Connection)),
        ("15", &["Connection: up grade"], Err(Error::Connection)),
        ("16", &["Connection: close"], Err(Error::Connection)),
        ("16", &["Connection: keep-alive"], Err(Error::Connection)),
        ("16", &["-Connection"], Err(Error::Connection)),
        ("17", &["-Upgrade", "-Connection"], Err(Error::Upgrade)),
        ("18", &["Upgrade:"], Err(Error::Upgrade)),
        ("19", &["Upgrade: h2c"], Err(Error::Upgrade)),
        ("20", &["Upgrade: websocket, h2c"], Ok(())),
        ("20", &["Upgrade: h2c, websocket"], Ok(())),
        ("20", &["Upgrade: h2c", "+Upgrade: websocket"], Ok(())),
        ("21", &["Upgrade: websocket/13"], Err(Error::Upgrade)),
        ("21", &["Upgrade: websockets"], Err(Error::Upgrade)),
        ("21", &["Upgrade: web socket"], Err(Error::Upgrade)),
    ]);
}

#[rustfmt::skip] // one row, one line
#[test]
fn rows_22_to_37_and_46_request_line_and_host() {
    let any = Policy::default();
    let ours = policy(&[], &["Good.example", "other.example:8000", "[::1]"]);
    type Row<'a> = (&'a str, &'a str, &'a [&'a str], &'a Policy, Result<(), Error>);
    let cases: &[Row<'_>] = &[
        ("22", "GET /ws HTTP/1.0", &[], &any, Err(Error::Upgrade)),
        ("23", "GET /ws HTTP/1.0", &["-Host"], &any, Err(Error::Upgrade)),
        ("27", "POST /ws", &[], &any, Err(Error::MethodNotAllowed)),
        ("27", "PUT /ws", &[], &any, Err(Error::MethodNotAllowed)),
        ("27", "PATCH /ws", &[], &any, Err(Error::MethodNotAllowed)),
        ("27", "DELETE /ws", &[], &any, Err(Error::MethodNotAllowed)),
        ("27", "OPTIONS /ws", &[], &any, Err(Error::MethodNotAllowed)),
        ("27", "OPTIONS *", &[], &any, Err(Error::MethodNotAllowed)),
        ("27", "TRACE /ws", &[], &any, Err(Error::MethodNotAllowed)),
        ("27", "HEAD /ws", &[], &any, Err(Error::MethodNotAllowed)),
        ("28", "get /ws", &[], &any, Err(Error::MethodNotAllowed)),
        ("28", "Get /ws", &[], &any, Err(Error::MethodNotAllowed)),
        ("29", "FOO /ws", &[], &any, Err(Error::MethodNotAllowed)),
        ("31", "CONNECT x:80", &[], &any, Err(Error::MethodNotAllowed)),
        ("31", "CONNECT x:80", &["-Host"], &any, Err(Error::Host)),
        ("31", "CONNECT x:80", &[], &ours, Err(Error::MisdirectedRequest)),
        ("34", "GET /ws?x=1&y", &[], &any, Ok(())),
        ("34", "GET /ws?", &[], &any, Ok(())),
        ("35", "GET http://other/ws", &[], &any, Ok(())),
        ("35", "GET http://good.example/ws", &["Host: evil"], &ours, Ok(())),
        ("35", "GET http://evil/ws", &["Host: good.example"], &ours, Err(Error::MisdirectedRequest)),
        ("35", "GET http://other/ws", &["-Host"], &any, Err(Error::Host)),
        ("35", "GET http://other/ws", &["Host: a b"], &any, Err(Error::Host)),
        ("35", "GET http://user@other/ws", &[], &any, Err(Error::TargetForm)),
        ("35", "GET http://other:99999/ws", &[], &any, Err(Error::TargetForm)),
        ("36", "GET x:80", &[], &any, Err(Error::TargetForm)),
        ("36", "GET *", &[], &any, Err(Error::TargetForm)),
        ("37", "GET /ws#f", &[], &any, Ok(())),
        ("46", "GET /ws", &["Host: good.example"], &ours, Ok(())),
        ("46", "GET /ws", &["Host: GOOD.example:1234"], &ours, Ok(())),
        ("46", "GET /ws", &["Host: other.example:8000"], &ours, Ok(())),
        ("46", "GET /ws", &["Host: [::1]:8000"], &ours, Ok(())),
        ("46", "GET /ws", &["Host: other.example"], &ours, Err(Error::MisdirectedRequest)),
        ("46", "GET /ws", &["Host: other.example:8001"], &ours, Err(Error::MisdirectedRequest)),
        ("46", "GET /ws", &["Host: evil.example"], &ours, Err(Error::MisdirectedRequest)),
        ("46", "GET /ws", &["Host: good.example.evil"], &ours, Err(Error::MisdirectedRequest)),
        ("46", "POST /ws", &["Host: evil.example"], &ours, Err(Error::MisdirectedRequest)),
    ];
    for (row, line, changes, policy, expected) in cases {
        let answer = answer(line, changes, policy, &Subprotocols::None);
        assert_eq!(answer, expected.map(|()| None), "{row}: {line} {changes:?}");
    }
}

#[rustfmt::skip] // one row, one line
#[test]
fn rows_42_to_57_host_and_body() {
    check(&[
        ("42", &["-Host"], Err(Error::Host)),
        ("43", &["+Host: server.example.com"], Err(Error::Host)),
        ("43", &["+Host: other"], Err(Error::Host)),
        ("44", &["Host:"], Err(Error::Host)),
        ("45", &["Host: a b/c"], Err(Error::Host)),
        ("45", &["Host: a,b"], Err(Error::Host)),
        ("45", &["Host: [::1"], Err(Error::Host)),
        ("45", &["Host: a:99999"], Err(Error::Host)),
        ("45", &["Host: \u{e9}"], Err(Error::Host)),
        ("47", &["+Content-Length:0"], Ok(())),
        ("48", &["+Content-Length:5"], Err(Error::Body)),
        ("50", &["+Transfer-Encoding: chunked"], Err(Error::Body)),
        ("51", &["+Transfer-Encoding: chunked", "+Content-Length:0"], Err(Error::Body)),
        ("52", &["+Content-Length:0", "+Content-Length:0"], Ok(())),
        ("52", &["+Content-Length:0", "+Content-Length:1"], Err(Error::Body)),
        ("52", &["+Content-Length:+5"], Err(Error::Body)),
        ("52", &["+Content-Length:0, 0"], Err(Error::Body)),
        ("52", &["+Content-Length:00"], Err(Error::Body)),
        ("52", &["+Content-Length:-1"], Err(Error::Body)),
        ("52", &["+Content-Length:0x5"], Err(Error::Body)),
        ("52", &["+Content-Length:"], Err(Error::Body)),
        ("52", &["+Content-Length:18446744073709551616"], Err(Error::Body)),
        ("53", &["+Transfer-Encoding: gzip"], Err(Error::Body)),
        ("54", &["+Expect: 100-continue"], Ok(())),
        ("55", &["+Expect: foo"], Ok(())),
        ("85", &["+X-Name: \u{e9}"], Ok(())),
        ("86", &["-Sec-WebSocket-Key", "+Sec_WebSocket_Key: dGhlIHNhbXBsZSBub25jZQ=="], Err(Error::Key)),
        ("100", &["+Sec-WebSocket-Accept: x", "+Sec-WebSocket-Nonce: x"], Ok(())),
    ]);
}

#[rustfmt::skip] // one row, one line
#[test]
fn rows_56_to_65_version_and_key() {
    check(&[
        ("56", &["-Sec-WebSocket-Version"], Err(Error::Version)),
        ("58", &["Sec-WebSocket-Version: 13, 8"], Err(Error::Version)),
        ("59", &["+Sec-WebSocket-Version: 13"], Err(Error::RepeatedVersion)),
        ("59", &["+Sec-WebSocket-Version: 8"], Err(Error::RepeatedVersion)),
        ("60", &["-Sec-WebSocket-Key"], Err(Error::Key)),
        ("60", &["Sec-WebSocket-Key:"], Err(Error::Key)),
        ("61", &["Sec-WebSocket-Key: AQIDBAUGBwgJCgsMDQ4P"], Err(Error::Key)),
        ("62", &["Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ"], Err(Error::Key)),
        ("63", &["Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAB=="], Ok(())),
        ("64", &["+Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="], Err(Error::Key)),
    ]);
    for version in [
        "8", "12", "14", "0", "255", "013", "+13", "13.0", "1777", "",
    ] {
        let change = format!("Sec-WebSocket-Version: {version}");
        check(&[("57", &[&change], Err(Error::Version))]);
    }
    let request = request(
        "GET /ws",
        &["Sec-WebSocket-Key: \t dGhlIHNhbXBsZSBub25jZQ== \t"],
    );
    let accepted = accept(&request, &Policy::default(), &Subprotocols::None, None).unwrap();
    let response = accepted.response();
    let proof = &response.headers()[header::SEC_WEBSOCKET_ACCEPT];
    assert_eq!(proof, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", "65");
}

#[rustfmt::skip] // one row, one line
#[test]
fn rows_66_to_72_origin() {
    let any = Policy::default();
    let good = policy(&["https://good.example"], &[]);
    let null = policy(&["null"], &[]);
    let required = Policy {
        require_origin: true,
        ..Policy::default()
    };
    let long = format!("Origin: https://{}", "a".repeat(8_192));
    type Row<'a> = (&'a str, &'a [&'a str], &'a Policy, Result<(), Error>);
    let cases: &[Row<'_>] = &[
        ("66", &[], &good, Ok(())),
        ("66", &[], &required, Err(Error::Origin)),
        ("66", &["Origin: https://x"], &required, Ok(())),
        ("67", &["Origin: https://good.example"], &good, Ok(())),
        ("67", &["Origin: https://GOOD.example"], &good, Ok(())),
        ("68", &["Origin: https://good.example:8443"], &good, Err(Error::Origin)),
        ("68", &["Origin: http://good.example"], &good, Err(Error::Origin)),
        ("68", &["Origin: https://good.example.evil.test"], &good, Err(Error::Origin)),
        ("68", &["Origin: https://evilgood.example"], &good, Err(Error::Origin)),
        ("69", &["Origin: null"], &good, Err(Error::Origin)),
        ("69", &["Origin: null"], &null, Ok(())),
        ("69", &["Origin: null"], &any, Ok(())),
        ("70", &["Origin: https://127.0.0.1"], &good, Err(Error::Origin)),
        ("71", &["+Origin: https://good.example", "+Origin: https://good.example"], &good, Err(Error::RepeatedOrigin)),
        ("71", &["+Origin: https://a", "+Origin: https://b"], &any, Err(Error::RepeatedOrigin)),
        ("71", &["Origin: https://good.example, https://b"], &good, Err(Error::Origin)),
        ("72", &[&long], &good, Err(Error::Origin)),
        ("72", &["Origin: https://good.example\u{e9}"], &good, Err(Error::Origin)),
    ];
    for (row, changes, policy, expected) in cases {
        let answer = answer("GET /ws", changes, policy, &Subprotocols::None);
        assert_eq!(answer, expected.map(|()| None), "{row}: {changes:?}");
    }
}

#[rustfmt::skip] // one row, one line
#[test]
fn rows_73_to_81_subprotocols() {
    let chat = Subprotocols::Supported(vec!["b".into(), "chat".into()]);
    let first = Subprotocols::FirstOffered;
    let none = Subprotocols::None;
    let bad = Err(Error::Subprotocols);
    let many = (0..1_000)
        .map(|n| format!("protocol-{n}"))
        .collect::<Vec<_>>();
    let many = format!("Sec-WebSocket-Protocol: {}, chat", many.join(","));
    type Row<'a> = (
        &'a str,
        &'a [&'a str],
        &'a Subprotocols,
        Result<Option<&'a str>, Error>,
    );
    let cases: &[Row<'_>] = &[
        ("73", &["Sec-WebSocket-Protocol: chat"], &chat, Ok(Some("chat"))),
        ("73", &["Sec-WebSocket-Protocol: Chat"], &chat, Ok(None)),
        ("74", &["Sec-WebSocket-Protocol: a, chat, b"], &chat, Ok(Some("chat"))),
        ("74", &["Sec-WebSocket-Protocol: a", "+Sec-WebSocket-Protocol: b"], &chat, Ok(Some("b"))),
        ("75", &["Sec-WebSocket-Protocol: x, chat"], &first, Ok(Some("x"))),
        ("75", &[], &first, Ok(None)),
        ("75", &["Sec-WebSocket-Protocol: x, chat"], &none, Ok(None)),
        ("76", &["Sec-WebSocket-Protocol: x, y"], &chat, Ok(None)),
        ("77", &["Sec-WebSocket-Protocol:"], &none, bad),
        ("77", &["Sec-WebSocket-Protocol: ,"], &none, bad),
        ("77", &["Sec-WebSocket-Protocol:   "], &first, bad),
        ("78", &["Sec-WebSocket-Protocol: a,,b"], &first, Ok(Some("a"))),
        ("79", &["Sec-WebSocket-Protocol: a b"], &none, bad),
        ("79", &["Sec-WebSocket-Protocol: a/b"], &chat, bad),
        ("79", &["Sec-WebSocket-Protocol: \"a\""], &first, bad),
        ("79", &["Sec-WebSocket-Protocol: chat\u{85}X: 1"], &first, bad),
        ("80", &["Sec-WebSocket-Protocol: a, a"], &none, bad),
        ("80", &["Sec-WebSocket-Protocol: a", "+Sec-WebSocket-Protocol: a"], &none, bad),
        ("80", &["Sec-WebSocket-Protocol: a, A"], &first, Ok(Some("a"))),
        ("81", &[&many], &chat, Ok(Some("chat"))),
    ];
    for (row, changes, subprotocols, expected) in cases {
        let answer = answer("GET /ws", changes, &Policy::default(), subprotocols);
        let answer = answer
            .as_ref()
            .map(Option::as_deref)
            .map_err(|error| *error);
        assert_eq!(answer, *expected, "{row}: {changes:?}");
    }
}

#[rustfmt::skip] // one row, one line
#[test]
fn rows_e1_to_e7_extensions() {
    let many = vec!["foo; a=\"b\""; 1_000].join(",");
    let many = format!("Sec-WebSocket-Extensions: {many}");
    check(&[
        ("E1", &["Sec-WebSocket-Extensions: x-webkit-deflate-frame"], Ok(())),
        ("E2", &["Sec-WebSocket-Extensions: foo", "+Sec-WebSocket-Extensions: bar"], Ok(())),
        ("E3", &["Sec-WebSocket-Extensions: foo; bits=\"10\""], Ok(())),
        ("E4", &["Sec-WebSocket-Extensions:"], Err(Error::Extensions)),
        ("E5", &["Sec-WebSocket-Extensions: a;b=\""], Err(Error::Extensions)),
        ("E5", &["Sec-WebSocket-Extensions: foo", "+Sec-WebSocket-Extensions: a b"], Err(Error::Extensions)),
        ("E5", &["Sec-WebSocket-Extensions: \u{e9}"], Err(Error::Extensions)),
        ("E6", &["Sec-WebSocket-Extensions: PERMESSAGE-DEFLATE"], Ok(())),
        ("E7", &[&many], Ok(())),
    ]);
}

/// Each request has one fault for each remaining step. The first fault decides the answer.
#[test]
fn the_first_fault_decides() {
    let steps: [(&str, Error); 10] = [
        ("Host: a b", Error::Host),
        ("+Content-Length: 5", Error::Body),
        ("Upgrade: h2c", Error::Upgrade),
        ("Connection: close", Error::Connection),
        ("Sec-WebSocket-Version: 8", Error::Version),
        ("Sec-WebSocket-Key: x", Error::Key),
        ("Origin: https://evil", Error::Origin),
        ("Sec-WebSocket-Protocol: a b", Error::Subprotocols),
        ("Sec-WebSocket-Extensions: a b", Error::Extensions),
        ("X-Name: x", Error::NotFound), // not a fault: the end of the list
    ];
    let good = policy(&["https://good.example"], &[]);
    for first in 0..steps.len() {
        let (changes, errors): (Vec<_>, Vec<_>) = steps[first..].iter().copied().unzip();
        let expected = match errors[0] {
            Error::NotFound => Ok(None),
            error => Err(error),
        };
        assert_eq!(
            answer("GET /ws", &changes, &good, &Subprotocols::None),
            expected
        );
    }
    let changes = ["+Content-Length: 5"];
    let answer = answer("POST /ws", &changes, &good, &Subprotocols::None);
    assert_eq!(answer, Err(Error::MethodNotAllowed));
}

#[test]
fn a_faulty_handshake_still_wants_an_upgrade() {
    let plain: &[&str] = &[
        "-Upgrade",
        "-Connection",
        "-Sec-WebSocket-Key",
        "-Sec-WebSocket-Version",
    ];
    assert!(!wants_upgrade(&request("GET /ws", plain)), "17");
    for change in [
        "+Upgrade: WebSocket",
        "+Upgrade: h2c, websocket",
        "+Sec-WebSocket-Key: x",
        "+Sec-WebSocket-Version: 13",
        "+Sec-WebSocket-Protocol: chat",
        "+Sec-WebSocket-Extensions: foo",
    ] {
        let changes = [plain, &[change]].concat();
        assert!(wants_upgrade(&request("GET /ws", &changes)), "{change}");
    }
    for other in [
        "+Upgrade: h2c",
        "+Upgrade: websockets",
        "+Upgrade:",
        "+Upgrade: TLS/1.2",
    ] {
        let changes = [plain, &[other]].concat();
        assert!(!wants_upgrade(&request("GET /ws", &changes)), "{other}");
    }
}

/// Request line, headers, policy, outcome.
type Row<'a> = (&'a str, &'a [&'a str], &'a Policy, Result<(), Error>);

#[rustfmt::skip] // one row, one line
#[test]
fn a_request_for_a_page_needs_an_allowed_origin_and_the_token() {
    let good = policy(&["https://good.example"], &[]);
    let required = Policy { require_origin: true, ..Policy::default() };
    let secret = Policy { token: Some("s3cret".parse().unwrap()), ..Policy::default() };
    let rows: &[Row<'_>] = &[
        ("GET /", &["Origin: https://good.example"], &good, Ok(())),
        ("GET /", &["Origin: https://evil.example"], &good, Err(Error::Origin)),
        ("POST /", &["Origin: https://evil.example"], &good, Err(Error::Origin)),
        ("GET /", &["+Origin: https://a", "+Origin: https://b"], &good, Err(Error::RepeatedOrigin)),
        // Browsers send no Origin with a GET.
        ("GET /", &[], &required, Ok(())),
        ("POST /", &[], &required, Err(Error::Origin)),
        ("POST /", &["Origin: https://a"], &required, Ok(())),
        ("GET /", &[], &secret, Err(Error::Unauthorized)),
        ("POST /", &["Authorization:Bearer x"], &secret, Err(Error::Unauthorized)),
        ("POST /", &["Authorization:Bearer s3cret"], &secret, Ok(())),
        ("GET /?token=s3cret", &[], &secret, Ok(())),
        // A preflight: the browser sends no token yet.
        ("OPTIONS /", &["Origin: https://a", "+Access-Control-Request-Method: PUT"], &secret, Ok(())),
        ("OPTIONS /", &[], &secret, Err(Error::Unauthorized)),
        ("OPTIONS /", &["Origin: https://a"], &secret, Err(Error::Unauthorized)),
        ("PUT /", &["Origin: https://a", "+Access-Control-Request-Method: PUT"], &secret, Err(Error::Unauthorized)),
        ("OPTIONS /", &["Origin: https://evil.example"], &good, Err(Error::Origin)),
    ];
    for (line, changes, policy, expected) in rows {
        assert_eq!(check_page(&request(line, changes), policy), *expected, "{line} {changes:?}");
    }
}

#[test]
fn the_token_is_checked_last() {
    let secret = Policy {
        token: Some("s3cret".parse().unwrap()),
        ..Policy::default()
    };
    for (changes, expected) in [
        (&["X-Name: x"], Err(Error::Unauthorized)),
        (&["Authorization:Bearer x"], Err(Error::Unauthorized)),
        (&["Authorization:Bearer s3cret"], Ok(None)),
        (&["Sec-WebSocket-Key: x"], Err(Error::Key)),
    ] {
        let answer = answer("GET /ws", changes, &secret, &Subprotocols::None);
        assert_eq!(answer, expected, "{changes:?}");
    }
}

#[test]
fn the_agreed_parameters_are_in_the_response() {
    let offer = "Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=10";
    let parts = request("GET /ws", &[offer]);
    let accept = |deflate| accept(&parts, &Policy::default(), &Subprotocols::None, deflate);
    let deflate = Deflate::default();
    let accepted = accept(Some(&deflate)).unwrap();
    let parameters = accepted.deflate().expect("it was offered");
    assert_eq!(parameters.server_max_window_bits, 10);
    let response = accepted.response();
    let header = &response.headers()[header::SEC_WEBSOCKET_EXTENSIONS];
    let header = header.to_str().unwrap();
    assert!(header.contains("server_max_window_bits=10"), "{header}");
    assert_eq!(accept(None).unwrap().deflate(), None);
}
