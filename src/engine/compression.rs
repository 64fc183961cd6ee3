//! The thread's compressor, which its connections and publishers share.

use std::cell::RefCell;

use crate::protocol::Deflater;

thread_local! {
    static DEFLATER: RefCell<Deflater> = const { RefCell::new(Deflater::new()) };
}

/// Lends out this thread's compressor. It takes no memory until it has compressed something.
pub(super) fn with_deflater<T>(act: impl FnOnce(&mut Deflater) -> T) -> T {
    DEFLATER.with_borrow_mut(act)
}
