//! What is counted, by each thread for itself.

use std::collections::BTreeMap;

use serde::Serialize;

use super::histogram::Latencies;

/// The counts of a run, over all of it: warm-up and end are in them.
#[derive(Clone, Debug, Default, Serialize)]
#[non_exhaustive]
pub struct Counts {
    /// Messages that were sent.
    pub sent: u64,
    /// Data messages that came, right or wrong.
    pub received: u64,
    /// Bytes of payload of these.
    #[serde(skip)]
    pub received_bytes: u64,
    /// Messages of which no reply came, or of which a member got no copy.
    pub lost: u64,
    /// Replies that came more than once.
    pub repeated: u64,
    /// Replies that a later one overtook.
    pub reordered: u64,
    /// Replies that differ from what was sent.
    pub corrupt: u64,
    /// Replies that did not come within the timeout.
    pub timed_out: u64,
    /// Replies that came after the timeout.
    pub late: u64,
    /// Messages that were due and never sent: their socket was full or closed.
    pub unsent: u64,
    /// Connections that were opened.
    pub opened: u64,
    /// Connections that could not be opened, by what went wrong.
    pub refused: BTreeMap<String, u64>,
    /// Connections that the server closed, by close code; 1005 stands for a Close without a code, 1006
    /// for a connection without a Close.
    pub closed: BTreeMap<u16, u64>,
    /// Rules of the protocol that the server broke.
    pub violations: BTreeMap<String, u64>,
    /// Pings that were answered.
    pub pings: u64,
}

impl Counts {
    /// All that went wrong.
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

    /// Adds another thread's.
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

/// What one thread counts.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) counts: Counts,
    /// From the write of a message to its reply.
    pub(super) service: Latencies,
    /// From when a message was due to its reply; only in an open loop.
    pub(super) response: Latencies,
    /// From a publication to its last member.
    pub(super) reach: Latencies,
    pub(super) opening: OpeningLatencies,
    /// Whether the time is one that is measured.
    pub(super) is_measured: bool,
    /// Latencies that are the same are recorded together.
    run: Run,
}

#[derive(Debug, Default)]
struct Run {
    nanoseconds: u64,
    count: u64,
}

/// The parts of opening a connection.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct OpeningLatencies {
    /// From `connect` to a TCP connection.
    pub tcp: Latencies,
    /// The TLS handshake.
    pub tls: Latencies,
    /// From the request to the whole answer.
    pub upgrade: Latencies,
    /// All of it.
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
    /// Replies took this long. Those of one batch come in one read, with the same latency.
    #[inline]
    pub(super) fn served(&mut self, nanoseconds: u64, count: u64) {
        if self.run.nanoseconds != nanoseconds {
            self.settle();
            self.run.nanoseconds = nanoseconds;
        }
        self.run.count += count;
    }

    /// Records what [`Tally::served`] has put together.
    #[inline]
    pub(super) fn settle(&mut self) {
        if self.is_measured && self.run.count > 0 {
            self.service.record(self.run.nanoseconds, self.run.count);
        }
        self.run = Run::default();
    }
}
