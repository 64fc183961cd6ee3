//! The deadlines of a connection, and the clock that measures them.

use std::time::{Duration, Instant};

/// The deadlines of a connection. A deadline of zero is off, except [`linger`](Deadlines::linger).
///
/// Precision: a tick, which is a tenth of the shortest deadline (5 ms to 100 ms).
#[derive(Clone, Debug)]
pub struct Deadlines {
    /// Silence of the peer after which a Ping is sent. Default: 20 s.
    pub ping_interval: Duration,
    /// Silence after that Ping until the connection is closed with 1008 `ping timeout`.
    /// Default: 20 s.
    pub ping_timeout: Duration,
    /// Time between the first and the last byte of a message. A slower peer is closed with 1008.
    /// Default: 60 s.
    pub message: Duration,
    /// Time between two data messages of the peer; Pings do not count. An idle connection is closed
    /// with 1008. Default: `None`, which means unlimited.
    pub idle: Option<Duration>,
    /// Time for which a peer may read nothing of its backlog. Then the connection is reset.
    /// Default: 30 s.
    pub write_stall: Duration,
    /// Time between our Close and the peer's. Then the connection is ended without an answer.
    /// Default: 10 s.
    pub close: Duration,
    /// Time for which a client is throttled because it publishes faster than
    /// [`Settings::max_publish_rate`](super::Settings::max_publish_rate). Then the connection is
    /// closed with 1008 `publishing too fast`. Default: 10 s.
    pub throttle_timeout: Duration,
    /// Time after our FIN in which input is still read and dropped until the peer's FIN, so that
    /// our last frames arrive. Zero means that nothing is read. Default: 2 s.
    pub linger: Duration,
}

impl Default for Deadlines {
    fn default() -> Deadlines {
        Deadlines {
            ping_interval: Duration::from_secs(20),
            ping_timeout: Duration::from_secs(20),
            message: Duration::from_secs(60),
            idle: None,
            write_stall: Duration::from_secs(30),
            close: Duration::from_secs(10),
            throttle_timeout: Duration::from_secs(10),
            linger: Duration::from_secs(2),
        }
    }
}

/// A point in a worker's time, in ticks since the worker started.
pub(crate) type Tick = u32;

/// Whether a deadline has passed after a wait. A deadline of zero is off.
pub(super) fn is_past(deadline: Duration, waited: Duration) -> bool {
    !deadline.is_zero() && waited >= deadline
}

/// A worker's clock: coarse and monotonic. The clock stops while the process is frozen, so that the
/// freeze does not count as silence of the peers.
#[derive(Debug)]
pub(crate) struct Clock {
    now: Tick,
    tick: Duration,
    last: Instant,
}

impl Clock {
    /// A clock for these deadlines, at tick 0.
    pub(crate) fn new(deadlines: &Deadlines) -> Clock {
        let shortest = [
            deadlines.ping_interval,
            deadlines.ping_timeout,
            deadlines.message,
            deadlines.idle.unwrap_or(Duration::MAX),
            deadlines.write_stall,
            deadlines.close,
            deadlines.throttle_timeout,
            deadlines.linger,
        ]
        .into_iter()
        .filter(|deadline| !deadline.is_zero())
        .min()
        .unwrap_or(Duration::MAX);
        let tick = (shortest / 10).clamp(Duration::from_millis(5), Duration::from_millis(100));
        Clock {
            now: 0,
            tick,
            last: Instant::now(),
        }
    }

    pub(crate) fn now(&self) -> Tick {
        self.now
    }

    pub(crate) fn tick(&self) -> Duration {
        self.tick
    }

    /// Ignores the time since the last call.
    pub(crate) fn stand_still(&mut self) {
        self.last = Instant::now();
    }

    /// Advances by the time since the last call. If that is more than two ticks, the process was
    /// frozen, and the clock advances by one tick.
    pub(crate) fn advance(&mut self) {
        let elapsed = self.last.elapsed();
        let ticks = elapsed.as_nanos() / self.tick.as_nanos();
        if ticks > 2 {
            self.last = Instant::now();
            self.now = self.now.wrapping_add(1);
        } else {
            let ticks = Tick::try_from(ticks).unwrap_or(1);
            self.last += self.tick * ticks;
            self.now = self.now.wrapping_add(ticks);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frozen_process_ages_nobody() {
        let mut clock = Clock::new(&Deadlines::default());
        assert_eq!(clock.tick(), Duration::from_millis(100));
        clock.last -= Duration::from_secs(30);
        clock.advance();
        assert_eq!(clock.now(), 1);
    }

    #[test]
    fn time_passes_in_ticks_and_none_is_lost() {
        let mut clock = Clock::new(&Deadlines::default());
        clock.last -= Duration::from_millis(150);
        clock.advance();
        assert_eq!(clock.now(), 1);
        clock.last -= Duration::from_millis(50);
        clock.advance();
        assert_eq!(clock.now(), 2);
    }

    #[test]
    fn a_deadline_of_zero_is_off() {
        let second = Duration::from_secs(1);
        assert!(is_past(second, second) && !is_past(second, second / 2));
        assert!(!is_past(Duration::ZERO, Duration::MAX));
    }
}
