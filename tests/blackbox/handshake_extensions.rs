//! Sec-WebSocket-Extensions, RFC 6455 §9.1.

use frameloop::Settings;
use frameloop::handshake::HandshakeError::Extensions;

use crate::handshake::Expected::Refused;
use crate::handshake::{ACCEPTED, Head, check, numbered, row, valid};
use crate::server::TestServer;

/// Without compression the server declines every offered extension.
#[test]
fn well_formed_extension_offers_are_declined() {
    let server = TestServer::with(|server| {
        server.with_settings(Settings {
            deflate: None,
            ..Settings::default()
        })
    });
    check(
        &server,
        [
            row(
                "E1 unknown extensions",
                ACCEPTED,
                extensions(&["foo", "x-webkit-deflate-frame", "permessage-bzip2"]),
            ),
            row(
                "E2 more than one",
                ACCEPTED,
                extensions(&["foo, permessage-deflate", "foo,,\t,permessage-deflate ,"])
                    .into_iter()
                    .chain([valid()
                        .and("Sec-WebSocket-Extensions: foo")
                        .and("Sec-WebSocket-Extensions: permessage-deflate")]),
            ),
            row(
                "E3 parameters",
                ACCEPTED,
                extensions(&[
                    "permessage-deflate; server_max_window_bits=\"10\"",
                    "permessage-deflate ; client_max_window_bits ; x = 10",
                    "foo; a=\"\\1\\0\"",
                ]),
            ),
            row(
                "E4 no extension in it",
                Refused(400, Extensions),
                extensions(&["", ",", " , ,"]),
            ),
            row(
                "E5 malformed",
                Refused(400, Extensions),
                extensions(&[
                    ";",
                    "=a",
                    "a;",
                    "a;=b",
                    "a b",
                    "a;b=",
                    "a;b=\"",
                    "a;b=\"x y\"",
                    "a;b=\"\"",
                    "a;b=\"c\"d",
                    "a=b",
                    "\"a\"",
                    "foo, ;",
                    "\u{E9}",
                    &format!("a;b=\"{}", "\\c".repeat(7_000)),
                ])
                .into_iter()
                .chain([valid()
                    .and("Sec-WebSocket-Extensions: foo")
                    .and("Sec-WebSocket-Extensions: ;")]),
            ),
            row(
                "E6 names are compared exactly",
                ACCEPTED,
                extensions(&["PERMESSAGE-DEFLATE", "permessage-deflate2"]),
            ),
            row(
                "E7 1,000 offers",
                ACCEPTED,
                extensions(&[&numbered("offer-", 1_000)]),
            ),
        ],
    );
}

fn extensions(values: &[&str]) -> Vec<Head> {
    values
        .iter()
        .map(|value| valid().and(format!("Sec-WebSocket-Extensions: {value}")))
        .collect()
}
