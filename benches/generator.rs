//! The CPU cost of the generator: `frameloop load` compared with a bare loop that writes a prepared
//! buffer and reads into one buffer without parsing messages.
//!
//! `cargo bench --bench generator` runs both against the same server, in turn. It fails unless
//! `frameloop load` needs at most 1.15 times the loop's CPU time per message and, at 16 messages
//! per write, reaches at least 95 % of the loop's rate.
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::expect_used,
    clippy::unwrap_used,
    missing_docs
)]

mod support;

use std::{io, net::SocketAddr, time::Duration};

use clap::Parser;
use frameloop::lab::load::report::Report as LoadReport;
use frameloop::lab::load::{Content, End, Interrupt, Machine, Mode, Plan, Target, run};
use serde_json::json;

use support::{
    bare_loop::{BareEcho, BareFanout, blocking_echo},
    contestants::{Contestant, Duty},
    options::{Options, is_test_run},
    report::{Report, Table, WARM_UP_SECONDS},
    statistics::{figure, median},
};

/// Bound: CPU per message, as a multiple of the bare loop's.
const MOST_CPU: f64 = 1.15;
/// Lower bound: rate at 16 messages per write, as a share of the bare loop's.
const LEAST_RATE: f64 = 0.95;
/// Bound: relative difference between the median latency of one connection and that of a blocking
/// client.
const AGREES: f64 = 0.1;

/// Generator: CPU per message against a bare loop
#[derive(Debug, Parser)]
#[command(name = "generator")]
struct GeneratorOptions {
    #[command(flatten)]
    common: Options,
}

#[derive(Clone, Copy, Debug)]
struct Cell {
    name: &'static str,
    size: usize,
    connections: usize,
    depth: usize,
    duty: Duty,
}

const CELLS: [Cell; 7] = [
    echo("20 B", 20, 1),
    echo("20 B, 16 deep", 20, 16),
    echo("1 KiB", 1_024, 1),
    echo("1 KiB, 16 deep", 1_024, 16),
    echo("16 KiB", 16_384, 1),
    fanout("fan-out to 1,000", 1),
    fanout("fan-out to 1,000, 16 deep", 16),
];

const fn echo(name: &'static str, size: usize, depth: usize) -> Cell {
    Cell {
        name,
        size,
        connections: 50,
        depth,
        duty: Duty::Echo,
    }
}

const fn fanout(name: &'static str, depth: usize) -> Cell {
    Cell {
        name,
        size: 100,
        connections: 1_000,
        depth,
        duty: Duty::Fanout,
    }
}

/// The measurement of `frameloop load` or of the bare loop.
#[derive(Clone, Copy, Debug)]
struct Measured {
    /// Generator CPU per message in microseconds.
    cpu: f64,
    rate: f64,
}

fn main() -> io::Result<()> {
    if is_test_run() {
        return Ok(());
    }
    let options = GeneratorOptions::parse().common;
    rlimit::increase_nofile_limit(u64::MAX)?;
    let mut report = Report::new("generator", &options);
    let mut table = Table::new(&[
        "cell",
        "bare us",
        "load us",
        "x",
        "least",
        "most",
        "bare msg/s",
        "rate x",
    ]);
    for cell in CELLS {
        let (mut bare, mut load) = (Vec::new(), Vec::new());
        for round in 0..options.rounds {
            let (one, other) = measure(cell, round, &options)?;
            bare.push(one);
            load.push(other);
        }
        let pairs = || bare.iter().zip(&load);
        let ratios = || pairs().map(|(bare, load)| load.cpu / bare.cpu);
        let cpu = median(ratios());
        let rate = median(pairs().map(|(bare, load)| load.rate / bare.rate));
        let of = |all: &[Measured]| median(all.iter().map(|it| it.cpu));
        table.row(vec![
            cell.name.to_owned(),
            format!("{:.3}", of(&bare)),
            format!("{:.3}", of(&load)),
            format!("{cpu:.3}"),
            format!("{:.3}", ratios().fold(f64::INFINITY, f64::min)),
            format!("{:.3}", ratios().fold(0.0, f64::max)),
            format!("{:.0}", median(bare.iter().map(|it| it.rate))),
            format!("{rate:.3}"),
        ]);
        report.add(json!({
            "cell": cell.name,
            "bare_cpu_us": figure(of(&bare)),
            "load_cpu_us": figure(of(&load)),
            "cpu_ratio": figure(cpu),
            "rate_ratio": figure(rate),
        }));
        if cpu > MOST_CPU {
            report.fail(format!(
                "{}: {cpu:.3} times the CPU of a bare loop",
                cell.name
            ));
        }
        if cell.depth == 16 && rate < LEAST_RATE {
            report.fail(format!("{}: {rate:.3} of a bare loop's rate", cell.name));
        }
    }
    print!("{table}");
    agree(&options, &mut report)?;
    report.finish(options.json.as_deref())
}

