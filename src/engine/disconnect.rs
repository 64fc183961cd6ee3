//! How a connection ended: for logs, metrics and handlers.

use std::fmt;
use std::io;

use crate::protocol::{CloseCode, ProtocolError};

/// Why a connection is over.
///
/// [`code_received`](Disconnect::code_received) is the connection's close code on this side (RFC
/// 6455 §7.1.5); [`code_sent`](Disconnect::code_sent) is the one that the peer's API reports. 1005
/// stands for a Close without a code, 1006 for no Close: neither is ever sent (§7.4.1).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Disconnect {
    /// The peer began the closing handshake. `None` if its Close has no status code.
    ClosedByPeer(Option<CloseCode>),
    /// We began the closing handshake with the first code, and the peer answered with the second.
    /// `None` stands for a Close without a code.
    ClosedLocally(Option<CloseCode>, Option<CloseCode>),
    /// We began the closing handshake with this code (`None`: without a code), and the peer did not
    /// answer.
    Unanswered(Option<CloseCode>, Unanswered),
    /// The peer broke a rule of the protocol, and we closed with this status code.
    Failed(ProtocolError, CloseCode),
    /// The peer ended the TCP connection without a Close.
    EndOfStream,
    /// The TCP connection broke.
    Broken(io::ErrorKind),
    /// A deadline passed.
    TimedOut(Timeout),
    /// The peer's backlog was larger than [`SlowConsumer`](super::SlowConsumer) allows.
    SlowConsumer,
    /// The unsent budget of the server was spent, and this connection's backlog was the largest.
    TooMuchUnsent,
    /// The handler sent more during one event than the backlog may hold of it.
    TooMuchSent,
    /// The peer was throttled for too long because it published too fast.
    FastPublisher,
    /// The handler panicked.
    HandlerPanicked,
    /// We ended the TCP connection without a Close, because the client had requested it or because
    /// the connection had reached its maximum age.
    CutByServer,
    /// The server shut down.
    CutAtShutdown,
}

/// The deadline that passed; see [`Deadlines`](super::Deadlines).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Timeout {
    /// The peer was silent after a Ping.
    Ping,
    /// A message was started but not completed.
    Message,
    /// No data message came.
    Idle,
    /// The peer read nothing of its backlog.
    WriteStall,
}

/// How a connection ended if the peer did not answer our Close.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Unanswered {
    /// The peer ended the TCP connection.
    EndOfStream,
    /// The TCP connection broke.
    Broken(io::ErrorKind),
    /// A deadline passed; usually that of our Close.
    TimedOut,
    /// The server shut down.
    CutAtShutdown,
}

/// A Close without a code was sent or received (§7.4.1).
const NO_CODE: u16 = 1005;
/// No Close was sent or received.
const NO_CLOSE: u16 = 1006;

impl Disconnect {
    /// The Close for a slow consumer: as sent, logged and counted.
    pub(crate) const OVERRUN: (CloseCode, &str) = (CloseCode::Policy, "slow consumer");

    /// The status code of the Close that we sent, also in answer to the peer's. It is unknown
    /// whether the peer has read it.
    pub fn code_sent(&self) -> u16 {
        match *self {
            Disconnect::ClosedByPeer(code)
            | Disconnect::ClosedLocally(code, _)
            | Disconnect::Unanswered(code, _) => code.map_or(NO_CODE, u16::from),
            Disconnect::Failed(_, code) => u16::from(code),
            Disconnect::TimedOut(Timeout::WriteStall) => NO_CLOSE,
            Disconnect::TimedOut(Timeout::Ping | Timeout::Message | Timeout::Idle)
            | Disconnect::FastPublisher => u16::from(CloseCode::Policy),
            Disconnect::SlowConsumer => u16::from(Disconnect::OVERRUN.0),
            Disconnect::TooMuchUnsent => u16::from(CloseCode::Again),
            Disconnect::TooMuchSent | Disconnect::HandlerPanicked => u16::from(CloseCode::Error),
            Disconnect::EndOfStream
            | Disconnect::Broken(_)
            | Disconnect::CutByServer
            | Disconnect::CutAtShutdown => NO_CLOSE,
        }
    }

