//! The clock of a run, and the CPU time of a thread.

use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

/// Counts nanoseconds since the start of the run. All threads of the run share it.
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

/// CPU time used by the calling thread.
pub(super) fn thread_cpu() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec as u32)
}
