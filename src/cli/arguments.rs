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
use super::values::{AddressList, address, addresses, duration, echo_service, item, size};
use crate::app::compat::EchoService;
use crate::engine::{Deadlines, Settings, SlowConsumer};
use crate::handshake::{AllowOrigin, AllowedHost, Origin, Policy, Token};
use crate::http::HttpSettings;
use crate::protocol::SizeLimits;

/// A WebSocket server to measure, test and fuzz against.
///
/// It has echo, chat, broadcast and Socket.IO endpoints in one binary.
/// Without a flag it serves on 127.0.0.1:8000 and prints its endpoints. Each flag is also an
/// environment variable: --max-message-size 1MiB is FRAMELOOP_MAX_MESSAGE_SIZE=1MiB. An empty
/// variable counts as not set.
#[derive(Debug, Parser)]
#[command(version, args_conflicts_with_subcommands = true, max_term_width = 100)]
pub(super) struct Cli {
    #[command(subcommand)]
    pub(super) command: Option<Tool>,
    #[command(flatten)]
    pub(super) serve: Serve,
}

#[derive(Debug, Subcommand)]
pub(super) enum Tool {
    /// Serve; the same as no command
    Serve(Box<Serve>),
    /// Ask a running server's /healthz; exits with 0 or 1
    Healthcheck(Healthcheck),
    #[cfg(feature = "lab")]
    Load(Box<Load>),
    /// Print a completion script for a shell
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Print the manual page
    Man,
}