    /// The status code of the Close that was received (§7.1.5).
    pub fn code_received(&self) -> u16 {
        match *self {
            Disconnect::ClosedByPeer(code) | Disconnect::ClosedLocally(_, code) => {
                code.map_or(NO_CODE, u16::from)
            }
            _ => NO_CLOSE,
        }
    }

    /// The kind of the end, without details: for metrics.
    pub fn reason(&self) -> &'static str {
        match self {
            Disconnect::ClosedByPeer(_) => "closed by peer",
            Disconnect::ClosedLocally(..) => "closed by server",
            Disconnect::Failed(..) => "protocol error",
            Disconnect::EndOfStream | Disconnect::Unanswered(_, Unanswered::EndOfStream) => {
                "end of stream"
            }
            Disconnect::Broken(_) | Disconnect::Unanswered(_, Unanswered::Broken(_)) => "broken",
            Disconnect::TimedOut(Timeout::Ping) => "ping timeout",
            Disconnect::TimedOut(Timeout::Message) => "message timeout",
            Disconnect::TimedOut(Timeout::Idle) => "idle timeout",
            Disconnect::TimedOut(Timeout::WriteStall) => "write stall",
            Disconnect::Unanswered(_, Unanswered::TimedOut) => "close timeout",
            Disconnect::SlowConsumer => "slow consumer",
            Disconnect::TooMuchUnsent => "too much unsent",
            Disconnect::TooMuchSent => "too much sent at once",
            Disconnect::FastPublisher => "fast publisher",
            Disconnect::HandlerPanicked => "handler panicked",
            Disconnect::CutByServer => "cut by server",
            Disconnect::CutAtShutdown | Disconnect::Unanswered(_, Unanswered::CutAtShutdown) => {
                "cut at shutdown"
            }
        }
    }

    /// Whether the peer ended the TCP connection. If it did, it does not read a Close.
    pub(super) fn is_end_of_stream(&self) -> bool {
        matches!(
            self,
            Disconnect::EndOfStream | Disconnect::Unanswered(_, Unanswered::EndOfStream)
        )
    }

    /// Whether the backlog was too large. Then the peer has until the `write_stall` deadline to
    /// read the rest.
    pub(super) fn is_overrun(&self) -> bool {
        matches!(
            self,
            Disconnect::SlowConsumer | Disconnect::TooMuchUnsent | Disconnect::TooMuchSent
        )
    }

    /// Whether the peer did not read its backlog, or not in time. A FIN would stay behind the
    /// backlog for ever, so the connection is reset.
    pub(crate) fn is_stalled(&self) -> bool {
        matches!(
            self,
            Disconnect::TimedOut(_)
                | Disconnect::Unanswered(_, Unanswered::TimedOut | Unanswered::CutAtShutdown)
                | Disconnect::SlowConsumer
                | Disconnect::TooMuchUnsent
                | Disconnect::TooMuchSent
                | Disconnect::CutAtShutdown
        )
    }
}

impl fmt::Display for Disconnect {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Disconnect::Failed(error, _) => write!(formatter, "protocol error: {error}"),
            Disconnect::EndOfStream => formatter.write_str("peer went without a Close"),
            Disconnect::Unanswered(_, Unanswered::EndOfStream) => {
                formatter.write_str("peer went without answering a Close")
            }
            Disconnect::Broken(kind) | Disconnect::Unanswered(_, Unanswered::Broken(kind)) => {
                write!(formatter, "connection broke: {kind}")
            }
            Disconnect::TimedOut(Timeout::Message) => formatter.write_str("message not finished"),
            _ => formatter.write_str(self.reason()),
        }
    }
}
