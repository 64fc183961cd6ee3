//! HTTP proxies that report their client's address: the server believes only listed proxies.

#[cfg(target_os = "linux")]
use std::{
    fs::Permissions,
    io::{BufRead, BufReader},
    net::{SocketAddr, TcpListener, TcpStream},
    os::unix::fs::PermissionsExt,
    process::Stdio,
};

use frameloop::handshake::{ForwardedHeader, Policy, TrustedProxies};
use frameloop::http::Page;
use frameloop::{Message, Router, WebSocket};
#[cfg(target_os = "linux")]
use rustix::net::{AddressFamily, SocketType, bind, connect, socket};

use crate::client::{Client, request};
use crate::server::TestServer;
#[cfg(target_os = "linux")]
use crate::{
    client::{PATIENCE, close_frame},
    nginx::Nginx,
    process::{ServerProcess, frameloop, succeeds, temporary},
    report::{Kind, figure, skip},
};

/// A server whose `/who` returns the client's address, and which accepts one WebSocket per address.
fn server(from: &[&str], header: ForwardedHeader) -> TestServer {
    let router = Router::new().websocket("/who", |request| {
        let client = request.peer_address().to_string();
        move |socket: &mut WebSocket<'_>, message: Message<'_>| {
            if message.is_data() {
                socket.send(Message::Text(&client));
            }
        }
    });
    let router = router.page("/me", |request| {
        Page::text(request.peer_address().to_string())
    });
    let policy = Policy {
        trusted_proxies: TrustedProxies {
            networks: from.iter().map(|from| from.parse().unwrap()).collect(),
            header,
            ..TrustedProxies::default()
        },
        ..Policy::default()
    };
    TestServer::serving(router, |server| {
        server
            .with_policy(policy)
            .with_max_connections_per_address(Some(1))
    })
}

/// Opens a WebSocket with these headers. Returns the client's address as the server sees it.
fn who(server: &TestServer, fields: &str) -> Result<(Client, String), String> {
    let mut client = Client::connect(server);
    client.send(
        request("/who")
            .replace("Upgrade: web", &format!("{fields}Upgrade: web"))
            .as_bytes(),
    );
    let head = client.receive_head();
    if !head.starts_with("HTTP/1.1 101 ") {
        return Err(head[9..12].to_owned());
    }
    client.send_text("who?");
    let (_, who) = client.receive();
    Ok((client, String::from_utf8(who).unwrap()))
}

#[test]
fn the_last_address_that_is_not_a_listed_proxy_is_the_client() {
    let server = server(
        &["127.0.0.1/32", "10.0.0.0/8"],
        ForwardedHeader::XForwardedFor,
    );
    for (fields, expected) in [
        ("X-Forwarded-For: 192.0.2.1\r\n", "192.0.2.1"),
        ("x-forwarded-for: 198.51.100.9, 192.0.2.2\r\n", "192.0.2.2"),
        ("X-Forwarded-For: 192.0.2.3, 10.0.0.1\r\n", "192.0.2.3"),
        // Several header lines form one list.
        (
            "X-Forwarded-For: 198.51.100.9\r\nX-Forwarded-For: 192.0.2.4\r\nX-Forwarded-For: 10.0.0.1,10.0.0.2\r\n",
            "192.0.2.4",
        ),
        ("X-Forwarded-For: 192.0.2.5:4711\r\n", "192.0.2.5:4711"),
        ("X-Forwarded-For: 2001:db8:1::1\r\n", "2001:db8:1::1"),
        (
            "X-Forwarded-For: [2001:db8:2::1]:4711\r\n",
            "[2001:db8:2::1]:4711",
        ),
        // A value that is not an address ends the search.
        (
            "X-Forwarded-For: 198.51.100.9, unknown, 10.0.0.7\r\n",
            "10.0.0.7",
        ),
    ] {
        let (client, found) = who(&server, fields).unwrap();
        assert_eq!(found, expected, "{fields}");
        // The limit counts clients, not the proxy.
        assert_eq!(
            who(&server, fields).err().as_deref(),
            Some("503"),
            "{fields}"
        );
        drop(client);
    }
    for fields in [
        "",
        "X-Forwarded-For: 192.0.2.6, unknown\r\n",
        "X-Forwarded-For: 192.0.2.6, 192.0.2\r\n",
        // The proxy passes the other header through from its client.
        "Forwarded: for=192.0.2.6\r\n",
        "X-Real-IP: 192.0.2.6\r\n",
    ] {
        let server = self::server(&["127.0.0.1/32"], ForwardedHeader::XForwardedFor);
        let (_, found) = who(&server, fields).unwrap();
        assert!(found.starts_with("127.0.0.1:"), "{fields}: {found}");
    }
}

