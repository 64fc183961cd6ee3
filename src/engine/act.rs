//! What happens to a connection besides input and deliveries.

use super::deadlines::Tick;
use super::disconnect::Disconnect;
use crate::protocol::CloseCode;

/// Something that happens to one connection.
#[derive(Debug)]
pub(crate) enum Act {
    /// The connection is driven again: its handler was busy, or has a timer.
    Wake,
    /// The peer has sent FIN, or the connection broke. All input that the connection reads has been
    /// read.
    HangUp,
    /// The connection is ended with this Close, without a wait for the peer's answer.
    End {
        why: Disconnect,
        frame: (CloseCode, &'static str),
    },
    /// The closing handshake begins.
    Close(Option<(CloseCode, Box<str>)>),
    /// The deadlines are checked. The peer has been silent for `silence`.
    Tick { silence: Tick },
    /// The connection is ended because it holds the most of a spent budget.
    Relieve,
}
