//! The schedule of an open loop: each message is due at a fixed time, whether the server keeps up
//! or not.

/// The schedule of one thread. Its connections take turns.
#[derive(Clone, Copy, Debug)]
pub(super) struct Schedule {
    /// Start in nanoseconds on the run's clock.
    start: f64,
    /// Nanoseconds between two events.
    interval: f64,
    /// Number of connections.
    lanes: u64,
    /// Messages due at one event.
    burst: u64,
}

impl Schedule {
    /// `rate` is the thread's rate in messages per second. `burst` messages are due together.
    /// `lanes` is the number of the thread's connections.
    pub(super) fn new(start: f64, rate: f64, lanes: usize, burst: usize) -> Schedule {
        Schedule {
            start,
            interval: 1e9 * burst as f64 / rate,
            lanes: lanes as u64,
            burst: burst as u64,
        }
    }

    /// The time at which event `number` is due. Exact to one nanosecond for 100 days.
    #[inline]
    pub(super) fn at(&self, number: u64) -> u64 {
        (self.start + number as f64 * self.interval) as u64
    }

    /// The number of events due by `now`.
    #[inline]
    pub(super) fn due(&self, now: u64) -> u64 {
        let guess = ((now as f64 - self.start) / self.interval).max(0.0) as u64;
        // Unlike `at`, the division may be off by one.
        let mut due = guess.saturating_sub(1);
        while self.at(due) <= now {
            due += 1;
        }
        due
    }

    /// The connection that event `number` belongs to.
    #[inline]
    pub(super) fn lane(&self, number: u64) -> usize {
        (number % self.lanes) as usize
    }

    /// The time at which a connection's message is due.
    #[inline]
    pub(super) fn intended(&self, lane: usize, message: u64) -> u64 {
        self.at(message / self.burst * self.lanes + lane as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn twenty_thousand_a_second_is_one_each_50_microseconds() {
        let schedule = Schedule::new(1e9, 20_000.0, 50, 1);
        assert_eq!(schedule.due(999_999_999), 0);
        assert_eq!(schedule.due(1_000_000_000), 1);
        assert_eq!(schedule.due(1_000_049_999), 1);
        assert_eq!(schedule.due(1_000_050_000), 2);
        assert_eq!(schedule.due(2_000_000_000), 20_001);
        // The 50 connections take turns: each sends a message every 2.5 ms.
        assert_eq!((schedule.lane(49), schedule.lane(50)), (49, 0));
        assert_eq!(schedule.intended(3, 2), 1_000_000_000 + 103 * 50_000);
    }

    proptest! {
        /// An event is due from its time on and not before. The result does not depend on how often
        /// `due` is called.
        #[test]
        fn an_event_is_due_from_its_time_on(
            start in 0.0..1e12_f64,
            rate in 0.1..5e6_f64,
            burst in 1..64_usize,
            lanes in 1..2_000_usize,
            number in 0..1_000_000_000_u64,
        ) {
            let schedule = Schedule::new(start, rate, lanes, burst);
            let at = schedule.at(number);
            prop_assert!(schedule.due(at) > number);
            prop_assert!(at == 0 || schedule.due(at - 1) <= number);
        }

        /// A connection's messages are due at its own events, `burst` messages at each event.
        #[test]
        fn a_message_is_due_at_its_connections_turn(
            rate in 1.0..1e6_f64,
            burst in 1..64_usize,
            lanes in 1..2_000_usize,
            event in 0..1_000_000_u64,
        ) {
            let schedule = Schedule::new(0.0, rate, lanes, burst);
            let lane = schedule.lane(event);
            let first = event / lanes as u64 * burst as u64;
            for message in first..first + burst as u64 {
                prop_assert_eq!(schedule.intended(lane, message), schedule.at(event));
            }
        }
    }
}
