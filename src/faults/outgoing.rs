//! What is to go out to a client with faults: late, in drops, and in another order.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

/// Octets, and messages, that may wait before nothing more is read.
const MAX_OCTETS: usize = 1 << 20;
const MAX_FRAMES: usize = 1_024;

/// Frames in the order in which they go out, each with when it is due.
pub(super) struct Outgoing {
    waiting: VecDeque<(Instant, Vec<u8>)>,
    /// Of all that waits and of what is overtaken.
    octets: usize,
    /// The echo that the next one is to overtake.
    overtaken: Option<Vec<u8>>,
    /// Octets a second, if there is a trickle.
    trickle: Option<u32>,
    /// When the trickle has the next drop.
    next_drop: Instant,
}

impl Outgoing {
    /// Nothing yet; `trickle` is in octets a second.
    pub(super) fn new(trickle: Option<u32>) -> Outgoing {
        Outgoing {
            waiting: VecDeque::new(),
            octets: 0,
            overtaken: None,
            trickle,
            next_drop: Instant::now(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Whether so much waits that nothing more is to be read.
    pub(super) fn is_full(&self) -> bool {
        self.octets >= MAX_OCTETS || self.has_too_many()
    }

    pub(super) fn has_too_many(&self) -> bool {
        self.waiting.len() >= MAX_FRAMES
    }

    /// Adds frames, which go out after this time, and after what waits already.
    pub(super) fn push(&mut self, frames: Vec<u8>, delay: Duration) {
        let due = Instant::now() + delay;
        let before = self.waiting.back().map_or(due, |(before, _)| *before);
        self.octets += frames.len();
        self.waiting.push_back((due.max(before), frames));
    }

    /// Keeps an echo back for the next one to overtake; returns it if there is one already.
    pub(super) fn keep_back(&mut self, frames: Vec<u8>) -> Option<Vec<u8>> {
        if self.overtaken.is_some() {
            return Some(frames);
        }
        self.octets += frames.len();
        self.overtaken = Some(frames);
        None
    }

    /// Adds the echo that was overtaken.
    pub(super) fn release(&mut self) {
        if let Some(frames) = self.overtaken.take() {
            self.octets -= frames.len();
            self.push(frames, Duration::ZERO);
        }
    }

    /// Drops what waits, but for the first so many frames.
    pub(super) fn cut(&mut self, kept: usize) {
        self.waiting.truncate(kept);
        self.overtaken = None;
        self.octets = self.waiting.iter().map(|(_, frames)| frames.len()).sum();
    }

    /// When the next piece may go out, if any waits.
    pub(super) fn next_at(&self) -> Option<Instant> {
        let (due, _) = self.waiting.front()?;
        Some((*due).max(self.next_drop))
    }

    /// What may go out at once: the trickle has about twenty drops a second.
    pub(super) fn next(&self) -> &[u8] {
        let drop = |rate: u32| usize::try_from(rate / 20).unwrap_or(usize::MAX).max(1);
        let size = self.trickle.map_or(usize::MAX, drop);
        let frames = self.waiting.front().map_or(&[][..], |(_, frames)| frames);
        &frames[..frames.len().min(size)]
    }

    /// So many octets of that have gone out.
    pub(super) fn wrote(&mut self, octets: usize) {
        if let Some(rate) = self.trickle {
            let pause = Duration::from_secs_f64(octets as f64 / f64::from(rate));
            self.next_drop = Instant::now() + pause;
        }
        self.octets -= octets;
        if let Some((_, front)) = self.waiting.front_mut() {
            front.drain(..octets);
            if front.is_empty() {
                self.waiting.pop_front();
            }
        }
    }
}
