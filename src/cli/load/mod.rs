//! `frameloop load`: its flags, its progress and its exit codes.

mod preflight;
mod progress;
mod run;
mod values;

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::Exit;
use super::values::{duration, one_of, size};
use super::variables::named;
use crate::lab::load::{
    Assertion, Check, Compression, Content, End, Messages, Mode, Plan, Target, TargetError, Text,
    Trust,
};
use values::{
    Sizes, Sources, characters, field, measured_time, messages, rate, sizes, sources, token,
};

/// Measure a WebSocket server: rate, latency, losses, memory
///
/// 50 connections echo 1 KiB of binary one at a time for 10 s unless flags say otherwise. Each flag
/// is also a variable: --connections 100 is FRAMELOOP_LOAD_CONNECTIONS=100.
#[derive(Args, Debug)]
#[command(mut_args(|flag| named("FRAMELOOP_LOAD_", flag)), after_help = EXAMPLES)]
pub(super) struct Load {
    /// The server: ws://HOST[:PORT]/PATH, wss://..., unix:SOCKET[:/PATH]. Two URLs are compared, in
    /// turn. Hosts separated by commas share the connections of one run
    #[arg(value_name = "URL", required = true, num_args = 1..=2)]
    urls: Vec<String>,

    /// Open this many connections; with --connect and --churn, this many at a time
    #[arg(long, short, value_name = "NUMBER", default_value_t = 50,
          value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    connections: u32,

