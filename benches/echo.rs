//! Echo: the server CPU per message, as a multiple of the CPU that TCP alone costs.
//!
//! `cargo bench --bench echo -- --quick` compares a raw TCP echo, frameloop as built and
//! the Rust peers. In each cell (size, connections, depth, kind) the servers take turns,
//! round after round. Each server runs alone on one core. The generator runs on another core
//! and checks every byte. The figure to read is **server CPU per message** relative to raw
//! TCP. Messages per second also depend on the generator, and both depend on the machine.
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::expect_used,
    clippy::unwrap_used,
    missing_docs
)]

mod support;

use std::io;

use clap::{Parser, ValueEnum};
use frameloop::lab::load::Text;
use serde_json::{Value, json};

use support::{
    contestants::{Contestant, Duty},
    lab,
    measurement::{Round, Summary},
    options::{Options, is_test_run},
    report::{Comparison, Report},
    starting::build_peers,
    statistics::figure,
    turns::take_turns,
};

const SERVERS: [Contestant; 5] = [
    Contestant::RawTcp,
    Contestant::Frameloop,
    Contestant::TokioTungstenite,
    Contestant::Fastwebsockets,
    Contestant::SockudoWs,
];

const KIB: usize = 1_024;
const MIB: usize = 1_024 * KIB;
/// Bound: bytes in flight. More would measure the kernel's memory limits.
const MAX_IN_FLIGHT: usize = 1_024 * MIB;

#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq, ValueEnum)]
enum Kind {
    Binary,
    /// Text of printable ASCII.
    TextAscii,
    /// Text of characters of one to four bytes, in equal numbers.
    TextMultibyte,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Binary => "binary",
            Self::TextAscii => "text-ascii",
            Self::TextMultibyte => "text-multibyte",
        }
    }
}

/// The size and kind of messages, the number in flight, and the number of connections.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
struct Cell {
    size: usize,
    connections: usize,
    /// Messages in flight on a connection; 1 is ping-pong.
    depth: usize,
    kind: Kind,
}

/// Echo: CPU per message against raw TCP and the Rust peers
#[derive(Debug, Parser)]
#[command(name = "echo")]
struct EchoOptions {
    /// Six cells in place of all
    #[arg(long, conflicts_with = "cells")]
    quick: bool,

    /// One cell, as `size=20,connections=50,depth=16,kind=binary`; may be given several times
    #[arg(long = "cell", value_name = "CELL", value_parser = parse_cell)]
    cells: Vec<Cell>,

    #[command(flatten)]
    common: Options,
}

fn main() -> io::Result<()> {
    if is_test_run() {
        return Ok(());
    }
    let options = EchoOptions::parse();
    rlimit::increase_nofile_limit(u64::MAX)?;
    let servers = options.common.contestants(&SERVERS);
    build_peers()?;
    let mut report = Report::new("echo", &options.common);
    for group in groups(&options) {
        compare(&group, &servers, &options.common, &mut report);
    }
    report.finish(options.common.json.as_deref())
}

/// Measures cells that differ only in kind, in turn, so that kinds can be compared like servers.
fn compare(group: &[Cell], servers: &[Contestant], options: &Options, report: &mut Report) {
    let entrants = group
        .iter()
        .flat_map(|&cell| servers.iter().map(move |&server| (server, cell)));
    let rounds = take_turns(entrants, options.rounds, report, |(server, cell), round| {
        measure(server, cell, round as u64, options)
    });
    let mut binary = Vec::new();
    for &cell in group {
        let of_cell = rounds.iter().filter(|((_, measured), _)| *measured == cell);
        let summaries: Vec<_> = of_cell
            .map(|((server, _), rounds)| (*server, Summary::of(rounds.clone())))
            .collect();
        let comparison = Comparison {
            title: title(cell),
            operation: "msg",
            servers: &summaries,
            server_cores: options.server_cores.len(),
        };
        comparison.print();
        report.add(json!({
            "size": cell.size,
            "connections": cell.connections,
            "depth": cell.depth,
            "kind": cell.kind.name(),
            "servers": comparison.json(),
            "cpu_ratio_to_binary": cpu_to_binary(&summaries, &binary),
        }));
        if cell.kind == Kind::Binary {
            binary = summaries;
        }
    }
}

