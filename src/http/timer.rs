//! Hyper's clock.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use hyper::rt::Sleep;

/// Tokio's time, but for the last moment before a deadline, which passes only while this process
/// runs: after a freeze, a client that kept its deadline is read before it is found late.
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
