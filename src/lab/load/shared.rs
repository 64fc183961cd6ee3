//! What the threads of a run share.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};

use super::clock::Clock;
use super::tally::Counts;

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) clock: Clock,
    /// Threads that have opened their connections.
    pub(super) ready: AtomicUsize,
    /// When the load begins; 0 until that is known.
    pub(super) start: AtomicU64,
    /// Threads whose load is over.
    pub(super) loaded: AtomicUsize,
    /// The server was looked at with all its connections: they may end.
    pub(super) seen: AtomicBool,
    /// The run ends early, with a whole report.
    pub(super) stop: AtomicBool,
    /// Not even replies are waited for.
    pub(super) hurry: AtomicBool,
    /// How far each thread is.
    told: Vec<Told>,
}

#[derive(Debug, Default)]
struct Told {
    opened: AtomicU64,
    received: AtomicU64,
    errors: AtomicU64,
}

/// How far a run is.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct Progress {
    /// Connections that were opened.
    pub opened: u64,
    /// Messages that came back.
    pub received: u64,
    /// Everything that should not be.
    pub errors: u64,
}

impl Shared {
    pub(super) fn new(threads: usize) -> Shared {
        Shared {
            clock: Clock::start(),
            ready: AtomicUsize::new(0),
            start: AtomicU64::new(0),
            loaded: AtomicUsize::new(0),
            seen: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            hurry: AtomicBool::new(false),
            told: (0..threads).map(|_| Told::default()).collect(),
        }
    }

    pub(super) fn tell(&self, thread: usize, counts: &Counts) {
        let told = &self.told[thread];
        told.opened.store(counts.opened, Relaxed);
        told.received.store(counts.received, Relaxed);
        told.errors.store(counts.errors(), Relaxed);
    }

    pub(super) fn progress(&self) -> Progress {
        let mut progress = Progress::default();
        for told in &self.told {
            progress.opened += told.opened.load(Relaxed);
            progress.received += told.received.load(Relaxed);
            progress.errors += told.errors.load(Relaxed);
        }
        progress
    }
}
