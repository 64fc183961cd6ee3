//! Where the payload of a message that straddles reads, or comes in fragments, is put together.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::ProtocolError;
use super::deflate::{Inflater, InvalidData};
use super::utf8::{self, Utf8Validator};

/// The payload so far, in one contiguous buffer that grows by what arrived, never by what a
/// header claimed.
///
/// Invariant: `octets[..filled]` has arrived and is unmasked; `octets[filled..]` is initialised
/// space. A buffer is zeroed once in its life and reused through [`AssemblyPool`].
#[derive(Debug, Default)]
pub(super) struct Assembly {
    octets: Vec<u8>,
    filled: usize,
    utf8: Utf8Validator,
    /// What of the pool's bound the buffer stands for.
    loan: Option<Loan>,
    /// Of a compressed message, once some of it has been inflated.
    inflater: Option<Box<Inflater>>,
}

impl Assembly {
    pub(super) fn payload(&self) -> &[u8] {
        self.octets.get(..self.filled).unwrap_or_default()
    }

    pub(super) fn len(&self) -> usize {
        self.filled
    }

    /// Copies a piece in, unmasked already. The message has `expected` octets still to come at
    /// most, this piece included.
    pub(super) fn append(&mut self, piece: &[u8], expected: u64, pool: &mut AssemblyPool) {
        if self.octets.capacity().saturating_sub(self.filled) < piece.len() {
            // Doubled, or many small pieces would each cost a copy of all before them.
            let expected = usize::try_from(expected).unwrap_or(usize::MAX);
            self.reserve(piece.len().max(self.filled.min(expected)), pool);
        }
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
    pub(super) fn space(&mut self, wanted: usize, pool: &mut AssemblyPool) -> &mut [u8] {
        if self.filled == self.octets.len() {
            let grown = wanted.min(self.filled.max(AssemblyPool::SMALL));
            self.reserve(grown, pool);
            let grown = self.filled.saturating_add(grown);
            if self.octets.len() < grown {
                self.octets.resize(grown, 0);
            }
        }
        let end = self.filled.saturating_add(wanted).min(self.octets.len());
        self.octets.get_mut(self.filled..end).unwrap_or_default()
    }

    /// Makes room for `more` octets and no more. A message that has outgrown the small buffers goes
    /// on in a large one of the pool's.
    fn reserve(&mut self, more: usize, pool: &mut AssemblyPool) {
        let needed = self.filled.saturating_add(more);
        if needed <= self.octets.capacity() {
            return;
        }
        if needed > AssemblyPool::SMALL
            && self.octets.capacity() <= AssemblyPool::SMALL
            && let Some((mut octets, loan)) = pool.take_large()
        {
            let fits = octets.len().min(self.filled);
            let (head, tail) = self.payload().split_at(fits);
            if let Some(space) = octets.get_mut(..fits) {
                space.copy_from_slice(head);
            }
            octets.extend_from_slice(tail);
            self.octets = octets;
            self.loan = Some(loan);
        }
        let length = self.octets.len();
        // A `Vec` by itself would double what is doubled already.
        self.octets.reserve_exact(needed.saturating_sub(length));
    }

    /// The next `octets`, which were read into [`Assembly::space`].
    pub(super) fn arrived(&mut self, octets: usize) -> &mut [u8] {
        let end = self.filled.saturating_add(octets).min(self.octets.len());
        self.octets.get_mut(self.filled..end).unwrap_or_default()
    }

    /// Octets that were read into [`Assembly::space`] count as payload from now on.
    pub(super) fn advance(&mut self, octets: usize) {
        self.filled = self.filled.saturating_add(octets).min(self.octets.len());
    }

    /// Appends what a piece of a compressed message inflates to, and checks it if it is text.
    /// `history` is what the message may refer to, `max` how long it may become.
    pub(super) fn inflate(
        &mut self,
        mut piece: &[u8],
        history: &[u8],
        max: usize,
        text: bool,
        pool: &mut AssemblyPool,
    ) -> Result<(), ProtocolError> {
        /// At most so much is inflated before it is looked at.
        const STEP: usize = 16 << 10;
        let mut inflater = match self.inflater.take() {
            Some(inflater) => inflater,
            None => {
                let mut inflater = pool.inflater.take().unwrap_or_default();
                inflater.begin(history);
                inflater
            }
        };
        loop {
            // One more than may be there, to see that it is.
            let room = max.saturating_sub(self.filled).saturating_add(1);
            let space = self.space(room, pool);
            let room = space.len().min(STEP);
            let space = space.get_mut(..room).unwrap_or_default();
            let (inflated, is_valid) = inflater.inflate(&mut piece, space);
            self.advance(inflated);
            if text {
                self.validate_last(inflated)?;
            }
            if self.filled > max {
                return Err(ProtocolError::MessageTooBig); // §7.4.1, 1009
            }
            is_valid?;
            if piece.is_empty() && inflated < room {
                break;
            }
        }
        self.inflater = Some(inflater);
        Ok(())
    }

    /// A compressed message is all there.
    pub(super) fn end_inflation(&mut self) -> Result<(), ProtocolError> {
        match &mut self.inflater {
            Some(inflater) => Ok(inflater.finish()?),
            None => Ok(()), // of no octets
        }
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

impl From<InvalidData> for ProtocolError {
    fn from(_: InvalidData) -> ProtocolError {
        ProtocolError::InvalidCompressedData // RFC 7692 §7.2.2
    }
}

/// Buffers of finished messages, kept for the next ones. One per worker.
///
/// A large buffer is lent to a message when it has outgrown the small ones, not before: else one
/// octet of an unfinished message could hold megabytes. What is lent counts as what is kept.
#[derive(Debug, Default)]
#[expect(
    clippy::vec_box,
    reason = "receivers hold the box, so that an idle one holds a pointer and no more"
)]
pub struct AssemblyPool {
    small: Vec<Box<Assembly>>,
    large: Vec<Vec<u8>>,
    /// For the next compressed message; those that are under way at the same time have their own.
    inflater: Option<Box<Inflater>>,
    /// Octets of all buffers that are here, or lent and not back.
    octets: Arc<AtomicUsize>,
}

/// A buffer's share of the pool's bound, given back when dropped.
#[derive(Debug)]
struct Loan {
    octets: usize,
    pool: Arc<AtomicUsize>,
}

impl Drop for Loan {
    fn drop(&mut self) {
        self.pool.fetch_sub(self.octets, Ordering::Relaxed);
    }
}

impl AssemblyPool {
    /// Octets that a pool keeps and lends at most.
    const MAX_OCTETS: usize = 64 << 20;
    /// Octets of a small buffer at most.
    const SMALL: usize = 64 << 10;

