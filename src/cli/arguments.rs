//! Flags, their variables and their defaults.

use std::time::Duration;

use clap::{ArgAction, ArgMatches, Args, CommandFactory, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

use super::channel_layer::ChannelLayerArguments;
use super::deflate::DeflateArguments;
use super::forwarded::ForwardedArguments;
use super::healthcheck::Healthcheck;
#[cfg(feature = "lab")]
use super::load::Load;
use super::memory;
use super::socketio::SocketIoArguments;
use super::tls::TlsArguments;
use super::values::network;
use super::values::{Addresses, address, addresses, duration, echo_service, item, size};
use crate::app::compat::EchoService;
use crate::engine::{Deadlines, Settings, SlowConsumer};
use crate::handshake::{AllowOrigin, AllowedHost, Origin, Policy, Token};
use crate::http::HttpSettings;
use crate::protocol::Limits;

/// A WebSocket server to measure, test and fuzz against: echo and chat endpoints in one binary.
///
/// Without a flag it serves on 127.0.0.1:8000 and prints its endpoints. Every flag can be given
/// as a variable, too: --max-message-size 1MiB is FRAMELOOP_MAX_MESSAGE_SIZE=1MiB. An empty
/// variable is unset.
#[derive(Debug, Parser)]
#[command(
    version,
    args_conflicts_with_subcommands = true,
    max_term_width = 100,
    after_help = EXAMPLES
)]
pub(super) struct Cli {
    #[command(subcommand)]
    pub(super) command: Option<Command>,
    #[command(flatten)]
    pub(super) serve: Serve,
}

const EXAMPLES: &str = "\
Try it:
  frameloop                                       serve on 127.0.0.1:8000
  frameloop --listen 0.0.0.0:80 --listen unix:/run/frameloop.sock
  frameloop --allow-origin https://example.com    take browsers from one site only
  frameloop --print-config                        show what holds, and stop
  websocat ws://127.0.0.1:8000/echo               talk to it

Durations are 10s, 0.5s, 500ms, 2m or 1h; sizes 65536, 64KiB or 16MiB; 0 switches a deadline off,
but --linger 0 does not linger and --drain-timeout 0 does not wait.
SIGHUP reads the certificate again. SIGTERM or SIGINT sends every client a Close 1001 and stops; a second one stops at once.

Exit codes: 0 stopped as told, 1 failed while serving or not healthy, 2 wrong flag or value,
3 cannot listen on an address.";

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Serve (what happens without a command, too)
    Serve(Box<Serve>),
    /// Ask a running server's /healthz whether it serves; exits with 0 or 1
    Healthcheck(Healthcheck),
    #[cfg(feature = "lab")]
    Load(Box<Load>),
    /// Print a script that completes commands and flags in a shell
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Print the manual page
    Man,
}

