//! `frameloop load`: generates load to measure WebSocket servers.
//!
//! Each thread owns its connections and polls them with one poller. A message is prepared once, as
//! a masked frame; each send only writes the message number into the frame. One write sends a
//! batch. Replies are parsed by their frame headers and compared byte for byte. Sending or
//! receiving a message allocates nothing.

mod arrival;
mod assertion;
mod clock;
mod comparison;
mod connection;
mod controls;
mod deliveries;
mod echoes;
mod histogram;
mod incoming;
mod machine;
mod numbering;
mod opening;
mod order;
mod plan;
mod process;
mod publications;
pub mod report;
mod ring;
mod schedule;
mod sending;
mod shared;
mod stream;
mod sweep;
mod tally;
mod target;
mod timer;
mod worker;

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Release};
use std::sync::atomic::{AtomicU8, AtomicUsize};
use std::thread;
use std::time::Duration;

pub use assertion::Assertion;
pub use comparison::{Comparison, Ratio, compare};
pub use histogram::{Latencies, PERCENTILES};
pub use machine::Machine;
pub use plan::{Check, Compression, Content, End, Messages, Mode, Plan, Text, Trust};
pub use process::Sample;
pub use shared::LoadProgress;
pub use sweep::{Point, Sweep, sweep};
pub use tally::{Counts, OpeningLatencies};
pub use target::{Target, TargetError};

use shared::LoadShared;
use worker::{LoadWorker, WorkerReport};

/// Ends runs early. The first interrupt still waits for replies and gives a complete report; the
/// second does not wait for replies.
#[derive(Clone, Debug, Default)]
pub struct Interrupt(Arc<AtomicU8>);

impl Interrupt {
    /// Interrupts the run.
    pub fn interrupt(&self) {
        self.0.fetch_add(1, AcqRel);
    }

    /// Whether the run was interrupted.
    pub fn is_interrupted(&self) -> bool {
        self.times() > 0
    }

    fn times(&self) -> u8 {
        self.0.load(Acquire)
    }
}

/// The result of a run.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct LoadOutcome {
    /// Counts over the whole run, including warm-up and end.
    pub counts: Counts,
    /// Counts of the measurement, between warm-up and end.
    pub measured: Measured,
    /// Time from writing a message to receiving its reply.
    pub service: Latencies,
    /// Time from when a message was due until its reply was received; empty in a closed loop.
    pub response: Latencies,
    /// Time from a publication until the last member has received it.
    pub reach: Latencies,
    /// Times of opening the connections.
    pub opening: OpeningLatencies,
    /// Share of a core that each generator thread used.
    pub threads: Vec<f64>,
    /// Samples of the server process: before the connections open, at the start of the measurement,
    /// and at its end.
    pub server: Option<[Sample; 3]>,
    /// Bytes of memory of this process: before the connections open, and at the end of the
    /// measurement.
    pub own_memory: Option<[u64; 2]>,
    /// The run was interrupted.
    pub is_interrupted: bool,
}

impl LoadOutcome {
    /// Adds the results of another run of the same plan.
    pub(super) fn add(&mut self, other: &LoadOutcome) {
        self.counts.add(&other.counts);
        self.service.add(&other.service);
        self.response.add(&other.response);
        self.reach.add(&other.reach);
        self.opening.add(&other.opening);
        self.measured.time += other.measured.time;
        self.measured.received += other.measured.received;
        self.measured.received_bytes += other.measured.received_bytes;
        self.measured.opened += other.measured.opened;
        for (mine, theirs) in self.threads.iter_mut().zip(&other.threads) {
            *mine = mine.max(*theirs);
        }
        if let (Some([_, _, mine]), Some([_, begin, end])) = (&mut self.server, &other.server) {
            mine.add_use(begin, end);
        }
        self.is_interrupted |= other.is_interrupted;
    }
}

/// Counts between warm-up and end.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct Measured {
    /// Length of the measurement.
    pub time: Duration,
    /// Replies received.
    pub received: u64,
    /// Bytes of payload in these replies.
    pub received_bytes: u64,
    /// Connections opened.
    pub opened: u64,
}

/// Interval between two progress updates.
const GLANCE: Duration = Duration::from_millis(5);

