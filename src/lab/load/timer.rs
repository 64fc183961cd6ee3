//! Wakes a thread with sub-millisecond precision. The timeout of the poller itself is a whole
//! number of milliseconds.

pub(super) use system::PaceTimer;

#[cfg(target_os = "linux")]
mod system {
    use std::io;
    use std::os::fd::{AsRawFd, OwnedFd};
    use std::time::Duration;

    use mio::unix::SourceFd;
    use mio::{Interest, Registry, Token};
    use rustix::time::{
        Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
        timerfd_settime,
    };

    /// A timer descriptor that becomes readable when the time is over.
    #[derive(Debug)]
    pub(crate) struct PaceTimer(OwnedFd);

    impl PaceTimer {
        pub(crate) fn new(registry: &Registry, token: Token) -> io::Result<PaceTimer> {
            let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
            let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
            let descriptor = timer.as_raw_fd();
            registry.register(&mut SourceFd(&descriptor), token, Interest::READABLE)?;
            Ok(PaceTimer(timer))
        }

        /// Wakes the poller after `wait`; returns the timeout for the poller.
        pub(crate) fn set(&self, wait: Duration) -> io::Result<Duration> {
            const NONE: Timespec = Timespec {
                tv_sec: 0,
                tv_nsec: 0,
            };
            if wait.is_zero() {
                return Ok(wait);
            }
            let value = Timespec {
                tv_sec: wait.as_secs().cast_signed(),
                tv_nsec: i64::from(wait.subsec_nanos()),
            };
            let once = Itimerspec {
                it_interval: NONE,
                it_value: value,
            };
            // The poller is edge-triggered, so the descriptor need not be read.
            timerfd_settime(&self.0, TimerfdTimerFlags::empty(), &once)?;
            Ok(wait + Duration::from_millis(1))
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod system {
    use std::io;
    use std::time::Duration;

    use mio::{Registry, Token};

    /// The poller's own timeout.
    #[derive(Debug)]
    pub(crate) struct PaceTimer;

    impl PaceTimer {
        pub(crate) fn new(_: &Registry, _: Token) -> io::Result<PaceTimer> {
            Ok(PaceTimer)
        }

        pub(crate) fn set(&self, wait: Duration) -> io::Result<Duration> {
            Ok(wait)
        }
    }
}
