//! The plan of a run.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

use super::target::Target;

/// One run against one server.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Plan {
    /// The server to measure.
    pub target: Target,
    /// What the connections do.
    pub mode: Mode,
    /// The messages that the connections send.
    pub messages: Messages,
    /// Number of connections. In [`Mode::Connect`] and [`Mode::Churn`], the number of connections
    /// that exist at a time.
    pub connections: usize,
    /// Number of messages that a connection sends in one write. In a closed loop also the number of
    /// messages in flight.
    pub depth: usize,
    /// Open loop: messages per second over all connections, or connections per second. `None`:
    /// closed loop, in which a connection sends when it has received its replies.
    pub rate: Option<f64>,
    /// When the run ends.
    pub end: End,
    /// Duration of the load before the measurement.
    pub warm_up: Duration,
    /// Time over which the opening of the connections is spread. Zero: as fast as possible.
    pub ramp: Duration,
    /// A reply that takes longer than this counts as timed out.
    pub timeout: Duration,
    /// Number of threads that generate the load.
    pub threads: usize,
    /// Cores that the threads are pinned to, in turn. Empty: threads are not pinned.
    pub cpus: Vec<usize>,
    /// Source addresses of the connections, in turn. Empty: the system chooses.
    pub sources: Vec<IpAddr>,
    /// Which replies are compared byte for byte.
    pub check: Check,
    /// Seed of the random messages and masks. The same seed sends the same bytes.
    pub seed: u64,
    /// The run ends early when the number of errors exceeds this. `None`: errors never end it.
    pub max_errors: Option<u64>,
    /// Additional header fields of the opening handshake.
    pub headers: Vec<(String, String)>,
    /// Subprotocols to offer.
    pub subprotocols: Vec<String>,
    /// Sends the frames over TCP without a handshake; the server must return the same bytes.
    pub is_raw: bool,
    /// Process id of the server, for measuring its CPU time and memory.
    pub server: Option<u32>,
    /// Which certificates are trusted, if the target uses TLS.
    pub trust: Trust,
}

impl Plan {
    /// The default plan: 50 connections echo binary messages of 1 KiB, one at a time, for 10 s
    /// after a warm-up of 1 s, on one thread.
    pub fn new(target: Target) -> Plan {
        Plan {
            target,
            mode: Mode::Echo,
            messages: Messages::default(),
            connections: 50,
            depth: 1,
            rate: None,
            end: End::Time(Duration::from_secs(10)),
            warm_up: Duration::from_secs(1),
            ramp: Duration::ZERO,
            timeout: Duration::from_secs(5),
            threads: 1,
            cpus: Vec::new(),
            sources: Vec::new(),
            check: Check::All,
            seed: 1,
            max_errors: None,
            headers: Vec::new(),
            subprotocols: Vec::new(),
            is_raw: false,
            server: None,
            trust: Trust::System,
        }
    }

    /// Loopback source addresses for more connections than one address has ports: about 28,000,
    /// or fewer while ports of closed connections are still in use. Empty if one address suffices
    /// or the system does not support several.
    pub fn usual_sources(&self) -> Vec<IpAddr> {
        const PORTS: usize = 25_000;
        let needs_many =
            self.connections > PORTS || matches!(self.mode, Mode::Connect | Mode::Churn);
        match needs_many && self.target.is_loopback_v4() && cfg!(target_os = "linux") {
            true => (1..=250).map(|last| [127, 1, 0, last].into()).collect(),
            false => Vec::new(),
        }
    }

    /// Whether the load is small enough for a server that other people own: at most 1,000
    /// connections and at most 1,000 messages or connections per second.
    pub fn is_gentle(&self) -> bool {
        const MOST: usize = 1_000;
        let is_slow = match (self.mode, self.rate) {
            (Mode::Idle, _) => true,
            (_, Some(rate)) => rate <= MOST as f64,
            (_, None) => false,
        };
        self.connections <= MOST && is_slow
    }
}

/// Which certificates are trusted.
#[derive(Clone, Debug)]
pub enum Trust {
    /// Certificates of the system's authorities.
    System,
    /// Certificates of the authorities in this PEM file.
    File(PathBuf),
    /// Any certificate.
    Anything,
}

/// What connections do.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Mode {
    /// The server returns each message on the same connection.
    Echo,
    /// The server sends each message to all connections. The first `publishers` connections send.
    Broadcast {
        /// Number of connections that send.
        publishers: usize,
    },
    /// Connections are opened and dropped.
    Connect,
    /// Each connection opens, exchanges one batch of messages, and closes by the closing handshake.
    Churn,
    /// Each connection opens, exchanges one message, and stays open.
    Idle,
}

/// When a run ends.
#[derive(Clone, Copy, Debug)]
pub enum End {
    /// After this time of measurement, which follows the warm-up.
    Time(Duration),
    /// After this number of messages over all connections; in [`Mode::Connect`] and
    /// [`Mode::Churn`], after this number of connections.
    Messages(u64),
}

/// Which replies are compared byte for byte.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Check {
    /// Every reply.
    All,
    /// The first reply of each connection. For other replies only number and length are checked.
    First,
    /// No reply. Only number and length are checked.
    None,
}

/// The messages that connections send.
#[derive(Clone, Debug)]
pub struct Messages {
    /// Sizes of random messages, or the messages themselves.
    pub content: Content,
    /// Characters of text messages. `None`: binary messages.
    pub text: Option<Text>,
    /// Maximum payload of a frame in bytes, at least 16. `None`: each message is one frame.
    pub fragment: Option<usize>,
    /// Uses a new masking key for each sent frame. Otherwise a prepared frame keeps its key.
    pub fresh_masks: bool,
    /// Offers permessage-deflate and says when messages are compressed. `None`: not offered.
    pub compression: Option<Compression>,
}

impl Default for Messages {
    fn default() -> Messages {
        Messages {
            content: Content::Sizes {
                from: 1 << 10,
                to: 1 << 10,
            },
            text: None,
            fragment: None,
            fresh_masks: false,
            compression: None,
        }
    }
}

/// When messages are compressed.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// Once, when they are prepared. Such messages carry no number, and replies are only counted.
    Once,
    /// At each send. Replies are decompressed and compared.
    Fresh,
}

/// The source of the messages.
#[derive(Clone, Debug)]
pub enum Content {
    /// Random messages with sizes in this inclusive range, in bytes.
    Sizes {
        /// The smallest size in bytes.
        from: usize,
        /// The largest size in bytes.
        to: usize,
    },
    /// These messages, in turn.
    File(Vec<Vec<u8>>),
}

/// The characters of text messages.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Text {
    /// Printable ASCII.
    Ascii,
    /// Characters of one to four bytes, in equal numbers.
    Multibyte,
}
