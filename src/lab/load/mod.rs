//! `frameloop load`: the load that WebSocket servers are measured with.
//!
//! Threads own their connections and wait for them in one poller each. A message is made once: a
//! masked frame, into which its number is written when it goes out. One write sends a batch; what
//! comes back is taken apart by its headers and compared byte for byte. Nothing is allocated for a
//! message.

mod arrival;
mod assertion;
mod clock;
mod comparison;
mod connection;
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

/// Ends runs early: once with a whole report, the second time without waiting for replies.
#[derive(Clone, Debug, Default)]
pub struct Interrupt(Arc<AtomicU8>);

impl Interrupt {
    /// Interrupts.
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
    /// Counts over all of the run.
    pub counts: Counts,
    /// What was measured, between warm-up and end.
    pub measured: Measured,
    /// From the write of a message to its reply.
    pub service: Latencies,
    /// From when a message was due to its reply; empty in a closed loop.
    pub response: Latencies,
    /// From a publication to the last member that got it.
    pub reach: Latencies,
    /// Opening the connections.
    pub opening: OpeningLatencies,
    /// For each thread of the generator, the share of a core that it used.
    pub threads: Vec<f64>,
    /// The serving process before the connections, and at the begin and the end of the measurement.
    pub server: Option<[Sample; 3]>,
    /// Bytes of memory of this process before the connections, and at the end of the measurement.
    pub own_memory: Option<[u64; 2]>,
    /// The run was interrupted.
    pub is_interrupted: bool,
}

impl LoadOutcome {
    /// Adds another run of the same plan.
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

/// What was counted between warm-up and end.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct Measured {
    /// How long it was.
    pub time: Duration,
    /// Replies.
    pub received: u64,
    /// Bytes of payload of these.
    pub received_bytes: u64,
    /// Connections opened.
    pub opened: u64,
}

/// Between two looks at how far the run is.
const GLANCE: Duration = Duration::from_millis(5);

/// Runs a load, telling `progress` how far it is about 200 times a second.
///
/// # Errors
/// This process lacks something: descriptors, a core to be pinned to. Failures between it and the
/// server are counted in the [`LoadOutcome`].
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
                shared.interrupted(interrupt.times());
                progress(shared.progress());
            }
        };
        let all_are = |count: &AtomicUsize| count.load(Acquire) >= plan.threads;
        until(&|| all_are(&shared.ready));
        let start = shared.clock.now().max(1);
        shared.start.store(start, Release);
        let from = start + plan.warm_up.as_nanos() as u64;
        until(&|| shared.clock.now() >= from || all_are(&shared.loaded));
        // A server that has gone meanwhile is told by what its connections meet.
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

/// One thread of the generator. When it ends, even by an error, the others do not wait for it.
fn work(plan: &Plan, shared: &LoadShared, index: usize) -> io::Result<WorkerReport> {
    let _leaving = shared.leaving();
    if let Some(cpu) = plan.cpus.get(index % plan.cpus.len().max(1)) {
        pin(&[*cpu])?;
    }
    LoadWorker::new(plan, shared, index)?.run()
}

/// Bytes of memory that this process holds.
fn own_memory() -> Option<u64> {
    process::resident(std::process::id()).ok()
}

/// Looks at the serving process, if there is one to look at.
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

/// Lets the calling thread run on these cores only, if there are any.
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
