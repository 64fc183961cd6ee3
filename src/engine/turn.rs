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

/// The work of a turn, in units of about half a nanosecond. Each kind of work is charged by its
/// number of bytes, weighted by its time. No clock is read, so the same input always gives the same
/// turns.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Turn {
    /// The turn is over when `used` reaches it.
    share: usize,
    used: usize,
}

impl Turn {
    /// Units in a turn, about half a millisecond: the cost to read, unmask and answer 1 MiB.
    pub(super) const SHARE: usize = 1 << 20;
    /// Units in a short turn, the most that an ordinary event costs.
    pub(super) const SHORT: usize = Self::SHARE / 16;

    /// Units for each frame, in addition to its bytes.
    const FRAME: usize = 64;
    /// Units for each member that receives a delivery, in addition to the bytes: mostly for the
    /// system call.
    const DELIVERY: usize = 8 << 10;
    /// Units for each byte that is inflated or deflated: 64 KiB in a full turn.
    const CODEC: usize = 16;

    /// A full turn.
    pub(crate) const fn new() -> Turn {
        Turn::of(Self::SHARE)
    }

    /// A turn of `share` units.
    pub(super) const fn of(share: usize) -> Turn {
        Turn { share, used: 0 }
    }

    /// Charges for frames that were read; `bytes` is their size.
    #[inline]
    pub(super) fn charge_frames(&mut self, frames: u64, bytes: usize) {
        self.used += frames as usize * Self::FRAME + bytes;
    }

    /// Units for `count` deliveries of `bytes` bytes.
    #[inline]
    pub(super) fn cost_of_deliveries(count: usize, bytes: usize) -> usize {
        count.saturating_mul(Self::DELIVERY + bytes)
    }

    /// Number of deliveries of `bytes` bytes after which the turn is over.
    pub(super) fn deliveries(&self, bytes: usize) -> usize {
        self.left().div_ceil(Self::DELIVERY + bytes)
    }

    /// Charges for `count` deliveries of `bytes` bytes.
    #[inline]
    pub(super) fn charge_deliveries(&mut self, count: usize, bytes: usize) {
        self.charge_work(Self::cost_of_deliveries(count, bytes));
    }

    /// Charges for work whose cost in units is known. A byte that is only read costs one unit.
    #[inline]
    pub(super) fn charge_work(&mut self, cost: usize) {
        self.used = self.used.saturating_add(cost);
    }

    /// The cost in units of bytes that are inflated or deflated.
    #[inline]
    pub(super) fn codec_cost(bytes: usize) -> usize {
        bytes * Self::CODEC
    }

    /// Bytes that a connection may inflate or deflate in a turn of `share` units.
    pub(super) const fn codec_share(share: usize) -> usize {
        share / Self::CODEC
    }

    /// Whether [`Turn::charge_work`] would end the turn.
    pub(super) fn is_over_with(&self, cost: usize) -> bool {
        self.used.saturating_add(cost) >= self.share
    }

    /// Units left.
    pub(super) fn left(&self) -> usize {
        self.share.saturating_sub(self.used)
    }

    /// Units of the work that was done.
    #[inline]
    pub(super) fn used(&self) -> usize {
        self.used
    }

    #[inline]
    pub(super) fn is_over(&self) -> bool {
        self.used >= self.share
    }
}