#[derive(Args, Debug)]
pub(super) struct Serve {
    /// Address to listen on, HOST:PORT or unix:PATH; may be repeated. A name is every address it
    /// has; port 0 takes a free one. unix:PATH,mode=0660,group=NAME lets another user connect;
    /// 'systemd' takes the sockets of a socket unit
    #[arg(long, short, env = "FRAMELOOP_LISTEN", value_name = "ADDRESS", value_parser = addresses,
          default_value = "127.0.0.1:8000")]
    listen: Vec<Addresses>,

    /// Address for the operator alone, HOST:PORT or unix:PATH: /metrics, /healthz and /readyz are
    /// there, without TLS, and /metrics is nowhere else [default: with everything else]
    #[arg(long, env = "FRAMELOOP_ADMIN_LISTEN", value_name = "ADDRESS", value_parser = address)]
    pub(super) admin_listen: Option<String>,

    /// Threads that serve, each with its own share of the connections [default: one per core]
    #[arg(long, env = "FRAMELOOP_WORKERS", value_name = "NUMBER",
          value_parser = clap::value_parser!(u16).range(1..))]
    workers: Option<u16>,

    /// Print every setting that holds, and stop
    #[arg(long)]
    pub(super) print_config: bool,

    /// Stand in for an echo service that people use: its endpoints instead of frameloop's, and its
    /// address, limits and environment variables where no flag says otherwise
    #[arg(long, env = "FRAMELOOP_COMPAT", value_name = "SERVICE", value_parser = echo_service())]
    pub(super) compat: Option<EchoService>,

    /// Let no client of /echo ask for faults (delay, drop, abort, invalid ...)
    #[arg(long, env = "FRAMELOOP_NO_FAULTS",
          value_parser = clap::builder::BoolishValueParser::new())]
    pub(super) no_faults: bool,

    /// Serve no Socket.IO: /socket.io/ is answered with 404
    #[arg(long, env = "FRAMELOOP_NO_SOCKETIO",
          value_parser = clap::builder::BoolishValueParser::new())]
    pub(super) no_socketio: bool,

    /// Serve no /metrics, neither here nor at --admin-listen
    #[arg(long, env = "FRAMELOOP_NO_METRICS",
          value_parser = clap::builder::BoolishValueParser::new())]
    pub(super) no_metrics: bool,

    /// Give the same octets the same answers and the same log: one worker, no randomness, no Date,
    /// no times and addresses in the log, and no Socket.IO and no /metrics, which cannot be had so
    #[arg(long, env = "FRAMELOOP_DETERMINISTIC",
          value_parser = clap::builder::BoolishValueParser::new())]
    #[arg(conflicts_with_all = ["workers", "compat"])]
    #[arg(conflicts_with_all = ["channel_layer", "socketio_redis"])]
    #[arg(conflicts_with_all = ["tls_cert", "tls_self_signed"])]
    pub(super) deterministic: bool,

    #[command(flatten)]
    pub(super) access: Access,

    #[command(flatten)]
    forwarded: ForwardedArguments,

    #[command(flatten)]
    pub(super) limits: LimitArguments,

    #[command(flatten)]
    deflate: DeflateArguments,

    #[command(flatten)]
    pub(super) tls: TlsArguments,

    #[command(flatten)]
    pub(super) deadlines: DeadlineArguments,

    #[command(flatten)]
    pub(super) socketio: SocketIoArguments,

    #[command(flatten)]
    pub(super) channel_layer: ChannelLayerArguments,

    #[command(flatten)]
    pub(super) logs: LogArguments,
}

#[derive(Args, Debug)]
#[command(next_help_heading = "Who may connect")]
pub(super) struct Access {
    /// Origin that browsers may connect from, scheme://host[:port], https://*.example.com for all
    /// subdomains, or what else they send, such as file:// or null; may be repeated [default: any]
    #[arg(
        long,
        env = "FRAMELOOP_ALLOW_ORIGIN",
        value_name = "ORIGIN",
        value_parser = item::<Origin>,
        value_delimiter = ','
    )]
    allow_origin: Vec<Origin>,

    /// Refuse clients that send no Origin, that is, all but browsers
    #[arg(long, env = "FRAMELOOP_REQUIRE_ORIGIN",
          value_parser = clap::builder::BoolishValueParser::new())]
    require_origin: bool,

    /// Host name that requests may be for, host[:port], or *.example.com for all subdomains; may be
    /// repeated [default: any]
    #[arg(
        long,
        env = "FRAMELOOP_ALLOW_HOST",
        value_name = "HOST",
        value_parser = item::<AllowedHost>,
        value_delimiter = ','
    )]
    allow_host: Vec<AllowedHost>,

    /// Proxy that speaks for others, ADDRESS or ADDRESS/BITS; may be repeated [default: none]. Its
    /// connections must begin with the PROXY protocol, version 1 or 2, which tells the client's
    /// address
    #[arg(
        long,
        env = "FRAMELOOP_PROXY_PROTOCOL_FROM",
        value_name = "NETWORK",
        value_parser = network,
        value_delimiter = ','
    )]
    pub(super) proxy_protocol_from: Vec<ipnet::IpNet>,

    /// Secret that every WebSocket, Socket.IO and /metrics must be shown, as
    /// 'Authorization: Bearer TOKEN' or ?token=TOKEN; other pages need none [default: none]. Better given as a variable, which no list of processes
    /// shows
    #[arg(
        long,
        env = "FRAMELOOP_TOKEN",
        value_name = "TOKEN",
        hide_env_values = true
    )]
    token: Option<Token>,
}

