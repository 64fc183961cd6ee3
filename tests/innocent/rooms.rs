//! Attacks on rooms, and over Redis.

use std::io;
use std::net::SocketAddr;
use std::sync::OnceLock;
use std::thread;
use std::time::Duration;

use crate::attacks::{Attack, attack};
use crate::client::{LONG_PATIENCE, connect, frame};
use crate::rounds::*;

pub(crate) const ATTACKS: &[Attack] = &[
    attack(
        30,
        4,
        "a member publishes messages of 32 KiB, ten at a time do not read for 100 ms",
        |address, is_over| match thread::current().name() {
            Some("0") => {
                let message = frame(0x82, &[7; 32 << 10]);
                flood_socket(address, "/broadcast/slow", b"", &message, is_over)
            }
            Some("1") => {
                let unread: io::Result<Vec<_>> =
                    (0..10).map(|_| open(address, "/broadcast/slow")).collect();
                thread::sleep(Duration::from_millis(100));
                unread.map(drop)
            }
            _ => rest(open(address, "/broadcast/slow")?),
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
];

/// The Redis of [`OVER_REDIS`].
pub(crate) static REDIS: OnceLock<SocketAddr> = OnceLock::new();

pub(crate) const OVER_REDIS: &[Attack] = &[
    attack(
        50,
        4,
        "3 clients of Redis publish messages of another version to 100 members",
        |address, is_over| {
            if thread::current().name() == Some("0") {
                return held(address, "/broadcast/fault", b"", is_over);
            }
            let published = b"*3\r\n$7\r\nPUBLISH\r\n$25\r\nframeloop:broadcast:fault\r\n\
                          $7\r\n\x94\x02\x01\x01\xA2hi\r\n";
            let redis = REDIS.get().ok_or(io::ErrorKind::NotFound)?;
            flood(connect(*redis, LONG_PATIENCE)?, published, is_over)
        },
    ),
    attack(
        77,
        2,
        "2 clients join 250 rooms over Redis and leave at once",
        rooms_left_at_once,
    ),
];
