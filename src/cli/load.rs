//! `frameloop load`: its flags, its progress and its exit codes.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};

use super::Exit;
use super::serve::raise_open_files;
use super::values::{duration, size};
use crate::lab::load::report::Report;
use crate::lab::load::{
    Check, Content, End, Interrupt, Machine, Messages, Mode, Outcome, Plan, Progress, Target,
    TargetError, Text, run,
};

/// Measure a WebSocket server: rate, latency, losses, memory
///
/// 50 connections echo 1 KiB of binary one at a time for 10 s unless flags say otherwise. Each flag
/// is also a variable: --connections 100 is FRAMELOOP_LOAD_CONNECTIONS=100.
#[derive(Args, Debug)]
#[command(mut_args(variable), after_help = EXAMPLES)]
pub(super) struct Load {
    /// The server: ws://HOST[:PORT]/PATH or unix:SOCKET[:/PATH]
    #[arg(value_name = "URL", required = true, num_args = 1)]
    urls: Vec<String>,

    /// Connections; with --connect and --churn how many at a time
    #[arg(long, short, value_name = "NUMBER", default_value_t = 50,
          value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    connections: u32,

    /// Messages that a connection sends in one write, and then waits for
    #[arg(long, short, value_name = "NUMBER", default_value_t = 1,
          value_parser = clap::value_parser!(u32).range(1..=65_536))]
    depth: u32,

    /// Bytes in a message, or a range: 20, 16KiB, 20..4KiB
    #[arg(long, short, value_name = "SIZE", default_value = "1KiB", value_parser = sizes)]
    size: Sizes,

    /// Send text instead of binary
    #[arg(long, value_name = "CHARACTERS", num_args = 0..=1, require_equals = true,
          default_missing_value = "ascii")]
    text: Option<Characters>,

    /// How long to measure
    #[arg(long, short = 't', value_name = "TIME", default_value = "10s", value_parser = duration)]
    duration: Duration,

    /// Send so many messages over all connections instead; with --connect and --churn, open so many
    /// connections
    #[arg(long, value_name = "NUMBER")]
    messages: Option<u64>,

    /// Load before the measurement [default: 1s, or none with --messages]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    warmup: Option<Duration>,

    /// Open loop: so many messages a second over all connections, whether the server keeps up or
    /// not; with --connect and --churn connections a second
    #[arg(long, value_name = "NUMBER", value_parser = rate)]
    rate: Option<f64>,

    /// Open connections and drop them, as fast as they come
    #[arg(long, group = "mode")]
    connect: bool,

    /// Open connections, have --depth messages echoed on each, close it by the closing handshake
    #[arg(long, group = "mode")]
    churn: bool,

    /// Open connections, have one message echoed on each, and keep them
    #[arg(long, group = "mode")]
    idle: bool,

    /// Send the frames over TCP without a handshake; they must come back as they went out
    #[arg(long)]
    raw: bool,

    /// Which replies are compared byte for byte; of the others number and length
    #[arg(long, value_name = "WHICH", default_value = "all")]
    check: Checked,

    /// Cut messages into frames of at most so many bytes, 16 at least
    #[arg(long, value_name = "SIZE", value_parser = size)]
    fragment: Option<usize>,

    /// Mask every frame with a key of its own, instead of the one that it was made with
    #[arg(long)]
    fresh_masks: bool,

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

    /// Cores that they are pinned to, in turn [default: not pinned]
    #[arg(long, value_name = "CORES", value_delimiter = ',')]
    cpus: Vec<usize>,

    /// Addresses that connections come from, in turn, one or FIRST-LAST [default: the system's; for
    /// many connections to 127.0.0.0/8, some of it]
    #[arg(long, value_name = "ADDRESS", value_delimiter = ',', value_parser = sources)]
    source: Vec<Sources>,

    /// Open the connections over this time [default: as fast as they can be]
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "0s")]
    ramp: Duration,

    /// How long to wait for an answer
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "5s")]
    timeout: Duration,

    /// What messages and masks are made from: the same seed sends the same bytes
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    seed: u64,

    /// Errors that are let pass; more end the run at once [default: none, but the run goes on]
    #[arg(long, value_name = "NUMBER")]
    max_errors: Option<u64>,

    /// Process that serves: tell its CPU time for a message, its memory and its descriptors
    #[arg(long, value_name = "PID")]
    pid: Option<u32>,

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
  frameloop load ws://127.0.0.1:8000/echo --connect           opening handshakes a second
  frameloop load ws://127.0.0.1:8000/echo --idle -c 15000 --pid PID

