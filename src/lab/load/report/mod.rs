//! The report of a run, as text, JSON, HTML or an HdrHistogram log.

pub mod hdr;
pub mod html;
pub mod json;
mod text;

use std::fmt;

use super::plan::{Content, End, Mode, Plan};
use super::{Latencies, LoadOutcome, Machine, PERCENTILES};

/// A run with its plan and its machine.
#[derive(Debug)]
#[non_exhaustive]
pub struct Report<'a> {
    /// The plan of the run.
    pub plan: &'a Plan,
    /// The result of the run.
    pub outcome: &'a LoadOutcome,
    /// The machine that the generator ran on.
    pub machine: &'a Machine,
}

/// The share of a core above which a generator thread limits the measured figures.
pub const SATURATED: f64 = 0.9;

impl<'a> Report<'a> {
    /// Makes the report of a run.
    pub fn new(plan: &'a Plan, outcome: &'a LoadOutcome, machine: &'a Machine) -> Report<'a> {
        Report {
            plan,
            outcome,
            machine,
        }
    }

    /// Messages received during the measurement. In [`Mode::Connect`] and [`Mode::Churn`],
    /// connections opened.
    pub fn operations(&self) -> u64 {
        match self.plan.mode {
            Mode::Connect | Mode::Churn => self.outcome.measured.opened,
            _ => self.outcome.measured.received,
        }
    }

    /// [`Report::operations`] per second.
    pub fn rate(&self) -> f64 {
        self.operations() as f64 / self.outcome.measured.time.as_secs_f64().max(1e-9)
    }

    /// The main latencies: response times in an open loop, service times in a closed loop, and
    /// opening times if a run has neither.
    pub fn latencies(&self) -> &'a Latencies {
        let outcome = self.outcome;
        [&outcome.response, &outcome.service]
            .into_iter()
            .find(|latencies| latencies.count() > 0)
            .unwrap_or(&outcome.opening.whole)
    }

    /// A figure by its name: a percentile (`p99`), `max` or `mean` of the main latencies in
    /// nanoseconds; `rate`, `errors` or `lost`; `cpu`, the server's per operation in microseconds;
    /// `memory`, the server's per connection in bytes. `None` if the run has no such figure.
    pub(super) fn figure(&self, name: &str) -> Option<f64> {
        let latencies = Some(self.latencies()).filter(|latencies| latencies.count() > 0);
        let counts = &self.outcome.counts;
        match name {
            "rate" => Some(self.rate()),
            "errors" => Some(counts.errors() as f64),
            "lost" => Some(counts.lost as f64),
            "cpu" => self.server_cpu().map(|(each, _)| each),
            "memory" => self.server_memory(),
            "max" => latencies.map(|latencies| latencies.max() as f64),
            "mean" => latencies.map(Latencies::mean),
            _ => {
                let (_, quantile) = PERCENTILES.iter().find(|(known, _)| *known == name)?;
                latencies.map(|latencies| latencies.at(*quantile) as f64)
            }
        }
    }

    /// The latencies of messages, by name. Empty histograms are left out.
    pub(super) fn named_latencies(&self) -> Vec<(&'static str, &'a Latencies)> {
        let outcome = self.outcome;
        present([
            ("response", &outcome.response),
            ("service", &outcome.service),
            ("to the last", &outcome.reach),
        ])
    }

    /// The opening times, by name. Empty histograms are left out.
    pub(super) fn named_openings(&self) -> Vec<(&'static str, &'a Latencies)> {
        let opening = &self.outcome.opening;
        present([
            ("TCP", &opening.tcp),
            ("TLS", &opening.tls),
            ("handshake", &opening.upgrade),
            ("together", &opening.whole),
        ])
    }

    /// The share of a broadcast's deliveries that members received, from 0 to 1.
    pub fn reach(&self) -> f64 {
        let counts = &self.outcome.counts;
        let came = counts.received.saturating_sub(counts.repeated) as f64;
        came / (came + counts.lost as f64).max(1.0)
    }

    /// The name of a counted operation, in the singular and in the plural.
    pub fn operation(&self) -> [&'static str; 2] {
        match self.plan.mode {
            Mode::Connect | Mode::Churn => ["connection", "connections"],
            Mode::Broadcast { .. } => ["delivery", "deliveries"],
            _ => ["message", "messages"],
        }
    }

    /// Whether a generator thread used more than [`SATURATED`] of its core. Rate and latency are
    /// then the generator's, not the server's.
    pub fn is_generator_bound(&self) -> bool {
        self.outcome.threads.iter().any(|share| *share > SATURATED)
    }