#[derive(Args, Debug)]
pub(super) struct Serve {
    /// Address: HOST:PORT, unix:PATH or systemd
    ///
    /// Address to listen on, HOST:PORT or unix:PATH; may be repeated. A name stands for all its
    /// addresses; port 0 is a free port. unix:PATH,mode=0660,group=NAME lets another user connect.
    /// `systemd` uses the sockets of a socket unit
    #[arg(long, short, env = "FRAMELOOP_LISTEN", value_name = "ADDRESS", value_parser = addresses,
          default_value = "127.0.0.1:8000")]
    listen: Vec<AddressList>,

    /// Second address, for the operator, HOST:PORT or unix:PATH. It serves /metrics, /healthz and
    /// /readyz without TLS; /metrics is then on no other address [default: none]
    #[arg(long, env = "FRAMELOOP_ADMIN_LISTEN", value_name = "ADDRESS", value_parser = address)]
    pub(super) admin_listen: Option<String>,

    /// Worker threads. Each has its own share of the connections [default: one per core]
    #[arg(long, env = "FRAMELOOP_WORKERS", value_name = "NUMBER",
          value_parser = clap::value_parser!(u16).range(1..))]
    workers: Option<u16>,

    /// Print all settings, and stop
    #[arg(long)]
    pub(super) print_config: bool,

    /// Stand in for jmalloc, lpinca, firewalk, httpbin or httparena
    ///
    /// Stand in for another echo service: serve its endpoints instead of frameloop's, with its
    /// address, limits and environment variables unless a flag says otherwise
    #[arg(long, env = "FRAMELOOP_COMPAT", value_name = "SERVICE", value_parser = echo_service())]
    pub(super) compat: Option<EchoService>,

    /// Switch off the faults that clients of /echo can ask for (delay, drop, abort, invalid ...)
    #[arg(long, env = "FRAMELOOP_NO_FAULTS",
          value_parser = clap::builder::BoolishValueParser::new())]
    pub(super) no_faults: bool,

    /// Switch Socket.IO off: /socket.io/ gets 404
    #[arg(long, env = "FRAMELOOP_NO_SOCKETIO",
          value_parser = clap::builder::BoolishValueParser::new())]
    pub(super) no_socketio: bool,

    /// Switch /metrics off, on --admin-listen too
    #[arg(long, env = "FRAMELOOP_NO_METRICS",
          value_parser = clap::builder::BoolishValueParser::new())]
    pub(super) no_metrics: bool,

    /// Give the same bytes the same answers and the same log, for fuzzers: one worker, no randomness,
    /// no Date, no times and addresses in the log, no Socket.IO, no /metrics
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
    /// Origin of browsers that may connect [default: any]
    ///
    /// Origin that browsers may connect from: scheme://host[:port], https://*.example.com for all
    /// subdomains (not the domain itself), or the literal text that other clients send (file://,
    /// null, capacitor://localhost); may be repeated. Other origins get 403 [default: any]
    #[arg(
        long,
        env = "FRAMELOOP_ALLOW_ORIGIN",
        value_name = "ORIGIN",
        value_parser = item::<Origin>,
        value_delimiter = ','
    )]
    allow_origin: Vec<Origin>,

    /// Refuse clients that send no Origin with 403: all clients except browsers
    #[arg(long, env = "FRAMELOOP_REQUIRE_ORIGIN",
          value_parser = clap::builder::BoolishValueParser::new())]
    require_origin: bool,

    /// Host that requests may name, host[:port] or *.example.com for all subdomains; may be repeated.
    /// Other hosts get 421 [default: any]
    #[arg(
        long,
        env = "FRAMELOOP_ALLOW_HOST",
        value_name = "HOST",
        value_parser = item::<AllowedHost>,
        value_delimiter = ','
    )]
    allow_host: Vec<AllowedHost>,

    /// Load balancer that sends the PROXY protocol, version 1 or 2, ADDRESS or ADDRESS/BITS; may be
    /// repeated. Each of its connections must begin with a PROXY header (up to 16 KiB), which gives
    /// the client's address; no other peer may send one [default: none]
    #[arg(
        long,
        env = "FRAMELOOP_PROXY_PROTOCOL_FROM",
        value_name = "NETWORK",
        value_parser = network,
        value_delimiter = ','
    )]
    pub(super) proxy_protocol_from: Vec<ipnet::IpNet>,

    /// Secret that clients must send [default: none]
    ///
    /// Secret that WebSockets, Socket.IO and /metrics require, as 'Authorization: Bearer TOKEN' or
    /// ?token=TOKEN; a client without it gets 401. Other pages need no token. Use the variable: a
    /// flag shows in the list of processes [default: none]
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
    /// Largest message; a larger one gets Close 1009
    ///
    /// Largest message, all fragments together; a larger one gets Close 1009
    #[arg(long, env = "FRAMELOOP_MAX_MESSAGE_SIZE", value_name = "SIZE", value_parser = size,
          default_value = "16MiB")]
    max_message_size: usize,

    /// Largest frame; a larger one gets Close 1009
    #[arg(long, env = "FRAMELOOP_MAX_FRAME_SIZE", value_name = "SIZE", value_parser = size,
          default_value = "16MiB")]
    max_frame_size: usize,

    /// Largest request head; a larger one gets 431
    #[arg(long, env = "FRAMELOOP_MAX_HEAD_SIZE", value_name = "SIZE", value_parser = size,
          default_value = "16KiB")]
    max_head_size: usize,

    /// Maximum header lines in a request; more get 431
    #[arg(
        long,
        env = "FRAMELOOP_MAX_HEADERS",
        value_name = "NUMBER",
        default_value = "100"
    )]
    max_headers: usize,

    /// Maximum connections; more get 503
    ///
    /// Maximum connections, WebSockets and HTTP together; more get 503. At most a quarter of them (at
    /// least 1024) may be without a WebSocket; then the oldest of these is dropped [default: the limit
    /// of open files minus 64]
    #[arg(long, env = "FRAMELOOP_MAX_CONNECTIONS", value_name = "NUMBER")]
    max_connections: Option<usize>,

    /// Maximum WebSockets from one IPv4 address or IPv6 /64; more get 503; 0 is no limit
    #[arg(
        long,
        env = "FRAMELOOP_MAX_CONNECTIONS_PER_ADDRESS",
        value_name = "NUMBER",
        default_value = "0"
    )]
    max_connections_per_address: usize,

    /// Maximum messages and control frames a second from one client; more get Close 1008; 0 is no
    /// limit
    #[arg(
        long,
        env = "FRAMELOOP_MAX_MESSAGE_RATE",
        value_name = "NUMBER",
        default_value = "0"
    )]
    max_message_rate: u32,

    /// Maximum messages a second from one client to a room, and as many at once; each 64 KiB of a
    /// message counts as one more. A faster client is read more slowly, which loses nothing, and
    /// after 10 s of that it is closed with 1008 'publishing too fast'; 0 is no limit
    #[arg(
        long,
        env = "FRAMELOOP_MAX_PUBLISH_RATE",
        value_name = "NUMBER",
        default_value = "1000"
    )]
    max_publish_rate: u32,

    /// Maximum bytes of fan-out that wait for one client; more close it with 1008 'slow consumer'. It
    /// is also the largest message to a room: a larger one gets Close 1009
    #[arg(long, env = "FRAMELOOP_MAX_QUEUE_SIZE", value_name = "SIZE", value_parser = size,
          default_value = "1MiB")]
    max_queue_size: usize,

    /// Maximum messages of fan-out that wait for one client; more close it with 1008 'slow consumer'
    #[arg(
        long,
        env = "FRAMELOOP_MAX_QUEUE_MESSAGES",
        value_name = "NUMBER",
        default_value = "1024"
    )]
    max_queue_messages: usize,

    /// Bytes of fan-out that wait for a client before the server stops reading from it
    #[arg(long, env = "FRAMELOOP_HIGH_WATER_MARK", value_name = "SIZE", value_parser = size,
          default_value = "64KiB")]
    high_water_mark: usize,

    /// Maximum bytes that all unfinished messages hold together; more get Close 1013 [default: a
    /// quarter of the memory]
    #[arg(long, env = "FRAMELOOP_MAX_UNFINISHED_SIZE", value_name = "SIZE", value_parser = size)]
    max_unfinished_size: Option<usize>,

    /// Maximum bytes that wait to be sent to all clients together; when there are more, the clients
    /// with the longest queues are closed, members of rooms with 1008, others with 1013 [default: a
    /// quarter of the memory]
    #[arg(long, env = "FRAMELOOP_MAX_UNSENT_SIZE", value_name = "SIZE", value_parser = size)]
    max_unsent_size: Option<usize>,

    /// Bytes to read after the server's FIN while it waits for the client's
    #[arg(long, env = "FRAMELOOP_LINGER_SIZE", value_name = "SIZE", value_parser = size,
          default_value = "1MiB")]
    linger_size: usize,
}

