//! The PROXY protocol (HAProxy's proxy-protocol.txt): connections from listed addresses must start
//! with its header; from others the header is a malformed request.

use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::time::Duration;

use frameloop::app;
use frameloop::http::HttpSettings;
use frameloop::server::Server;
use proxy_header::{Protocol, ProxiedAddress, ProxyHeader, Tlv};

use crate::client::{Client, request};
use crate::server::TestServer;

/// A server that trusts proxies of this network, and accepts one WebSocket per client address.
fn server_behind(network: &str) -> TestServer {
    // Also without TLS in a run with TLS: the header comes before TLS.
    TestServer::plainly_serving(app::router(), |server| behind(server, network))
}

fn behind(server: Server, network: &str) -> Server {
    server
        .with_proxies(vec![network.parse().unwrap()])
        .with_max_connections_per_address(Some(1))
}

fn version_1(source: &str) -> Vec<u8> {
    let family = if source.contains(':') { "TCP6" } else { "TCP4" };
    let destination = if source.contains(':') {
        "::1"
    } else {
        "127.0.0.1"
    };
    format!("PROXY {family} {source} {destination} 4711 80\r\n").into_bytes()
}

fn version_2(source: &str, fields: usize) -> Vec<u8> {
    let address = ProxiedAddress {
        protocol: Protocol::Stream,
        source: (source.parse::<std::net::IpAddr>().unwrap(), 4_711).into(),
        destination: match source.contains(':') {
            true => "[::1]:80".parse().unwrap(),
            false => "127.0.0.1:80".parse().unwrap(),
        },
    };
    let padding = (fields > 0).then_some(Tlv::Noop(fields));
    let mut bytes = Vec::new();
    ProxyHeader::with_tlvs(Some(address), padding)
        .encode_v2(&mut bytes)
        .unwrap();
    bytes
}

/// Version 2 without an address.
const LOCAL: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";

/// The status of the response to a handshake that follows this header.
fn status(client: &mut Client, header: &[u8]) -> u16 {
    client.send(&[header, request("/echo").as_bytes()].concat());
    client.receive_head()[9..12].parse().unwrap()
}

#[test]
fn each_client_behind_a_proxy_is_counted_by_its_own_address() {
    let server = server_behind("127.0.0.0/8");
    let mut opened = Vec::new();
    for header in [
        version_1("192.0.2.1"),
        version_1("2001:db8:1::1"),
        version_2("192.0.2.2", 0),
        version_2("2001:db8:2::1", 0),
        version_2("192.0.2.3", 3_000),
        // The largest header: 16 KiB less 16 bytes, the addresses, and the head of the padding
        // field.
        version_2("192.0.2.4", (16 << 10) - 16 - 12 - 3),
        // LOCAL: the proxy itself is the client.
        LOCAL.to_vec(),
    ] {
        for expected in [101, 503] {
            let mut client = Client::connect(&server);
            assert_eq!(
                status(&mut client, &header),
                expected,
                "{}",
                header.escape_ascii()
            );
            opened.push(client);
        }
    }
    let mut unknown = Client::connect(&server);
    let header = b"PROXY UNKNOWN ffff::1 whatever\r\n";
    assert_eq!(status(&mut unknown, header), 503, "as LOCAL");
    let mut first = opened.swap_remove(0);
    first.send_text("hi");
    first.receives(b"\x81\x02hi");
}

