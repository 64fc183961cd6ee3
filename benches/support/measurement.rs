//! The measurement of one server under load, and the summary of several such rounds.

use std::{
    io,
    time::{Duration, Instant},
};

use frameloop::lab::load::report::Report as LoadReport;
use frameloop::lab::load::{Latencies, LoadOutcome, Machine, Plan, Sample};
use serde_json::{Value, json};

use super::{
    cores,
    process::Process,
    statistics::{Latency, figure, median},
};

/// A server or generator that uses at least this share of its cores counts as saturated.
const SATURATED: f64 = 0.95;

/// A measurement in progress: opened after the warm-up, closed at the end of the load.
pub(crate) struct Window {
    server: u32,
    begin: Instant,
    server_begin: Sample,
    generator_cpu: Duration,
}

impl Window {
    pub(crate) fn open(server: &Process) -> io::Result<Self> {
        Ok(Self {
            server: server.id(),
            begin: Instant::now(),
            server_begin: Sample::of(server.id())?,
            generator_cpu: cores::thread_cpu(),
        })
    }

    /// Ends the measurement. `operations` counts deliveries or connects since the start.
    pub(crate) fn close(self, operations: u64, latency: &Latencies) -> io::Result<Round> {
        Ok(Round {
            time: self.begin.elapsed(),
            operations: operations as f64,
            server: [self.server_begin, Sample::of(self.server)?],
            generator_cpu: cores::thread_cpu() - self.generator_cpu,
            latency: Latency::of(latency),
        })
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Round {
    time: Duration,
    operations: f64,
    /// Samples of the server at the start and at the end.
    server: [Sample; 2],
    generator_cpu: Duration,
    latency: Latency,
}

impl Round {
    /// The measurement of one run of `frameloop load`.
    pub(crate) fn of(plan: &Plan, outcome: &LoadOutcome) -> io::Result<Self> {
        let machine = Machine::here();
        let report = LoadReport::new(plan, outcome, &machine);
        let [_, begin, end] = outcome
            .server
            .ok_or_else(|| io::Error::other("the server was not watched"))?;
        let time = outcome.measured.time;
        Ok(Self {
            time,
            operations: report.operations() as f64,
            server: [begin, end],
            generator_cpu: time.mul_f64(outcome.threads.iter().sum()),
            latency: Latency::of(report.latencies()),
        })
    }

    /// The growth of a server counter during the round.
    fn grown<T: std::ops::Sub>(&self, counter: fn(&Sample) -> T) -> T::Output {
        counter(&self.server[1]) - counter(&self.server[0])
    }

    fn cpu_time(&self) -> Duration {
        self.grown(|sample| sample.cpu)
    }

    fn waited(&self) -> Duration {
        self.grown(|sample| sample.waited)
    }

    fn user_ticks(&self) -> u64 {
        self.grown(|sample| sample.user_ticks)
    }

    fn system_ticks(&self) -> u64 {
        self.grown(|sample| sample.system_ticks)
    }

    fn rate(&self) -> f64 {
        self.operations / self.time.as_secs_f64()
    }

    /// Server CPU per operation, in microseconds.
    fn cpu(&self) -> f64 {
        self.cpu_time().as_secs_f64() * 1e6 / self.operations
    }

    fn json(&self) -> Value {
        json!({
            "per_second": figure(self.rate()),
            "cpu_us": figure(self.cpu()),
            "server_waited_seconds": figure(self.waited().as_secs_f64()),
            "user_ticks": self.user_ticks(),
            "system_ticks": self.system_ticks(),
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
    /// The part of the CPU in user mode. A round has few ticks, so the ticks of all rounds are
    /// added up.
    pub(crate) user: f64,
    pub(crate) latency: Latency,
    /// Cores that the server used.
    pub(crate) server_cores: f64,
    /// Share of one core that the generator used.
    pub(crate) generator_cores: f64,
    /// The share of time in which another process occupied a core of the server: noise.
    pub(crate) waited: f64,
}

impl Summary {
    pub(crate) fn of(rounds: Vec<Round>) -> Self {
        let over = |value: fn(&Round) -> f64| median(rounds.iter().map(value));
        let cpu = over(Round::cpu);
        let user: u64 = rounds.iter().map(Round::user_ticks).sum();
        let system: u64 = rounds.iter().map(Round::system_ticks).sum();
        Self {
            rate: over(Round::rate),
            cpu,
            user: cpu * user as f64 / (user + system).max(1) as f64,
            latency: Latency::median(rounds.iter().map(|round| round.latency)),
            server_cores: over(|round| round.cpu_time().as_secs_f64() / round.time.as_secs_f64()),
            waited: over(|round| round.waited().as_secs_f64() / round.time.as_secs_f64()),
            generator_cores: over(|round| {
                round.generator_cpu.as_secs_f64() / round.time.as_secs_f64()
            }),
            rounds,
        }
    }

    /// CPU per operation, divided by that of `baseline`: the median over rounds.
    pub(crate) fn cpu_ratio(&self, baseline: &Self) -> f64 {
        self.ratio(baseline, Round::cpu)
    }

    /// Operations per second, divided by those of `baseline`: the median over rounds.
    pub(crate) fn rate_ratio(&self, baseline: &Self) -> f64 {
        self.ratio(baseline, Round::rate)
    }

    fn ratio(&self, baseline: &Self, value: fn(&Round) -> f64) -> f64 {
        let rounds = self.rounds.iter().zip(&baseline.rounds);
        median(rounds.map(|(ours, theirs)| value(ours) / value(theirs)))
    }

    /// Names the saturated side: server, generator, both or neither.
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