#[derive(Args, Debug)]
#[command(next_help_heading = "Deadlines")]
pub(super) struct DeadlineArguments {
    /// From the connection, or a later request's first byte, to a complete request head
    #[arg(long, env = "FRAMELOOP_HANDSHAKE_TIMEOUT", value_name = "TIME",
          value_parser = duration, default_value = "10s")]
    handshake_timeout: Duration,

    /// From a response to the next request on the connection. It must be longer than a proxy in front
    /// keeps idle connections (nginx and cloud load balancers: 60 s)
    #[arg(long, env = "FRAMELOOP_KEEP_ALIVE_TIMEOUT", value_name = "TIME",
          value_parser = duration, default_value = "75s")]
    keep_alive_timeout: Duration,

    /// Silence of a client until the server sends a Ping
    #[arg(long, env = "FRAMELOOP_PING_INTERVAL", value_name = "TIME", value_parser = duration,
          default_value = "20s")]
    ping_interval: Duration,

    /// Silence after a Ping until Close 1008 'ping timeout'
    #[arg(long, env = "FRAMELOOP_PING_TIMEOUT", value_name = "TIME", value_parser = duration,
          default_value = "20s")]
    ping_timeout: Duration,

    /// From a message's first byte to its last; a slower message gets Close 1008
    #[arg(long, env = "FRAMELOOP_MESSAGE_TIMEOUT", value_name = "TIME", value_parser = duration,
          default_value = "60s")]
    message_timeout: Duration,

    /// From one data message to the next; a longer silence gets a Close
    #[arg(long, env = "FRAMELOOP_IDLE_TIMEOUT", value_name = "TIME", value_parser = duration,
          default_value = "0")]
    idle_timeout: Duration,

    /// How long a client may read nothing, or next to nothing, of what waits for it; then the
    /// connection is reset
    #[arg(long, env = "FRAMELOOP_WRITE_TIMEOUT", value_name = "TIME", value_parser = duration,
          default_value = "30s")]
    write_timeout: Duration,

    /// From the server's Close to the client's answer
    #[arg(long, env = "FRAMELOOP_CLOSE_TIMEOUT", value_name = "TIME", value_parser = duration,
          default_value = "10s")]
    close_timeout: Duration,

    /// How long to read after the server's FIN while it waits for the client's
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
    /// Log lines: text, or json (one object per line)
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
        listen.flat_map(|AddressList(all)| all.clone()).collect()
    }

    pub(super) fn settings(&self) -> Settings {
        let (limits, deadlines) = (&self.limits, &self.deadlines);
        Settings {
            limits: SizeLimits {
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
                throttle_timeout: Deadlines::default().throttle_timeout,
                linger: deadlines.linger,
            },
            slow_consumer: SlowConsumer {
                max_bytes: limits.max_queue_size,
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
    let command = change(super::help::command(), service);
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
        if matches!(flag, "help" | "help-all" | "version" | "print-config") {
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
