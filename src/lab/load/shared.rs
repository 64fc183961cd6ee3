//! The state that all threads of a run share.

use std::sync::OnceLock;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};

use mio::Waker;

use super::clock::LoadClock;
use super::plan::{Mode, Plan};
use super::publications::Publications;
use super::tally::Counts;

#[derive(Debug)]
pub(super) struct LoadShared {
    pub(super) clock: LoadClock,
    /// Number of threads that have opened their connections.
    pub(super) ready: AtomicUsize,
    /// Time at which the load begins, in nanoseconds; 0 while the time is not set.
    pub(super) start: AtomicU64,
    /// Number of threads that have finished their load.
    pub(super) loaded: AtomicUsize,
    /// The server's memory has been read with all connections open, so the connections may close.
    pub(super) seen: AtomicBool,
    /// The run ends early, with a complete report.
    pub(super) stop: AtomicBool,
    /// The run ends without waiting for replies.
    pub(super) hurry: AtomicBool,
    /// Number of open connections.
    pub(super) members: AtomicU64,
    pub(super) publications: Publications,
    /// The index of each publisher's thread.
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

/// The progress of a run, summed over its threads.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct LoadProgress {
    /// Connections opened.
    pub opened: u64,
    /// Messages received.
    pub received: u64,
    /// The sum of all errors.
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

    /// Ends the run early if it was interrupted once, and without waiting for replies if it was
    /// interrupted more often.
    pub(super) fn interrupted(&self, times: u8) {
        if times > 0 {
            self.stop.store(true, Relaxed);
        }
        if times > 1 {
            self.hurry.store(true, Relaxed);
        }
    }

    /// Returns a guard for a thread. When the guard is dropped, the other threads stop waiting for
    /// this thread. If the run is not over at that time, the thread has failed and the run stops.
    pub(super) fn leaving(&self) -> Leaving<'_> {
        Leaving(self)
    }

    pub(super) fn register_waker(&self, thread: usize, waker: Waker) {
        let _ = self.wakers[thread].set(waker);
    }

    /// Wakes the thread of a publisher so that it publishes the next burst.
    pub(super) fn wake_publisher(&self, id: usize) {
        if let Some(waker) = self.wakers[self.publishers[id]].get() {
            // If the wake fails, the thread publishes at its next sweep.
            let _ = waker.wake();
        }
    }

    /// The publications, and whether the loop is open; `None` unless the mode is broadcast.
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

/// The sum of all parts before part `index`.
pub(crate) fn share_begin(whole: usize, parts: usize, index: usize) -> usize {
    (whole as u128 * index as u128 / parts.max(1) as u128) as usize
}
