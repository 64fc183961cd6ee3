//! Attacks by handshakes, other requests, TLS, and connections without any.

use std::hash::{Hash, Hasher};
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use ::http::HeaderName;
use rustix::net::sockopt::set_socket_recv_buffer_size;
use rustls::ClientConnection;
use rustls::pki_types::ServerName;

use crate::attacks::{Attack, Innocent, SOCKETIO, TOKEN, attack};
use crate::client::{LONG_PATIENCE, close_frame, connect, request};
use crate::rounds::*;
use crate::tls_client;

const FEW: &[&str] = &["--max-connections", "256"];

pub(crate) const ATTACKS: &[Attack] = &[
    attack(
        15,
        4,
        "4 clients offer windows of 8 and 16 bits",
        |address, _| {
            let field = "\r\nSec-WebSocket-Extensions: \
                         permessage-deflate; server_max_window_bits=8, \
                         permessage-deflate; client_max_window_bits=16\r\n\r\n";
            asks(
                address,
                request("/echo").replace("\r\n\r\n", field).as_bytes(),
            )
        },
    ),
    attack(17, 4, "4 clients send heads of 64 KiB", |address, _| {
        let field = "x".repeat(64 << 10);
        asks(
            address,
            format!("GET / HTTP/1.1\r\nA: {field}\r\n\r\n").as_bytes(),
        )
    }),
    attack(18, 4, "4 clients send 101 header fields", |address, _| {
        let fields = "A: 1\r\n".repeat(101);
        asks(
            address,
            format!("GET / HTTP/1.1\r\n{fields}\r\n").as_bytes(),
        )
    }),
    attack(
        19,
        4,
        "4 clients send 8 KiB of a quoted string that never ends",
        |address, _| {
            let field = format!(
                "\r\nSec-WebSocket-Extensions: a; b=\"{}\r\n\r\n",
                "\\c".repeat(4_096)
            );
            asks(
                address,
                request("/echo").replace("\r\n\r\n", &field).as_bytes(),
            )
        },
    ),
    attack(
        20,
        4,
        "4 clients pipeline requests with 99 header names of one hash",
        |address, is_over| flood(connect(address, LONG_PATIENCE)?, &COLLIDING, is_over),
    ),
    attack(
        21,
        4,
        "4 clients open connections and send one byte of a head",
        |address, is_over| {
            kept(200, is_over, || {
                let mut stream = connect(address, LONG_PATIENCE)?;
                stream.write_all(b"G")?;
                Ok(stream)
            })
        },
    ),
    attack(22, 4, "4 clients announce a body of 1 GB", |address, _| {
        let field = "\r\nContent-Length: 1000000000\r\n\r\n";
        asks(
            address,
            request("/echo").replace("\r\n\r\n", field).as_bytes(),
        )
    }),
    attack(
        23,
        4,
        "4 clients send bodies of two lengths",
        |address, _| {
            let fields = "\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
            asks(
                address,
                request("/echo").replace("\r\n\r\n", fields).as_bytes(),
            )
        },
    ),
    attack(
        24,
        4,
        "4 clients hide a request behind a handshake that is refused",
        |address, _| {
            let refused = request("/echo").replace(": 13", ": 1777");
            asks(address, &[refused.as_bytes(), &get("/metrics")].concat())
        },
    ),
    attack(
        25,
        4,
        "4 clients send two lengths of one body",
        |address, _| {
            let fields = "Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd";
            asks(
                address,
                format!("POST / HTTP/1.1\r\nHost: localhost\r\n{fields}").as_bytes(),
            )
        },
    ),
    attack(
        26,
        2,
        "2 clients pipeline requests for the page",
        |address, is_over| flood(connect(address, LONG_PATIENCE)?, &get("/"), is_over),
    ),
    attack(
        27,
        4,
        "4 clients offer a subprotocol with the byte 0x85",
        |address, _| {
            let request = request("/echo").into_bytes();
            let field = b"Sec-WebSocket-Protocol: chat\x85X: 1\r\n\r\n";
            asks(address, &[&request[..request.len() - 2], field].concat())
        },
    ),
    Attack {
        arguments: &["--allow-origin", "https://example.com"],
        ..attack(
            28,
            4,
            "4 clients of another origin, --allow-origin",
            |address, _| {
                let field = "\r\nOrigin: https://example.org\r\n\r\n";
                asks(
                    address,
                    request("/echo").replace("\r\n\r\n", field).as_bytes(),
                )
            },
        )
    },
    Attack {
        arguments: &["--allow-host", "localhost"],
        ..attack(
            29,
            4,
            "4 clients name another host, --allow-host",
            |address, _| {
                asks(
                    address,
                    request("/echo")
                        .replace("localhost", "example.org")
                        .as_bytes(),
                )
            },
        )
    },
    attack(
        32,
        4,
        "4 clients pipeline requests for the page and read nothing",
        |address, is_over| {
            let mut stream = connect(address, LONG_PATIENCE)?;
            while !is_over.load(Ordering::Relaxed) {
                stream.write_all(&get("/"))?;
            }
            Ok(())
        },
    ),
    Attack {
        wrapper: &["sh", "-c", "ulimit -n 40; exec \"$0\" \"$@\""],
        ..attack(
            35,
            4,
            "4 clients have 100 connections each, 40 descriptors",
            |address, is_over| kept(100, is_over, || connect(address, LONG_PATIENCE)),
        )
    },
    attack(
        36,
        4,
        "4 clients open and close WebSockets",
        |address, _| open(address, "/echo").map(drop),
    ),
    Attack {
        arguments: &["--log-format", "json", "--log-level", "debug"],
        ..attack(
            39,
            4,
            "4 clients send escapes and line ends that are logged, --log-level debug",
            |address, _| {
                asks(address, &get("/%0a%1b{\"level\":\"error\"}\u{1F600}"))?;
                let reason = b"\x1B]0;x\x07\n{\"level\":\"error\"}";
                closes(address, "/echo", &close_frame(1000, reason))
            },
        )
    },
    attack(
        40,
        4,
        "4 clients send handshakes that are refused",
        |address, _| asks(address, request("/echo").replace(": 13", ": 12").as_bytes()),
    ),
    attack(43, 4, "4 clients speak HTTP/2", |address, _| {
        asks(
            address,
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0",
        )
    }),
    attack(
        44,
        4,
        "4 clients send 1,000 CONTINUATION frames of HTTP/2",
        |address, _| {
            let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
            let frames = b"\0\0\0\x09\0\0\0\0\x01".repeat(1_000);
            asks(address, &[&preface[..], &frames].concat())
        },
    ),
    Attack {
        arguments: &["--tls-self-signed"],
        innocent: Innocent::OverTls,
        ..attack(
            45,
            4,
            "3 clients leave TLS handshakes at the answer, one sends half a ClientHello",
            |address, is_over| {
                if thread::current().name() == Some("0") {
                    return kept(200, is_over, || {
                        let mut stream = connect(address, LONG_PATIENCE)?;
                        stream.write_all(&CLIENT_HELLO[..CLIENT_HELLO.len() / 2])?;
                        Ok(stream)
                    });
                }
                let mut stream = connect(address, LONG_PATIENCE)?;
                stream.write_all(&CLIENT_HELLO)?;
                stream.read_exact(&mut [0])
            },
        )
    },
    Attack {
        arguments: &["--token", TOKEN],
        innocent: Innocent::WithToken,
        ..attack(49, 4, "4 clients guess the token", |address, _| {
            asks(
                address,
                request("/echo?token=s3cret-of-many-lettres").as_bytes(),
            )
        })
    },
    attack(
        59,
        2,
        "2 clients pipeline GET /metrics",
        |address, is_over| flood(connect(address, LONG_PATIENCE)?, &get("/metrics"), is_over),
    ),
    attack(
        64,
        4,
        "4 clients hide a request behind an upgrade of no session",
        |address, _| {
            let refused = request(&format!("{SOCKETIO}&sid=x"));
            asks(address, &[refused.as_bytes(), &get("/metrics")].concat())
        },
    ),
    attack(65, 4, "4 clients pipeline OPTIONS", |address, is_over| {
        let asked = b"OPTIONS / HTTP/1.1\r\nHost: localhost\r\n\r\n";
        flood(connect(address, LONG_PATIENCE)?, asked, is_over)
    }),
    Attack {
        arguments: FEW,
        ..attack(
            68,
            6,
            "2 clients open silent connections, 4 request pages, --max-connections 256",
            |address, is_over| match thread::current().name() {
                Some("0" | "1") => silent_connections(address, is_over),
                _ => flood(connect(address, LONG_PATIENCE)?, &get("/healthz"), is_over),
            },
        )
    },
    Attack {
        arguments: FEW,
        ..attack(
            69,
            2,
            "2 clients open silent connections, --max-connections 256",
            silent_connections,
        )
    },
    Attack {
        arguments: &["--compat", "jmalloc", "--write-timeout", "300ms"],
        innocent: Innocent::Greeted,
        ..attack(
            73,
            4,
            "4 clients open connections of HTTP/2 with 100 unread responses each",
            |address, is_over| {
                kept(20, is_over, || {
                    let mut stream = connect(address, LONG_PATIENCE)?;
                    stream.write_all(&HTTP_2)?;
                    Ok(stream)
                })
            },
        )
    },
    Attack {
        arguments: &["--token", TOKEN, "--log-level", "debug"],
        innocent: Innocent::WithToken,
        ..attack(
            74,
            4,
            "4 clients send requests with the token, --log-level debug",
            |address, _| asks(address, &get(&format!("/x?a=b&token={TOKEN}"))),
        )
    },
    Attack {
        arguments: &["--write-timeout", "500ms"],
        ..attack(
            79,
            4,
            "4 clients read 50 responses each, 256 bytes in 10 ms, --write-timeout 500ms",
            trickle,
        )
    },
];