    /// The server's CPU time per operation in microseconds, and the part of it in user mode.
    pub fn server_cpu(&self) -> Option<(f64, Option<f64>)> {
        let [_, begin, end] = self.outcome.server.as_ref()?;
        let operations = match self.plan.mode {
            Mode::Idle => 0,
            _ => self.operations(),
        };
        let cpu = end.cpu.saturating_sub(begin.cpu).as_secs_f64() * 1e6;
        (operations > 0).then(|| {
            let each = cpu / operations as f64;
            (each, end.user_share(begin).map(|share| share * each))
        })
    }

    /// Cores that the server used, cores that it waited for, and its voluntary context switches per
    /// second.
    pub(super) fn server_pace(&self) -> Option<[f64; 3]> {
        let [_, begin, end] = self.outcome.server.as_ref()?;
        let seconds = self.outcome.measured.time.as_secs_f64();
        if seconds == 0.0 {
            return Some([0.0; 3]); // the run ended before its measurement
        }
        let switches = end
            .voluntary_switches
            .saturating_sub(begin.voluntary_switches);
        let cores = end.cpu.saturating_sub(begin.cpu).as_secs_f64();
        let waited = end.waited.saturating_sub(begin.waited).as_secs_f64();
        Some([cores, waited, switches as f64].map(|used| used / seconds))
    }

    /// Bytes of payload received per second.
    pub(super) fn bytes_per_second(&self) -> f64 {
        let measured = &self.outcome.measured;
        measured.received_bytes as f64 / measured.time.as_secs_f64().max(1e-9)
    }

    /// The server's memory per open connection, in bytes.
    pub fn server_memory(&self) -> Option<f64> {
        let [before, _, end] = self.outcome.server.as_ref()?;
        let grown = end.resident as f64 - before.resident as f64;
        (self.outcome.counts.opened > 0).then(|| grown / self.outcome.counts.opened as f64)
    }

    /// The generator's memory per connection, in bytes.
    pub fn own_memory(&self) -> Option<f64> {
        let [before, after] = self.outcome.own_memory?;
        let opened = self.outcome.counts.opened;
        (opened > 0).then(|| (after as f64 - before as f64) / opened as f64)
    }

    /// Describes the load in one line.
    pub fn title(&self) -> String {
        let pace = match (self.plan.rate, self.plan.mode) {
            (Some(rate), _) => format!("open loop at {}/s, ", number(rate)),
            (None, Mode::Idle) => String::new(),
            (None, _) => String::from("closed loop, "),
        };
        self.title_with(&pace)
    }

    /// Describes the load in one line, with `pace` as the words for the pace.
    pub(super) fn title_with(&self, pace: &str) -> String {
        let plan = self.plan;
        let kind = match plan.messages.text {
            Some(_) => "text",
            None => "binary",
        };
        let size = match &plan.messages.content {
            Content::Sizes { from, to } if from == to => format!("{} {kind}", size(*from)),
            Content::Sizes { from, to } => format!("{} to {} {kind}", size(*from), size(*to)),
            Content::File(messages) => format!("{} messages of a file, {kind}", messages.len()),
        };
        let depth = match plan.depth {
            1 => String::from("one at a time"),
            depth => format!("{depth} at a time"),
        };
        let what = match plan.mode {
            Mode::Echo => format!("{size}, {depth}"),
            Mode::Broadcast { publishers } => {
                format!("{size} from {publishers} to all, {depth}")
            }
            Mode::Connect => String::from("opened and dropped"),
            Mode::Churn => format!("opened, {} echoed ({size}), closed", plan.depth),
            Mode::Idle => format!("idle after one message ({size})"),
        };
        let end = match plan.end {
            End::Time(time) => format!("for {:.1} s", time.as_secs_f64()),
            End::Messages(messages) => format!("{messages} in all"),
        };
        format!("{} connections, {what}, {pace}{end}", plan.connections)
    }
}

fn present<'a, const N: usize>(
    all: [(&'static str, &'a Latencies); N],
) -> Vec<(&'static str, &'a Latencies)> {
    let all = all.into_iter();
    all.filter(|(_, latencies)| latencies.count() > 0).collect()
}