#[test]
fn only_the_configured_one_of_forwarded_and_x_forwarded_for_is_read() {
    let server = server(&["127.0.0.1/32"], ForwardedHeader::Forwarded);
    for (fields, expected) in [
        (
            "Forwarded: for=192.0.2.1;proto=https;by=10.0.0.1\r\n",
            "192.0.2.1",
        ),
        (
            "Forwarded: for=198.51.100.9\r\nForwarded: proto=http; For=\"[2001:db8::1]:4711\"\r\n",
            "[2001:db8::1]:4711",
        ),
        (
            "X-Forwarded-For: 198.51.100.9\r\nForwarded: for=192.0.2.2, for=127.0.0.1\r\n",
            "192.0.2.2",
        ),
    ] {
        let (_, found) = who(&server, fields).unwrap();
        assert_eq!(found, expected, "{fields}");
    }
    let (_, found) = who(&server, "X-Forwarded-For: 192.0.2.3\r\n").unwrap();
    assert!(found.starts_with("127.0.0.1:"), "{found}");
}

/// Otherwise any client could choose its address and escape the limit per address.
#[test]
fn headers_from_unlisted_proxies_are_ignored() {
    for from in [&[][..], &["10.0.0.0/8", "::1/128"][..]] {
        let server = server(from, ForwardedHeader::XForwardedFor);
        let fields = "X-Forwarded-For: 192.0.2.1\r\n";
        let (_client, found) = who(&server, fields).unwrap();
        assert!(found.starts_with("127.0.0.1:"), "{found}");
        let other = "X-Forwarded-For: 192.0.2.2\r\n";
        assert_eq!(who(&server, other).err().as_deref(), Some("503"));
    }
}

/// A proxy sends requests of several clients over one connection.
#[test]
fn each_request_on_a_connection_has_its_own_client_address() {
    let server = server(&["127.0.0.1/32"], ForwardedHeader::XForwardedFor);
    let mut proxy = Client::connect(&server);
    for client in ["192.0.2.1", "192.0.2.2:4711"] {
        let head = format!("GET /me HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: {client}\r\n\r\n");
        proxy.send(head.as_bytes());
        assert!(proxy.receive_head().starts_with("HTTP/1.1 200 "));
        proxy.receives(client.as_bytes());
    }
    proxy.send(b"GET /me HTTP/1.1\r\nHost: a\r\n\r\n");
    proxy.receive_head();
    proxy.receives(b"127.0.0.1:");
}

/// A real nginx, configured as in docs/operations.md. Its clients use addresses of the loopback
/// network.
#[cfg(target_os = "linux")]
#[test]
fn clients_behind_nginx_are_counted_and_logged_by_their_own_addresses() {
    const WHAT: &str = "clients of a real nginx with --max-connections-per-address 1";
    const REQUEST: (&str, &str) = ("Upgrade: web", "X-Forwarded-For: 192.0.2.9\r\nUpgrade: web");
    if !succeeds("nginx", &["-v"]) {
        return skip(Kind::Attack, 36, WHAT, "nginx is missing");
    }
    let directory = temporary("nginx");
    std::fs::create_dir_all(&directory).unwrap();
    std::fs::set_permissions(&directory, Permissions::from_mode(0o755)).unwrap();
    let upstream = directory.join("frameloop.sock");
    let listen = format!("unix:{},mode=0666", upstream.display());
    let mut server = ServerProcess::spawn(
        frameloop(&["--listen", "127.0.0.1:0", "--listen", &listen])
            .args(["--trust-forwarded-from", "unix"])
            .args(["--max-connections-per-address", "1"])
            .stderr(Stdio::piped()),
    );
    let mut log = BufReader::new(server.stderr());
    // nginx cannot let the system choose its port.
    let free = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let listens = || TcpStream::connect(free).is_ok();
    let _nginx = Nginx::start(&directory, &free.to_string(), &upstream, listens);
    let ask = |from: [u8; 4], change: (&str, &str)| {
        let socket = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
        bind(&socket, &SocketAddr::from((from, 0))).unwrap();
        connect(&socket, &free).unwrap();
        let mut client = Client {
            stream: TcpStream::from(socket),
        };
        client.stream.set_read_timeout(Some(PATIENCE)).unwrap();
        client.send(request("/echo").replace(change.0, change.1).as_bytes());
        let status = client.receive_head()[9..12].to_owned();
        (client, status)
    };
    let (mut first, status) = ask([127, 0, 0, 2], ("", ""));
    assert_eq!(status, "101");
    // Neither a second WebSocket nor a forged header gets past the limit.
    assert_eq!(ask([127, 0, 0, 2], ("", "")).1, "503");
    assert_eq!(ask([127, 0, 0, 2], REQUEST).1, "503");
    let (mut second, status) = ask([127, 0, 0, 3], REQUEST);
    assert_eq!(status, "101");
    for (client, address) in [(&mut first, "127.0.0.2"), (&mut second, "127.0.0.3")] {
        client.send(&close_frame(1000, b""));
        client.receives(b"\x88\x02\x03\xE8");
        let mut line = String::new();
        while !line.contains("endpoint=") {
            line.clear();
            assert_ne!(
                log.read_line(&mut line).unwrap(),
                0,
                "no log line for {address}"
            );
        }
        assert!(line.contains(&format!(" peer={address} ")), "{line}");
    }
    figure(
        Kind::Attack,
        36,
        WHAT,
        "1 each, then 503",
        "1 each, then 503",
    );
    drop(server);
    let _ = std::fs::remove_dir_all(&directory);
}