/// Runs a load and calls `progress` about 200 times a second.
///
/// # Errors
/// This process lacks a resource, for example file descriptors or a core to pin a thread to.
/// Failures between this process and the server are counted in the [`LoadOutcome`] instead.
pub fn run(
    plan: &Plan,
    interrupt: &Interrupt,
    mut progress: impl FnMut(LoadProgress),
) -> io::Result<LoadOutcome> {
    let shared = LoadShared::new(plan);
    let (before, own_before) = (look(plan)?, own_memory());
    pin(&plan.cpus)?;
    thread::scope(|scope| {
        let shared = &shared;
        let threads: Vec<_> = (0..plan.threads)
            .map(|index| scope.spawn(move || work(plan, shared, index)))
            .collect();
        let mut until = |is_so: &dyn Fn() -> bool| {
            while !is_so() {
                thread::sleep(GLANCE);
                shared.stop(interrupt.times());
                progress(shared.progress());
            }
        };
        let all_are = |count: &AtomicUsize| count.load(Acquire) >= plan.threads;
        until(&|| all_are(&shared.ready));
        let start = shared.clock.now().max(1);
        shared.start.store(start, Release);
        let from = start + plan.warm_up.as_nanos() as u64;
        until(&|| shared.clock.now() >= from || all_are(&shared.loaded));
        // If the server process has exited, the errors of its connections show it.
        let begin = look(plan).ok().flatten();
        until(&|| all_are(&shared.loaded));
        let (end, own_after) = (look(plan).ok().flatten(), own_memory());
        shared.seen.store(true, Release);
        until(&|| threads.iter().all(|thread| thread.is_finished()));
        let told = threads.into_iter().map(|thread| {
            let panicked = |_| io::Error::other("a thread panicked");
            thread.join().map_err(panicked).flatten()
        });
        let mut outcome = outcome(told.collect::<io::Result<_>>()?);
        outcome.server = before.zip(begin).zip(end).map(|((a, b), c)| [a, b, c]);
        outcome.own_memory = own_before.zip(own_after).map(|(a, b)| [a, b]);
        outcome.is_interrupted = interrupt.is_interrupted();
        Ok(outcome)
    })
}

/// Runs one generator thread. When it ends, even by an error, the other threads stop waiting for
/// it.
fn work(plan: &Plan, shared: &LoadShared, index: usize) -> io::Result<WorkerReport> {
    let _leaving = shared.leaving();
    if let Some(cpu) = plan.cpus.get(index % plan.cpus.len().max(1)) {
        pin(&[*cpu])?;
    }
    LoadWorker::new(plan, shared, index)?.run()
}

/// Bytes of resident memory of this process.
fn own_memory() -> Option<u64> {
    process::resident(std::process::id()).ok()
}

/// Samples the server process; `None` if the plan names no process.
fn look(plan: &Plan) -> io::Result<Option<Sample>> {
    let Some(process) = plan.server else {
        return Ok(None);
    };
    let named = |error| io::Error::other(format!("cannot look at process {process}: {error}"));
    Sample::of(process).map(Some).map_err(named)
}

fn outcome(told: Vec<WorkerReport>) -> LoadOutcome {
    let mut outcome = LoadOutcome::default();
    for WorkerReport { tally, window } in told {
        outcome.counts.add(&tally.counts);
        outcome.service.add(&tally.service);
        outcome.response.add(&tally.response);
        outcome.reach.add(&tally.reach);
        outcome.opening.add(&tally.opening);
        let (begin, end) = (window.begin, window.end);
        let time = Duration::from_nanos(end.at.saturating_sub(begin.at));
        let measured = &mut outcome.measured;
        measured.time = measured.time.max(time);
        measured.received += end.received.saturating_sub(begin.received);
        measured.received_bytes += end.received_bytes.saturating_sub(begin.received_bytes);
        measured.opened += end.opened.saturating_sub(begin.opened);
        let cpu = end.cpu.saturating_sub(begin.cpu);
        outcome
            .threads
            .push(cpu.as_secs_f64() / time.as_secs_f64().max(1e-9));
    }
    outcome
}

/// Whether this process may run on a core.
#[cfg(target_os = "linux")]
pub fn is_core(core: usize) -> bool {
    use rustix::thread::{CpuSet, sched_getaffinity};
    let is_possible = core < CpuSet::MAX_CPU;
    is_possible && sched_getaffinity(None).is_ok_and(|allowed| allowed.is_set(core))
}

/// Whether this process may run on a core. Elsewhere than on Linux threads cannot be pinned.
#[cfg(not(target_os = "linux"))]
pub fn is_core(_: usize) -> bool {
    false
}

/// Pins the calling thread to these cores. An empty slice changes nothing.
#[cfg(target_os = "linux")]
fn pin(cpus: &[usize]) -> io::Result<()> {
    use rustix::thread::{CpuSet, sched_setaffinity};
    if cpus.is_empty() {
        return Ok(());
    }
    let mut set = CpuSet::new();
    for &cpu in cpus {
        if cpu >= CpuSet::MAX_CPU {
            return Err(io::Error::other(format!("core {cpu} does not exist")));
        }
        set.set(cpu);
    }
    sched_setaffinity(None, &set)
        .map_err(|error| io::Error::other(format!("cannot be pinned to cores {cpus:?}: {error}")))
}

#[cfg(not(target_os = "linux"))]
fn pin(cpus: &[usize]) -> io::Result<()> {
    match cpus {
        [] => Ok(()),
        _ => Err(io::Error::other("threads can be pinned on Linux only")),
    }
}
