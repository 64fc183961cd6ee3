//! Masking (RFC 6455 §5.3).

use super::copy::by_vectors;

/// XORs `payload` in place with the masking key, to mask or to unmask. `offset` is the position of
/// `payload` in the frame's payload, in bytes.
#[inline(always)]
pub fn apply_masking_key(payload: &mut [u8], key: [u8; 4], offset: usize) {
    let key = turn(u32::from_ne_bytes(key), offset);
    if payload.len() >= WORTH_DISPATCHING {
        apply_widest(payload, key);
    } else {
        apply(payload, key);
    }
}

/// Removes the mask of a payload that has one.
#[inline(always)]
pub(super) fn unmask(payload: &mut [u8], masking_key: Option<[u8; 4]>) {
    if let Some(key) = masking_key {
        apply_masking_key(payload, key, 0);
    }
}

/// The key, rotated so that its first byte is the key byte for position `offset` of the payload.
#[inline(always)]
fn turn(key: u32, offset: usize) -> u32 {
    let turn = [0, 8, 16, 24].get(offset % 4).copied().unwrap_or_default();
    if cfg!(target_endian = "little") {
        key.rotate_right(turn)
    } else {
        key.rotate_left(turn)
    }
}

/// Minimum size in bytes of a payload for which selecting the widest vectors at run time pays off.
const WORTH_DISPATCHING: usize = 512;

/// Applies the key with the widest vectors of the processor. A vector across two cache lines takes
/// two accesses, so the bytes before the first aligned vector are masked separately.
#[inline(never)]
fn apply_widest(payload: &mut [u8], key: u32) {
    /// Size of an AVX2 vector in bytes.
    const VECTOR: usize = 32;
    let before = payload.as_ptr().align_offset(VECTOR);
    let (before, payload) = payload.split_at_mut(before.min(payload.len()));
    apply(before, key);
    let key = turn(key, before.len());
    by_vectors(
        #[inline(always)]
        || apply(payload, key),
    );
}

/// Applies the key in blocks of 64 bytes. The compiler turns a block into the vector instructions
/// that the caller enables.
#[inline(always)]
fn apply(payload: &mut [u8], key: u32) {
    let wide = u64::from(key) * 0x1_0000_0001;
    let (blocks, rest) = payload.as_chunks_mut::<64>();
    for block in blocks {
        for lane in block.as_chunks_mut::<8>().0 {
            *lane = (u64::from_ne_bytes(*lane) ^ wide).to_ne_bytes();
        }
    }
    let (lanes, rest) = rest.as_chunks_mut::<8>();
    for lane in lanes {
        *lane = (u64::from_ne_bytes(*lane) ^ wide).to_ne_bytes();
    }
    let (halves, rest) = rest.as_chunks_mut::<4>();
    for half in halves {
        *half = (u32::from_ne_bytes(*half) ^ key).to_ne_bytes();
    }
    for (byte, key) in rest.iter_mut().zip(key.to_ne_bytes()) {
        *byte ^= key;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_length_and_offset_agrees_with_the_formula_of_section_5_3() {
        let key = [0x37, 0xFA, 0x21, 0x3D];
        for length in (0..200).chain(500..600) {
            for offset in 0..9 {
                let mut payload: Vec<u8> = (0..=255).cycle().skip(7).take(length).collect();
                let expected: Vec<u8> = payload
                    .iter()
                    .enumerate()
                    .map(|(i, byte)| byte ^ key[(offset + i) % 4])
                    .collect();
                apply_masking_key(&mut payload, key, offset);
                assert_eq!(payload, expected, "{length} bytes from {offset}");
            }
        }
    }
}
