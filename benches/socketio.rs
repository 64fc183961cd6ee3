//! Socket.IO: the server CPU for a broadcast and for a connect, compared with Flask-SocketIO on
//! gevent.
//!
//! In `cargo bench --bench socketio`, one of 1,000 clients of the Flask-SocketIO tutorial sends
//! messages of 100 B to all clients over WebSocket, alone or in bursts of 16. Then clients connect,
//! join and leave, over WebSocket and over polling. For comparison, the same fan-out is measured
//! without Socket.IO at frameloop's `/broadcast`, by the load generator and at the same rate: a
//! server that is idle between bursts needs more time for each delivery.
//!
//! The Socket.IO clients are not the load generator's: its messages begin with their number and come
//! back as they were sent, while a Socket.IO message begins with its event and comes back between
//! other packets. They are blocking sockets, and the bench takes the times of whole rounds.
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::expect_used,
    clippy::unwrap_used,
    missing_docs
)]

mod support;

use std::{io, time::Duration};

use clap::Parser;
use frameloop::lab::load::Mode;
use serde_json::json;

use support::{
    contestants::{Contestant, Duty},
    lab,
    measurement::{Round, Summary, Window},
    options::{Options, is_test_run},
    process::Process,
    report::{Comparison, Report, WARM_UP_SECONDS},
    socketio_load::{BroadcastLoad, Transport, repeat},
    starting::install_flask,
    turns::take_turns,
    wire::PUBLISHED_SIZE,
};

const SERVERS: [Contestant; 2] = [Contestant::FlaskSocketio, Contestant::Frameloop];

/// Numbers of messages in a burst.
const BURSTS: [usize; 2] = [1, 16];

/// Socket.IO: CPU per delivery and per connect against Flask-SocketIO
#[derive(Debug, Parser)]
#[command(name = "socketio")]
struct SocketioOptions {
    /// Clients that get each message
    #[arg(long, default_value_t = 1_000)]
    clients: usize,

    /// Clients that connect at once
    #[arg(long, default_value_t = 32)]
    at_once: usize,

    #[command(flatten)]
    common: Options,
}

/// A part of the bench.
#[derive(Clone, Copy, Debug)]
enum Part {
    /// A broadcast in bursts of this many messages.
    Broadcast(usize),
    /// The same broadcast over plain WebSockets, at this many deliveries a second; frameloop only.
    PlainBroadcast(usize, f64),
    Connects(Transport),
}

fn main() -> io::Result<()> {
    if is_test_run() {
        return Ok(());
    }
    let options = SocketioOptions::parse();
    rlimit::increase_nofile_limit(u64::MAX)?;
    install_flask()?;
    let mut report = Report::new("socketio", &options.common);
    let servers = options.common.contestants(&SERVERS);
    for burst in BURSTS {
        let frameloop = &[Contestant::Frameloop];
        let rate = compare(Part::Broadcast(burst), &servers, &options, &mut report);
        if let Some(rate) = rate {
            let plain = Part::PlainBroadcast(burst, rate);
            compare(plain, frameloop, &options, &mut report);
        }
    }
    for (part, servers) in [
        (Part::Connects(Transport::WebSocket), &*servers),
        (Part::Connects(Transport::Polling), &servers),
    ] {
        compare(part, servers, &options, &mut report);
    }
    report.finish(options.common.json.as_deref())
}

/// Measures the servers. Returns frameloop's operations a second.
fn compare(
    part: Part,
    servers: &[Contestant],
    options: &SocketioOptions,
    report: &mut Report,
) -> Option<f64> {
    let common = &options.common;
    let entrants = servers.iter().map(|&server| (server, part));
    let rounds = take_turns(entrants, common.rounds, report, |(server, part), _| {
        measure(server, part, options)
    });
    let summaries = rounds
        .into_iter()
        .map(|((server, _), rounds)| (server, Summary::of(rounds)));
    let clients = options.clients;
    let (name, title, operation) = match part {
        Part::Broadcast(burst) => (
            "broadcast",
            format!("Socket.IO, 100 B to {clients} clients, bursts of {burst}"),
            "delivery",
        ),
        Part::PlainBroadcast(burst, _) => (
            "plain broadcast",
            format!("/broadcast at the same rate, 100 B to {clients} clients, bursts of {burst}"),
            "delivery",
        ),
        Part::Connects(transport) => (
            transport.name(),
            format!("Socket.IO, connect and join by {}", transport.name()),
            "connect",
        ),
    };
    let summaries: Vec<_> = summaries.collect();
    let comparison = Comparison {
        title,
        operation,
        servers: &summaries,
        server_cores: common.server_cores.len(),
    };
    comparison.print();
    report.add(json!({
        "part": name,
        "burst": match part {
            Part::Broadcast(burst) | Part::PlainBroadcast(burst, _) => burst,
            Part::Connects(_) => 1,
        },
        "clients": if operation == "delivery" { clients } else { options.at_once },
        "servers": comparison.json(),
    }));
    let ours = |(server, _): &&(Contestant, Summary)| *server == Contestant::Frameloop;
    summaries.iter().find(ours).map(|(_, summary)| summary.rate)
}

/// Starts one server and measures it.
fn measure(server: Contestant, part: Part, options: &SocketioOptions) -> io::Result<Round> {
    let process = server.start(Duty::Fanout, &options.common)?;
    let address = process.address();
    match part {
        Part::Broadcast(burst) => {
            let mut load = BroadcastLoad::connect(address, options.clients)?;
            let deliveries = options.clients * burst;
            measure_session(&process, deliveries, options, || load.broadcast(burst))
        }
        Part::PlainBroadcast(burst, rate) => {
            let common = &options.common;
            let mut plan = lab::plan(server, Duty::Fanout, &process, PUBLISHED_SIZE, common)?;
            plan.mode = Mode::Broadcast { publishers: 1 };
            (plan.connections, plan.depth) = (options.clients, burst);
            plan.rate = Some(rate / options.clients as f64);
            Round::of(&plan, &lab::measure(&plan)?)
        }
        Part::Connects(transport) => {
            let at_once = options.at_once;
            let connect = || transport.connect(address, at_once);
            measure_session(&process, at_once, options, connect)
        }
    }
}

/// Repeats a Socket.IO round of `operations` operations, first to warm up, then to measure.
fn measure_session(
    process: &Process,
    operations: usize,
    options: &SocketioOptions,
    mut round: impl FnMut() -> io::Result<()>,
) -> io::Result<Round> {
    let warm_up = Duration::from_secs_f64(WARM_UP_SECONDS);
    repeat(warm_up, operations, &mut round)?;
    let window = Window::open(process)?;
    let time = Duration::from_secs_f64(options.common.seconds);
    let tally = repeat(time, operations, &mut round)?;
    window.close(tally.operations, &tally.latency)
}
