//! The thread's compressor, which its connections and publishers share.

use std::cell::{Cell, RefCell};

use crate::protocol::Deflater;

thread_local! {
    static DEFLATER: RefCell<Deflater> = const { RefCell::new(Deflater::new()) };

    /// Bytes that were compressed since [`take_deflated`].
    static DEFLATED: Cell<usize> = const { Cell::new(0) };
}

/// Lends out this thread's compressor. It takes no memory until it has compressed something.
pub(super) fn with_deflater<T>(act: impl FnOnce(&mut Deflater) -> T) -> T {
    DEFLATER.with_borrow_mut(|deflater| {
        let result = act(deflater);
        DEFLATED.set(DEFLATED.get() + deflater.take_deflated());
        result
    })
}

/// What this thread has compressed since the last call, in bytes before compression.
#[inline]
pub(super) fn take_deflated() -> usize {
    DEFLATED.take()
}

/// What [`take_deflated`] would say.
pub(super) fn deflated() -> usize {
    DEFLATED.get()
}