/// A table with one row for each run. `head` is the header of the name column.
pub(super) fn table_of_runs(head: &str, runs: &[(String, Report<'_>)]) -> Table {
    let mut table = Table::new(&[
        head,
        "rate",
        "p50",
        "p99",
        "p99.9",
        "max",
        "CPU-us",
        "errors",
        "generator",
    ]);
    for (name, report) in runs {
        let latencies = report.latencies();
        let busiest = report.outcome.threads.iter().copied().fold(0.0, f64::max);
        let mut row = vec![name.clone(), format!("{}/s", number(report.rate().round()))];
        row.extend([0.5, 0.99, 0.999].map(|quantile| time(latencies.at(quantile) as f64)));
        row.push(time(latencies.max() as f64));
        let cpu = report.server_cpu();
        row.push(cpu.map_or_else(|| String::from("-"), |(each, _)| format!("{each:.3}")));
        row.push(number(report.outcome.counts.errors() as f64));
        row.push(format!("{:.0} %", busiest * 100.0));
        table.row(row);
    }
    table
}

/// Columns are as wide as their longest cell. The first column is aligned left, the others right.
#[derive(Debug)]
pub struct Table(Vec<Vec<String>>);

impl Table {
    /// A table with these headers.
    pub fn new(heads: &[&str]) -> Table {
        let heads = heads.iter().copied();
        Table(vec![heads.map(String::from).collect()])
    }

    /// Appends a row.
    pub fn row(&mut self, cells: Vec<String>) {
        self.0.push(cells);
    }
}

impl fmt::Display for Table {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = |column: usize| {
            let cells = self.0.iter().filter_map(|row| row.get(column));
            cells.map(String::len).max().unwrap_or(0)
        };
        for row in &self.0 {
            for (column, cell) in row.iter().enumerate() {
                match column {
                    0 => write!(out, "{cell:<0$}", width(0))?,
                    _ => write!(out, "  {cell:>0$}", width(column))?,
                }
            }
            writeln!(out)?;
        }
        Ok(())
    }
}

/// Formats a number of bytes for people.
pub(super) fn size(bytes: usize) -> String {
    match bytes {
        0 => String::from("0 B"),
        _ if bytes.is_multiple_of(1 << 20) => format!("{} MiB", bytes >> 20),
        _ if bytes.is_multiple_of(1 << 10) => format!("{} KiB", bytes >> 10),
        _ => format!("{bytes} B"),
    }
}

/// Formats a number with commas between thousands.
pub(super) fn number(value: f64) -> String {
    if value < 100.0 && value.fract() != 0.0 {
        return format!("{value:.1}");
    }
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Formats nanoseconds for people, with three digits.
pub(super) fn time(nanoseconds: f64) -> String {
    let (value, unit) = match nanoseconds {
        small if small < 1e3 => return format!("{small:.0} ns"),
        small if small < 1e6 => (small / 1e3, "us"),
        small if small < 1e9 => (small / 1e6, "ms"),
        large => (large / 1e9, "s"),
    };
    match value {
        small if small < 10.0 => format!("{small:.2} {unit}"),
        small if small < 100.0 => format!("{small:.1} {unit}"),
        large => format!("{large:.0} {unit}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::load::{Sample, Target};
    use std::time::Duration;

    #[test]
    fn figures_are_written_as_people_read_them() {
        assert_eq!(number(1_234_567.0), "1,234,567");
        assert_eq!(number(12.5), "12.5");
        assert_eq!(number(999.0), "999");
        assert_eq!(size(1 << 10), "1 KiB");
        assert_eq!(size(20), "20 B");
        assert_eq!(time(950.0), "950 ns");
        assert_eq!(time(1_234.0), "1.23 us");
        assert_eq!(time(45_600_000.0), "45.6 ms");
        assert_eq!(time(2_000_000_000.0), "2.00 s");
    }
    /// If a thread uses more than 90 % of a core, every form of the report marks rate and latency.
    /// The figures of the server process remain valid.
    #[test]
    fn a_generator_without_time_left_marks_its_figures() {
        let mut plan = Plan::new(Target::parse("unix:/x").unwrap());
        plan.server = Some(1);
        let machine = Machine::here();
        let mut outcome = LoadOutcome::default();
        outcome.measured.time = Duration::from_secs(1);
        outcome.measured.received = 1_000;
        outcome.service.record(1_000, 1_000);
        let used = Sample {
            cpu: Duration::from_millis(5),
            ..Sample::default()
        };
        outcome.server = Some([Sample::default(), Sample::default(), used]);
        for (threads, is_bound) in [([0.3, 0.9], false), ([0.3, 0.91], true)] {
            outcome.threads = threads.to_vec();
            let report = Report::new(&plan, &outcome, &machine);
            let text = report.to_string();
            let page = html::page(&[Report::new(&plan, &outcome, &machine)], None, &text);
            for form in [&text, &page] {
                assert_eq!(
                    form.contains("BOUNDED BY THE GENERATOR"),
                    is_bound,
                    "{form}"
                );
                assert_eq!(form.contains("--threads"), is_bound, "{form}");
                assert!(form.contains("5.000 us of CPU a message"), "{form}");
            }
            let document = json::document(&machine, &[report], None, None);
            let run = &document["runs"][0];
            assert_eq!(run["generator"]["bounds_the_figures"], is_bound);
            assert_eq!(run["server"]["cpu_us_per_operation"], 5.0);
        }
    }
}