#[test]
fn a_proxy_header_may_be_split_anywhere() {
    let server = server_behind("127.0.0.1/32");
    for (number, header) in [
        version_1("192.0.2.1"),
        version_2("192.0.2.2", 0),
        version_2("192.0.2.3", 16_000),
    ]
    .into_iter()
    .enumerate()
    {
        let mut client = Client::connect(&server);
        let cuts = [1, 5, 12, 15, 16, 17, header.len() - 1];
        let mut sent = 0;
        for cut in cuts.into_iter().filter(|cut| *cut < header.len()) {
            client.send(&header[sent..cut]);
            sent = cut;
            // An exchange on another connection in between makes each piece a segment of its own.
            let mut other = Client::connect(&server);
            other.send(&version_1(&format!("198.51.100.{number}")));
            other.send(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n");
            assert!(other.receive_head().starts_with("HTTP/1.1 200 "));
        }
        assert_eq!(status(&mut client, &header[sent..]), 101, "{number}");
    }
}

#[test]
fn a_trusted_proxy_without_a_header_gets_no_answer() {
    let server = server_behind("127.0.0.1/32");
    let long = [&version_2("192.0.2.1", 16 << 10)[..], b"GET /"].concat();
    let cases: [&[u8]; 9] = [
        b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"PROXY TCP4 192.0.2.1 127.0.0.1 4711 x\r\n",
        b"PROXY TCP4 192.0.2.256 127.0.0.1 4711 80\r\n",
        b"PROXY TCP4 192.0.2.1 127.0.0.1 65536 80\r\n",
        b"PROXY TCP4 192.0.2.1 127.0.0.1 4711 80\r \n",
        b"PROXY UDP4 192.0.2.1 127.0.0.1 4711 80\r\n",
        &[b'P'; 4_096],
        b"\r\n\r\n\0\r\nQUIT\n\x31\x11\0\x0C\xC0\0\x02\x01\x7F\0\0\x01\x12\x67\0\x50",
        &long,
    ];
    for bytes in cases {
        let mut client = Client::connect(&server);
        client.send(bytes);
        let mut answer = Vec::new();
        match client.stream.read_to_end(&mut answer) {
            Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
            Ok(_) => assert_eq!(answer.escape_ascii().to_string(), ""),
        }
    }
    // A client may disconnect in the middle of the header.
    for header in [version_1("192.0.2.1"), version_2("192.0.2.1", 0)] {
        for length in 0..header.len() {
            let mut client = Client::connect(&server);
            client.send(&header[..length]);
            client.stream.shutdown(Shutdown::Write).unwrap();
            assert_eq!(client.stream.read(&mut [0]).unwrap(), 0, "{length}");
        }
    }
}

#[test]
fn an_unfinished_proxy_header_has_the_deadline_of_the_handshake() {
    let server = TestServer::plainly_serving(app::router(), |server| {
        behind(server, "127.0.0.1/32").with_http_settings(HttpSettings {
            head_timeout: Duration::from_millis(100),
            ..HttpSettings::default()
        })
    });
    for bytes in [&b""[..], b"PROXY TCP4", &LOCAL[..13]] {
        let mut client = Client::connect(&server);
        client.send(bytes);
        assert!(matches!(client.stream.read(&mut [0]), Ok(0) | Err(_)));
    }
    // The request after the header has the rest of the same deadline.
    let mut client = Client::connect(&server);
    client.send(LOCAL);
    assert!(matches!(client.stream.read(&mut [0]), Ok(0) | Err(_)));
}

#[test]
fn a_proxy_header_from_an_unlisted_address_is_refused() {
    let server = server_behind("192.0.2.0/24");
    for header in [version_1("192.0.2.1"), version_2("192.0.2.1", 0)] {
        let mut client = Client::connect(&server);
        client.send(&[&header[..], request("/echo").as_bytes()].concat());
        let head = client.receive_head();
        assert!(head.starts_with("HTTP/1.1 400 "), "{head}");
    }
    let mut client = Client::connect(&server);
    assert_eq!(status(&mut client, b""), 101);
}

/// The header is ahead of TLS, which is the client's.
#[test]
fn tls_comes_after_the_header() {
    use frameloop::tls::Certificate;
    use rustls::pki_types::ServerName;
    use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

    let files = crate::tls::Files::new("behind-a-proxy");
    let certificate: Certificate = files.read();
    let server = TestServer::plainly_serving(app::router(), |server| {
        behind(server, "127.0.0.1/32").with_certificate(Some(certificate))
    });
    let mut roots = RootCertStore::empty();
    roots.add(files.der.clone()).unwrap();
    let config = ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth();
    for expected in ["101", "503"] {
        let mut client = Client::connect(&server);
        client.send(&version_2("192.0.2.9", 0));
        let name = ServerName::try_from("localhost").unwrap();
        let session = ClientConnection::new(config.clone().into(), name).unwrap();
        let mut stream = StreamOwned::new(session, client.stream.try_clone().unwrap());
        stream.write_all(request("/echo").as_bytes()).unwrap();
        let mut head = [0; 12];
        stream.read_exact(&mut head).unwrap();
        assert_eq!(&head[9..], expected.as_bytes());
        std::mem::forget(stream);
    }
}
