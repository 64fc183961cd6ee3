//! The deadlines of all sessions: one clock and one timer.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;

use super::engine::Engine;
use super::sid::Sid;
use crate::lock::lock;

/// A point in a service's time: milliseconds since it began, without those in which this process
/// did not run.
pub(super) type Moment = u64;

/// The times at which sessions are checked.
#[derive(Debug)]
pub(super) struct SessionDeadlines(Mutex<ClockState>);

#[derive(Debug)]
struct ClockState {
    now: Duration,
    last: Instant,
    /// A session may be in it several times; the session knows which entry is in force.
    queue: BinaryHeap<Reverse<(Moment, Sid)>>,
    /// The timer is running.
    is_timed: bool,
}

impl SessionDeadlines {
    /// The longest sleep of the timer: a longer pause means that the process was frozen.
    const LONGEST_SLEEP: Duration = Duration::from_millis(100);

    /// The most that one step advances the clock. The rest of a longer step is a freeze.
    const LONGEST_STEP: Duration = Duration::from_millis(500);

    pub(super) fn new() -> SessionDeadlines {
        SessionDeadlines(Mutex::new(ClockState {
            now: Duration::ZERO,
            last: Instant::now(),
            queue: BinaryHeap::new(),
            is_timed: false,
        }))
    }

    pub(super) fn now(&self) -> Moment {
        lock(&self.0).advance()
    }

    /// Has a session checked at this time.
    pub(super) fn schedule(&self, due: Moment, sid: Sid, engine: &Arc<Engine>) {
        let mut state = lock(&self.0);
        state.queue.push(Reverse((due, sid)));
        // Without a runtime nothing waits, and nothing is late.
        if !state.is_timed
            && let Ok(runtime) = Handle::try_current()
        {
            state.is_timed = true;
            state.advance();
            runtime.spawn(keep_time(SessionTimer {
                engine: Arc::downgrade(engine),
                is_over: false,
            }));
        }
    }

    /// The sessions that are due, and how long it is until others are; `None` if there are none.
    fn due(&self, sids: &mut Vec<(Sid, Moment)>) -> Option<Duration> {
        let mut state = lock(&self.0);
        let now = state.advance();
        while let Some(Reverse((due, sid))) = state.queue.peek().copied() {
            if due > now {
                let rest = Duration::from_millis(due - now);
                return Some(rest.min(Self::LONGEST_SLEEP));
            }
            state.queue.pop();
            sids.push((sid, due));
        }
        if sids.is_empty() {
            state.is_timed = false;
            state.queue.shrink_to(0);
            return None;
        }
        Some(Duration::ZERO)
    }
}

impl ClockState {
    fn advance(&mut self) -> Moment {
        let last = std::mem::replace(&mut self.last, Instant::now());
        let passed = self.last.duration_since(last);
        self.now += passed.min(SessionDeadlines::LONGEST_STEP);
        self.now.as_millis() as Moment
    }
}

/// The timer. When its runtime ends, another may begin in another one.
struct SessionTimer {
    engine: Weak<Engine>,
    /// Nothing was left to wait for, and another may have begun by now.
    is_over: bool,
}

impl Drop for SessionTimer {
    fn drop(&mut self) {
        if let Some(engine) = self.engine.upgrade().filter(|_| !self.is_over) {
            lock(&engine.deadlines.0).is_timed = false;
        }
    }
}

async fn keep_time(mut timer: SessionTimer) {
    let mut due = Vec::new();
    loop {
        let Some(engine) = timer.engine.upgrade() else {
            return;
        };
        let Some(rest) = engine.deadlines.due(&mut due) else {
            timer.is_over = true;
            return;
        };
        for (sid, due) in due.drain(..) {
            if let Some(session) = engine.session(&sid) {
                session.look(due);
            }
        }
        engine.relieve();
        drop(engine);
        tokio::time::sleep(rest).await;
    }
}
