//! The servers that are compared, and how each is started.

use std::{
    env, io,
    io::Error,
    path::{Path, PathBuf},
    process::Command,
};

use clap::ValueEnum;

use super::{options::Options, process::Process, wire::Protocol};

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum Contestant {
    /// The limit: the same octets over TCP, no WebSocket in it (`raw_tcp.rs`).
    RawTcp,
    /// The product: its release binary, with everything that it does by default.
    Frameloop,
    TokioTungstenite,
    Fastwebsockets,
    SockudoWs,
    /// hyper, answering each request with `200` and `Connection: close`.
    Hyper,
}

/// What a server is to do.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Duty {
    Echo,
    Fanout,
    Close,
}

impl Contestant {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::RawTcp => "raw-tcp",
            Self::Frameloop => "frameloop",
            Self::TokioTungstenite => "tokio-tungstenite",
            Self::Fastwebsockets => "fastwebsockets",
            Self::SockudoWs => "sockudo-ws",
            Self::Hyper => "hyper",
        }
    }

    pub(crate) fn protocol(self, duty: Duty) -> Protocol {
        match (self, duty) {
            (Self::RawTcp, _) => Protocol::RawTcp,
            (_, Duty::Fanout) => Protocol::WebSocket {
                path: "/broadcast/bench",
            },
            (_, Duty::Echo | Duty::Close) => Protocol::WebSocket { path: "/echo" },
        }
    }

    pub(crate) fn start(self, duty: Duty, options: &Options) -> io::Result<Process> {
        let log = temporary_folder().join(format!("{}.log", self.name()));
        let command = self.command(duty, options)?;
        Process::start(command, &options.server_cores, options.generator_core, &log)
    }

    fn command(self, duty: Duty, options: &Options) -> io::Result<Command> {
        let duty = match duty {
            Duty::Echo => "echo",
            Duty::Fanout => "fanout",
            Duty::Close => "close",
        };
        match self {
            Self::RawTcp => {
                let mut command = Command::new(env::current_exe()?);
                command.args([super::raw_tcp::SUBCOMMAND, duty]);
                Ok(command)
            }
            Self::Frameloop => {
                let mut command = Command::new(frameloop(options));
                command.args(["--listen", "127.0.0.1:0", "--workers"]);
                command
                    .arg(options.workers.to_string())
                    .args(&options.frameloop_args);
                Ok(command)
            }
            _ => Ok(peer(self.name(), duty)),
        }
    }
}

/// Builds the peers, a package of their own, unless they are built.
pub(crate) fn build_peers() -> io::Result<()> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .args([
            "build",
            "--release",
            "--locked",
            "--quiet",
            "--manifest-path",
        ])
        .arg(peers_folder().join("Cargo.toml"))
        .arg("--target-dir")
        .arg(peers_target())
        .status()?;
    if status.success() {
        Ok(())
    } else {
        Err(Error::other("the peers do not build"))
    }
}

/// A server of the peers' program.
pub(crate) fn peer(name: &str, duty: &str) -> Command {
    let mut command = Command::new(peers_target().join("release/peers"));
    command.args([name, duty]);
    command
}

pub(crate) fn peers_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/peers")
}

fn frameloop(options: &Options) -> PathBuf {
    let built = || PathBuf::from(env!("CARGO_BIN_EXE_frameloop"));
    options.frameloop.clone().unwrap_or_else(built)
}

fn peers_target() -> PathBuf {
    temporary_folder().join("peers")
}

/// Cargo's own place for what benches leave behind, in `target`.
fn temporary_folder() -> &'static Path {
    Path::new(env!("CARGO_TARGET_TMPDIR"))
}
