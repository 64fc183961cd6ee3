//! Counters for metrics and for the log line of each connection.

use std::ops::{AddAssign, Sub};
use std::time::Duration;

use super::disconnect::Disconnect;
use super::socket::PeerAddress;

/// Number and size of the messages in one direction.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Traffic {
    /// Number of messages.
    pub(crate) messages: u64,
    /// Bytes of uncompressed payload; for fan-out, bytes of frames.
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

    /// The traffic since `earlier`.
    fn sub(self, earlier: Traffic) -> Traffic {
        Traffic {
            messages: self.messages.wrapping_sub(earlier.messages),
            bytes: self.bytes.wrapping_sub(earlier.bytes),
        }
    }
}

/// Messages in one direction, by type.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct TrafficByType {
    /// Text and binary messages. A connection adds them here once per event, for all messages of
    /// the event.
    pub(crate) data: Traffic,
    /// Text messages, which are part of `data`.
    pub(crate) text: Traffic,
    /// Ping, Pong and Close.
    pub(crate) control: Traffic,
}

/// Counts of a worker since its last report to the [`Observer`].
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct WorkerStats {
    /// Messages from clients.
    pub(crate) received: TrafficByType,
    /// Messages to clients, without fan-out.
    pub(crate) sent: TrafficByType,
    /// Fan-out messages, counted once per receiver.
    pub(crate) delivered: Traffic,
    /// Messages dropped because their receiver read too slowly. They are part of `delivered`.
    pub(crate) dropped: u64,
    /// Number of times that a publisher was throttled.
    pub(crate) holds: u64,
    /// Unsent bytes of the worker's connections at the moment, not since the last report.
    pub(crate) backlog_bytes: usize,
    /// Bytes of memory that unsent data of all workers takes at the moment.
    pub(crate) unsent_bytes: usize,
}

/// Facts about a connection that is over.
pub(crate) struct ConnectionRecord<'a> {
    /// Number of the connection among those of its worker, from 1.
    pub(crate) number: u64,
    /// The endpoint of the connection.
    pub(crate) endpoint: EndpointIndex,
    /// Address of the peer.
    pub(crate) peer: PeerAddress,
    /// Time between the opening handshake and the end.
    pub(crate) duration: Duration,
    /// Messages from the peer, without control frames.
    pub(crate) received: Traffic,
    /// Messages to the peer.
    pub(crate) sent: Traffic,
    /// How the connection ended.
    pub(crate) why: &'a Disconnect,
}

/// The index of an endpoint in the router.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub(crate) struct EndpointIndex(pub(crate) u16);

/// Receives the events and counts of a worker.
pub(crate) trait Observer: Send + Sync {
    /// A connection was opened at this endpoint.
    fn opened(&self, endpoint: EndpointIndex);

    /// A connection is about to end because of something that its peer did or failed to do.
    fn failed(&self, why: &Disconnect, peer: PeerAddress);

    /// A connection has ended.
    fn closed(&self, record: &ConnectionRecord<'_>);

    /// Reports the counts since the last report. Called once a tick.
    fn statistics(&self, stats: &WorkerStats);

    /// An upgrade request, or a request that was refused, was answered with this status.
    fn answered(&self, status: u16);

    /// The number of connections outside the frame loop that count as WebSockets has changed by
    /// `difference`.
    fn mounted(&self, difference: isize);
}

/// Observes nothing.
impl Observer for () {
    fn opened(&self, _: EndpointIndex) {}
    fn failed(&self, _: &Disconnect, _: PeerAddress) {}
    fn closed(&self, _: &ConnectionRecord<'_>) {}
    fn statistics(&self, _: &WorkerStats) {}
    fn answered(&self, _: u16) {}
    fn mounted(&self, _: isize) {}
}
