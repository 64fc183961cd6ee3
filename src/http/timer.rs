//! The timer of hyper's timeouts.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use hyper::rt::Sleep;
use tokio::time::{sleep, sleep_until};

const LAST_MOMENT: Duration = Duration::from_millis(100);

/// Tokio's timer, except that the last 100 ms before a deadline pass only while this process runs.
/// After a freeze, the server reads from a client that met its deadline before the deadline
/// expires. A deadline costs little until it is polled: most requests come at once.
pub(super) struct CoarseSleep {
    deadline: Instant,
    sleep: Option<Pin<Box<dyn Future<Output = ()> + Send + Sync>>>,
}

impl CoarseSleep {
    pub(super) fn until(deadline: Instant) -> CoarseSleep {
        CoarseSleep {
            deadline,
            sleep: None,
        }
    }
}

impl Future for CoarseSleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let before = self.deadline.checked_sub(LAST_MOMENT);
        let before = before.unwrap_or(self.deadline);
        let sleep = self.sleep.get_or_insert_with(|| {
            Box::pin(async move {
                sleep_until(before.into()).await;
                sleep(LAST_MOMENT).await;
            })
        });
        sleep.as_mut().poll(context)
    }
}

impl Sleep for CoarseSleep {}
