//! How a connection ended: for logs, metrics and handlers.

use std::fmt;
use std::io;

use crate::protocol::{CloseCode, ProtocolError};

/// Why a connection is over.
///
/// [`code`](Disconnect::code) is what the other side's API would call it: the status code that
/// travelled, or 1005 or 1006, which never do (RFC 6455 §7.1.5).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Disconnect {
    /// The peer began the closing handshake, with this status code if any.
    ClosedByPeer(Option<CloseCode>),
    /// We began the closing handshake with the first code, the peer answered with the second.
    ClosedByUs(Option<CloseCode>, Option<CloseCode>),
    /// The peer broke a rule of the protocol, which was answered with this status code.
    Failed(ProtocolError, CloseCode),
    /// The peer ended the TCP connection without a Close.
    EndOfStream,
    /// The TCP connection broke.
    Broken(io::ErrorKind),
    /// A deadline passed.
    TimedOut(Timeout),
    /// More waited for the peer than a slow consumer may leave.
    SlowConsumer,
    /// More waited for all clients together than may, and the most for this one.
    TooMuchUnsent,
    /// The peer went on publishing faster than it may.
    FastPublisher,
    /// The handler panicked.
    HandlerPanicked,
    /// We ended the TCP connection without a Close, as the client had asked for or for its age.
    CutByServer,
    /// The server went away before the peer answered its Close.
    CutAtShutdown,
}

/// The deadline that passed; see [`Deadlines`](super::Deadlines).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Timeout {
    /// A Ping was not answered.
    Ping,
    /// A message was begun and not ended.
    Message,
    /// No data message came.
    Idle,
    /// The peer took nothing of what waited for it.
    WriteStall,
    /// The peer did not answer our Close.
    Close,
}

impl Disconnect {
    /// The status code to report (§7.1.5).
    pub fn code(&self) -> u16 {
        match *self {
            Disconnect::ClosedByPeer(code) | Disconnect::ClosedByUs(code, _) => {
                code.map_or(1005, u16::from)
            }
            Disconnect::Failed(_, code) => u16::from(code),
            Disconnect::SlowConsumer | Disconnect::FastPublisher => 1008,
            Disconnect::TooMuchUnsent => 1013,
            Disconnect::HandlerPanicked => 1011,
            Disconnect::EndOfStream
            | Disconnect::Broken(_)
            | Disconnect::TimedOut(_)
            | Disconnect::CutByServer
            | Disconnect::CutAtShutdown => 1006,
        }
    }

    /// The kind of it, without its particulars: for counting.
    pub fn reason(&self) -> &'static str {
        match self {
            Disconnect::ClosedByPeer(_) => "closed by peer",
            Disconnect::ClosedByUs(..) => "closed by server",
            Disconnect::Failed(..) => "protocol error",
            Disconnect::EndOfStream => "end of stream",
            Disconnect::Broken(_) => "broken",
            Disconnect::TimedOut(Timeout::Ping) => "ping timeout",
            Disconnect::TimedOut(Timeout::Message) => "message timeout",
            Disconnect::TimedOut(Timeout::Idle) => "idle timeout",
            Disconnect::TimedOut(Timeout::WriteStall) => "write stall",
            Disconnect::TimedOut(Timeout::Close) => "close timeout",
            Disconnect::SlowConsumer => "slow consumer",
            Disconnect::TooMuchUnsent => "too much unsent",
            Disconnect::FastPublisher => "fast publisher",
            Disconnect::HandlerPanicked => "handler panicked",
            Disconnect::CutByServer => "cut by server",
            Disconnect::CutAtShutdown => "cut at shutdown",
        }
    }

    /// Whether the peer did not take what waited for it, in time or at all: then a FIN would wait
    /// behind that for ever, and the connection is reset.
    pub(crate) fn is_stalled(&self) -> bool {
        matches!(
            self,
            Disconnect::TimedOut(_)
                | Disconnect::SlowConsumer
                | Disconnect::TooMuchUnsent
                | Disconnect::CutAtShutdown
        )
    }
}

impl fmt::Display for Disconnect {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Disconnect::ClosedByPeer(_) => formatter.write_str("closed by peer"),
            Disconnect::ClosedByUs(..) => formatter.write_str("closed by server"),
            Disconnect::Failed(error, _) => write!(formatter, "protocol error: {error}"),
            Disconnect::EndOfStream => formatter.write_str("peer went without a Close"),
            Disconnect::Broken(kind) => write!(formatter, "connection broke: {kind}"),
            Disconnect::TimedOut(Timeout::Ping) => formatter.write_str("ping timeout"),
            Disconnect::TimedOut(Timeout::Message) => formatter.write_str("message not finished"),
            Disconnect::TimedOut(Timeout::Idle) => formatter.write_str("idle timeout"),
            Disconnect::TimedOut(Timeout::WriteStall) => formatter.write_str("write stall"),
            Disconnect::TimedOut(Timeout::Close) => formatter.write_str("close timeout"),
            Disconnect::SlowConsumer => formatter.write_str("slow consumer"),
            Disconnect::TooMuchUnsent => formatter.write_str("too much unsent"),
            Disconnect::FastPublisher => formatter.write_str("fast publisher"),
            Disconnect::HandlerPanicked => formatter.write_str("handler panicked"),
            Disconnect::CutByServer => formatter.write_str("cut by server"),
            Disconnect::CutAtShutdown => formatter.write_str("cut at shutdown"),
        }
    }
}
