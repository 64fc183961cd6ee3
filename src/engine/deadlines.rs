//! How long a peer may take over anything, and the clock that measures it.

use std::time::{Duration, Instant};

/// The deadlines of a connection. Each is kept to about a tenth of itself, at best 100 ms.
#[derive(Clone, Debug)]
pub struct Deadlines {
    /// Silence after which a Ping is sent.
    pub ping_interval: Duration,
    /// How long after that Ping the peer may stay silent: then Close 1008 `ping timeout`.
    pub ping_timeout: Duration,
    /// From the first byte of a message to its last: then Close 1008.
    pub message: Duration,
    /// From a data message to the next, whatever Pings pass in between: then Close 1008. `None`
    /// lets a connection idle for ever.
    pub idle: Option<Duration>,
    /// How long the peer may take nothing of what waits for it: then the connection is reset.
    pub write_stall: Duration,
    /// From our Close to the peer's: then the connection is ended without it.
    pub close: Duration,
    /// How long a client may go on publishing faster than
    /// [`Settings::max_publish_rate`](super::Settings::max_publish_rate), held back meanwhile:
    /// then Close 1008 `publishing too fast`.
    pub throttle_timeout: Duration,
    /// How long to read on after our FIN for the peer's, so that our last frames arrive. Zero is
    /// not at all, where any other deadline of zero is none.
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

/// A point in a worker's time, in ticks since it began.
pub(crate) type Tick = u32;

/// The deadlines in ticks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DeadlineTicks {
    pub(crate) ping_interval: Tick,
    pub(crate) ping_timeout: Tick,
    pub(crate) message: Tick,
    pub(crate) idle: Option<Tick>,
    pub(crate) write_stall: Tick,
    pub(crate) close: Tick,
    pub(crate) throttle_timeout: Tick,
    pub(crate) linger: Tick,
}

/// A worker's clock: coarse, monotonic, and standing still while the process does, so that after
/// a freeze nobody is cut for a silence that was ours.
#[derive(Debug)]
pub(crate) struct Clock {
    now: Tick,
    tick: Duration,
    last: Instant,
}

impl Clock {
    /// A clock for these deadlines, and the deadlines in its ticks.
    pub(crate) fn new(deadlines: &Deadlines) -> (Clock, DeadlineTicks) {
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
        let ticks = |deadline: Duration| {
            if deadline.is_zero() {
                Tick::MAX // 0 switches a deadline off
            } else {
                Tick::try_from(deadline.as_nanos().div_ceil(tick.as_nanos())).unwrap_or(Tick::MAX)
            }
        };
        let clock = Clock {
            now: 0,
            tick,
            last: Instant::now(),
        };
        let deadlines = DeadlineTicks {
            ping_interval: ticks(deadlines.ping_interval),
            ping_timeout: ticks(deadlines.ping_timeout),
            message: ticks(deadlines.message),
            idle: deadlines.idle.map(ticks),
            write_stall: ticks(deadlines.write_stall),
            close: ticks(deadlines.close),
            throttle_timeout: ticks(deadlines.throttle_timeout),
            linger: match deadlines.linger {
                Duration::ZERO => 0,
                linger => ticks(linger),
            },
        };
        (clock, deadlines)
    }

    pub(crate) fn now(&self) -> Tick {
        self.now
    }

    pub(crate) fn tick(&self) -> Duration {
        self.tick
    }

    /// Lets the time that passed go by.
    pub(crate) fn stand_still(&mut self) {
        self.last = Instant::now();
    }

    /// Goes on by the time that passed, but by two ticks at most: more means that this process
    /// did not run.
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
        let (mut clock, deadlines) = Clock::new(&Deadlines::default());
        assert_eq!(clock.tick(), Duration::from_millis(100));
        assert_eq!(deadlines.ping_interval, 200);
        clock.last -= Duration::from_secs(30);
        clock.advance();
        assert_eq!(clock.now(), 1);
    }

    #[test]
    fn time_passes_in_ticks_and_none_is_lost() {
        let (mut clock, _) = Clock::new(&Deadlines::default());
        clock.last -= Duration::from_millis(150);
        clock.advance();
        assert_eq!(clock.now(), 1);
        clock.last -= Duration::from_millis(50);
        clock.advance();
        assert_eq!(clock.now(), 2);
    }

    #[test]
    fn a_deadline_of_zero_is_off_and_a_linger_of_zero_is_none() {
        let (_, deadlines) = Clock::new(&Deadlines {
            ping_interval: Duration::ZERO,
            linger: Duration::ZERO,
            ..Deadlines::default()
        });
        assert_eq!((deadlines.ping_interval, deadlines.linger), (Tick::MAX, 0));
    }
}
