//! Installs and starts each server.

use std::{
    env, io,
    io::Error,
    path::{Path, PathBuf},
    process::Command,
};

use super::{
    contestants::{Contestant, Duty},
    options::Options,
    process::Process,
};

impl Contestant {
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
            Self::Frameloop => {
                let mut command = Command::new(frameloop(options));
                command.args(["--listen", "127.0.0.1:0", "--workers"]);
                command
                    .arg(options.workers.to_string())
                    .args(&options.frameloop_args)
                    // The other servers do not limit the rate.
                    .env("FRAMELOOP_MAX_PUBLISH_RATE", "0");
                Ok(command)
            }
            Self::FlaskSocketio => {
                let mut command = Command::new(flask_python());
                command
                    .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join(FLASK_APP))
                    .env("ASYNC_MODE", "gevent")
                    // While 1,000 clients connect, connected clients do not answer pings.
                    .env("PING_TIMEOUT", "120");
                Ok(command)
            }
            _ => Ok(peer(self.name(), duty)),
        }
    }
}

/// Builds the peers, which are a separate package. Cargo skips them if they are up to date.
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

const FLASK_APP: &str = "tests/interop/flask_socketio_app.py";

const FLASK_PACKAGES: [&str; 5] = [
    "Flask==3.1.3",
    "Flask-SocketIO==5.7.0",
    "python-socketio==5.18.1",
    "gevent==26.9.0",
    "gevent-websocket==0.10.1",
];

/// Installs Flask-SocketIO unless it is already installed.
pub(crate) fn install_flask() -> io::Result<()> {
    let folder = temporary_folder().join("flask");
    if flask_python().exists() {
        return Ok(());
    }
    let run = |command: &mut Command| match command.status()?.success() {
        true => Ok(()),
        false => Err(Error::other("Flask-SocketIO cannot be installed")),
    };
    run(Command::new("python3").args(["-m", "venv"]).arg(&folder))?;
    let mut install = Command::new(flask_python());
    run(install
        .args(["-m", "pip", "install", "--quiet"])
        .args(FLASK_PACKAGES))
    .inspect_err(|_| drop(std::fs::remove_dir_all(&folder)))
}

fn flask_python() -> PathBuf {
    temporary_folder().join("flask/bin/python")
}

/// The command that starts a server of the peers' program.
pub(crate) fn peer(name: &str, duty: &str) -> Command {
    let mut command = Command::new(peers_target().join("release/peers"));
    command.args([name, duty]);
    command
}

pub(crate) fn peers_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/peers")
}

pub(crate) fn frameloop(options: &Options) -> PathBuf {
    let built = || PathBuf::from(env!("CARGO_BIN_EXE_frameloop"));
    options.frameloop.clone().unwrap_or_else(built)
}

fn peers_target() -> PathBuf {
    temporary_folder().join("peers")
}

/// Cargo's folder in `target` for temporary files of benches.
pub(crate) fn temporary_folder() -> &'static Path {
    Path::new(env!("CARGO_TARGET_TMPDIR"))
}
