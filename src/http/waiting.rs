//! How far a connection is with its requests, and how long it may stay there.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use hyper::rt::{Sleep, Timer as _};

use super::timer::CoarseTimer;

/// How far a connection is, in the order in which connections are let go under pressure.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum HttpPhase {
    /// Its last request is answered, and the next one has not begun.
    Idle,
    /// It has not sent a byte yet, although it was asked for some.
    Silent,
    /// A head has begun, or the phase is not known yet.
    Head,
    /// Its request is being answered.
    Answering,
}

/// Is told how far a connection is, as long as that is hyper's.
pub(crate) trait Witness {
    fn moved(&self, phase: HttpPhase);
}

/// For connections whose phase nothing needs.
impl Witness for () {
    fn moved(&self, _: HttpPhase) {}
}

/// The phase of one connection: its stream sees heads begin, its service sees them end, and hyper's
/// clock sees it wait for the next. It is used by one thread; hyper wants its clock to be `Sync`.
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

    /// Something was read. What comes during an answer is a body, or for later.
    pub(super) fn heard(&self) {
        if self.phase() < HttpPhase::Head {
            self.set(HttpPhase::Head);
        }
    }

    /// A whole head has come.
    pub(super) fn asked(&self) {
        self.set(HttpPhase::Answering);
    }

    /// hyper waits for a head. Part of it may have come together with the last request: that
    /// connection counts as idle, which gives it no longer than saying nothing would.
    fn waits(&self) {
        if self.phase() == HttpPhase::Answering {
            self.set(HttpPhase::Idle);
        }
    }
}

/// How long a connection may wait; `None` is for ever.
#[derive(Clone, Copy, Debug)]
pub(super) struct HeadDeadlines {
    /// Until its first head is whole.
    pub(super) first: Option<Duration>,
    /// From the first byte of a later head until that is whole.
    pub(super) head: Option<Duration>,
    /// From an answer to the first byte of the next head.
    pub(super) keep_alive: Option<Duration>,
}

/// The clock that hyper is given, which it asks for a deadline each time it begins to wait for a
/// head. It knows better than hyper which one that is.
pub(super) struct PhaseClock {
    pub(super) progress: PhaseProgress,
    pub(super) deadlines: HeadDeadlines,
}

impl hyper::rt::Timer for PhaseClock {
    fn sleep(&self, _: Duration) -> Pin<Box<dyn Sleep>> {
        let HeadDeadlines {
            first,
            head,
            keep_alive,
        } = self.deadlines;
        self.progress.waits();
        let is_first = self.progress.phase() != HttpPhase::Idle;
        let left = if is_first { first } else { keep_alive };
        Box::pin(WaitingConnection {
            left: left.map(|left| CoarseTimer.sleep(left)),
            next: (!is_first).then(|| (self.progress.clone(), head)),
        })
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn Sleep>> {
        self.sleep(deadline.saturating_duration_since(Instant::now()))
    }
}

/// Over when a head has not come in time.
struct WaitingConnection {
    left: Option<Pin<Box<dyn Sleep>>>,
    /// Of an idle connection: what holds once a head has begun.
    next: Option<(PhaseProgress, Option<Duration>)>,
}

impl Future for WaitingConnection {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if let Some((_, head)) = self
            .next
            .take_if(|(progress, _)| progress.phase() == HttpPhase::Head)
        {
            self.left = head.map(|head| CoarseTimer.sleep(head));
        }
        match &mut self.left {
            Some(left) => left.as_mut().poll(context),
            None => Poll::Pending,
        }
    }
}

impl Sleep for WaitingConnection {}
