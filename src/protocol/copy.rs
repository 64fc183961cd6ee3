//! Copies payloads. Large payloads are copied without `memcpy`.
//!
//! For copies of more than a few KiB, the C library uses `rep movsb` if the processor reports it as
//! fast. On AMD's Zen it is slow (sourceware.org bug 30994): with echoes of 64 KiB, 16 in flight, a
//! copy ran at 4.5 GB/s, and at 15 GB/s with vector instructions. The compiler replaces a loop with
//! `memcpy` if it recognises the loop as a copy. Therefore the loop adds zero to every byte, and
//! `black_box` hides the value zero from the compiler.

use core::hint::black_box;

/// Minimum size in bytes of a copy without `memcpy`.
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

/// Cold, so that this code does not slow down small payloads.
#[cold]
fn append_large(to: &mut Vec<u8>, bytes: &[u8]) {
    let zero = black_box(0);
    by_vectors(
        #[inline(always)]
        || to.extend(bytes.iter().map(|byte| byte.wrapping_add(zero))),
    );
}

/// Copies `bytes` to `to`, which has the same length.
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

/// Runs `act` with the widest vectors of the processor.
#[cfg(feature = "simd")]
#[inline(always)]
pub(super) fn by_vectors(act: impl FnOnce()) {
    pulp::Arch::new().dispatch(act);
}

/// Runs `act` with the vectors that every processor of the target has.
#[cfg(not(feature = "simd"))]
#[inline(always)]
pub(super) fn by_vectors(act: impl FnOnce()) {
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
