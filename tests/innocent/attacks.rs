//! The attacks that load the server, by their rows in `tests/tables/attacks.md`.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use rustix::net::sockopt::set_socket_linger;

use crate::client::{LONG_PATIENCE, connect, frame, request};
use crate::rounds::*;

pub(crate) struct Attack {
    pub(crate) row: u32,
    pub(crate) what: &'static str,
    pub(crate) arguments: &'static [&'static str],
    pub(crate) threads: usize,
    pub(crate) round: Round,
}

/// One round of a thread, repeated until the time is over.
type Round = fn(SocketAddr, &AtomicBool) -> io::Result<()>;

const fn attack(row: u32, threads: usize, what: &'static str, round: Round) -> Attack {
    Attack {
        row,
        what,
        arguments: &[],
        threads,
        round,
    }
}

const FEW: &[&str] = &["--max-connections", "256"];
const SOCKETIO: &str = "/socket.io/?EIO=4&transport=websocket";

pub(crate) const ATTACKS: &[Attack] = &[
    attack(1, 4, "4 clients declare 2^63 bytes", |address, _| {
        closes(address, "/echo", b"\x82\xFF\x80\0\0\0\0\0\0\0")
    }),
    attack(
        2,
        4,
        "4 clients declare 16 MiB on each of 100 connections, and stop",
        |address, is_over| {
            held(
                address,
                "/echo",
                b"\x82\xFF\0\0\0\0\x01\0\0\0\0\0\0\0",
                is_over,
            )
        },
    ),
    attack(
        3,
        4,
        "4 clients send 1 MiB fragments beyond the limit",
        |address, is_over| {
            let fragment = vec![7; 1 << 20];
            let (first, again) = (frame(0x02, &fragment), frame(0, &fragment));
            flood_socket(address, "/echo", &first, &again, is_over)
        },
    ),
    attack(
        4,
        4,
        "4 clients send fragments of 64 bytes",
        |address, is_over| {
            let (first, again) = (frame(0x01, &[b'a'; 64]), frame(0, &[b'a'; 64]));
            flood_socket(address, "/echo", &first, &again, is_over)
        },
    ),
    attack(
        5,
        4,
        "4 clients send one-byte fragments",
        |address, is_over| {
            flood_socket(
                address,
                "/echo",
                &frame(0x01, b"a"),
                &frame(0, b"a"),
                is_over,
            )
        },
    ),
    attack(
        6,
        4,
        "4 clients send empty fragments",
        |address, is_over| {
            flood_socket(address, "/echo", &frame(0x01, b""), &frame(0, b""), is_over)
        },
    ),
    attack(
        7,
        4,
        "4 clients leave messages unfinished on 100 connections each",
        |address, is_over| held(address, "/echo", &frame(0x01, b"a"), is_over),
    ),
    attack(8, 4, "4 clients send Pings", |address, is_over| {
        flood_socket(address, "/echo", b"", &frame(0x89, b""), is_over)
    }),
    attack(
        9,
        4,
        "4 clients send Pings inside a message",
        |address, is_over| {
            flood_socket(
                address,
                "/echo",
                &frame(0x01, b"a"),
                &frame(0x89, b""),
                is_over,
            )
        },
    ),
    attack(
        10,
        4,
        "4 clients send Pongs of 125 bytes",
        |address, is_over| flood_socket(address, "/echo", b"", &frame(0x8A, &[0; 125]), is_over),
    ),
    attack(11, 4, "4 clients send Pings of 126 bytes", |address, _| {
        closes(address, "/echo", &frame(0x89, &[0; 126]))
    }),
    attack(
        12,
        4,
        "4 clients set RSV1 without an extension",
        |address, _| closes(address, "/echo", &frame(0xC1, b"a")),
    ),
    attack(
        13,
        4,
        "4 clients send 17 MiB of zeros, compressed",
        |address, _| {
            let mut stream = compressing(address)?;
            stream.write_all(&frame(0xC2, &ZEROS))?;
            rest(stream)
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
        26,
        2,
        "2 clients pipeline requests for the page",
        |address, is_over| flood(connect(address, LONG_PATIENCE)?, &get("/"), is_over),
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
        31,
        4,
        "4 clients send messages of 60,000 bytes and read nothing",
        |address, is_over| {
            let message = frame(0x82, &[7; 60_000]);
            let mut stream = open(address, "/echo")?;
            while !is_over.load(Ordering::Relaxed) {
                stream.write_all(&message)?;
            }
            Ok(())
        },
    ),
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
    attack(
        34,
        4,
        "4 clients reset their connections in the handshake",
        |address, _| {
            let mut stream = connect(address, LONG_PATIENCE)?;
            stream.write_all(request("/echo").as_bytes())?;
            Ok(set_socket_linger(&stream, Some(Duration::ZERO))?)
        },
    ),
    attack(
        36,
        4,
        "4 clients open and close WebSockets",
        |address, _| open(address, "/echo").map(drop),
    ),
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
    attack(
        47,
        4,
        "4 Socket.IO clients announce an attachment that never comes",
        |address, is_over| {
            let packet = br#"451-["message",{"_placeholder":true,"num":0}]"#;
            let first = [frame(0x81, b"40"), frame(0x81, packet)].concat();
            held(address, SOCKETIO, &first, is_over)
        },
    ),
    attack(
        48,
        4,
        "4 clients post to Socket.IO sessions that do not exist",
        |address, is_over| {
            let path = "/socket.io/?EIO=4&transport=polling&sid=none";
            let post =
                format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n40");
            flood(connect(address, LONG_PATIENCE)?, post.as_bytes(), is_over)
        },
    ),
    attack(51, 4, "4 clients send unmasked frames", |address, _| {
        closes(address, "/echo", b"\x81\x01a")
    }),
    attack(
        52,
        4,
        "4 clients send text that is not UTF-8",
        |address, _| closes(address, "/echo", &frame(0x81, b"\xCE\xBA\xF4\x90")),
    ),
    attack(
        53,
        4,
        "4 clients send characters in two fragments",
        |address, is_over| {
            let message = [frame(0x01, b"\xC3"), frame(0x80, b"\xA9")].concat();
            flood_socket(address, "/echo", b"", &message, is_over)
        },
    ),
    attack(
        54,
        4,
        "4 members of one room publish",
        |address, is_over| {
            let message = frame(0x82, &[7; 100]);
            flood_socket(address, "/broadcast/storm", b"", &message, is_over)
        },
    ),
    attack(
        55,
        2,
        "2 clients join 250 rooms and leave at once",
        rooms_left_at_once,
    ),
    attack(
        57,
        4,
        "4 Socket.IO clients refer 30,000 times to one attachment",
        |address, _| {
            let references = [r#"{"_placeholder":true,"num":0}"#; 30_000].join(",");
            let packet = format!(r#"451-["message",{references}]"#);
            let packets = [
                frame(0x81, b"40"),
                frame(0x81, packet.as_bytes()),
                frame(0x82, b"a"),
            ];
            closes(address, SOCKETIO, &packets.concat())
        },
    ),
    attack(
        58,
        4,
        "a member of four publishes messages of 60,000 bytes, three read nothing",
        |address, is_over| match thread::current().name() {
            Some("0") => {
                let message = frame(0x82, &[7; 60_000]);
                flood_socket(address, "/broadcast/unread", b"", &message, is_over)
            }
            _ => held(address, "/broadcast/unread", b"", is_over),
        },
    ),
    attack(
        59,
        2,
        "2 clients pipeline GET /metrics",
        |address, is_over| flood(connect(address, LONG_PATIENCE)?, &get("/metrics"), is_over),
    ),
    attack(
        63,
        4,
        "4 Socket.IO clients join rooms with names of 100 kB",
        |address, is_over| {
            let join = format!(r#"42["join",{{"room":"{}"}}]"#, "x".repeat(100_000));
            flood_socket(
                address,
                SOCKETIO,
                &frame(0x81, b"40"),
                &frame(0x81, join.as_bytes()),
                is_over,
            )
        },
    ),
    attack(65, 4, "4 clients pipeline OPTIONS", |address, is_over| {
        let asked = b"OPTIONS / HTTP/1.1\r\nHost: localhost\r\n\r\n";
        flood(connect(address, LONG_PATIENCE)?, asked, is_over)
    }),
    attack(
        66,
        4,
        "4 clients ask for echoes at one byte a second on 100 connections each",
        |address, is_over| {
            held(
                address,
                "/echo?trickle=1",
                &frame(0x82, &[7; 60_000]),
                is_over,
            )
        },
    ),
    attack(
        67,
        3,
        "3 clients pipeline requests for Socket.IO sessions",
        |address, is_over| {
            let asked = get("/socket.io/?EIO=4&transport=polling");
            flood(connect(address, LONG_PATIENCE)?, &asked, is_over)
        },
    ),
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
    attack(
        70,
        4,
        "a member of four publishes messages of 1 MiB",
        |address, is_over| {
            let stream = open(address, "/broadcast/large")?;
            match thread::current().name() {
                Some("0") => flood(stream, &frame(0x82, &vec![7; (1 << 20) - 16]), is_over),
                _ => rest(stream),
            }
        },
    ),
    attack(
        71,
        8,
        "8 clients send 16 MiB of zeros, compressed",
        |address, is_over| {
            flood(
                compressing(address)?,
                &frame(0xC2, &zeros(16 << 20)),
                is_over,
            )
        },
    ),
    attack(
        72,
        4,
        "4 Socket.IO clients send small events",
        |address, is_over| {
            let event = frame(0x81, br#"42["message","x"]"#);
            flood_socket(address, SOCKETIO, &frame(0x81, b"40"), &event, is_over)
        },
    ),
    attack(
        75,
        4,
        "4 clients have 100 connections each that ask for a Ping every 10 ms",
        |address, is_over| held(address, "/echo?ping=10", b"", is_over),
    ),
];

pub(crate) const ROOMS_OVER_REDIS: Attack = attack(
    77,
    2,
    "2 clients join 250 rooms over Redis and leave at once",
    rooms_left_at_once,
);
