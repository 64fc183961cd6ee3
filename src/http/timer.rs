//! The timer of hyper's timeouts.

use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use hyper::rt::Sleep;

const LAST_MOMENT: Duration = Duration::from_millis(100);

/// Tokio's timer, except that the last 100 ms before a deadline pass only while this process runs.
/// After a freeze, the server reads from a client that met its deadline before the deadline
/// expires. A deadline costs little until it is polled: most requests come at once.
pub(super) struct CoarseSleep {
    deadline: Instant,
    sleep: Option<Pin<Box<tokio::time::Sleep>>>,
    /// Only the last moment is left.
    is_last: bool,
}

impl CoarseSleep {
    pub(super) fn until(deadline: Instant) -> CoarseSleep {
        CoarseSleep {
            deadline,
            sleep: None,
            is_last: false,
        }
    }
}

impl Future for CoarseSleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        let sleep = this.sleep.get_or_insert_with(|| {
            let before = this.deadline.checked_sub(LAST_MOMENT);
            let before = before.unwrap_or(this.deadline);
            Box::pin(tokio::time::sleep_until(before.into()))
        });
        loop {
            ready!(sleep.as_mut().poll(context));
            if mem::replace(&mut this.is_last, true) {
                return Poll::Ready(());
            }
            let last = tokio::time::Instant::now() + LAST_MOMENT;
            sleep.as_mut().reset(last);
        }
    }
}

impl Sleep for CoarseSleep {}