#[derive(Args, Debug)]
#[command(next_help_heading = "Limits")]
pub(super) struct LimitArguments {
    /// Largest message, fragments together; beyond it Close 1009
    #[arg(long, env = "FRAMELOOP_MAX_MESSAGE_SIZE", value_name = "SIZE", value_parser = size,
          default_value = "16MiB")]
    max_message_size: usize,

    /// Largest frame; beyond it Close 1009
    #[arg(long, env = "FRAMELOOP_MAX_FRAME_SIZE", value_name = "SIZE", value_parser = size,
          default_value = "16MiB")]
    max_frame_size: usize,

    /// Largest request head; beyond it 431
    #[arg(long, env = "FRAMELOOP_MAX_HEAD_SIZE", value_name = "SIZE", value_parser = size,
          default_value = "16KiB")]
    max_head_size: usize,

    /// Most header lines in a request; beyond them 431
    #[arg(
        long,
        env = "FRAMELOOP_MAX_HEADERS",
        value_name = "NUMBER",
        default_value = "100"
    )]
    max_headers: usize,

    /// Most connections, those that are no WebSockets yet included; beyond them 503. Of the latter
    /// a quarter are kept, at least 1024, then the oldest are let go [default: the limit of open
    /// files less a reserve of 64]
    #[arg(long, env = "FRAMELOOP_MAX_CONNECTIONS", value_name = "NUMBER")]
    max_connections: Option<usize>,

    /// Most WebSockets from one IPv4 address or one /64 of IPv6; beyond them 503; 0 is no limit
    #[arg(
        long,
        env = "FRAMELOOP_MAX_CONNECTIONS_PER_ADDRESS",
        value_name = "NUMBER",
        default_value = "0"
    )]
    max_connections_per_address: usize,

    /// Most messages and control frames a second from one client; beyond them Close 1008; 0 is no
    /// limit
    #[arg(
        long,
        env = "FRAMELOOP_MAX_MESSAGE_RATE",
        value_name = "NUMBER",
        default_value = "0"
    )]
    max_message_rate: u32,

    /// Most messages a second that one client publishes to a room, where each 64 KiB of a message
    /// count as one more; beyond them it is read from no faster, and closed with 1008 'publishing too fast' after 10 s of that; 0 is no limit
    #[arg(
        long,
        env = "FRAMELOOP_MAX_PUBLISH_RATE",
        value_name = "NUMBER",
        default_value = "1000"
    )]
    max_publish_rate: u32,

    /// Most octets of fan-out that wait for one client; beyond them Close 1008 'slow consumer'. Also
    /// the most octets of a message to a room; beyond them Close 1009
    #[arg(long, env = "FRAMELOOP_MAX_QUEUE_SIZE", value_name = "SIZE", value_parser = size,
          default_value = "1MiB")]
    max_queue_size: usize,

    /// Most messages of fan-out that wait for one client; beyond them Close 1008 'slow consumer'
    #[arg(
        long,
        env = "FRAMELOOP_MAX_QUEUE_MESSAGES",
        value_name = "NUMBER",
        default_value = "1024"
    )]
    max_queue_messages: usize,

    /// Octets of fan-out that may wait for a client before nothing more is read from it
    #[arg(long, env = "FRAMELOOP_HIGH_WATER_MARK", value_name = "SIZE", value_parser = size,
          default_value = "64KiB")]
    high_water_mark: usize,

    /// Most octets that all unfinished messages hold together; beyond them Close 1013 [default: a
    /// quarter of the memory that there is]
    #[arg(long, env = "FRAMELOOP_MAX_UNFINISHED_SIZE", value_name = "SIZE", value_parser = size)]
    max_unfinished_size: Option<usize>,

    /// Most octets that wait to be sent to all clients together; beyond them those that the most
    /// waits for are closed [default: a quarter of the memory that there is]
    #[arg(long, env = "FRAMELOOP_MAX_UNSENT_SIZE", value_name = "SIZE", value_parser = size)]
    max_unsent_size: Option<usize>,

    /// Octets to read on for the client's FIN after ours
    #[arg(long, env = "FRAMELOOP_LINGER_SIZE", value_name = "SIZE", value_parser = size,
          default_value = "1MiB")]
    linger_size: usize,
}

