//! What a connection's turn may cost, and what is charged for it.

/// What is left of a turn. Work is charged in bytes, each kind with the weight of its time: a unit is
/// about half a nanosecond. No clock is read, so the same input always has the same turns.
#[derive(Clone, Copy, Debug)]
pub(super) struct Turn {
    left: usize,
}

impl Turn {
    /// About half a millisecond: the cost of 1 MiB that is read, unmasked and answered.
    pub(super) const SHARE: usize = 1 << 20;
    /// Bytes that one turn inflates or deflates before the connection goes to the end of the queue.
    pub(super) const CODEC_SHARE: usize = 64 << 10;

    /// For each message, beside its bytes.
    const MESSAGE: usize = 64;
    /// For each member that something is delivered to, beside the bytes: mostly for a system call.
    pub(super) const DELIVERY: usize = 8 << 10;
    /// For each byte that is inflated or deflated.
    const CODEC: usize = Self::SHARE / Self::CODEC_SHARE;

    /// A whole one.
    pub(super) const fn new() -> Turn {
        Turn { left: Self::SHARE }
    }

    /// Messages were read, with so many bytes of payload.
    #[inline]
    pub(super) fn charge_messages(&mut self, messages: u64, bytes: u64) {
        let units = messages as usize * Self::MESSAGE + bytes as usize;
        self.left = self.left.saturating_sub(units);
    }

    /// So many bytes were read of a message that goes on.
    #[inline]
    pub(super) fn charge_bytes(&mut self, bytes: usize) {
        self.left = self.left.saturating_sub(bytes);
    }

    /// So many bytes were delivered to a member.
    #[inline]
    pub(super) fn charge_delivery(&mut self, bytes: usize) {
        self.left = self.left.saturating_sub(Self::DELIVERY + bytes);
    }

    /// A command was carried out that is about one connection.
    #[inline]
    pub(super) fn charge_command(&mut self) {
        self.left = self.left.saturating_sub(Self::MESSAGE);
    }

    /// Work was done, or caused, at so much cost.
    #[inline]
    pub(super) fn charge_work(&mut self, cost: usize) {
        self.left = self.left.saturating_sub(cost);
    }

    /// So many bytes were inflated or deflated.
    #[inline]
    pub(super) fn charge_codec(&mut self, bytes: usize) {
        self.left = self.left.saturating_sub(bytes.saturating_mul(Self::CODEC));
    }

    /// Whether [`Turn::charge_codec`] would end it.
    pub(super) fn is_over_with_codec(&self, bytes: usize) -> bool {
        bytes.saturating_mul(Self::CODEC) >= self.left
    }

    /// What is left.
    pub(super) fn left(&self) -> usize {
        self.left
    }

    /// What has been charged.
    pub(super) fn used(&self) -> usize {
        Self::SHARE - self.left
    }

    #[inline]
    pub(super) fn is_over(&self) -> bool {
        self.left == 0
    }
}
