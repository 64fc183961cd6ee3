//! Attacks by frames, messages and the ends of connections.

use std::io::{Read, Write};
use std::sync::LazyLock;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rustix::net::sockopt::set_socket_linger;

use crate::attacks::{Attack, attack};
use crate::client::{LONG_PATIENCE, close_frame, connect, frame, request};
use crate::rounds::*;

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
    attack(
        14,
        4,
        "4 clients open connections that each need a window of 32 KiB to inflate",
        |address, is_over| {
            kept(100, is_over, || {
                let mut stream = compressing(address)?;
                stream.write_all(&RANDOM)?;
                Ok(stream)
            })
        },
    ),
    attack(
        16,
        4,
        "4 clients send what cannot be inflated",
        |address, _| {
            let mut stream = compressing(address)?;
            stream.write_all(&frame(0xC1, &[0xFF; 5]))?;
            rest(stream)
        },
    ),
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
    Attack {
        arguments: &["--ping-interval", "200ms", "--ping-timeout", "200ms"],
        ..attack(
            33,
            4,
            "4 clients answer no Ping on 100 connections each, --ping-interval 200ms",
            |address, _| left_alone(address, "/echo", b""),
        )
    },
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
        37,
        4,
        "4 clients send a Close, and the server ends the connection first",
        |address, _| closes(address, "/echo", &close_frame(1000, b"")),
    ),
    attack(
        38,
        4,
        "4 clients reset their connections in echoes of 16 MiB",
        |address, _| {
            let mut stream = open(address, "/echo")?;
            stream.write_all(&LARGE)?;
            stream.read_exact(&mut [0; 10])?;
            Ok(set_socket_linger(&stream, Some(Duration::ZERO))?)
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
        71,
        8,
        "8 clients send 16 MiB of zeros, compressed",
        |address, is_over| {
            flood(
                compressing(address)?,
                &frame(0xC2, &deflated(&vec![0; 16 << 20])),
                is_over,
            )
        },
    ),
    attack(
        75,
        4,
        "4 clients have 100 connections each that ask for a Ping every 100 ms",
        |address, is_over| held(address, "/echo?ping=100", b"", is_over),
    ),
];

/// 17 MiB of zeros, which is more than a message may have.
static ZEROS: LazyLock<Vec<u8>> = LazyLock::new(|| deflated(&vec![0; 17 << 20]));

/// A compressed message that fills the window of 32 KiB.
static RANDOM: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut bytes = [0; 40_000];
    fastrand::Rng::with_seed(14).fill(&mut bytes);
    frame(0xC2, &deflated(&bytes))
});

/// A message of 16 MiB, with a masking key of zeros.
static LARGE: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut message = b"\x82\xFF\0\0\0\0\x01\0\0\0\0\0\0\0".to_vec();
    message.resize(message.len() + (16 << 20), 7);
    message
});