    /// Messages that a connection sends in one write before it waits for their replies
    #[arg(long, short, value_name = "NUMBER", default_value_t = 1,
          value_parser = clap::value_parser!(u32).range(1..=65_536))]
    depth: u32,

    /// Bytes in a message, or a range: 20, 16KiB, 20..4KiB
    #[arg(long, short, value_name = "SIZE", default_value = "1KiB", value_parser = sizes)]
    size: Sizes,

    /// Send the lines of this file. They are compared in order, because they carry no numbers
    #[arg(long, value_name = "FILE", conflicts_with = "size")]
    file: Option<PathBuf>,

    /// The file holds records instead of lines: 32 bits of length, big-endian, then the message
    #[arg(long, requires = "file")]
    records: bool,

    /// Send text instead of binary
    #[arg(long, value_name = "CHARACTERS", num_args = 0..=1, require_equals = true,
          default_missing_value = "ascii", value_parser = characters())]
    text: Option<Text>,

    /// Measure for this time [default: 10s; 3s for each load of --sweep; two URLs divide it by their
    /// rounds]
    #[arg(long, short = 't', value_name = "TIME", value_parser = measured_time)]
    duration: Option<Duration>,

    /// End after this many messages over all connections; with --connect and --churn, after this
    /// many connections
    #[arg(long, value_name = "NUMBER")]
    messages: Option<u64>,

    /// Put load on the server for this time before measuring [default: 1s; 0s with --messages, --idle]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    warmup: Option<Duration>,

    /// Open loop: this many messages a second over all connections, whether the server keeps up or
    /// not. Latency then counts from when a message was due. With --connect and --churn: connections
    /// a second
    #[arg(long, value_name = "NUMBER", value_parser = rate)]
    rate: Option<f64>,

    /// Measure latency at rising loads, up to the knee, where p99 is ten times its first value: a
    /// tenth of the rate of a closed loop, two tenths and so on, or these rates
    #[arg(long, value_name = "RATES", num_args = 0..=1, require_equals = true,
          value_delimiter = ',', value_parser = rate, conflicts_with_all = ["rate", "messages"])]
    sweep: Option<Vec<f64>>,

    /// The server sends each message to all connections: measure how many get it, and when the last
    /// one does
    #[arg(long, group = "mode")]
    broadcast: bool,

    /// Connections that send in a broadcast; all receive
    #[arg(long, value_name = "NUMBER", default_value_t = 1,
          value_parser = clap::value_parser!(u16).range(1..=4_096))]
    publishers: u16,

    /// Open connections and drop them: opening handshakes a second
    #[arg(long, group = "mode")]
    connect: bool,

    /// Open connections, have --depth messages echoed on each, close it by the closing handshake
    #[arg(long, group = "mode")]
    churn: bool,

    /// Open connections, have one message echoed on each, and keep them: memory of a connection
    #[arg(long, group = "mode")]
    idle: bool,

    /// Send the same bytes over TCP without a handshake to a plain TCP echo server: the cost of the
    /// kernel alone
    #[arg(long)]
    raw: bool,

    /// Replies that are compared byte for byte; the others by number and length
    #[arg(long, value_name = "WHICH", default_value = "all", value_parser = one_of([
        ("all", Check::All, "Every one"),
        ("first", Check::First, "The first of each connection"),
        ("none", Check::None, "None"),
    ]))]
    check: Check,

    /// Cut messages into frames of at most this size; 16 bytes at least
    #[arg(long, value_name = "SIZE", value_parser = size)]
    fragment: Option<usize>,

    /// Make a new masking key for every frame; without this flag a prepared frame keeps its key
    #[arg(long)]
    fresh_masks: bool,

    /// Negotiate permessage-deflate and send messages that were compressed once; replies are counted
    #[arg(long, conflicts_with = "raw")]
    deflate: bool,

    /// Negotiate permessage-deflate, compress each message when it is sent, decompress and compare the
    /// replies
    #[arg(long, conflicts_with_all = ["raw", "deflate", "fragment", "fresh_masks"])]
    deflate_fresh: bool,

    /// Trust the authorities in this file, in PEM, for wss:// [default: the system's]
    #[arg(long, value_name = "FILE")]
    cacert: Option<PathBuf>,

    /// Trust any certificate
    #[arg(long, conflicts_with = "cacert")]
    insecure: bool,

    /// Further field of the opening handshake, 'Name: value'; may be repeated
    #[arg(long, value_name = "FIELD", value_parser = field)]
    header: Vec<(String, String)>,

    /// Subprotocol to offer; may be repeated
    #[arg(long, value_name = "NAME", value_parser = token)]
    subprotocol: Vec<String>,

    /// Threads that generate the load
    #[arg(long, value_name = "NUMBER", default_value_t = 1,
          value_parser = clap::value_parser!(u16).range(1..=1_024))]
    threads: u16,

    /// Pin these threads to cores, in turn: 0,2 [default: not pinned]
    #[arg(long, value_name = "CORES", value_delimiter = ',')]
    cpus: Vec<usize>,

    /// Own addresses of the connections, in turn: ADDRESS or FIRST-LAST. One address has about 28,000
    /// ports [default: the system's choice; 127.1.0.1-127.1.0.250 for many connections to 127.0.0.0/8]
    #[arg(long, value_name = "ADDRESS", value_delimiter = ',', value_parser = sources)]
    source: Vec<Sources>,

    /// Spread the opening of the connections over this time
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "0s")]
    ramp: Duration,

    /// A reply that takes longer than this counts as timed out
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "5s")]
    timeout: Duration,

    /// Seed of messages and masks: the same seed sends the same bytes
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    seed: u64,

    /// End the run at once, and exit with 1, when there are more errors than this. Lost and corrupt
    /// messages always exit with 1 [default: go on, and exit with 1 if there is an error]
    #[arg(long, value_name = "NUMBER")]
    max_errors: Option<u64>,

    /// Watch the server's process: CPU time for a message, memory, descriptors; PID,PID for two URLs
    #[arg(long, value_name = "PID", value_delimiter = ',')]
    pid: Vec<u32>,

    /// Rounds of A B in which two URLs take turns
    #[arg(long, value_name = "NUMBER", default_value_t = 5,
          value_parser = clap::value_parser!(u16).range(2..=1_000))]
    rounds: u16,

    /// Exit with 1 unless this holds: 'p99<5ms', 'rate>=100000', 'errors==0'; may be repeated
    #[arg(long = "assert", value_name = "CONDITION")]
    assertions: Vec<Assertion>,

    /// Write the report to this file as JSON, as docs/load.schema.json says
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,

    /// Write the latencies to this file as a log of HdrHistogram, version 2, for its tools
    #[arg(long, value_name = "FILE")]
    hdr: Option<PathBuf>,

    /// Write the report to this file as one HTML page with charts
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,

    /// Allow more than 1,000 connections or messages a second to an address that is neither this
    /// machine's nor private
    #[arg(long)]
    i_own_this_target: bool,
}

const EXAMPLES: &str = "\
Try it:
  frameloop load ws://127.0.0.1:8000/echo                     50 connections, 1 KiB, 10 s
  frameloop load ws://127.0.0.1:8000/echo -c 1000 -d 16 -s 20 --text -t 30s
  frameloop load ws://127.0.0.1:8000/echo --rate 50000        open loop
  frameloop load ws://127.0.0.1:8000/echo --sweep             latency against offered load
  frameloop load ws://127.0.0.1:8000/broadcast/x --broadcast -c 1000 -s 100
  frameloop load ws://127.0.0.1:8000/echo --connect           opening handshakes a second
  frameloop load ws://127.0.0.1:8000/echo --idle -c 15000 --pid PID
  frameloop load ws://127.0.0.1:8000/echo ws://127.0.0.1:9000/echo      two servers, in turn

