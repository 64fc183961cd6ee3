//! Replaces the codec in a crate without the feature `deflate`. Then [`Deflate`](super::Deflate)
//! cannot be constructed and compression is never negotiated.

use super::InvalidData;

#[derive(Debug, Default)]
pub(in crate::protocol) struct Inflater {}

impl Inflater {
    pub(in crate::protocol) const BYTES: usize = 0;
    pub(in crate::protocol) const BEGINNING: usize = 0;

    pub(in crate::protocol) fn begin(&mut self, _: [&[u8]; 2]) {}

    pub(in crate::protocol) fn resume(&mut self) {}

    pub(in crate::protocol) fn is_continuous(&self) -> bool {
        false
    }

    pub(in crate::protocol) fn inflate(
        &mut self,
        _: &mut &[u8],
        _: &mut [u8],
    ) -> (usize, Result<(), InvalidData>) {
        (0, Err(InvalidData))
    }

    pub(in crate::protocol) fn finish(&mut self) -> Result<(), InvalidData> {
        Err(InvalidData)
    }
}

/// A deflater that never compresses.
#[derive(Debug, Default)]
pub struct Deflater;

impl Deflater {
    /// A deflater that never compresses.
    pub const fn new() -> Deflater {
        Deflater
    }

    /// Returns 0.
    pub fn take_deflated(&mut self) -> usize {
        0
    }

    pub(super) fn blocks(&mut self, _: &[u8], _: u8, _: u8, _: &[u8]) -> &[u8] {
        &[]
    }
}
