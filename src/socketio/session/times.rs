//! The deadlines of a session.

use crate::socketio::clock::Moment;

/// The kinds of deadlines. If several have passed, the first kind is handled first.
#[derive(Clone, Copy, Debug)]
pub(super) enum Deadline {
    /// The queue of the client became too large.
    Overrun,
    /// The client must be in a namespace.
    Join,
    /// All attachments of a binary packet must have arrived.
    Attachments,
    /// The client must have answered the Ping.
    Pong,
    /// The next Ping is sent.
    Ping,
    /// The upgrade to a WebSocket must be complete.
    Upgrade,
}

impl Deadline {
    const ALL: [Deadline; 6] = {
        use Deadline::{Attachments, Join, Overrun, Ping, Pong, Upgrade};
        [Overrun, Join, Attachments, Pong, Ping, Upgrade]
    };
}

/// A session's deadlines.
#[derive(Debug)]
pub(super) struct Deadlines {
    /// The time of each kind; `MAX` means no deadline.
    times: [Moment; Deadline::ALL.len()],
    /// The time of the next check.
    pub(super) scheduled: Moment,
}

impl Default for Deadlines {
    fn default() -> Deadlines {
        Deadlines {
            times: [Moment::MAX; _],
            scheduled: Moment::MAX,
        }
    }
}

impl Deadlines {
    pub(super) fn set(&mut self, deadline: Deadline, time: Moment) {
        self.times[deadline as usize] = time;
    }

    pub(super) fn clear(&mut self, deadline: Deadline) {
        self.set(deadline, Moment::MAX);
    }

    pub(super) fn get(&self, deadline: Deadline) -> Moment {
        self.times[deadline as usize]
    }

    /// The earliest deadline.
    pub(super) fn next(&self) -> Moment {
        self.times.into_iter().fold(Moment::MAX, Moment::min)
    }

    /// Ends a deadline that has passed, and returns it with its time.
    pub(super) fn take_passed(&mut self, now: Moment) -> Option<(Deadline, Moment)> {
        let passed = |deadline: &Deadline| self.get(*deadline) <= now;
        let deadline = Deadline::ALL.into_iter().find(passed)?;
        let time = self.get(deadline);
        self.clear(deadline);
        Some((deadline, time))
    }
}
