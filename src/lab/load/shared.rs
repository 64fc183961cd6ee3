//! The state that all threads of a run share.

use std::ops::Range;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize};
use std::sync::{Mutex, OnceLock};

use mio::Waker;

use super::clock::LoadClock;
use super::plan::{Mode, Plan};
use super::publications::Publications;
use super::tally::Counts;
use crate::lock::lock;

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
    /// 1: the run ends early, with a complete report. 2: it does not wait for replies either.
    stop: AtomicU8,
    /// Number of open connections.
    pub(super) members: AtomicU64,
    pub(super) publications: Publications,
    /// The index of each publisher's thread.
    publishers: Vec<usize>,
    wakers: Vec<OnceLock<Waker>>,
    /// The progress of each thread.
    told: Vec<Mutex<LoadProgress>>,
}

/// See [`LoadShared::leaving`].
pub(super) struct Leaving<'a>(&'a LoadShared);

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        let Leaving(shared) = self;
        if !shared.seen.load(Acquire) {
            shared.stop(1);
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
        let thread_of = |id: usize| {
            let own = |thread: &usize| part(plan.connections as u64, threads, *thread);
            let owns = |thread: &usize| own(thread).contains(&(id as u64));
            (0..threads).find(owns).unwrap_or(0)
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
            stop: AtomicU8::new(0),
            told: (0..threads).map(|_| Mutex::default()).collect(),
        }
    }

    /// Ends the run early if `urgency` is 1, and without waiting for replies if it is higher.
    pub(super) fn stop(&self, urgency: u8) {
        self.stop.fetch_max(urgency, Relaxed);
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.stop.load(Relaxed) > 0
    }

    /// Whether the run ends without waiting for replies.
    pub(super) fn is_hurried(&self) -> bool {
        self.stop.load(Relaxed) > 1
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
        *lock(&self.told[thread]) = LoadProgress {
            opened: counts.opened,
            received: counts.received,
            errors: counts.errors(),
        };
    }

    pub(super) fn progress(&self) -> LoadProgress {
        let told = self.told.iter().map(|told| *lock(told));
        told.fold(LoadProgress::default(), |sum, told| LoadProgress {
            opened: sum.opened + told.opened,
            received: sum.received + told.received,
            errors: sum.errors + told.errors,
        })
    }
}

/// Part `index` when `whole` is divided into `parts` of about the same size.
pub(super) fn part(whole: u64, parts: usize, index: usize) -> Range<u64> {
    let begin = |index| (u128::from(whole) * index as u128 / parts.max(1) as u128) as u64;
    begin(index)..begin(index + 1)
}
