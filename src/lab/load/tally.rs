//! Counters and latencies of one thread.

use std::collections::BTreeMap;

use serde::Serialize;

use super::histogram::Latencies;

/// The counts of a whole run, including warm-up and end.
#[derive(Clone, Debug, Default, Serialize)]
#[non_exhaustive]
pub struct Counts {
    /// Messages sent.
    pub sent: u64,
    /// Data messages received, correct or not.
    pub received: u64,
    /// Bytes of payload in the received data messages.
    #[serde(skip)]
    pub received_bytes: u64,
    /// Messages without a reply. In a broadcast, copies that a member did not receive.
    pub lost: u64,
    /// Replies received more than once.
    pub repeated: u64,
    /// Replies received after the reply to a later message.
    pub reordered: u64,
    /// Replies that differ from the sent message.
    pub corrupt: u64,
    /// Replies not received within the timeout.
    pub timed_out: u64,
    /// Replies received after the timeout.
    pub late: u64,
    /// Messages that were due but never sent, because the socket was full or closed.
    pub unsent: u64,
    /// Connections opened.
    pub opened: u64,
    /// Refused connections whose server had accepted the TCP connection.
    #[serde(skip)]
    pub reached: u64,
    /// Connections that could not be opened, by reason.
    pub refused: BTreeMap<String, u64>,
    /// Connections closed by the server, by close code. 1005: the Close frame had no code. 1006:
    /// the connection ended without a Close frame.
    pub closed: BTreeMap<u16, u64>,
    /// Protocol violations by the server, by rule.
    pub violations: BTreeMap<String, u64>,
    /// Pings answered.
    pub pings: u64,
}

impl Counts {
    /// The sum of all errors. Timeouts count only as lost or late.
    pub fn errors(&self) -> u64 {
        let sum = |counts: &BTreeMap<String, u64>| counts.values().sum::<u64>();
        self.lost
            + self.repeated
            + self.reordered
            + self.corrupt
            + self.late
            + self.unsent
            + sum(&self.refused)
            + self.closed.values().sum::<u64>()
            + sum(&self.violations)
    }

    /// Adds the counts of another thread.
    pub(super) fn add(&mut self, other: &Counts) {
        for (mine, theirs) in [
            (&mut self.sent, other.sent),
            (&mut self.received, other.received),
            (&mut self.received_bytes, other.received_bytes),
            (&mut self.lost, other.lost),
            (&mut self.repeated, other.repeated),
            (&mut self.reordered, other.reordered),
            (&mut self.corrupt, other.corrupt),
            (&mut self.timed_out, other.timed_out),
            (&mut self.late, other.late),
            (&mut self.unsent, other.unsent),
            (&mut self.opened, other.opened),
            (&mut self.reached, other.reached),
            (&mut self.pings, other.pings),
        ] {
            *mine += theirs;
        }
        merge(&mut self.refused, &other.refused);
        merge(&mut self.closed, &other.closed);
        merge(&mut self.violations, &other.violations);
    }
}

fn merge<K: Ord + Clone>(mine: &mut BTreeMap<K, u64>, theirs: &BTreeMap<K, u64>) {
    for (key, count) in theirs {
        *mine.entry(key.clone()).or_default() += count;
    }
}

/// The counts and latencies of one thread.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) counts: Counts,
    /// Time from writing a message to receiving its reply.
    pub(super) service: Latencies,
    /// Time from when a message was due until its reply was received; only in an open loop.
    pub(super) response: Latencies,
    /// Time from a publication until the last member has received it.
    pub(super) reach: Latencies,
    pub(super) opening: OpeningLatencies,
    /// The measurement is running: latencies are recorded.
    pub(super) is_measured: bool,
    /// Equal latencies that have not been recorded yet.
    run: Run,
}

#[derive(Debug, Default)]
struct Run {
    nanoseconds: u64,
    count: u64,
}

/// How long each part of opening a connection takes.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct OpeningLatencies {
    /// From `connect` until the TCP connection is established.
    pub tcp: Latencies,
    /// The TLS handshake.
    pub tls: Latencies,
    /// From the request to the complete answer.
    pub upgrade: Latencies,
    /// The whole opening.
    pub whole: Latencies,
}

impl OpeningLatencies {
    pub(super) fn add(&mut self, other: &OpeningLatencies) {
        self.tcp.add(&other.tcp);
        self.tls.add(&other.tls);
        self.upgrade.add(&other.upgrade);
        self.whole.add(&other.whole);
    }
}

impl Tally {
    /// Notes `count` service times of the same length. Replies of one batch arrive in one read and
    /// have the same latency.
    #[inline]
    pub(super) fn served(&mut self, nanoseconds: u64, count: u64) {
        if self.run.nanoseconds != nanoseconds {
            self.settle();
            self.run.nanoseconds = nanoseconds;
        }
        self.run.count += count;
    }

    /// Records the equal latencies that [`Tally::served`] has collected.
    #[inline]
    pub(super) fn settle(&mut self) {
        if self.is_measured && self.run.count > 0 {
            self.service.record(self.run.nanoseconds, self.run.count);
        }
        self.run = Run::default();
    }
}
