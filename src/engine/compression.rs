//! The compressor that the connections and publishers of one thread share.

use std::cell::RefCell;

use super::turn::{self, Turn};
use crate::protocol::Deflater;

thread_local! {
    static DEFLATER: RefCell<Deflater> = const { RefCell::new(Deflater::new()) };
}

/// Calls `act` with this thread's compressor, which allocates memory at its first use. Charges for
/// the bytes that are compressed.
pub(super) fn with_deflater<T>(act: impl FnOnce(&mut Deflater) -> T) -> T {
    DEFLATER.with_borrow_mut(|deflater| {
        let result = act(deflater);
        turn::charge(Turn::codec_cost(deflater.take_deflated()));
        result
    })
}