A closed loop (the default) finds how much a server can do: a connection sends when it has its
replies. It hides pauses, because a slow server is asked less. An open loop (--rate) shows them.

The rate is the server's only if the generator had time left: above 90 % of a core the report marks
it. Give the generator --threads and --cpus, and read the CPU time for a message (--pid) first.

Ctrl-C ends early with a whole report; a second Ctrl-C does not wait for replies.

Exit codes: 0 nothing lost or wrong, 1 lost, corrupt or too many errors, or an assertion failed,
2 wrong flag or value, 3 cannot connect, or no WebSocket could be opened.";

impl Load {
    fn plans(&self) -> Result<Vec<Plan>, Refusal> {
        self.refuse_values_after_a_blank()?;
        let urls = self.urls.iter().enumerate();
        let plans = urls.map(|(place, url)| self.plan(url, self.pid.get(place).copied()));
        let plans = plans.collect::<Result<Vec<_>, _>>()?;
        self.refuse_what_is_not_there(&plans)?;
        Ok(plans)
    }

    fn plan(&self, url: &str, server: Option<u32>) -> Result<Plan, Refusal> {
        let mut plan = Plan::new(Target::parse(url)?);
        plan.mode = self.mode();
        plan.messages = self.messages_of_all()?;
        plan.connections = self.connections as usize;
        plan.depth = self.depth as usize;
        plan.rate = self.rate;
        // With two URLs, the rounds share the time.
        let rounds = if self.urls.len() > 1 {
            self.rounds.into()
        } else {
            1
        };
        let usual = Duration::from_secs(if self.sweep.is_some() { 3 } else { 10 });
        let time = End::Time(self.duration.unwrap_or(usual) / rounds);
        plan.end = self.messages.map_or(time, End::Messages);
        let warm_up = match (self.messages, plan.mode) {
            (Some(_), _) | (_, Mode::Idle) => Duration::ZERO,
            _ => Duration::from_secs(1) / rounds.min(2),
        };
        plan.warm_up = self.warmup.unwrap_or(warm_up);
        plan.ramp = self.ramp;
        plan.timeout = self.timeout;
        plan.threads = usize::from(self.threads).min(plan.connections);
        plan.cpus = self.cpus.clone();
        plan.sources = match self.source.is_empty() {
            true => plan.usual_sources(),
            false => self
                .source
                .iter()
                .flat_map(|Sources(all)| all.clone())
                .collect(),
        };
        plan.check = self.check;
        plan.seed = self.seed;
        plan.max_errors = self.max_errors;
        plan.headers = self.header.clone();
        plan.subprotocols = self.subprotocol.clone();
        plan.is_raw = self.raw;
        plan.server = server;
        plan.trust = match (&self.cacert, self.insecure) {
            (Some(path), _) => Trust::File(path.clone()),
            (None, true) => Trust::Anything,
            (None, false) => Trust::System,
        };
        self.refuse(&plan)?;
        Ok(plan)
    }

    fn mode(&self) -> Mode {
        match (self.connect, self.churn, self.idle, self.broadcast) {
            (true, ..) => Mode::Connect,
            (_, true, ..) => Mode::Churn,
            (_, _, true, _) => Mode::Idle,
            (.., true) => Mode::Broadcast {
                publishers: usize::from(self.publishers).min(self.connections as usize),
            },
            _ => Mode::Echo,
        }
    }

    fn messages_of_all(&self) -> Result<Messages, String> {
        let Sizes { from, to } = self.size;
        let content = match &self.file {
            None => Content::Sizes { from, to },
            Some(path) => Content::File(messages(path, self.records, self.text.is_some())?),
        };
        Ok(Messages {
            content,
            text: self.text,
            fragment: self.fragment,
            fresh_masks: self.fresh_masks,
            compression: match (self.deflate, self.deflate_fresh) {
                (true, _) => Some(Compression::Once),
                (_, true) => Some(Compression::Fresh),
                _ => None,
            },
        })
    }
}

/// Why a command cannot be run, and its exit code.
struct Refusal(Exit, String);

impl From<String> for Refusal {
    fn from(why: String) -> Refusal {
        Refusal(Exit::Usage, why)
    }
}

impl From<TargetError> for Refusal {
    fn from(error: TargetError) -> Refusal {
        match error {
            TargetError::Url(why) => Refusal(Exit::Usage, why),
            TargetError::Unreachable(why) => {
                Refusal(Exit::NoAddress, format!("cannot connect: {why}"))
            }
        }
    }
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Refusal {
        Refusal(Exit::Failed, error.to_string())
    }
}
