//! A turn: the work that a connection may do before the other connections are driven.

use std::cell::Cell;

thread_local! {
    /// Units charged since the last call of [`take_charged`].
    static CHARGED: Cell<usize> = const { Cell::new(0) };
}

/// Charges for work of code that has no access to the turn: of a handler or of a publisher. One
/// unit is about half a nanosecond.
pub(crate) fn charge(units: usize) {
    CHARGED.set(CHARGED.get().saturating_add(units));
}

/// Returns the units that this thread's handlers and publishers were charged since the last call.
#[inline]
pub(super) fn take_charged() -> usize {
    CHARGED.take()
}

/// The number that [`take_charged`] would return, without a reset.
pub(super) fn charged() -> usize {
    CHARGED.get()
}

/// The rest of a turn, in units of about half a nanosecond. Each kind of work is charged by its
/// number of bytes, weighted by its time. No clock is read, so the same input always gives the same
/// turns.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Turn {
    left: usize,
}

impl Turn {
    /// Units in a turn, about half a millisecond: the cost to read, unmask and answer 1 MiB.
    pub(super) const SHARE: usize = 1 << 20;
    /// Bytes that a connection may inflate or deflate in one turn.
    pub(super) const CODEC_SHARE: usize = 64 << 10;

    /// Units for each frame, in addition to its bytes.
    const FRAME: usize = 64;
    /// Units for each member that receives a delivery, in addition to the bytes: mostly for the
    /// system call.
    const DELIVERY: usize = 8 << 10;
    /// Units for each byte that is inflated or deflated.
    const CODEC: usize = Self::SHARE / Self::CODEC_SHARE;

    /// A full turn.
    pub(crate) const fn new() -> Turn {
        Turn { left: Self::SHARE }
    }

    /// Charges for frames that were read; `bytes` is their size.
    #[inline]
    pub(super) fn charge_frames(&mut self, frames: u64, bytes: usize) {
        let units = frames as usize * Self::FRAME + bytes;
        self.left = self.left.saturating_sub(units);
    }

    /// Units for `count` deliveries of `bytes` bytes.
    #[inline]
    pub(super) fn cost_of_deliveries(count: usize, bytes: usize) -> usize {
        count.saturating_mul(Self::DELIVERY + bytes)
    }

    /// Number of deliveries of `bytes` bytes after which the turn is over.
    pub(super) fn deliveries(&self, bytes: usize) -> usize {
        self.left.div_ceil(Self::DELIVERY + bytes)
    }

    /// Charges for `count` deliveries of `bytes` bytes.
    #[inline]
    pub(super) fn charge_deliveries(&mut self, count: usize, bytes: usize) {
        self.charge_work(Self::cost_of_deliveries(count, bytes));
    }

    /// Charges for work whose cost in units is known. A byte that is only read costs one unit.
    #[inline]
    pub(super) fn charge_work(&mut self, cost: usize) {
        self.left = self.left.saturating_sub(cost);
    }

    /// The cost in units of bytes that are inflated or deflated.
    #[inline]
    pub(super) fn codec_cost(bytes: usize) -> usize {
        bytes.saturating_mul(Self::CODEC)
    }

    /// Whether [`Turn::charge_work`] would end the turn.
    pub(super) fn is_over_with(&self, cost: usize) -> bool {
        cost >= self.left
    }

    /// Units left.
    pub(super) fn left(&self) -> usize {
        self.left
    }

    /// Units charged.
    pub(super) fn used(&self) -> usize {
        Self::SHARE - self.left
    }

    #[inline]
    pub(super) fn is_over(&self) -> bool {
        self.left == 0
    }
}
