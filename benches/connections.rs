//! Connections: the memory of an idle connection, and the CPU for opening a connection.
//!
//! `cargo bench --bench connections` first opens 15,000 connections, echoes one message on each,
//! and divides the growth of the server's resident memory by the number of connections. Then it
//! opens and drops connections as fast as possible. The limit for opening is hyper alone, which
//! answers `101` and closes.
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::expect_used,
    clippy::unwrap_used,
    missing_docs
)]

mod support;

use std::{io, io::Error};

use clap::{Parser, ValueEnum};
use frameloop::lab::load::Mode;
use serde_json::json;

use support::{
    contestants::{Contestant, Duty},
    lab,
    measurement::{Round, Summary},
    options::{Options, is_test_run},
    report::{Comparison, Report, Table},
    starting::build_peers,
    statistics::{figure, median},
    turns::take_turns,
};

const IDLE_SERVERS: [Contestant; 5] = [
    Contestant::RawTcp,
    Contestant::Frameloop,
    Contestant::TokioTungstenite,
    Contestant::Fastwebsockets,
    Contestant::SockudoWs,
];

const OPENING_SERVERS: [Contestant; 5] = [
    Contestant::Hyper,
    Contestant::Frameloop,
    Contestant::Fastwebsockets,
    Contestant::SockudoWs,
    Contestant::TokioTungstenite,
];

/// Size in bytes of the message that each connection echoes before it is idle.
const MESSAGE_SIZE: usize = 20;

/// Connections: memory of an idle one, CPU to open one
#[derive(Debug, Parser)]
#[command(name = "connections")]
struct ConnectionsOptions {
    /// Measure only this part
    #[arg(long)]
    only: Option<Part>,

    /// Idle connections
    #[arg(long, default_value_t = 15_000)]
    idle: usize,

    /// Handshakes in flight
    #[arg(long, default_value_t = 64)]
    in_flight: usize,

    #[command(flatten)]
    common: Options,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum Part {
    Memory,
    Handshakes,
}

fn main() -> io::Result<()> {
    if is_test_run() {
        return Ok(());
    }
    let options = ConnectionsOptions::parse();
    let files = rlimit::increase_nofile_limit(u64::MAX)?;
    if options.only != Some(Part::Handshakes) && files < options.idle as u64 + 64 {
        return Err(Error::other(format!(
            "only {files} file descriptors are allowed"
        )));
    }
    build_peers()?;
    let mut report = Report::new("connections", &options.common);
    if options.only != Some(Part::Handshakes) {
        compare_memory(&options, &mut report);
    }
    if options.only != Some(Part::Memory) {
        compare_handshakes(&options, &mut report);
    }
    report.finish(options.common.json.as_deref())
}

fn compare_memory(options: &ConnectionsOptions, report: &mut Report) {
    let servers = options.common.contestants(&IDLE_SERVERS);
    let all_rounds = take_turns(servers, options.common.rounds, report, |server, _| {
        idle_memory(server, options.idle, &options.common)
    });
    println!(
        "\nresident bytes per idle connection, {} of them",
        options.idle
    );
    let mut table = Table::new(&["server", "bytes", "least", "most"]);
    let mut figures = serde_json::Map::new();
    for (server, rounds) in all_rounds {
        let middle = median(rounds.iter().copied());
        let least = rounds.iter().copied().fold(f64::INFINITY, f64::min);
        let most = rounds.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let mut row = vec![server.name().to_owned()];
        row.extend([middle, least, most].map(|bytes| format!("{bytes:.0}")));
        table.row(row);
        let figure = json!({ "resident_bytes": figure(middle), "rounds": rounds });
        figures.insert(server.name().to_owned(), figure);
    }
    print!("{table}");
    report.add(json!({ "part": "memory", "idle": options.idle, "servers": figures }));
}

/// Growth of a server's resident memory per connection in bytes, with `count` connections after one
/// echo each.
fn idle_memory(server: Contestant, count: usize, options: &Options) -> io::Result<f64> {
    let process = server.start(Duty::Echo, options)?;
    let mut plan = lab::plan(server, Duty::Echo, &process, MESSAGE_SIZE, options)?;
    plan.connections = count;
    lab::idle_memory(&plan)
}

fn compare_handshakes(options: &ConnectionsOptions, report: &mut Report) {
    let servers = options.common.contestants(&OPENING_SERVERS);
    let rounds = take_turns(servers, options.common.rounds, report, |server, _| {
        handshakes(server, options.in_flight, &options.common)
    });
    let summaries = rounds
        .into_iter()
        .map(|(server, rounds)| (server, Summary::of(rounds)));
    let comparison = Comparison {
        title: format!("opening handshakes, {} in flight", options.in_flight),
        operation: "handshake",
        servers: &summaries.collect::<Vec<_>>(),
        server_cores: options.common.server_cores.len(),
    };
    comparison.print();
    report.add(json!({
        "part": "handshakes",
        "in_flight": options.in_flight,
        "servers": comparison.json(),
    }));
}

/// Starts one server and measures it. The CPU time covers accepting, answering and closing.
fn handshakes(server: Contestant, in_flight: usize, options: &Options) -> io::Result<Round> {
    let duty = match server {
        Contestant::Hyper => Duty::Close,
        _ => Duty::Echo,
    };
    let process = server.start(duty, options)?;
    let mut plan = lab::plan(server, duty, &process, MESSAGE_SIZE, options)?;
    plan.mode = Mode::Connect;
    plan.connections = in_flight;
    plan.sources = plan.usual_sources();
    Round::of(&plan, &lab::measure(&plan)?)
}