Ctrl-C ends early with a whole report, a second one does not wait for replies.

Exit codes: 0 nothing lost or wrong, 1 lost, corrupt or too many errors, 2 wrong flag or value,
3 cannot connect.";

/// --max-errors is FRAMELOOP_LOAD_MAX_ERRORS.
fn variable(argument: clap::Arg) -> clap::Arg {
    match argument.get_long() {
        None => argument,
        Some(flag) => {
            let name = flag.to_uppercase().replace('-', "_");
            argument.env(format!("FRAMELOOP_LOAD_{name}"))
        }
    }
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Characters {
    /// Printable ASCII
    Ascii,
    /// Characters of one to four bytes
    Multibyte,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Checked {
    /// Every one
    All,
    /// The first of each connection
    First,
    /// None
    None,
}

/// A size or a range of them.
#[derive(Clone, Copy, Debug)]
struct Sizes {
    from: usize,
    to: usize,
}

/// The first and the last address.
#[derive(Clone, Copy, Debug)]
struct Sources(std::net::IpAddr, std::net::IpAddr);

impl Load {
    pub(super) fn run(&self) -> Exit {
        let plan = match self.plan() {
            Ok(plan) => plan,
            Err(Refusal::Usage(why)) => {
                eprintln!("frameloop load: {why}");
                return Exit::Usage;
            }
            Err(Refusal::Unreachable(why)) => {
                eprintln!("frameloop load: cannot connect: {why}");
                return Exit::CannotConnect;
            }
        };
        let interrupt = Interrupt::default();
        interrupt_on_signal(interrupt.clone());
        let machine = Machine::here();
        let mut line = ProgressLine::new();
        let outcome = match run(&plan, &interrupt, |progress| line.show(progress)) {
            Ok(outcome) => outcome,
            Err(error) => {
                eprintln!("frameloop load: {error}");
                return Exit::Failed;
            }
        };
        line.clear();
        match super::print(
            Report::new(&plan, &outcome, &machine)
                .to_string()
                .as_bytes(),
        ) {
            Exit::Done => self.verdict(&outcome),
            failed => failed,
        }
    }

    fn verdict(&self, outcome: &Outcome) -> Exit {
        let counts = &outcome.counts;
        if counts.opened == 0 {
            let why = counts
                .refused
                .keys()
                .next()
                .map_or("no time", String::as_str);
            eprintln!("frameloop load: cannot connect: {why}");
            return Exit::CannotConnect;
        }
        let is_wrong = counts.lost > 0 || counts.corrupt > 0;
        if is_wrong || counts.errors() > self.max_errors.unwrap_or(0) {
            return Exit::Failed;
        }
        Exit::Done
    }

    fn plan(&self) -> Result<Plan, Refusal> {
        let url = self.urls.first().map_or("", String::as_str);
        let mut plan = Plan::new(Target::parse(url)?);
        plan.mode = match (self.connect, self.churn, self.idle) {
            (true, ..) => Mode::Connect,
            (_, true, _) => Mode::Churn,
            (.., true) => Mode::Idle,
            _ => Mode::Echo,
        };
        plan.messages = self.messages();
        plan.connections = self.connections as usize;
        plan.depth = self.depth as usize;
        plan.rate = self.rate;
        plan.end = self
            .messages
            .map_or(End::Time(self.duration), End::Messages);
        let warm_up = match (self.messages, plan.mode) {
            (Some(_), _) | (_, Mode::Idle) => Duration::ZERO,
            _ => Duration::from_secs(1),
        };
        plan.warm_up = self.warmup.unwrap_or(warm_up);
        plan.ramp = self.ramp;
        plan.timeout = self.timeout;
        plan.threads = usize::from(self.threads).min(plan.connections);
        plan.cpus = self.cpus.clone();
        plan.sources = self.sources(&plan);
        plan.check = match self.check {
            Checked::All => Check::All,
            Checked::First => Check::First,
            Checked::None => Check::None,
        };
        plan.seed = self.seed;
        plan.max_errors = self.max_errors;
        plan.headers = self.header.clone();
        plan.subprotocols = self.subprotocol.clone();
        plan.is_raw = self.raw;
        plan.server = self.pid;
        self.refuse(&plan)?;
        Ok(plan)
    }

    fn messages(&self) -> Messages {
        let Sizes { from, to } = self.size;
        Messages {
            content: Content::Sizes { from, to },
            text: self.text.map(|characters| match characters {
                Characters::Ascii => Text::Ascii,
                Characters::Multibyte => Text::Multibyte,
            }),
            fragment: self.fragment,
            fresh_masks: self.fresh_masks,
        }
    }

    /// One address has about 28,000 ports, fewer while those of connections that are over linger.
    fn sources(&self, plan: &Plan) -> Vec<std::net::IpAddr> {
        const PORTS: usize = 25_000;
        if !self.source.is_empty() {
            return self.source.iter().flat_map(Sources::all).collect();
        }
        let needs_many =
            plan.connections > PORTS || matches!(plan.mode, Mode::Connect | Mode::Churn);
        if needs_many && plan.target.is_loopback_v4() && cfg!(target_os = "linux") {
            return (1..=250).map(|last| [127, 1, 0, last].into()).collect();
        }
        Vec::new()
    }

    /// Bad combinations, and loads that others may mind.
    fn refuse(&self, plan: &Plan) -> Result<(), Refusal> {
        let usage = |why: &str| Err(Refusal::Usage(why.to_owned()));
        if self.fragment.is_some_and(|size| size < 16) {
            return usage(
                "--fragment must be 16 bytes at least: the first frame holds the message's number",
            );
        }
        if plan.is_raw && matches!(plan.mode, Mode::Churn) {
            return usage("--churn closes by a handshake, which --raw does not have");
        }
        if plan.is_raw && self.fresh_masks {
            return usage("--fresh-masks cannot be compared with what --raw gets back");
        }
        if plan.mode == Mode::Idle && (plan.rate.is_some() || self.messages.is_some()) {
            return usage(
                "--idle sends one message for each connection: it has no --rate and no --messages",
            );
        }
        if !plan.target.is_near() && !plan.is_gentle() && !self.i_own_this_target {
            return usage(
                "this address is neither this machine's nor private: --rate 1000 and -c 1000 are the most that it is given, unless --i-own-this-target says that it is yours",
            );
        }
        let files = raise_open_files();
        if plan.connections + 64 > files {
            return Err(Refusal::Usage(format!(
                "{} connections need {} open files, and {files} are allowed: raise them with 'ulimit -n'",
                plan.connections,
                plan.connections + 64
            )));
        }
        Ok(())
    }
}

/// Why there is no run.
#[derive(Debug)]
enum Refusal {
    Usage(String),
    Unreachable(String),
}

impl From<TargetError> for Refusal {
    fn from(error: TargetError) -> Refusal {
        match error {
            TargetError::Url(why) => Refusal::Usage(why),
            TargetError::Unreachable(why) => Refusal::Unreachable(why),
        }
    }
}

impl Sources {
    fn all(&self) -> Vec<std::net::IpAddr> {
        use std::net::IpAddr;
        match (self.0, self.1) {
            (IpAddr::V4(first), IpAddr::V4(last)) => (first.to_bits()..=last.to_bits())
                .map(|bits| IpAddr::V4(bits.into()))
                .collect(),
            (first, _) => vec![first],
        }
    }
}

/// What goes on, on standard error: a line a second in a terminal, one each ten seconds elsewhere.
struct ProgressLine {
    begin: Instant,
    shown: Instant,
    received: u64,
    is_terminal: bool,
}

impl ProgressLine {
    fn new() -> ProgressLine {
        let now = Instant::now();
        ProgressLine {
            begin: now,
            shown: now,
            received: 0,
            is_terminal: io::stderr().is_terminal(),
        }
    }

    fn show(&mut self, progress: Progress) {
        let interval = Duration::from_secs(if self.is_terminal { 1 } else { 10 });
        let since = self.shown.elapsed();
        if since < interval {
            return;
        }
        self.shown += since;
        let rate = (progress.received - self.received) as f64 / since.as_secs_f64();
        self.received = progress.received;
        let line = format!(
            "{:4.0} s  {} connections  {} received  {rate:.0}/s  {} errors",
            self.begin.elapsed().as_secs_f64(),
            progress.opened,
            progress.received,
            progress.errors
        );
        // Nobody may be there to see it.
        let _ = match self.is_terminal {
            true => write!(io::stderr(), "\r\x1b[K{line}"),
            false => writeln!(io::stderr(), "{line}"),
        };
    }

    fn clear(&self) {
        if self.is_terminal {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}

/// SIGINT and SIGTERM end a run early.
fn interrupt_on_signal(interrupt: Interrupt) {
    use tokio::signal::unix::{SignalKind, signal};
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .build();
        let Ok(runtime) = runtime else { return };
        runtime.block_on(async {
            let (Ok(mut one), Ok(mut other)) = (
                signal(SignalKind::interrupt()),
                signal(SignalKind::terminate()),
            ) else {
                return;
            };
            loop {
                tokio::select! {
                    _ = one.recv() => {}
                    _ = other.recv() => {}
                }
                interrupt.interrupt();
            }
        });
    });
}

fn sizes(text: &str) -> Result<Sizes, String> {
    const MOST: usize = 1 << 30;
    let (from, to) = match text.split_once("..") {
        Some((from, to)) => (size(from)?, size(to)?),
        None => (size(text)?, size(text)?),
    };
    match from <= to && to <= MOST {
        true => Ok(Sizes { from, to }),
        false => Err(format!(
            "'{text}' is not a range of sizes up to 1GiB; write 20..4KiB"
        )),
    }
}

fn rate(text: &str) -> Result<f64, String> {
    let rate: Option<f64> = text.parse().ok();
    rate.filter(|rate| (0.001..=1e9).contains(rate))
        .ok_or_else(|| format!("'{text}' is not a rate; write how many a second, 50000"))
}

fn field(text: &str) -> Result<(String, String), String> {
    let wrong = || format!("'{text}' is not a field; write 'Name: value'");
    let (name, value) = text.split_once(':').ok_or_else(wrong)?;
    let value = value.trim();
    let is_value = value
        .bytes()
        .all(|byte| byte == b'\t' || (byte >= b' ' && byte != 0x7F));
    token(name).map_err(|_| wrong())?;
    is_value
        .then(|| (name.to_owned(), value.to_owned()))
        .ok_or_else(wrong)
}

/// RFC 9110 §5.6.2.
fn token(text: &str) -> Result<String, String> {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    match !text.is_empty() && text.bytes().all(is_token) {
        true => Ok(text.to_owned()),
        false => Err(format!(
            "'{text}' is not a name; it is letters, digits and !#$%&'*+-.^_`|~"
        )),
    }
}

fn sources(text: &str) -> Result<Sources, String> {
    let wrong =
        || format!("'{text}' is not an address or a range; write 127.1.0.1 or 127.1.0.1-127.1.0.9");
    let address = |text: &str| text.parse().map_err(|_| wrong());
    let (first, last) = match text.split_once('-') {
        Some((first, last)) => (address(first)?, address(last)?),
        None => (address(text)?, address(text)?),
    };
    let is_range = match (first, last) {
        (std::net::IpAddr::V4(first), std::net::IpAddr::V4(last)) => {
            first <= last && last.to_bits() - first.to_bits() < 1 << 16
        }
        (first, last) => first == last,
    };
    is_range.then_some(Sources(first, last)).ok_or_else(wrong)
}