/// Compares the median latency of one connection with that of a blocking client on `std::net`.
fn agree(options: &Options, report: &mut Report) -> io::Result<()> {
    let time = Duration::from_secs_f64(options.seconds);
    let mut ratios = Vec::new();
    for _ in 0..options.rounds {
        let server = Contestant::Frameloop.start(Duty::Echo, options)?;
        let blocking = blocking_echo(server.address(), time)?.at(0.5) as f64;
        let plan = plan(
            Cell {
                connections: 1,
                ..CELLS[0]
            },
            server.address(),
            time,
        )?;
        let ours = run(&plan, &Interrupt::default(), |_| {})?.service.at(0.5) as f64;
        println!("p50 of one connection: blocking {blocking:.0} ns, load {ours:.0} ns");
        ratios.push(ours / blocking);
    }
    let ratio = median(ratios.into_iter());
    println!("p50 of one connection: {ratio:.3} times a blocking client's");
    report.add(json!({ "cell": "p50 of one connection", "ratio_to_blocking": figure(ratio) }));
    if (ratio - 1.0).abs() > AGREES {
        report.fail(format!("p50 is {ratio:.3} times a blocking client's"));
    }
    Ok(())
}

/// Measures both against one server. The order alternates from round to round.
fn measure(cell: Cell, round: usize, options: &Options) -> io::Result<(Measured, Measured)> {
    let server = Contestant::Frameloop.start(cell.duty, options)?;
    let time = Duration::from_secs_f64(options.seconds);
    let bare = || bare(cell, server.address(), time);
    let load = || load(cell, server.address(), time);
    if round.is_multiple_of(2) {
        let bare = bare()?;
        Ok((bare, load()?))
    } else {
        let load = load()?;
        Ok((bare()?, load))
    }
}

fn bare(cell: Cell, address: SocketAddr, time: Duration) -> io::Result<Measured> {
    let warm_up = Duration::from_secs_f64(WARM_UP_SECONDS);
    let (messages, cpu, took) = match cell.duty {
        Duty::Echo => {
            let mut bare = BareEcho::connect(address, cell.connections, cell.size, cell.depth)?;
            bare.run(warm_up)?;
            bare.run(time)?
        }
        _ => {
            let mut bare = BareFanout::connect(address, cell.connections, cell.size, cell.depth)?;
            bare.run(warm_up)?;
            bare.run(time)?
        }
    };
    Ok(Measured {
        cpu: cpu.as_secs_f64() * 1e6 / messages as f64,
        rate: messages as f64 / took.as_secs_f64(),
    })
}

fn plan(cell: Cell, address: SocketAddr, time: Duration) -> io::Result<Plan> {
    let path = match cell.duty {
        Duty::Echo => "echo",
        _ => "broadcast/bench",
    };
    let target = Target::parse(&format!("ws://{address}/{path}"));
    let mut plan = Plan::new(target.map_err(|error| io::Error::other(format!("{error:?}")))?);
    plan.mode = match cell.duty {
        Duty::Echo => Mode::Echo,
        _ => Mode::Broadcast { publishers: 1 },
    };
    plan.messages.content = Content::Sizes {
        from: cell.size,
        to: cell.size,
    };
    (plan.connections, plan.depth) = (cell.connections, cell.depth);
    plan.end = End::Time(time);
    plan.warm_up = Duration::from_secs_f64(WARM_UP_SECONDS);
    Ok(plan)
}

fn load(cell: Cell, address: SocketAddr, time: Duration) -> io::Result<Measured> {
    let plan = plan(cell, address, time)?;
    let outcome = run(&plan, &Interrupt::default(), |_| {})?;
    if outcome.counts.errors() > 0 {
        return Err(io::Error::other(format!("{:?}", outcome.counts)));
    }
    let machine = Machine::here();
    let report = LoadReport::new(&plan, &outcome, &machine);
    let cpu: f64 = outcome.threads.iter().sum::<f64>() * outcome.measured.time.as_secs_f64();
    Ok(Measured {
        cpu: cpu * 1e6 / outcome.measured.received as f64,
        rate: report.rate(),
    })
}
