//! Flags, their variables and their defaults.

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Arg, ArgAction, ArgMatches, Args, CommandFactory, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use tracing::level_filters::LevelFilter;

use super::access::Access;
use super::channel_layer::ChannelLayerArguments;
use super::deadlines::DeadlineArguments;
use super::deflate::DeflateArguments;
use super::healthcheck::Healthcheck;
use super::limits::LimitArguments;
#[cfg(feature = "lab")]
use super::load::Load;
use super::open_files::raise_open_files;
use super::socketio::SocketIoArguments;
use super::tls::TlsArguments;
use super::values::{AddressList, SECRETS, address, addresses, without_secrets, written_size};
use crate::app::compat::EchoService;
use crate::engine::{Settings, SlowConsumer};
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
    /// addresses; port 0 picks one free port for all. unix:PATH,mode=0660,group=NAME lets another
    /// user connect. `systemd` uses the sockets of a socket unit
    #[arg(long, short, value_name = "ADDRESS", value_parser = addresses,
          default_value = "127.0.0.1:8000")]
    listen: Vec<AddressList>,

    /// Second address, for the operator, HOST:PORT or unix:PATH. It serves /metrics, /healthz and
    /// /readyz without TLS; /metrics is then on no other address [default: none]
    #[arg(long, value_name = "ADDRESS", value_parser = address)]
    pub(super) admin_listen: Option<String>,

    /// Worker threads. Each has its own share of the connections [default: one per core]
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u16).range(1..))]
    workers: Option<u16>,

    /// Print all settings, and stop
    #[arg(long)]
    pub(super) print_config: bool,

    /// Stand in for jmalloc, lpinca, firewalk, httpbin or httparena
    ///
    /// Stand in for another echo service: serve its endpoints instead of frameloop's, with its
    /// address, limits and environment variables unless a flag says otherwise
    #[arg(long, value_name = "SERVICE")]
    pub(super) compat: Option<EchoService>,

    /// Switch off the faults that clients of /echo can ask for (delay, drop, abort, invalid ...)
    #[arg(long)]
    pub(super) no_faults: bool,

    /// Switch Socket.IO off: /socket.io/ gets 404
    #[arg(long)]
    pub(super) no_socketio: bool,

    /// Switch /metrics off, on --admin-listen too
    #[arg(long)]
    no_metrics: bool,

    /// Give the same bytes the same answers and the same log, for fuzzers: one worker, no randomness,
    /// no Date, no times and addresses in the log, no Socket.IO, no /metrics
    #[arg(long, conflicts_with_all = ["workers", "compat", "channel_layer", "socketio_redis",
          "tls_cert", "tls_self_signed"])]
    pub(super) deterministic: bool,

    #[command(flatten)]
    pub(super) access: Access,

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
#[command(next_help_heading = "Logs")]
pub(super) struct LogArguments {
    /// Log lines: text, or json (one object per line)
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub(super) log_format: LogFormat,

    /// Least severe level to log: error, warn, info, debug or trace
    #[arg(long, value_name = "LEVEL", default_value = "info", value_parser = level())]
    pub(super) log_level: LevelFilter,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum LogFormat {
    Text,
    Json,
}

fn level() -> impl TypedValueParser<Value = LevelFilter> {
    let names = ["off", "error", "warn", "info", "debug", "trace"];
    PossibleValuesParser::new(names).try_map(|name| name.parse::<LevelFilter>())
}

impl Serve {
    /// The addresses to listen on.
    pub(super) fn listen(&self) -> Vec<String> {
        let listen = self.listen.iter();
        listen.flat_map(|AddressList(all)| all.clone()).collect()
    }

    pub(super) fn settings(&self) -> Settings {
        let limits = &self.limits;
        Settings {
            limits: SizeLimits {
                max_message_size: limits.max_message_size,
                max_frame_size: limits.max_frame_size,
            },
            deflate: self.deflate.deflate(),
            deadlines: self.deadlines.deadlines(),
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

    /// Metrics show memory and times, which differ between runs.
    pub(super) fn has_metrics(&self) -> bool {
        !self.no_metrics && !self.deterministic
    }

    pub(super) fn workers(&self) -> usize {
        match self.workers {
            _ if self.deterministic => 1,
            Some(workers) => workers.into(),
            None => std::thread::available_parallelism().map_or(1, usize::from),
        }
    }

    /// The maximum number of connections. Raises the limit of open files, because each connection
    /// needs one.
    pub(super) fn max_connections(&self) -> usize {
        let max_open_files = raise_open_files();
        // For listeners, pollers, logs, and connections that only get a 503.
        let reserve = (max_open_files / 4).min(64);
        self.limits
            .max_connections
            .unwrap_or(max_open_files - reserve)
    }
}

/// The chosen compatible service. `None` without --compat.
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
    let defaults = service.defaults();
    let change = |argument: Arg| match defaults.iter().find(|(name, _)| argument.get_id() == name) {
        Some((_, value)) => argument.default_value(value.clone()),
        None => argument,
    };
    let command = super::help::command().mut_args(change);
    command.mut_subcommands(|command| match command.get_name() {
        "serve" | "healthcheck" => command.mut_args(change),
        _ => command,
    })
}

/// All effective settings, one `flag = value` a line.
pub(super) fn effective(serve: &Serve, matches: &ArgMatches) -> String {
    let mut text = String::new();
    for argument in Cli::command().get_arguments() {
        let Some(flag) = argument.get_long() else {
            continue;
        };
        if matches!(flag, "help" | "help-all" | "version" | "print-config") {
            continue;
        }
        let values = matches.get_raw(argument.get_id().as_str());
        let values = values.into_iter().flatten();
        let values = values.map(|value| value.to_string_lossy().trim().to_owned());
        let value = match (values.collect::<Vec<_>>().join(","), flag) {
            (..) if matches!(argument.get_action(), ArgAction::SetTrue) => {
                matches.get_flag(argument.get_id().as_str()).to_string()
            }
            (value, "token") if !value.is_empty() => String::from("set"),
            (value, flag) if SECRETS.contains(&flag) && !value.is_empty() => {
                without_secrets(&value)
            }
            (_, "token" | "socketio-redis") => String::from("none"),
            (value, _) if !value.is_empty() => value,
            (_, "workers") => serve.workers().to_string(),
            (_, "max-unfinished-size") => written_size(serve.limits.max_unfinished_size()),
            (_, "max-unsent-size") => written_size(serve.limits.max_unsent_size()),
            (_, "max-connections") => serve.max_connections().to_string(),
            (_, "allow-origin" | "allow-host") => String::from("any"),
            _ => String::from("none"),
        };
        text.push_str(&format!("{flag} = {value}\n"));
    }
    text
}
