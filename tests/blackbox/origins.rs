//! Which origins and hosts can be listed, and what each entry admits.

use frameloop::handshake::{AllowOrigin, Policy};

use crate::client::{Client, request};
use crate::server::TestServer;

/// Requests a WebSocket with these headers instead of Host.
fn status(server: &TestServer, fields: &str) -> String {
    let mut client = Client::connect(server);
    client.send(
        request("/echo")
            .replace("Host: localhost", fields)
            .as_bytes(),
    );
    client.receive_head()[9..12].to_owned()
}

/// Attack 28: a star admits subdomains by whole labels, with the same scheme and port, and nothing
/// else.
#[test]
fn attack_28_a_listed_star_admits_every_subdomain_and_no_look_alike() {
    let listed = ["https://*.good.example", "http://*.dev.example:3000"];
    let policy = Policy {
        allowed_origins: AllowOrigin::Listed(listed.map(|origin| origin.parse().unwrap()).into()),
        ..Policy::default()
    };
    let server = TestServer::with(|server| server.with_policy(policy));
    for (origin, expected) in [
        ("https://a.good.example", "101"),
        ("https://b.a.good.example", "101"),
        ("HTTPS://A.Good.Example:443", "101"),
        ("http://a.dev.example:3000", "101"),
        ("https://good.example", "403"),
        ("https://.good.example", "403"),
        ("https://evilgood.example", "403"),
        ("https://a.good.example.evil.test", "403"),
        ("https://evil.test/.good.example", "403"),
        ("https://evil.test#.good.example", "403"),
        ("https://evil.test@a.good.example", "403"),
        ("http://a.good.example", "403"),
        ("https://a.good.example:8443", "403"),
        ("http://a.dev.example", "403"),
        ("https://127.0.0.1", "403"),
        ("https://a.good.example, https://evil.test", "403"),
        ("null", "403"),
    ] {
        let sent = status(&server, &format!("Host: a\r\nOrigin: {origin}"));
        assert_eq!(sent, expected, "{origin}");
    }
}

#[test]
fn a_listed_star_admits_every_host_below_and_no_look_alike() {
    let policy = Policy {
        allowed_hosts: vec!["*.good.example".parse().unwrap()],
        ..Policy::default()
    };
    let server = TestServer::with(|server| server.with_policy(policy));
    for (host, expected) in [
        ("a.good.example", "101"),
        ("b.A.Good.example:8000", "101"),
        ("good.example", "421"),
        (".good.example", "421"),
        ("evilgood.example", "421"),
        ("a.good.example.evil.test", "421"),
        ("127.0.0.1", "421"),
    ] {
        assert_eq!(
            status(&server, &format!("Host: {host}")),
            expected,
            "{host}"
        );
    }
}
