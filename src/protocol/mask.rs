//! Masking (RFC 6455 §5.3).

/// XORs `payload` in place with the masking key, `offset` octets into the frame's payload. The
/// same call masks and unmasks.
#[inline(always)]
pub fn apply_masking_key(payload: &mut [u8], key: [u8; 4], offset: usize) {
    let key = u32::from_ne_bytes(key);
    // Turn the key so that its first octet meets the payload's first.
    let turn = [0, 8, 16, 24].get(offset % 4).copied().unwrap_or_default();
    let key = if cfg!(target_endian = "little") {
        key.rotate_right(turn)
    } else {
        key.rotate_left(turn)
    };
    if cfg!(feature = "simd") && payload.len() >= WORTH_DISPATCHING {
        apply_widest(payload, key);
    } else {
        apply(payload, key);
    }
}

/// From this many octets on the widest vectors that the processor has pay for being chosen.
const WORTH_DISPATCHING: usize = 512;

#[inline(never)]
fn apply_widest(payload: &mut [u8], key: u32) {
    #[cfg(feature = "simd")]
    pulp::Arch::new().dispatch(
        #[inline(always)]
        || apply(payload, key),
    );
    #[cfg(not(feature = "simd"))]
    apply(payload, key);
}

/// The key is widened to a block and applied block by block, which the compiler turns into the
/// vector instructions of whoever calls this.
#[inline(always)]
fn apply(payload: &mut [u8], key: u32) {
    let wide = u64::from(key) << 32 | u64::from(key);
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
    for (octet, key) in rest.iter_mut().zip(key.to_ne_bytes()) {
        *octet ^= key;
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
                    .map(|(i, octet)| octet ^ key[(offset + i) % 4])
                    .collect();
                apply_masking_key(&mut payload, key, offset);
                assert_eq!(payload, expected, "{length} octets from {offset}");
            }
        }
    }
}
