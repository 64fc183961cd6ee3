//! The attacks of `tests/tables/attacks.md` that a client can repeat, by its rows.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::AtomicBool;

use crate::{frames, http, rooms, socketio};

pub(crate) struct Attack {
    pub(crate) row: u32,
    pub(crate) what: &'static str,
    pub(crate) arguments: &'static [&'static str],
    /// A command that starts the server.
    pub(crate) wrapper: &'static [&'static str],
    pub(crate) innocent: Innocent,
    pub(crate) threads: usize,
    pub(crate) round: Round,
}

/// What the innocent client needs for its echoes.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Innocent {
    Plain,
    WithToken,
    OverTls,
    /// The server sends a message first.
    Greeted,
}

/// One round of a thread, repeated until the time is over.
type Round = fn(SocketAddr, &AtomicBool) -> io::Result<()>;

pub(crate) const fn attack(row: u32, threads: usize, what: &'static str, round: Round) -> Attack {
    Attack {
        row,
        what,
        arguments: &[],
        wrapper: &[],
        innocent: Innocent::Plain,
        threads,
        round,
    }
}

pub(crate) const SOCKETIO: &str = "/socket.io/?EIO=4&transport=websocket";
pub(crate) const TOKEN: &str = "s3cret-of-many-letters";

pub(crate) fn attacks() -> impl Iterator<Item = &'static Attack> {
    [
        frames::ATTACKS,
        http::ATTACKS,
        rooms::ATTACKS,
        socketio::ATTACKS,
    ]
    .into_iter()
    .flatten()
}

/// The rows that have no innocent client, and why.
pub(crate) const WITHOUT: &[(u32, &str)] = &[
    (41, "a property of replies, whatever the load"),
    (42, "a property of the code: none of it is unsafe"),
    (46, "a property of the dependencies"),
    (56, "the server ends"),
];
