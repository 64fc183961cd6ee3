//! The printed report of a bench, and its JSON file.

use std::{env, fs, io, io::Error, path::Path};

pub(crate) use frameloop::lab::load::report::Table;
use serde_json::{Value, json};

use super::{
    contestants::Contestant, machine, measurement::Summary, options::Options, statistics::figure,
};

/// The figures of a bench with the conditions of the measurement.
#[derive(Debug)]
pub(crate) struct Report {
    head: Value,
    cells: Vec<Value>,
    failures: Vec<String>,
}

impl Report {
    pub(crate) fn new(bench: &str, options: &Options) -> Self {
        let head = json!({
            "bench": bench,
            "date": machine::date(),
            "machine": machine::json(),
            "versions": machine::versions(),
            "conditions": {
                "arguments": env::args().skip(1).filter(|it| it != "--bench").collect::<Vec<_>>(),
                "seconds": options.seconds,
                "rounds": options.rounds,
                "warm_up_seconds": WARM_UP_SECONDS,
                "server_cores": options.server_cores,
                "generator_core": options.generator_core,
                "frameloop_workers": options.workers,
                "network": "loopback, TCP_NODELAY",
            },
        });
        Self {
            head,
            cells: Vec::new(),
            failures: Vec::new(),
        }
    }

    pub(crate) fn add(&mut self, cell: Value) {
        self.cells.push(cell);
    }

    pub(crate) fn fail(&mut self, problem: String) {
        eprintln!("\nFAILED {problem}");
        self.failures.push(problem);
    }

    /// Writes the JSON file if `path` is given. Returns an error if any measurement failed.
    pub(crate) fn finish(self, path: Option<&Path>) -> io::Result<()> {
        let failures = self.failures.len();
        if let Some(path) = path {
            if let Some(folder) = path.parent() {
                fs::create_dir_all(folder)?;
            }
            fs::write(path, self.json())?;
            println!("\nwritten: {}", path.display());
        }
        match failures {
            0 => Ok(()),
            _ => Err(Error::other(format!("{failures} measurements failed"))),
        }
    }

    /// Formats the JSON: the conditions, then one line for each cell.
    fn json(&self) -> String {
        let mut head = self.head.clone();
        head["failures"] = self.failures.clone().into();
        let head = format!("{head:#}");
        let head = head.strip_suffix('}').unwrap_or_default().trim_end();
        let cells: Vec<_> = self
            .cells
            .iter()
            .map(|cell| format!("    {cell}"))
            .collect();
        format!("{head},\n  \"cells\": [\n{}\n  ]\n}}\n", cells.join(",\n"))
    }
}

/// Duration of the load before the measurement, in seconds.
pub(crate) const WARM_UP_SECONDS: f64 = 0.5;

/// A server that waits for its core for a larger share of the time is reported as noisy.
const NOISY: f64 = 0.03;

/// The servers of one cell, the baseline first. Formatted as a table or as JSON.
pub(crate) struct Comparison<'a> {
    pub(crate) title: String,
    /// The name of the counted operation: `msg`, `delivery`.
    pub(crate) operation: &'a str,
    pub(crate) servers: &'a [(Contestant, Summary)],
    pub(crate) server_cores: usize,
}

impl Comparison<'_> {
    /// Prints the table. Ratios are relative to the first server.
    pub(crate) fn print(&self) {
        let Self {
            title,
            operation,
            servers,
            server_cores,
        } = self;
        let Some((baseline, limit)) = servers.first() else {
            return;
        };
        println!("\n{title}   (x: as a multiple of {})", baseline.name());
        let mut table = Table::new(&[
            "server",
            &format!("{operation}/s"),
            "x",
            &format!("CPU us/{operation}"),
            "x",
            "user us",
            "p50 us",
            "p99 us",
            "p99.9 us",
            "server core",
            "generator core",
            "saturated",
        ]);
        for (server, summary) in *servers {
            table.row(vec![
                server.name().to_owned(),
                format!("{:.0}", summary.rate),
                format!("{:.2}", summary.rate_ratio(limit)),
                format!("{:.3}", summary.cpu),
                format!("{:.2}", summary.cpu_ratio(limit)),
                format!("{:.3}", summary.user),
                format!("{:.1}", summary.latency.p50),
                format!("{:.1}", summary.latency.p99),
                format!("{:.1}", summary.latency.p999),
                format!("{:.0} %", summary.server_cores * 100.0),
                format!("{:.0} %", summary.generator_cores * 100.0),
                summary.saturated(*server_cores).to_owned(),
            ]);
        }
        print!("{table}");
        let waited = servers
            .iter()
            .map(|(_, summary)| summary.waited)
            .fold(0.0, f64::max);
        if waited > NOISY {
            let percent = waited * 100.0;
            println!(
                "noisy: other processes kept a server from its core for {percent:.0} % of the time"
            );
        }
    }

    /// The figures by server name. Ratios are relative to the first server.
    pub(crate) fn json(&self) -> Value {
        let mut all = serde_json::Map::new();
        for (server, summary) in self.servers {
            let mut figures = summary.json(self.server_cores);
            if let Some((baseline, limit)) = self.servers.first() {
                figures["relative_to"] = baseline.name().into();
                figures["cpu_ratio"] = figure(summary.cpu_ratio(limit));
                figures["rate_ratio"] = figure(summary.rate_ratio(limit));
            }
            all.insert(server.name().to_owned(), figures);
        }
        all.into()
    }
}
