//! The time of a run, and the CPU time of a thread.

use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

/// Nanoseconds since the run began, the same in all its threads.
#[derive(Clone, Copy, Debug)]
pub(super) struct LoadClock(Instant);

impl LoadClock {
    pub(super) fn start() -> LoadClock {
        LoadClock(Instant::now())
    }

    #[inline]
    pub(super) fn now(self) -> u64 {
        self.0.elapsed().as_nanos() as u64
    }
}

/// CPU time that the calling thread has used.
pub(super) fn thread_cpu() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec as u32)
}
