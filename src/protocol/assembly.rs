//! Where the payload of a message that straddles reads, or comes in fragments, is put together.

use super::ProtocolError;
use super::utf8::{self, Utf8Validator};

/// The payload so far, in one contiguous buffer that grows by what arrived, never by what a
/// header claimed.
///
/// Invariant: `octets[..filled]` has arrived and is unmasked; `octets[filled..]` is initialised
/// space. The buffer is zeroed once in its life and reused through [`AssemblyPool`].
#[derive(Debug, Default)]
pub(super) struct Assembly {
    octets: Vec<u8>,
    filled: usize,
    utf8: Utf8Validator,
}

impl Assembly {
    pub(super) fn payload(&self) -> &[u8] {
        self.octets.get(..self.filled).unwrap_or_default()
    }

    pub(super) fn len(&self) -> usize {
        self.filled
    }

    /// Copies a piece in, unmasked already.
    pub(super) fn append(&mut self, piece: &[u8]) {
        let space = self.octets.get_mut(self.filled..).unwrap_or_default();
        let fits = space.len().min(piece.len());
        let (head, tail) = piece.split_at(fits);
        if let Some(space) = space.get_mut(..fits) {
            space.copy_from_slice(head);
        }
        self.octets.extend_from_slice(tail);
        self.filled = self.filled.saturating_add(piece.len());
    }

    /// Space to read the next octets into, at most `wanted` of them. The buffer at most doubles.
    pub(super) fn space(&mut self, wanted: usize) -> &mut [u8] {
        const FIRST: usize = 64 << 10;
        if self.filled == self.octets.len() {
            let grown = self
                .filled
                .saturating_add(wanted.min(self.filled.max(FIRST)));
            self.octets.resize(grown, 0);
        }
        let end = self.filled.saturating_add(wanted).min(self.octets.len());
        self.octets.get_mut(self.filled..end).unwrap_or_default()
    }

    /// Octets that were read into [`Assembly::space`] count as payload from now on.
    pub(super) fn advance(&mut self, octets: usize) {
        self.filled = self.filled.saturating_add(octets).min(self.octets.len());
    }

    /// Checks a piece of a text message.
    pub(super) fn validate(&mut self, piece: &[u8]) -> Result<(), ProtocolError> {
        self.utf8
            .validate(piece)
            .map_err(|_| ProtocolError::InvalidUtf8) // §8.1
    }

    /// Checks the last `octets` that arrived of a text message.
    pub(super) fn validate_last(&mut self, octets: usize) -> Result<(), ProtocolError> {
        let start = self.filled.saturating_sub(octets);
        let piece = self.octets.get(start..self.filled).unwrap_or_default();
        self.utf8
            .validate(piece)
            .map_err(|_| ProtocolError::InvalidUtf8) // §8.1
    }

    /// The whole message as text.
    pub(super) fn text(&self) -> Result<&str, ProtocolError> {
        // The pieces have been checked; only this check makes them a `&str`.
        utf8::validate(self.payload()).map_err(|_| ProtocolError::InvalidUtf8) // §8.1
    }

    pub(super) fn ends_inside_a_character(&self) -> bool {
        !self.utf8.is_complete()
    }
}

/// Buffers of finished messages, kept for the next ones. One per worker.
#[derive(Debug, Default)]
#[expect(
    clippy::vec_box,
    reason = "receivers hold the box, so that an idle one holds a pointer and no more"
)]
pub struct AssemblyPool {
    spare: Vec<Box<Assembly>>,
    octets: usize,
}

impl AssemblyPool {
    /// Octets that a pool keeps at most.
    const MAX_OCTETS: usize = 64 << 20;

    pub(super) fn take(&mut self) -> Box<Assembly> {
        let assembly = self.spare.pop().unwrap_or_default();
        self.octets = self.octets.saturating_sub(assembly.octets.capacity());
        assembly
    }

    pub(super) fn put(&mut self, mut assembly: Box<Assembly>) {
        let octets = self.octets.saturating_add(assembly.octets.capacity());
        if octets <= Self::MAX_OCTETS {
            assembly.filled = 0;
            assembly.utf8 = Utf8Validator::default();
            self.octets = octets;
            self.spare.push(assembly);
        }
    }

    /// Gives one spare buffer back to the allocator: called now and then, so that a burst of
    /// large messages does not hold its memory for ever.
    pub fn shrink(&mut self) {
        drop(self.take());
    }
}
