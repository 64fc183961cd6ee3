//! The clock for hyper's timeouts.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use hyper::rt::Sleep;

/// Tokio's clock, except that the last 100 ms before a deadline pass only while this process runs.
/// After a freeze, the server reads from a client that met its deadline before the deadline
/// expires.
#[derive(Clone, Copy, Debug)]
pub(super) struct CoarseTimer;

const LAST_MOMENT: Duration = Duration::from_millis(100);

impl hyper::rt::Timer for CoarseTimer {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Sleep>> {
        self.sleep_until(Instant::now() + duration)
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn Sleep>> {
        let before = deadline.checked_sub(LAST_MOMENT).unwrap_or(deadline);
        Box::pin(Sleeping(Box::pin(async move {
            tokio::time::sleep_until(before.into()).await;
            tokio::time::sleep(LAST_MOMENT).await;
        })))
    }
}

struct Sleeping<F>(Pin<Box<F>>);

impl<F: Future<Output = ()>> Future for Sleeping<F> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        self.0.as_mut().poll(context)
    }
}

impl<F: Future<Output = ()> + Send + Sync> Sleep for Sleeping<F> {}
