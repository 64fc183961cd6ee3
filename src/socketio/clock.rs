//! The clock of all sessions, and the times of their next checks.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::mem;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use tokio::task::AbortHandle;

use super::sid::Sid;
use crate::lock::lock;

/// A time in milliseconds since the start of the service, excluding periods in which this process
/// did not run.
pub(super) type Moment = u64;

/// The clock, and the times of the next checks of sessions.
#[derive(Debug)]
pub(super) struct Clock(Mutex<ClockState>);

#[derive(Debug)]
struct ClockState {
    now: Duration,
    last: Instant,
    /// A session may have several entries; `look` of the session ignores outdated ones.
    queue: BinaryHeap<Reverse<(Moment, Sid)>>,
    /// The task that handles the entries. It ends with its runtime.
    timer: Option<AbortHandle>,
}

impl Clock {
    /// The longest sleep of the timer. A much longer pause means that the process was frozen.
    const LONGEST_SLEEP: Duration = Duration::from_millis(100);

    /// The maximum time that one step advances the clock. The rest of a longer step counts as a
    /// period in which the process was frozen.
    const LONGEST_STEP: Duration = Duration::from_millis(500);

    pub(super) fn new() -> Clock {
        Clock(Mutex::new(ClockState {
            now: Duration::ZERO,
            last: Instant::now(),
            queue: BinaryHeap::new(),
            timer: None,
        }))
    }

    pub(super) fn now(&self) -> Moment {
        lock(&self.0).advance()
    }

    /// Schedules a check of a session at this time. Starts a timer with `start` if none is running.
    pub(super) fn schedule(
        &self,
        due: Moment,
        sid: Sid,
        start: impl FnOnce() -> Option<AbortHandle>,
    ) {
        let mut state = lock(&self.0);
        state.queue.push(Reverse((due, sid)));
        if state.timer.as_ref().is_none_or(AbortHandle::is_finished) {
            state.timer = start();
        }
    }

    /// Appends the sessions that are due to `sids`, and returns the time to sleep before the next
    /// call.
    pub(super) fn due(&self, sids: &mut Vec<(Sid, Moment)>) -> Duration {
        let mut state = lock(&self.0);
        let now = state.advance();
        while let Some(Reverse((due, sid))) = state.queue.peek().copied() {
            if due > now {
                return Duration::from_millis(due - now).min(Self::LONGEST_SLEEP);
            }
            state.queue.pop();
            sids.push((sid, due));
        }
        state.queue.shrink_to(sids.len());
        match sids.is_empty() {
            true => Self::LONGEST_SLEEP,
            false => Duration::ZERO, // these sessions are about to schedule their next checks
        }
    }
}

impl ClockState {
    fn advance(&mut self) -> Moment {
        let last = mem::replace(&mut self.last, Instant::now());
        let passed = self.last.duration_since(last);
        self.now += passed.min(Clock::LONGEST_STEP);
        self.now.as_millis() as Moment
    }
}
