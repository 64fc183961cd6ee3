//! Fan-out: the server CPU for delivering one message to one member of a topic.
//!
//! In `cargo bench --bench fanout`, one publisher sends messages of 100 B, alone or in bursts
//! of 16, to 100, 1,000 and 5,000 members including itself. The limit is a bare loop with one
//! `write` of the same frame per member and message. In bursts frameloop may cost less.
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::expect_used,
    clippy::unwrap_used,
    missing_docs
)]

mod support;

use std::io;

use clap::Parser;
use frameloop::lab::load::Mode;
use serde_json::json;

use support::{
    contestants::{Contestant, Duty},
    lab,
    measurement::{Round, Summary},
    options::{Options, is_test_run},
    report::{Comparison, Report},
    starting::build_peers,
    turns::take_turns,
    wire::PUBLISHED_SIZE,
};

const SERVERS: [Contestant; 3] = [
    Contestant::RawTcp,
    Contestant::Frameloop,
    Contestant::TokioTungstenite,
];

/// Fan-out: CPU per delivery against a bare loop of writes and a broadcast channel
#[derive(Debug, Parser)]
#[command(name = "fanout")]
struct FanoutOptions {
    /// Members of the topic
    #[arg(long, value_delimiter = ',', default_value = "100,1000,5000",
        value_parser = clap::value_parser!(u16).range(1..))]
    members: Vec<u16>,

    /// Messages that are published at once
    #[arg(long, value_delimiter = ',', default_value = "1,16",
        value_parser = clap::value_parser!(u8).range(1..=32))]
    bursts: Vec<u8>,

    #[command(flatten)]
    common: Options,
}

/// The members of the topic and the messages of a burst.
#[derive(Clone, Copy, Debug)]
struct Cell {
    members: usize,
    burst: usize,
}

fn main() -> io::Result<()> {
    if is_test_run() {
        return Ok(());
    }
    let FanoutOptions {
        members,
        bursts,
        common: options,
    } = FanoutOptions::parse();
    rlimit::increase_nofile_limit(u64::MAX)?;
    let servers = options.contestants(&SERVERS);
    build_peers()?;
    let mut report = Report::new("fanout", &options);
    for &members in &members {
        for &burst in &bursts {
            let cell = Cell {
                members: members.into(),
                burst: burst.into(),
            };
            compare(cell, &servers, &options, &mut report);
        }
    }
    report.finish(options.json.as_deref())
}

fn compare(cell: Cell, servers: &[Contestant], options: &Options, report: &mut Report) {
    let entrants = servers.iter().map(|&server| (server, cell));
    let rounds = take_turns(entrants, options.rounds, report, |(server, cell), _| {
        measure(server, cell, options)
    });
    let summaries = rounds
        .into_iter()
        .map(|((server, _), rounds)| (server, Summary::of(rounds)));
    let Cell { members, burst } = cell;
    let comparison = Comparison {
        title: format!("{PUBLISHED_SIZE} B to {members} members, bursts of {burst}"),
        operation: "delivery",
        servers: &summaries.collect::<Vec<_>>(),
        server_cores: options.server_cores.len(),
    };
    comparison.print();
    report.add(json!({
        "size": PUBLISHED_SIZE,
        "members": members,
        "burst": burst,
        "servers": comparison.json(),
    }));
}

/// Starts one server and measures it. The latency is that of a delivery.
fn measure(server: Contestant, cell: Cell, options: &Options) -> io::Result<Round> {
    let process = server.start(Duty::Fanout, options)?;
    let mut plan = lab::plan(server, Duty::Fanout, &process, PUBLISHED_SIZE, options)?;
    plan.mode = Mode::Broadcast { publishers: 1 };
    (plan.connections, plan.depth) = (cell.members, cell.burst);
    Round::of(&plan, &lab::measure(&plan)?)
}