    pub(super) fn take(&mut self) -> Box<Assembly> {
        let mut assembly = self.small.pop().unwrap_or_default();
        assembly.loan = Some(self.loan(assembly.octets.capacity()));
        assembly
    }

    pub(super) fn put(&mut self, mut assembly: Box<Assembly>) {
        assembly.loan = None;
        assembly.filled = 0;
        assembly.utf8 = Utf8Validator::default();
        if let Some(inflater) = assembly.inflater.take() {
            self.inflater = Some(inflater);
        }
        let capacity = assembly.octets.capacity();
        let kept = self.octets.fetch_add(capacity, Ordering::Relaxed);
        if kept.saturating_add(capacity) > Self::MAX_OCTETS {
            self.octets.fetch_sub(capacity, Ordering::Relaxed);
        } else if capacity > Self::SMALL {
            self.large.push(core::mem::take(&mut assembly.octets));
            self.small.push(assembly);
        } else {
            self.small.push(assembly);
        }
    }

    /// Gives one spare buffer back to the allocator: called now and then, so that a burst of
    /// large messages does not hold its memory for ever.
    pub fn shrink(&mut self) {
        drop(self.take_large());
        if !self.small.is_empty() {
            drop(self.take());
        }
    }

    fn take_large(&mut self) -> Option<(Vec<u8>, Loan)> {
        let octets = self.large.pop()?;
        let loan = self.loan(octets.capacity());
        Some((octets, loan))
    }

    /// Of what is counted already.
    fn loan(&self, octets: usize) -> Loan {
        Loan {
            octets,
            pool: Arc::clone(&self.octets),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;

    fn message(length: usize, pool: &mut AssemblyPool) -> Box<Assembly> {
        let mut assembly = pool.take();
        while assembly.len() < length {
            let piece = vec![7; length.saturating_sub(assembly.len()).min(100_000)];
            assembly.append(&piece, u64::MAX, pool);
        }
        assembly
    }

    fn counted(pool: &AssemblyPool) -> usize {
        pool.octets.load(Ordering::Relaxed)
    }

    #[test]
    fn a_large_buffer_is_lent_to_what_has_outgrown_the_small_ones() {
        let mut pool = AssemblyPool::default();
        let large = message(16 * MIB, &mut pool);
        pool.put(large);
        let begun = message(1, &mut pool);
        assert!(begun.octets.capacity() <= AssemblyPool::SMALL);
        let grown = message(100_000, &mut pool);
        assert!(grown.octets.capacity() >= 16 * MIB);
        assert_eq!(grown.payload(), vec![7; 100_000]);
    }

    #[test]
    fn what_is_lent_counts_until_it_is_gone() {
        let mut pool = AssemblyPool::default();
        let messages: Vec<_> = (0..3).map(|_| message(16 * MIB, &mut pool)).collect();
        messages.into_iter().for_each(|message| pool.put(message));
        let kept = counted(&pool);
        assert!(
            (48 * MIB..=AssemblyPool::MAX_OCTETS).contains(&kept),
            "{kept}"
        );
        let lent: Vec<_> = (0..3).map(|_| message(100_000, &mut pool)).collect();
        assert_eq!(counted(&pool), kept);
        // Nothing is left to keep what these grew to.
        let more: Vec<_> = (0..3).map(|_| message(16 * MIB, &mut pool)).collect();
        more.into_iter().for_each(|message| pool.put(message));
        assert!(counted(&pool) <= AssemblyPool::MAX_OCTETS);
        drop(lent);
        assert!(counted(&pool) < 20 * MIB, "{}", counted(&pool));
    }

    #[test]
    fn a_buffer_is_at_most_twice_what_it_holds() {
        for piece in [1, 7, 1_000, 70_000] {
            let mut pool = AssemblyPool::default();
            let mut assembly = pool.take();
            let mut length = 0;
            while length < 300_000 {
                assembly.append(&vec![7; piece], u64::MAX, &mut pool);
                length += piece;
                let capacity = assembly.octets.capacity();
                assert!(capacity <= length * 2 + 16, "{capacity} for {length}");
            }
        }
    }
}