#[derive(Args, Debug)]
#[command(next_help_heading = "Deadlines")]
pub(super) struct DeadlineArguments {
    /// From the connection, or a later request's first byte, to a whole request head
    #[arg(long, env = "FRAMELOOP_HANDSHAKE_TIMEOUT", value_name = "TIME",
          value_parser = duration, default_value = "10s")]
    handshake_timeout: Duration,

    /// From a response to the connection's next request; a load balancer in front should give up
    /// earlier
    #[arg(long, env = "FRAMELOOP_KEEP_ALIVE_TIMEOUT", value_name = "TIME",
          value_parser = duration, default_value = "75s")]
    keep_alive_timeout: Duration,

    /// Silence after which a Ping is sent
    #[arg(long, env = "FRAMELOOP_PING_INTERVAL", value_name = "TIME", value_parser = duration,
          default_value = "20s")]
    ping_interval: Duration,

    /// Silence after a Ping until Close 1008 'ping timeout'
    #[arg(long, env = "FRAMELOOP_PING_TIMEOUT", value_name = "TIME", value_parser = duration,
          default_value = "20s")]
    ping_timeout: Duration,

    /// From a message's first octet to its last
    #[arg(long, env = "FRAMELOOP_MESSAGE_TIMEOUT", value_name = "TIME", value_parser = duration,
          default_value = "60s")]
    message_timeout: Duration,

    /// From one data message to the next
    #[arg(long, env = "FRAMELOOP_IDLE_TIMEOUT", value_name = "TIME", value_parser = duration,
          default_value = "0")]
    idle_timeout: Duration,

    /// How long a client may take nothing, or next to nothing, of what waits for it
    #[arg(long, env = "FRAMELOOP_WRITE_TIMEOUT", value_name = "TIME", value_parser = duration,
          default_value = "30s")]
    write_timeout: Duration,

    /// From our Close to the client's
    #[arg(long, env = "FRAMELOOP_CLOSE_TIMEOUT", value_name = "TIME", value_parser = duration,
          default_value = "10s")]
    close_timeout: Duration,

    /// How long to read on for the client's FIN after ours
    #[arg(long, env = "FRAMELOOP_LINGER", value_name = "TIME", value_parser = duration,
          default_value = "2s")]
    linger: Duration,

    /// How long clients have to answer the Close when the server stops
    #[arg(long, env = "FRAMELOOP_DRAIN_TIMEOUT", value_name = "TIME", value_parser = duration,
          default_value = "10s")]
    pub(super) drain_timeout: Duration,
}