/// Reads responses so slowly that the server cuts the connections.
fn trickle(address: SocketAddr, is_over: &AtomicBool) -> io::Result<()> {
    let asked = get("/socket.io/socket.io.js").repeat(300);
    let mut streams = Vec::new();
    while streams.len() < 50 && !is_over.load(Ordering::Relaxed) {
        let mut stream = connect(address, LONG_PATIENCE)?;
        set_socket_recv_buffer_size(&stream, 4 << 10)?;
        stream.write_all(&asked)?;
        streams.push(stream);
    }
    while !streams.is_empty() && !is_over.load(Ordering::Relaxed) {
        streams.retain_mut(|stream| matches!(stream.read(&mut [0; 256]), Ok(1..)));
        thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

/// A request with header names that have one place in the table of `http::HeaderMap`.
static COLLIDING: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let names = (0..).map(|number| format!("x{number}"));
    let colliding = names.filter(|name| place(name) == 0).take(99);
    let fields: String = colliding.map(|name| format!("{name}: 1\r\n")).collect();
    format!("GET /healthz HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n").into_bytes()
});

/// The place of a name in a table of 1,024 places.
fn place(name: &str) -> u64 {
    let mut hasher = Fnv(0xCBF2_9CE4_8422_2325);
    HeaderName::try_from(name).unwrap().hash(&mut hasher);
    hasher.finish() % 1_024
}

/// The hash of `http::HeaderMap` for tables without many collisions.
struct Fnv(u64);

impl Hasher for Fnv {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x100_0000_01B3);
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

static CLIENT_HELLO: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let name = ServerName::try_from("localhost").unwrap();
    let mut session = ClientConnection::new(tls_client::config(), name).unwrap();
    let mut hello = Vec::new();
    session.write_tls(&mut hello).unwrap();
    hello
});

/// The preface of HTTP/2, SETTINGS with INITIAL_WINDOW_SIZE 0, and HEADERS of 100 GETs.
static HTTP_2: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    bytes.extend(b"\0\0\x06\x04\0\0\0\0\0\0\x04\0\0\0\0");
    for stream in (1..200_u32).step_by(2) {
        bytes.extend(b"\0\0\x06\x01\x05");
        bytes.extend(stream.to_be_bytes());
        bytes.extend(b"\x82\x84\x86\x41\x01a");
    }
    bytes
});
