//! One server under load for a while, and what several such rounds say together.

use std::{
    io,
    time::{Duration, Instant},
};

use frameloop::lab::load::report::Report as LoadReport;
use frameloop::lab::load::{LoadOutcome, Machine, Plan};
use hdrhistogram::Histogram;
use serde_json::{Value, json};

use super::{
    cores,
    process::{CpuTime, Process},
    statistics::{Latency, figure, median, microseconds},
};

/// The share of its cores at which a side counts as saturated.
const SATURATED: f64 = 0.95;

/// Opened when the load is warm, closed when it has run long enough.
pub(crate) struct Window<'a> {
    server: &'a Process,
    begin: Instant,
    server_cpu: CpuTime,
    generator_cpu: Duration,
}

impl<'a> Window<'a> {
    pub(crate) fn open(server: &'a Process) -> io::Result<Self> {
        let server_cpu = server.cpu()?;
        let generator_cpu = cores::thread_cpu();
        Ok(Self {
            server,
            begin: Instant::now(),
            server_cpu,
            generator_cpu,
        })
    }

    /// `operations` are what was done since: messages, deliveries, or handshakes.
    pub(crate) fn close(self, operations: f64, latency: &Histogram<u64>) -> io::Result<Round> {
        let time = self.begin.elapsed();
        Ok(Round {
            time,
            operations,
            cpu: self.server.cpu()?.since(self.server_cpu),
            generator_cpu: cores::thread_cpu() - self.generator_cpu,
            latency: Latency::of(latency),
        })
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Round {
    time: Duration,
    operations: f64,
    cpu: CpuTime,
    generator_cpu: Duration,
    latency: Latency,
}

impl Round {
    /// What a run of `frameloop load` has measured.
    pub(crate) fn of(plan: &Plan, outcome: &LoadOutcome) -> io::Result<Self> {
        let machine = Machine::here();
        let report = LoadReport::new(plan, outcome, &machine);
        let [_, begin, end] = outcome
            .server
            .as_ref()
            .ok_or_else(|| io::Error::other("the server was not watched"))?;
        let time = outcome.measured.time;
        Ok(Self {
            time,
            operations: report.operations() as f64,
            cpu: CpuTime {
                total: end.cpu.saturating_sub(begin.cpu),
                waited: end.waited.saturating_sub(begin.waited),
                user_ticks: end.user_ticks.saturating_sub(begin.user_ticks),
                system_ticks: end.system_ticks.saturating_sub(begin.system_ticks),
            },
            generator_cpu: time.mul_f64(outcome.threads.iter().sum()),
            latency: Latency::of_load(report.latencies()),
        })
    }

    fn rate(&self) -> f64 {
        self.operations / self.time.as_secs_f64()
    }

    /// Server CPU per operation, in microseconds.
    fn cpu(&self) -> f64 {
        microseconds(self.cpu.total) / self.operations
    }

    fn json(&self) -> Value {
        json!({
            "per_second": figure(self.rate()),
            "cpu_us": figure(self.cpu()),
            "server_waited_seconds": figure(self.cpu.waited.as_secs_f64()),
            "user_ticks": self.cpu.user_ticks,
            "system_ticks": self.cpu.system_ticks,
        })
    }
}

/// The rounds of one server in one cell: medians, and ratios to another server taken
/// within each round.
#[derive(Debug)]
pub(crate) struct Summary {
    rounds: Vec<Round>,
    /// Operations per second.
    pub(crate) rate: f64,
    /// Server CPU per operation, in microseconds.
    pub(crate) cpu: f64,
    /// The part of it in user mode. Ticks are few, so those of all rounds count together.
    pub(crate) user: f64,
    pub(crate) latency: Latency,
    /// Cores that the server used.
    pub(crate) server_cores: f64,
    /// Cores that the generator used, of one.
    pub(crate) generator_cores: f64,
    /// The part of the time that a core of the server was taken by another process: noise.
    pub(crate) waited: f64,
}

impl Summary {
    pub(crate) fn of(rounds: Vec<Round>) -> Self {
        let over = |value: fn(&Round) -> f64| median(rounds.iter().map(value));
        let cpu = over(Round::cpu);
        let user: u64 = rounds.iter().map(|round| round.cpu.user_ticks).sum();
        let system: u64 = rounds.iter().map(|round| round.cpu.system_ticks).sum();
        Self {
            rate: over(Round::rate),
            cpu,
            user: cpu * user as f64 / (user + system).max(1) as f64,
            latency: Latency::median(rounds.iter().map(|round| round.latency)),
            server_cores: over(|round| round.cpu.total.as_secs_f64() / round.time.as_secs_f64()),
            waited: over(|round| round.cpu.waited.as_secs_f64() / round.time.as_secs_f64()),
            generator_cores: over(|round| {
                round.generator_cpu.as_secs_f64() / round.time.as_secs_f64()
            }),
            rounds,
        }
    }

    /// CPU per operation, as a multiple of `baseline`'s: the median over rounds.
    pub(crate) fn cpu_ratio(&self, baseline: &Self) -> f64 {
        self.ratio(baseline, Round::cpu)
    }

    /// Operations per second, as a multiple of `baseline`'s: the median over rounds.
    pub(crate) fn rate_ratio(&self, baseline: &Self) -> f64 {
        self.ratio(baseline, Round::rate)
    }

    fn ratio(&self, baseline: &Self, value: fn(&Round) -> f64) -> f64 {
        let rounds = self.rounds.iter().zip(&baseline.rounds);
        median(rounds.map(|(ours, theirs)| value(ours) / value(theirs)))
    }

    /// Who could not have done more.
    pub(crate) fn saturated(&self, server_cores: usize) -> &'static str {
        let server = self.server_cores >= SATURATED * server_cores as f64;
        let generator = self.generator_cores >= SATURATED;
        match (server, generator) {
            (true, true) => "both",
            (true, false) => "server",
            (false, true) => "generator",
            (false, false) => "neither",
        }
    }

    pub(crate) fn json(&self, server_cores: usize) -> Value {
        json!({
            "per_second": figure(self.rate),
            "cpu_us": figure(self.cpu),
            "user_us": figure(self.user),
            "latency_us": self.latency.json(),
            "server_cores": figure(self.server_cores),
            "generator_cores": figure(self.generator_cores),
            "server_waited": figure(self.waited),
            "saturated": self.saturated(server_cores),
            "rounds": self.rounds.iter().map(Round::json).collect::<Vec<_>>(),
        })
    }
}
