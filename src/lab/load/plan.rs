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
    /// The server.
    pub target: Target,
    /// What the connections do.
    pub mode: Mode,
    /// What they send.
    pub messages: Messages,
    /// How many there are. In [`Mode::Connect`] and [`Mode::Churn`], how many at a time.
    pub connections: usize,
    /// Messages that a connection sends in one write, and has in flight in a closed loop.
    pub depth: usize,
    /// Messages a second over all connections, or connections a second; `None` is a closed loop:
    /// a connection sends when it has its answers.
    pub rate: Option<f64>,
    /// When it ends.
    pub end: End,
    /// Load before the measurement.
    pub warm_up: Duration,
    /// The time over which the connections are opened; zero is as fast as they can be.
    pub ramp: Duration,
    /// An answer that takes longer counts as timed out.
    pub timeout: Duration,
    /// Threads that generate the load.
    pub threads: usize,
    /// The cores that they are pinned to, in turn; empty leaves them free.
    pub cpus: Vec<usize>,
    /// The addresses that connections come from, in turn; none leaves it to the system.
    pub sources: Vec<IpAddr>,
    /// Which replies are compared byte for byte.
    pub check: Check,
    /// The same bytes go out for the same seed.
    pub seed: u64,
    /// Ends the run as soon as there are more errors than this; `None` lets it go on.
    pub max_errors: Option<u64>,
    /// Further fields of the opening handshake.
    pub headers: Vec<(String, String)>,
    /// Subprotocols to offer.
    pub subprotocols: Vec<String>,
    /// The frames go over TCP without a handshake, and must come back as they went out.
    pub is_raw: bool,
    /// The process that serves, to be watched.
    pub server: Option<u32>,
    /// Which certificates are trusted, where the target is encrypted.
    pub trust: Trust,
}

impl Plan {
    /// 50 connections, 1 KiB binary, one at a time, for 10 s after 1 s of warm-up, on one thread.
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

    /// Addresses of loopback for more connections than one address has ports: about 28,000, fewer
    /// while those of finished connections linger. None where that is not needed, or does not work.
    pub fn usual_sources(&self) -> Vec<IpAddr> {
        const PORTS: usize = 25_000;
        let needs_many =
            self.connections > PORTS || matches!(self.mode, Mode::Connect | Mode::Churn);
        match needs_many && self.target.is_loopback_v4() && cfg!(target_os = "linux") {
            true => (1..=250).map(|last| [127, 1, 0, last].into()).collect(),
            false => Vec::new(),
        }
    }

    /// Whether the load is small enough for a server that belongs to others: at most 1,000
    /// connections and 1,000 messages or connections a second.
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
    /// Those of the system's authorities.
    System,
    /// Those of the authorities in this file, in PEM.
    File(PathBuf),
    /// Any.
    Anything,
}

/// What connections do.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Mode {
    /// Each message comes back on its connection.
    Echo,
    /// Each message comes to every connection; the first `publishers` of them send.
    Broadcast {
        /// How many send.
        publishers: usize,
    },
    /// Connections are opened and dropped.
    Connect,
    /// Connections are opened, have one batch of messages echoed, and are closed by a handshake.
    Churn,
    /// Connections are opened, have one message echoed, and stay.
    Idle,
}

/// When a run ends.
#[derive(Clone, Copy, Debug)]
pub enum End {
    /// After the warm-up and this time.
    Time(Duration),
    /// After this number of messages over all connections; in [`Mode::Connect`] and
    /// [`Mode::Churn`], after this number of connections.
    Messages(u64),
}

/// Which replies are compared byte for byte.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Check {
    /// Every one.
    All,
    /// The first of each connection; of the others number and length.
    First,
    /// None; number and length only.
    None,
}

/// What is sent.
#[derive(Clone, Debug)]
pub struct Messages {
    /// Sizes, or the messages themselves.
    pub content: Content,
    /// Text messages, and of which characters; `None` is binary.
    pub text: Option<Text>,
    /// Bytes of payload in a frame, at least 16; `None` is a frame for each message.
    pub fragment: Option<usize>,
    /// A new masking key for each frame, instead of one for each that is prepared.
    pub fresh_masks: bool,
    /// permessage-deflate, and when messages are compressed; `None` does not offer it.
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
    /// Once, when they are made: they carry no number, and replies are counted only.
    Once,
    /// Each time that they are sent; replies are decompressed and compared.
    Fresh,
}

/// Where messages come from.
#[derive(Clone, Debug)]
pub enum Content {
    /// Random ones, with sizes in this range, in bytes; both ends are in it.
    Sizes {
        /// The smallest.
        from: usize,
        /// The largest.
        to: usize,
    },
    /// These, in turn.
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
