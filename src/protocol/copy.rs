//! Copying payloads: large ones not by `memcpy`.
//!
//! From a few KiB on the C library copies by `rep movsb` where the processor calls that fast. On
//! AMD's Zen it is not (sourceware.org bug 30994): measured with echoes of 64 KiB, 16 deep, a copy
//! ran at 4.5 GB/s, and at 15 by vectors. The compiler makes a `memcpy` of any loop that it knows
//! for a copy, so here a zero that it does not know is added to every byte.

use core::hint::black_box;

/// From this many bytes on it is worth it.
const LARGE: usize = 4_096;

/// Appends `bytes` to `to`.
#[inline(always)]
pub(crate) fn append(to: &mut Vec<u8>, bytes: &[u8]) {
    if bytes.len() < LARGE {
        to.extend_from_slice(bytes);
    } else {
        append_large(to, bytes);
    }
}

/// Cold, as what is small is to cost nothing for it.
#[cold]
fn append_large(to: &mut Vec<u8>, bytes: &[u8]) {
    let zero = black_box(0);
    by_vectors(
        #[inline(always)]
        || to.extend(bytes.iter().map(|byte| byte.wrapping_add(zero))),
    );
}

/// Copies `bytes` to `to`, which is as long.
pub(super) fn copy(to: &mut [u8], bytes: &[u8]) {
    let zero = black_box(0);
    by_vectors(
        #[inline(always)]
        || {
            for (to, byte) in to.iter_mut().zip(bytes) {
                *to = byte.wrapping_add(zero);
            }
        },
    );
}

/// Does this by the widest vectors that the processor has.
#[inline(always)]
pub(super) fn by_vectors(act: impl FnOnce()) {
    #[cfg(feature = "simd")]
    pulp::Arch::new().dispatch(act);
    #[cfg(not(feature = "simd"))]
    act();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_of_every_length_are_equal() {
        let bytes: Vec<u8> = (0..=255).cycle().take(3 * LARGE).collect();
        for length in [0, 1, 31, LARGE - 1, LARGE, LARGE + 1, bytes.len()] {
            let bytes = &bytes[..length];
            let mut to = vec![0; length];
            copy(&mut to, bytes);
            assert!(to == bytes, "{length} bytes");
            append(&mut to, bytes);
            assert!(to == [bytes, bytes].concat(), "{length} bytes appended");
        }
    }
}
