//! The phase of a connection's requests, and the deadline of each phase.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use hyper::rt::Sleep;

use super::HttpShared;
use super::timer::CoarseSleep;

/// The phase of a connection, in the order in which connections are closed under pressure.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum HttpPhase {
    /// Its last request is answered, and the next one has not begun.
    Idle,
    /// It has not sent a byte yet, although the server has tried to read.
    Silent,
    /// A head has begun, or the phase is not known yet.
    Head,
    /// Its request is being answered.
    Answering,
}

/// Receives the phases of a connection while hyper serves it.
pub(crate) trait Witness {
    fn moved(&self, phase: HttpPhase);
}

/// Ignores the phases.
impl Witness for () {
    fn moved(&self, _: HttpPhase) {}
}

/// The phase of one connection. Its stream reports the beginning of a head, its service reports the
/// end, and hyper's clock reports the wait for the next head. Only one thread uses it, but hyper
/// requires a clock that is `Sync`.
#[derive(Clone, Debug)]
pub(crate) struct PhaseProgress(Arc<AtomicU8>);

impl PhaseProgress {
    pub(super) fn new() -> PhaseProgress {
        PhaseProgress(Arc::new(AtomicU8::new(HttpPhase::Silent as u8)))
    }

    pub(super) fn phase(&self) -> HttpPhase {
        const ALL: [HttpPhase; 4] = [
            HttpPhase::Idle,
            HttpPhase::Silent,
            HttpPhase::Head,
            HttpPhase::Answering,
        ];
        ALL[usize::from(self.0.load(Ordering::Relaxed))]
    }

    fn set(&self, phase: HttpPhase) {
        self.0.store(phase as u8, Ordering::Relaxed);
    }

    /// Records that bytes were read. Bytes that come during an answer belong to a body or to a
    /// later request, and do not change the phase.
    pub(super) fn heard(&self) {
        if self.phase() < HttpPhase::Head {
            self.set(HttpPhase::Head);
        }
    }

    /// Records that a head is complete.
    pub(super) fn asked(&self) {
        self.set(HttpPhase::Answering);
    }

    /// Records that hyper waits for a head. A part of that head may have come with the last
    /// request: the connection still counts as idle, and gets no more time than a silent one.
    fn waits(&self) {
        if self.phase() == HttpPhase::Answering {
            self.set(HttpPhase::Idle);
        }
    }
}

/// The clock for hyper, which asks for a deadline each time it begins to wait for a head. hyper's
/// timeout is zero, so its deadline is the present; the clock chooses the deadline by the phase.
pub(super) struct PhaseClock {
    pub(super) progress: PhaseProgress,
    /// When the first head must be complete. `None` switches the deadline off.
    pub(super) first: Option<Instant>,
    pub(super) shared: Arc<HttpShared>,
}

impl hyper::rt::Timer for PhaseClock {
    fn sleep(&self, _: Duration) -> Pin<Box<dyn Sleep>> {
        self.sleep_until(Instant::now())
    }

    fn sleep_until(&self, now: Instant) -> Pin<Box<dyn Sleep>> {
        self.progress.waits();
        let (left, next) = match self.progress.phase() {
            HttpPhase::Idle => {
                let head = self.shared.head_timeout();
                let next = Some((self.progress.clone(), head));
                (sleep_for(self.shared.keep_alive_timeout(), now), next)
            }
            _ => (self.first.map(CoarseSleep::until), None),
        };
        Box::pin(WaitingConnection { left, next })
    }
}

/// A deadline that far from now; `None` without a deadline.
fn sleep_for(left: Option<Duration>, now: Instant) -> Option<CoarseSleep> {
    now.checked_add(left?).map(CoarseSleep::until)
}

/// Completes when a head is not complete in time.
struct WaitingConnection {
    left: Option<CoarseSleep>,
    /// For an idle connection: the deadline that applies once a head has begun.
    next: Option<(PhaseProgress, Option<Duration>)>,
}

impl Future for WaitingConnection {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if let Some((_, head)) = self
            .next
            .take_if(|(progress, _)| progress.phase() == HttpPhase::Head)
        {
            self.left = sleep_for(head, Instant::now());
        }
        match &mut self.left {
            Some(left) => Pin::new(left).poll(context),
            None => Poll::Pending,
        }
    }
}

impl Sleep for WaitingConnection {}
