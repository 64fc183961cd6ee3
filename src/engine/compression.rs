//! The compressor that the connections and publishers of one thread share.

use std::cell::{Cell, RefCell};

use crate::protocol::Deflater;

thread_local! {
    static DEFLATER: RefCell<Deflater> = const { RefCell::new(Deflater::new()) };

    /// Input bytes compressed since the last call of [`take_deflated`].
    static DEFLATED: Cell<usize> = const { Cell::new(0) };
}

/// Calls `act` with this thread's compressor, which allocates memory at its first use.
pub(super) fn with_deflater<T>(act: impl FnOnce(&mut Deflater) -> T) -> T {
    DEFLATER.with_borrow_mut(|deflater| {
        let result = act(deflater);
        count_encoded(deflater.take_deflated());
        result
    })
}

/// Returns the number of bytes (before compression) that this thread compressed since the last
/// call.
#[inline]
pub(super) fn take_deflated() -> usize {
    DEFLATED.take()
}

/// Counts bytes that were compressed, or whose encoding takes as long.
pub(super) fn count_encoded(bytes: usize) {
    DEFLATED.set(DEFLATED.get() + bytes);
}

/// The number that [`take_deflated`] would return, without a reset.
pub(super) fn deflated() -> usize {
    DEFLATED.get()
}
