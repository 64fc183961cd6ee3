//! What has passed, counted: for metrics, and for the line that is logged of each connection.

use std::ops::{AddAssign, Sub};
use std::time::Duration;

use super::disconnect::Disconnect;
use super::socket::PeerAddress;

/// Messages of one direction.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Traffic {
    /// How many.
    pub(crate) messages: u64,
    /// Bytes of their payloads, uncompressed; of fan-out, of the frames.
    pub(crate) bytes: u64,
}

impl Traffic {
    #[inline]
    pub(crate) fn add(&mut self, messages: usize, bytes: usize) {
        self.messages += messages as u64;
        self.bytes += bytes as u64;
    }
}

impl AddAssign for Traffic {
    fn add_assign(&mut self, other: Traffic) {
        self.messages += other.messages;
        self.bytes += other.bytes;
    }
}

impl Sub for Traffic {
    type Output = Traffic;

    /// What has passed since `earlier`.
    fn sub(self, earlier: Traffic) -> Traffic {
        Traffic {
            messages: self.messages.wrapping_sub(earlier.messages),
            bytes: self.bytes.wrapping_sub(earlier.bytes),
        }
    }
}

/// Messages of one direction by type.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct TrafficByType {
    /// Text and binary messages. A connection counts them for itself, and adds them up here once
    /// for all the messages of an event.
    pub(crate) data: Traffic,
    /// Of these, text.
    pub(crate) text: Traffic,
    /// Ping, Pong and Close.
    pub(crate) control: Traffic,
}

/// What a worker has done since it last told.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct WorkerStats {
    /// What clients sent.
    pub(crate) received: TrafficByType,
    /// What handlers answered, fan-out apart.
    pub(crate) sent: TrafficByType,
    /// Fan-out, once for each receiver.
    pub(crate) delivered: Traffic,
    /// Of the delivered messages, those that were dropped because their receiver took too little.
    pub(crate) dropped: u64,
    /// How often a publisher was put under back-pressure.
    pub(crate) holds: u64,
    /// Bytes that wait for clients to take them; not a sum, but how many there are now.
    pub(crate) backlog_bytes: usize,
    /// Bytes of memory in which what waits for the clients of all workers is kept, now.
    pub(crate) unsent_bytes: usize,
}

/// A connection that is over.
#[cfg_attr(
    not(feature = "tracing"),
    allow(dead_code, reason = "the log reads it")
)]
pub(crate) struct ConnectionRecord<'a> {
    /// Which it was of its worker's, from 1.
    pub(crate) number: u64,
    /// Where it was opened.
    pub(crate) endpoint: EndpointIndex,
    /// Who was at the other end.
    pub(crate) peer: PeerAddress,
    /// From its opening handshake to its end.
    pub(crate) duration: Duration,
    /// What it sent to us, control frames apart.
    pub(crate) received: Traffic,
    /// What was sent to it.
    pub(crate) sent: Traffic,
    /// How it ended.
    pub(crate) why: &'a Disconnect,
}

/// Which of a server's endpoints a connection belongs to: its place in the router.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub(crate) struct EndpointIndex(pub(crate) u16);

/// What is told of all that a worker does.
pub(crate) trait Observer: Send + Sync {
    /// A connection has been opened at this endpoint.
    fn opened(&self, endpoint: EndpointIndex) {
        let _ = endpoint;
    }

    /// A connection is being ended because of what its peer did or did not do.
    fn failed(&self, why: &Disconnect, peer: PeerAddress) {
        let _ = (why, peer);
    }

    /// A connection has ended.
    fn closed(&self, record: &ConnectionRecord<'_>) {
        let _ = record;
    }

    /// What the worker has done since it last said so; once a tick.
    fn statistics(&self, stats: &WorkerStats) {
        let _ = stats;
    }

    /// A request that was to become a WebSocket, or was refused, has been answered with this status.
    fn answered(&self, status: u16) {
        let _ = status;
    }

    /// There are so many more connections that are not the frame loop's and count as WebSockets.
    fn mounted(&self, difference: isize) {
        let _ = difference;
    }
}

/// Observes nothing.
impl Observer for () {}
