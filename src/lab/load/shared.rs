//! What the threads of a run share.

use std::sync::OnceLock;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};

use mio::Waker;

use super::clock::LoadClock;
use super::plan::{Mode, Plan};
use super::publications::Publications;
use super::tally::Counts;
use super::worker::share_begin;

#[derive(Debug)]
pub(super) struct LoadShared {
    pub(super) clock: LoadClock,
    /// Threads that have opened their connections.
    pub(super) ready: AtomicUsize,
    /// When the load begins; 0 until that is known.
    pub(super) start: AtomicU64,
    /// Threads whose load is over.
    pub(super) loaded: AtomicUsize,
    /// The server's memory was read with all connections open: they may close now.
    pub(super) seen: AtomicBool,
    /// The run ends early, with a whole report.
    pub(super) stop: AtomicBool,
    /// The run does not wait for replies, either.
    pub(super) hurry: AtomicBool,
    /// Connections that are open.
    pub(super) members: AtomicU64,
    pub(super) publications: Publications,
    /// The thread of each publisher.
    publishers: Vec<usize>,
    wakers: Vec<OnceLock<Waker>>,
    /// The progress of each thread.
    told: Vec<Told>,
}

#[derive(Debug, Default)]
struct Told {
    opened: AtomicU64,
    received: AtomicU64,
    errors: AtomicU64,
}

/// See [`LoadShared::leaving`].
pub(super) struct Leaving<'a>(&'a LoadShared);

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        let Leaving(shared) = self;
        if !shared.seen.load(Acquire) {
            shared.stop.store(true, Relaxed);
        }
        shared.ready.fetch_add(1, AcqRel);
        shared.loaded.fetch_add(1, AcqRel);
    }
}

/// The progress of a run.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct LoadProgress {
    /// Connections that were opened.
    pub opened: u64,
    /// Messages that came back.
    pub received: u64,
    /// All that went wrong.
    pub errors: u64,
}

impl LoadShared {
    pub(super) fn new(plan: &Plan) -> LoadShared {
        let threads = plan.threads;
        let publishers = match plan.mode {
            Mode::Broadcast { publishers } => publishers,
            _ => 0,
        };
        let thread_of = |id| {
            let begins = |thread| share_begin(plan.connections, threads, thread + 1) > id;
            (0..threads).find(|thread| begins(*thread)).unwrap_or(0)
        };
        LoadShared {
            members: AtomicU64::new(0),
            publications: Publications::of(publishers, threads),
            publishers: (0..publishers).map(thread_of).collect(),
            wakers: (0..threads).map(|_| OnceLock::new()).collect(),
            clock: LoadClock::start(),
            ready: AtomicUsize::new(0),
            start: AtomicU64::new(0),
            loaded: AtomicUsize::new(0),
            seen: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            hurry: AtomicBool::new(false),
            told: (0..threads).map(|_| Told::default()).collect(),
        }
    }

    /// Takes note of how often the run was interrupted.
    pub(super) fn interrupted(&self, times: u8) {
        if times > 0 {
            self.stop.store(true, Relaxed);
        }
        if times > 1 {
            self.hurry.store(true, Relaxed);
        }
    }

    /// A guard of a thread. When it is dropped, the other threads no longer wait for this one; if the
    /// run is not over by then, the thread has failed, and they stop.
    pub(super) fn leaving(&self) -> Leaving<'_> {
        Leaving(self)
    }

    pub(super) fn register_waker(&self, thread: usize, waker: Waker) {
        let _ = self.wakers[thread].set(waker);
    }

    /// Wakes the thread of a publisher, which may publish now.
    pub(super) fn wake_publisher(&self, id: usize) {
        if let Some(waker) = self.wakers[self.publishers[id]].get() {
            // Without the wake it publishes at its next look.
            let _ = waker.wake();
        }
    }

    /// In a broadcast: the publications, and whether the loop is open.
    #[inline]
    pub(super) fn publications_of(&self, plan: &Plan) -> Option<(&Publications, bool)> {
        match plan.mode {
            Mode::Broadcast { .. } => Some((&self.publications, plan.rate.is_some())),
            _ => None,
        }
    }

    pub(super) fn tell(&self, thread: usize, counts: &Counts) {
        let told = &self.told[thread];
        told.opened.store(counts.opened, Relaxed);
        told.received.store(counts.received, Relaxed);
        told.errors.store(counts.errors(), Relaxed);
    }

    pub(super) fn progress(&self) -> LoadProgress {
        let mut progress = LoadProgress::default();
        for told in &self.told {
            progress.opened += told.opened.load(Relaxed);
            progress.received += told.received.load(Relaxed);
            progress.errors += told.errors.load(Relaxed);
        }
        progress
    }
}
