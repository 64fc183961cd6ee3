//! permessage-deflate: the server CPU for echoing and for fanning out a compressed message, and the
//! memory that a connection holds after a compressed message.
//!
//! `cargo bench --bench compression` compares frameloop with sockudo-ws and yawc, and with `ws` of
//! Node and aiohttp, which `benches/run --rest` installs. Messages are 1 KiB of text that
//! compresses to a third, compressed in both directions. The servers take turns. The figure is
//! server CPU per message.
#![allow(
    clippy::cast_precision_loss,
    clippy::expect_used,
    clippy::unwrap_used,
    missing_docs
)]

mod support;

use std::io;
use std::path::Path;
use std::process::Command;

use clap::Parser;
use frameloop::lab::load::report::Report as LoadReport;
use frameloop::lab::load::{Compression, Machine, Mode, Text};
use serde_json::{Value, json};

use support::contestants::{Contestant, Duty};
use support::lab;
use support::options::{Options, is_test_run};
use support::process::Process;
use support::report::{Report, Table};
use support::starting::{build_peers, frameloop, peer, temporary_folder};
use support::statistics::{figure, median};

const CONNECTIONS: usize = 50;
const MEMBERS: usize = 1_000;
const IDLE: usize = 5_000;
const SIZE: usize = 1_024;

/// Compression: echo, fan-out and memory against other servers
#[derive(Debug, Parser)]
#[command(name = "compression")]
struct CompressionOptions {
    #[command(flatten)]
    common: Options,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Peer {
    Frameloop,
    FrameloopWithTakeover,
    SockudoWs,
    Yawc,
    NodeWs,
    Aiohttp,
}

impl Peer {
    fn name(self) -> &'static str {
        match self {
            Peer::Frameloop => "frameloop",
            Peer::FrameloopWithTakeover => "frameloop --deflate-context-takeover both",
            Peer::SockudoWs => "sockudo-ws",
            Peer::Yawc => "yawc",
            Peer::NodeWs => "ws (Node)",
            Peer::Aiohttp => "aiohttp",
        }
    }

    fn start(self, duty: &str, options: &Options) -> io::Result<Process> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let command = match self {
            Peer::Frameloop | Peer::FrameloopWithTakeover => {
                let mut command = Command::new(frameloop(options));
                command.args(["--listen", "127.0.0.1:0", "--workers", "1"]);
                command.args(["--max-publish-rate", "0"]);
                if self == Peer::FrameloopWithTakeover {
                    command.args(["--deflate-context-takeover", "both"]);
                }
                command
            }
            Peer::SockudoWs | Peer::Yawc => peer(self.name(), "deflate"),
            Peer::NodeWs => {
                let mut command = Command::new("node");
                command.arg(root.join("benches/peers/node_ws.mjs"));
                command.arg(temporary_folder().join("node")).arg(duty);
                command
            }
            Peer::Aiohttp => {
                let mut command = Command::new(temporary_folder().join("python/bin/python"));
                command.arg(root.join("benches/peers/aiohttp_echo.py"));
                command
            }
        };
        let log = Path::new(env!("CARGO_TARGET_TMPDIR")).join("compression.log");
        Process::start(command, &options.server_cores, options.generator_core, &log)
    }
}

fn main() -> io::Result<()> {
    if is_test_run() {
        return Ok(());
    }
    let options = CompressionOptions::parse().common;
    rlimit::increase_nofile_limit(u64::MAX)?;
    let mut report = Report::new("compression", &options);
    let micros = "server CPU, us per message";
    let echoes = [
        Peer::Frameloop,
        Peer::FrameloopWithTakeover,
        Peer::SockudoWs,
        Peer::Yawc,
        Peer::NodeWs,
        Peer::Aiohttp,
    ];
    build_peers()?;
    compare(
        "echo of 1 KiB of JSON, 50 connections",
        micros,
        &echoes,
        &options,
        &mut report,
        echo,
    );
    let rooms = [Peer::Frameloop, Peer::NodeWs];
    let title = "fan-out of 1 KiB of JSON to 1,000";
    compare(
        title,
        "server CPU, us per delivery",
        &rooms,
        &options,
        &mut report,
        fan_out,
    );
    let title = "idle connections, 5,000, after one compressed echo";
    let keepers = [Peer::Frameloop, Peer::FrameloopWithTakeover, Peer::NodeWs];
    compare(
        title,
        "resident bytes each",
        &keepers,
        &options,
        &mut report,
        memory,
    );
    report.finish(options.json.as_deref())
}

fn compare(
    title: &str,
    unit: &str,
    peers: &[Peer],
    options: &Options,
    report: &mut Report,
    measure: fn(Peer, &Options) -> io::Result<f64>,
) {
    let mut rounds = vec![Vec::new(); peers.len()];
    for _ in 0..options.rounds {
        for (peer, figures) in peers.iter().zip(&mut rounds) {
            match measure(*peer, options) {
                Ok(measured) => figures.push(measured),
                Err(error) => report.fail(format!("{}: {error}", peer.name())),
            }
        }
    }
    println!("\n{title}: {unit}");
    let mut table = Table::new(&["server", "median", "of frameloop's"]);
    let mut cells = serde_json::Map::new();
    let first = median(rounds[0].iter().copied());
    for (peer, figures) in peers
        .iter()
        .zip(&rounds)
        .filter(|(_, figures)| !figures.is_empty())
    {
        let middle = median(figures.iter().copied());
        let ratio = format!("{:.2}", middle / first);
        table.row(vec![peer.name().to_owned(), format!("{middle:.2}"), ratio]);
        let rounds: Vec<Value> = figures.iter().copied().map(figure).collect();
        cells.insert(
            peer.name().to_owned(),
            json!({ "median": figure(middle), "rounds": rounds }),
        );
    }
    print!("{table}");
    report.add(json!({ "part": title, "unit": unit, "servers": cells }));
}

fn echo(peer: Peer, options: &Options) -> io::Result<f64> {
    measure(peer, "echo", Mode::Echo, CONNECTIONS, options)
}

fn fan_out(peer: Peer, options: &Options) -> io::Result<f64> {
    measure(
        peer,
        "fanout",
        Mode::Broadcast { publishers: 1 },
        MEMBERS,
        options,
    )
}

fn memory(peer: Peer, options: &Options) -> io::Result<f64> {
    measure(peer, "echo", Mode::Idle, IDLE, options)
}

/// Server CPU per message in microseconds, or server memory per connection in bytes.
fn measure(
    peer: Peer,
    duty: &str,
    mode: Mode,
    connections: usize,
    options: &Options,
) -> io::Result<f64> {
    let process = peer.start(duty, options)?;
    let duty = match mode {
        Mode::Broadcast { .. } => Duty::Fanout,
        _ => Duty::Echo,
    };
    let mut plan = lab::plan(Contestant::Frameloop, duty, &process, SIZE, options)?;
    plan.mode = mode;
    plan.connections = connections;
    plan.messages.text = Some(Text::Ascii);
    plan.messages.compression = Some(Compression::Once);
    if peer == Peer::FrameloopWithTakeover {
        let offer = String::from("permessage-deflate");
        plan.headers = vec![(String::from("Sec-WebSocket-Extensions"), offer)];
    }
    if mode == Mode::Idle {
        return lab::idle_memory(&plan);
    }
    let outcome = lab::measure(&plan)?;
    let machine = Machine::here();
    let report = LoadReport::new(&plan, &outcome, &machine);
    let cpu = report.server_cpu().map(|(each, _)| each);
    cpu.ok_or_else(|| io::Error::other("the server was not watched"))
}