#[derive(Args, Debug)]
#[command(next_help_heading = "Logs")]
pub(super) struct LogArguments {
    /// Text for people, or one JSON object a line
    #[arg(
        long,
        env = "FRAMELOOP_LOG_FORMAT",
        value_name = "FORMAT",
        default_value = "text"
    )]
    pub(super) log_format: LogFormat,

    /// Least severe level to log: error, warn, info, debug or trace
    #[arg(
        long,
        env = "FRAMELOOP_LOG_LEVEL",
        value_name = "LEVEL",
        default_value = "info"
    )]
    pub(super) log_level: LogLevel,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum LogFormat {
    Text,
    Json,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum LogLevel {
    Off,
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

impl Serve {
    /// The addresses to listen on.
    pub(super) fn listen(&self) -> Vec<String> {
        let listen = self.listen.iter();
        listen.flat_map(|Addresses(all)| all.clone()).collect()
    }

    pub(super) fn settings(&self) -> Settings {
        let (limits, deadlines) = (&self.limits, &self.deadlines);
        Settings {
            limits: Limits {
                max_message_size: limits.max_message_size,
                max_frame_size: limits.max_frame_size,
            },
            deflate: self.deflate.deflate(),
            deadlines: Deadlines {
                ping_interval: deadlines.ping_interval,
                ping_timeout: deadlines.ping_timeout,
                message: deadlines.message_timeout,
                idle: Some(deadlines.idle_timeout).filter(|idle| !idle.is_zero()),
                write_stall: deadlines.write_timeout,
                close: deadlines.close_timeout,
                excess: Deadlines::default().excess,
                linger: deadlines.linger,
            },
            slow_consumer: SlowConsumer {
                max_octets: limits.max_queue_size,
                max_messages: limits.max_queue_messages,
            },
            high_water_mark: limits.high_water_mark,
            linger_size: limits.linger_size,
            max_unfinished_size: limits.max_unfinished_size(),
            max_unsent_size: limits.max_unsent_size(),
            max_message_rate: Some(limits.max_message_rate).filter(|rate| *rate > 0),
            max_publish_rate: Some(limits.max_publish_rate).filter(|rate| *rate > 0),
            gather_publications: !self.deterministic,
        }
    }

    pub(super) fn http(&self) -> HttpSettings {
        HttpSettings {
            head_timeout: self.deadlines.handshake_timeout,
            keep_alive_timeout: self.deadlines.keep_alive_timeout,
            max_head_size: self.limits.max_head_size,
            max_headers: self.limits.max_headers,
            date: !self.deterministic,
        }
    }

    pub(super) fn policy(&self) -> Policy {
        let Access {
            allow_origin,
            require_origin,
            allow_host,
            token,
            proxy_protocol_from: _,
        } = &self.access;
        Policy {
            allowed_origins: match allow_origin.as_slice() {
                [] => AllowOrigin::Any,
                origins => AllowOrigin::Listed(origins.to_vec()),
            },
            require_origin: *require_origin,
            allowed_hosts: allow_host.clone(),
            token: token.clone(),
            trusted_proxies: self.forwarded.trusted_proxies(),
        }
    }

    pub(super) fn workers(&self) -> usize {
        match self.workers {
            _ if self.deterministic => 1,
            Some(workers) => workers.into(),
            None => std::thread::available_parallelism().map_or(1, usize::from),
        }
    }

    pub(super) fn max_connections(&self, max_open_files: usize) -> usize {
        // Listeners, pollers, logs, and room to tell those beyond the bound so.
        let reserve = (max_open_files / 4).min(64);
        self.limits
            .max_connections
            .unwrap_or(max_open_files - reserve)
    }
}

impl LimitArguments {
    fn max_unfinished_size(&self) -> usize {
        self.max_unfinished_size
            .unwrap_or_else(|| memory::available() / 4)
    }

    fn max_unsent_size(&self) -> usize {
        self.max_unsent_size
            .unwrap_or_else(|| memory::available() / 4)
    }

    pub(super) fn max_connections_per_address(&self) -> Option<usize> {
        Some(self.max_connections_per_address).filter(|max| *max > 0)
    }
}

/// The service to stand in for, if one is chosen.
pub(super) fn compat(matches: &ArgMatches) -> Option<EchoService> {
    let matches = match matches.subcommand() {
        None => matches,
        Some(("serve" | "healthcheck", matches)) => matches,
        Some(_) => return None,
    };
    matches.get_one("compat").copied()
}

/// The command line with the defaults of a service.
pub(super) fn with_defaults(service: EchoService) -> clap::Command {
    fn change(mut command: clap::Command, service: EchoService) -> clap::Command {
        for (name, value) in service.defaults() {
            // Built without deflate there is no such flag.
            if command
                .get_arguments()
                .any(|argument| argument.get_id() == name)
            {
                command = command.mut_arg(name, |argument| argument.default_value(value));
            }
        }
        command
    }
    let command = change(Cli::command(), service);
    command
        .mut_subcommand("serve", |serve| change(serve, service))
        .mut_subcommand("healthcheck", |healthcheck| change(healthcheck, service))
}

/// Every setting that holds, one `flag = value` a line; `max_open_files` is what the operating
/// system allows.
pub(super) fn effective(serve: &Serve, matches: &ArgMatches, max_open_files: usize) -> String {
    let mut text = String::new();
    for argument in Cli::command().get_arguments() {
        let Some(flag) = argument.get_long() else {
            continue;
        };
        if matches!(flag, "help" | "version" | "print-config") {
            continue;
        }
        let values: Vec<_> = matches
            .get_raw(argument.get_id().as_str())
            .map(|values| {
                let values = values.map(|value| value.to_string_lossy());
                values.map(|value| value.trim().to_owned()).collect()
            })
            .unwrap_or_default();
        let value = match (values.join(","), flag) {
            (..) if matches!(argument.get_action(), ArgAction::SetTrue) => {
                matches.get_flag(argument.get_id().as_str()).to_string()
            }
            (value, "token" | "redis-url" | "socketio-redis") if !value.is_empty() => {
                String::from("set")
            }
            (_, "token" | "socketio-redis") => String::from("none"),
            (value, _) if !value.is_empty() => value,
            (_, "workers") => serve.workers().to_string(),
            (_, "max-unfinished-size") => serve.limits.max_unfinished_size().to_string(),
            (_, "max-unsent-size") => serve.limits.max_unsent_size().to_string(),
            (_, "max-connections") => serve.max_connections(max_open_files).to_string(),
            (_, "allow-origin" | "allow-host") => String::from("any"),
            _ => String::from("none"),
        };
        text.push_str(&format!("{flag} = {value}\n"));
    }
    text
}