/// Prints and returns each server's CPU per text message, as a multiple of its CPU per binary
/// message of the same size.
fn cpu_to_binary(text: &[(Contestant, Summary)], binary: &[(Contestant, Summary)]) -> Value {
    let mut ratios = serde_json::Map::new();
    let mut line = String::new();
    for (server, text) in text {
        if let Some((_, binary)) = binary.iter().find(|(other, _)| other == server) {
            let ratio = text.cpu_ratio(binary);
            line += &format!("  {} {ratio:.2}", server.name());
            ratios.insert(server.name().to_owned(), figure(ratio));
        }
    }
    if !line.is_empty() {
        println!("CPU as a multiple of binary:{line}");
    }
    ratios.into()
}

/// Starts one server and measures it in one cell.
fn measure(server: Contestant, cell: Cell, seed: u64, options: &Options) -> io::Result<Round> {
    let process = server.start(Duty::Echo, options)?;
    let mut plan = lab::plan(server, Duty::Echo, &process, cell.size, options)?;
    (plan.connections, plan.depth, plan.seed) = (cell.connections, cell.depth, seed);
    plan.messages.text = match cell.kind {
        Kind::Binary => None,
        Kind::TextAscii => Some(Text::Ascii),
        Kind::TextMultibyte => Some(Text::Multibyte),
    };
    Round::of(&plan, &lab::measure(&plan)?)
}

fn groups(options: &EchoOptions) -> Vec<Vec<Cell>> {
    let cell = |size, connections, depth, kind| Cell {
        size,
        connections,
        depth,
        kind,
    };
    if !options.cells.is_empty() {
        return options.cells.iter().map(|&cell| vec![cell]).collect();
    }
    if options.quick {
        let quick = [
            (20, 50, 1),
            (20, 50, 16),
            (KIB, 50, 16),
            (20, 500, 1),
            (16 * KIB, 50, 1),
            (MIB, 50, 1),
        ];
        let binary =
            |(size, connections, depth)| vec![cell(size, connections, depth, Kind::Binary)];
        return quick.map(binary).to_vec();
    }
    let mut groups = Vec::new();
    for size in [20, 125, KIB, 16 * KIB, 64 * KIB, MIB] {
        for connections in [1, 50, 500] {
            for depth in [1, 16] {
                if size * connections * depth <= MAX_IN_FLIGHT {
                    // Text only at 50 connections: UTF-8 cost does not depend on their number.
                    let kinds = if connections == 50 {
                        Kind::value_variants()
                    } else {
                        &[Kind::Binary]
                    };
                    let cells = kinds
                        .iter()
                        .map(|&kind| cell(size, connections, depth, kind));
                    groups.push(cells.collect());
                }
            }
        }
    }
    groups
}

fn title(cell: Cell) -> String {
    let size = match cell.size {
        mebibytes if mebibytes % MIB == 0 => format!("{} MiB", mebibytes / MIB),
        kibibytes if kibibytes % KIB == 0 => format!("{} KiB", kibibytes / KIB),
        bytes => format!("{bytes} B"),
    };
    let Cell {
        connections,
        depth,
        kind,
        ..
    } = cell;
    format!(
        "{size} {}, {connections} connections, depth {depth}",
        kind.name()
    )
}

fn parse_cell(text: &str) -> Result<Cell, String> {
    let mut cell = Cell {
        size: 20,
        connections: 50,
        depth: 1,
        kind: Kind::Binary,
    };
    for part in text.split(',') {
        let (key, value) = part.split_once('=').ok_or(format!("{part}: no `=`"))?;
        let number = || match value.parse() {
            Ok(number) if number > 0 => Ok(number),
            _ => Err(format!("{part}: no number above 0")),
        };
        match key {
            "size" => cell.size = number()?,
            "connections" => cell.connections = number()?,
            "depth" => cell.depth = number()?,
            "kind" => cell.kind = Kind::from_str(value, true)?,
            _ => return Err(format!("{key}: not size, connections, depth or kind")),
        }
    }
    Ok(cell)
}
