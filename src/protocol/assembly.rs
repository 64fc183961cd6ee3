//! Assembly of payloads that arrive in several reads or fragments.

use core::mem;

use super::ProtocolError;
use super::budget::{AssemblyBudget, Loan};
use super::copy;
use super::deflate::{Inflaters, InvalidData, MessageInflater, TakeoverContext};
use super::mask::unmask;
use super::utf8::{InvalidUtf8, Utf8Validator};

/// The payload received so far, in one contiguous buffer. The buffer grows with the received bytes,
/// never by the length that a header claims.
///
/// Invariant: `bytes[START..end]` is received and unmasked payload; `bytes[end..]` is initialised
/// space. A buffer is zeroed once and reused through [`AssemblyPool`].
#[derive(Debug)]
pub(super) struct Assembly {
    bytes: Vec<u8>,
    end: usize,
    /// The payload of a control frame between the fragments. Bound: 125 bytes (RFC 6455 §5.5).
    pub(super) control: Vec<u8>,
    utf8: Utf8Validator,
    /// Accounts for the capacity of `bytes`.
    loan: Loan,
    /// `None` until the first bytes of a compressed message are inflated.
    inflater: Option<Box<MessageInflater>>,
}

impl Assembly {
    /// Index of the first payload byte. A large buffer begins at the start of a page, and often so
    /// does the read buffer, where the payload follows the frame header. Without this offset, a
    /// copy would have its destination 1 to 15 bytes further into a page than its source. For such
    /// a copy, `rep movsb` takes thirteen times as long on AMD's Zen (sourceware.org bug 30994).
    const START: usize = 512;

    fn new(budget: &AssemblyBudget) -> Assembly {
        Assembly {
            bytes: Vec::new(),
            end: Self::START,
            control: Vec::new(),
            utf8: Utf8Validator::default(),
            loan: budget.loan(),
            inflater: None,
        }
    }

    pub(super) fn payload(&self) -> &[u8] {
        self.bytes.get(Self::START..self.end).unwrap_or_default()
    }

    /// Bytes of the budget held for this message.
    pub(super) fn held(&self) -> usize {
        let inflater = self.inflater.as_ref().map(|inflater| inflater.held());
        self.loan
            .bytes()
            .saturating_add(inflater.unwrap_or_default())
    }

    pub(super) fn len(&self) -> usize {
        self.end.saturating_sub(Self::START)
    }

    /// Appends a piece that is already unmasked, and validates it if it is text. `expected` is the
    /// maximum number of bytes still to come, including this piece.
    ///
    /// # Errors
    /// [`ProtocolError::InvalidUtf8`] for an invalid text, [`ProtocolError::BudgetExceeded`] if the
    /// budget has no room for a larger buffer.
    pub(super) fn append(
        &mut self,
        piece: &[u8],
        expected: u64,
        text: bool,
        pool: &mut AssemblyPool,
    ) -> Result<(), ProtocolError> {
        if text {
            self.utf8.validate(piece)?;
        }
        if self.bytes.capacity().saturating_sub(self.end) < piece.len() {
            // Double the capacity: otherwise each small piece would cost a copy of all bytes before
            // it.
            let expected = usize::try_from(expected).unwrap_or(usize::MAX);
            self.reserve(piece.len().max(self.len().min(expected)), pool)?;
        }
        write_at(&mut self.bytes, self.end, piece);
        self.end = self.end.saturating_add(piece.len());
        Ok(())
    }

    /// Returns space for the next read, at most `wanted` bytes. The buffer at most doubles or grows
    /// by [`AssemblyPool::SMALL`].
    ///
    /// # Errors
    /// [`ProtocolError::BudgetExceeded`] if the budget has no room for a larger buffer.
    pub(super) fn space(
        &mut self,
        wanted: usize,
        pool: &mut AssemblyPool,
    ) -> Result<&mut [u8], ProtocolError> {
        if self.end >= self.bytes.len() {
            let grown = wanted.min(self.len().max(AssemblyPool::SMALL));
            self.reserve(grown, pool)?;
            let grown = self.end.saturating_add(grown);
            if self.bytes.len() < grown {
                self.bytes.resize(grown, 0);
            }
        }
        let end = self.end.saturating_add(wanted).min(self.bytes.len());
        Ok(self.bytes.get_mut(self.end..end).unwrap_or_default())
    }

    /// Makes room for exactly `more` bytes. A message that no longer fits a small buffer moves to a
    /// large buffer of the pool, if the pool has a large buffer.
    fn reserve(&mut self, more: usize, pool: &mut AssemblyPool) -> Result<(), ProtocolError> {
        let needed = self.end.saturating_add(more);
        if needed <= self.bytes.capacity() {
            return Ok(());
        }
        if needed > AssemblyPool::SMALL
            && self.bytes.capacity() <= AssemblyPool::SMALL
            && let Some((mut bytes, loan)) = pool.take_large()
        {
            let so_far = self.bytes.get(..self.end).unwrap_or_default();
            write_at(&mut bytes, 0, so_far);
            self.bytes = bytes;
            self.loan = loan;
        }
        let growth = needed.saturating_sub(self.bytes.capacity());
        self.loan.extend(growth)?;
        let length = self.bytes.len();
        // `Vec::reserve` would double the capacity a second time.
        self.bytes.reserve_exact(needed.saturating_sub(length));
        if length < Self::START {
            self.bytes.resize(Self::START, 0);
        }
        Ok(())
    }

    /// Counts the next `bytes` bytes, which were read into [`Assembly::space`], as payload: unmasks
    /// them in place, and validates them if they are text.
    pub(super) fn advance(
        &mut self,
        bytes: usize,
        masking_key: Option<[u8; 4]>,
        text: bool,
    ) -> Result<(), ProtocolError> {
        let end = self.end.saturating_add(bytes).min(self.bytes.len());
        let piece = self.bytes.get_mut(self.end..end).unwrap_or_default();
        unmask(piece, masking_key);
        self.end = end;
        match text {
            true => self.utf8.validate(piece).map_err(Into::into),
            false => Ok(()),
        }
    }

    /// Inflates a piece of a compressed message and appends the output, validated if it is text.
    /// Removes the inflated bytes from the front of `piece`: all bytes, unless the pool's allowance
    /// is spent first. `context` holds the text that the message may refer to; `max` is the maximum
    /// size of the message in bytes.
    pub(super) fn inflate(
        &mut self,
        piece: &mut &[u8],
        context: Option<&TakeoverContext>,
        max: usize,
        text: bool,
        pool: &mut AssemblyPool,
    ) -> Result<(), ProtocolError> {
        /// Maximum number of bytes inflated before the output is checked.
        const STEP: usize = 16 << 10;
        let mut inflater = match self.inflater.take() {
            Some(begun) => begun,
            None => {
                pool.spend(Inflaters::BEGINNING);
                pool.inflaters.take(context, &pool.budget)?
            }
        };
        loop {
            // One byte more than allowed, to detect a message that is too large.
            let room = max.saturating_sub(self.len()).saturating_add(1);
            let space = self.space(room, pool)?;
            let room = space.len().min(STEP);
            let space = space.get_mut(..room).unwrap_or_default();
            let (inflated, is_valid) = inflater.inflate(piece, space);
            self.advance(inflated, None, text)?;
            if self.len() > max {
                return Err(ProtocolError::MessageTooBig); // §7.4.1, 1009
            }
            is_valid?;
            pool.spend(inflated);
            let is_done = match piece.is_empty() {
                true => inflated < room,
                false => pool.is_spent(),
            };
            if is_done {
                break;
            }
        }
        self.inflater = Some(inflater);
        Ok(())
    }

    /// Ends a message. Stores the text of a compressed message in `context`, because the next message
    /// may refer to it.
    ///
    /// # Errors
    /// [`ProtocolError::InvalidCompressedData`] if the last block is incomplete,
    /// [`ProtocolError::BudgetExceeded`] if the budget has no room for the text,
    /// [`ProtocolError::InvalidUtf8`] if the text ends inside a character.
    pub(super) fn end(
        &mut self,
        mut context: Option<&mut TakeoverContext>,
        pool: &mut AssemblyPool,
    ) -> Result<(), ProtocolError> {
        if let Some(mut inflater) = self.inflater.take() {
            inflater.finish()?;
            if let Some(context) = &mut context {
                context.remember_within(self.payload(), &pool.budget)?;
            }
            pool.inflaters.put(inflater, context, &pool.budget);
        }
        match self.utf8.is_complete() {
            true => Ok(()),
            false => Err(InvalidUtf8.into()),
        }
    }
}

/// Writes a piece from index `start` on: over the initialised bytes, then behind them.
fn write_at(bytes: &mut Vec<u8>, start: usize, piece: &[u8]) {
    let space = bytes.get_mut(start..).unwrap_or_default();
    let (head, tail) = piece.split_at(space.len().min(piece.len()));
    if let Some(space) = space.get_mut(..head.len()) {
        copy::copy(space, head);
    }
    bytes.extend_from_slice(tail);
}

impl From<InvalidUtf8> for ProtocolError {
    fn from(_: InvalidUtf8) -> ProtocolError {
        ProtocolError::InvalidUtf8 // §8.1
    }
}

impl From<InvalidData> for ProtocolError {
    fn from(_: InvalidData) -> ProtocolError {
        ProtocolError::InvalidCompressedData // RFC 7692 §7.2.2
    }
}

/// Buffers of finished messages, kept for later messages. One pool per worker.
///
/// A message gets a large buffer only when it no longer fits a small buffer: otherwise one byte of
/// an unfinished message could hold megabytes.
#[derive(Debug, Default)]
#[expect(
    clippy::vec_box,
    reason = "receivers hold the box, so that an idle receiver holds only a pointer"
)]
pub struct AssemblyPool {
    budget: AssemblyBudget,
    small: Vec<Box<Assembly>>,
    large: Vec<(Vec<u8>, Loan)>,
    /// Capacity of all buffers in `small` and `large`, in bytes.
    kept: usize,
    inflaters: Inflaters,
    /// Bytes that may still be inflated before [`Receiver::receive`](super::Receiver::receive)
    /// returns; `None` means no limit.
    allowance: Option<usize>,
    /// Headers that [`Receiver::receive`](super::Receiver::receive) has read, except those of whole
    /// data messages.
    pub(super) frames: u64,
}

impl AssemblyPool {
    /// Maximum capacity of all kept buffers, in bytes.
    const MAX_BYTES: usize = 64 << 20;
    /// Maximum capacity of a small buffer, in bytes.
    const SMALL: usize = 64 << 10;

    /// An empty pool whose buffers count towards `budget`.
    pub fn new(budget: AssemblyBudget) -> AssemblyPool {
        AssemblyPool {
            budget,
            ..AssemblyPool::default()
        }
    }

    /// Limits inflation to `bytes` bytes of output. At the limit,
    /// [`Receiver::receive`](super::Receiver::receive) returns and leaves the rest of the input,
    /// even in the middle of a message. Default: unlimited.
    pub fn allow(&mut self, bytes: usize) {
        self.allowance = Some(bytes);
    }

    /// Number of bytes that may still be inflated. Each message counts as slightly more than its
    /// inflated size.
    pub fn allowance(&self) -> usize {
        self.allowance.unwrap_or(usize::MAX)
    }

    /// The frames received since the last call, except data messages that arrived in one frame and
    /// one input: fragments, control frames, and what arrived in pieces.
    pub(crate) fn take_frames(&mut self) -> u64 {
        std::mem::take(&mut self.frames)
    }

    pub(super) fn is_spent(&self) -> bool {
        self.allowance == Some(0)
    }

    fn spend(&mut self, bytes: usize) {
        if let Some(allowance) = &mut self.allowance {
            *allowance = allowance.saturating_sub(bytes);
        }
    }

    /// The budget for the pool's buffers and for all other memory of received messages.
    pub(crate) fn budget(&self) -> &AssemblyBudget {
        &self.budget
    }

    pub(super) fn take(&mut self) -> Box<Assembly> {
        match self.small.pop() {
            Some(assembly) => {
                self.kept = self.kept.saturating_sub(assembly.bytes.capacity());
                assembly
            }
            None => Box::new(Assembly::new(&self.budget)),
        }
    }

    pub(super) fn put(&mut self, mut assembly: Box<Assembly>) {
        assembly.end = Assembly::START;
        assembly.utf8 = Utf8Validator::default();
        let capacity = assembly.bytes.capacity();
        let kept = self.kept.saturating_add(capacity);
        // If the budget is scarce, free a large buffer: the next message on any worker may need it.
        if kept > Self::MAX_BYTES || (capacity > Self::SMALL && self.budget.is_scarce()) {
            return;
        }
        self.kept = kept;
        if capacity > Self::SMALL {
            let bytes = mem::take(&mut assembly.bytes);
            let loan = mem::replace(&mut assembly.loan, self.budget.loan());
            self.large.push((bytes, loan));
        }
        self.small.push(assembly);
    }

    /// Frees one large buffer, one small buffer and one inflater. A worker calls this in every
    /// sweep, so that the memory of a burst of large messages returns to the allocator.
    pub fn shrink(&mut self) {
        self.inflaters.shrink();
        drop(self.take_large());
        if !self.small.is_empty() {
            drop(self.take());
        }
    }

    fn take_large(&mut self) -> Option<(Vec<u8>, Loan)> {
        let (bytes, loan) = self.large.pop()?;
        self.kept = self.kept.saturating_sub(bytes.capacity());
        Some((bytes, loan))
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
            assembly.append(&piece, u64::MAX, false, pool).unwrap();
        }
        assembly
    }

    #[test]
    fn a_large_buffer_is_lent_to_what_has_outgrown_the_small_ones() {
        let mut pool = AssemblyPool::default();
        let large = message(16 * MIB, &mut pool);
        pool.put(large);
        let begun = message(1, &mut pool);
        assert!(begun.bytes.capacity() <= AssemblyPool::SMALL);
        let grown = message(100_000, &mut pool);
        assert!(grown.bytes.capacity() >= 16 * MIB);
        assert_eq!(grown.payload(), vec![7; 100_000]);
    }

    #[test]
    fn what_fits_a_small_buffer_is_no_large_one() {
        let mut pool = AssemblyPool::default();
        let largest = message(AssemblyPool::SMALL - Assembly::START, &mut pool);
        pool.put(largest);
        assert_eq!((pool.small.len(), pool.large.len()), (1, 0));
        let large = message(MIB, &mut pool);
        pool.put(large);
        assert_eq!(pool.large.len(), 1);
        drop(pool.take());
        let _largest = message(AssemblyPool::SMALL - Assembly::START, &mut pool);
        assert_eq!(pool.large.len(), 1);
    }

    #[test]
    fn a_pool_keeps_so_much_and_no_more() {
        let mut pool = AssemblyPool::default();
        let messages: Vec<_> = (0..10).map(|_| message(16 * MIB, &mut pool)).collect();
        messages.into_iter().for_each(|message| pool.put(message));
        assert!(
            (32 * MIB..=AssemblyPool::MAX_BYTES).contains(&pool.kept),
            "{}",
            pool.kept
        );
        while pool.kept > 0 {
            pool.shrink();
        }
        assert_eq!(pool.budget.lent(), 0);
    }

    #[test]
    fn all_pools_together_keep_to_the_budget() {
        let budget = AssemblyBudget::new(5 * MIB);
        let mut pools = [(); 2].map(|()| AssemblyPool::new(budget.clone()));
        let first = message(MIB, &mut pools[0]);
        let mut second = message(MIB, &mut pools[1]);
        let more = vec![7; 3 * MIB];
        let refused = second.append(&more, u64::MAX, false, &mut pools[1]);
        assert_eq!(refused, Err(ProtocolError::BudgetExceeded));
        drop(first);
        assert_eq!(second.append(&more, 0, false, &mut pools[1]), Ok(()));
        drop(second);
        assert_eq!(budget.lent(), 0);
    }

    #[test]
    fn small_buffers_are_given_back_one_by_one() {
        let mut pool = AssemblyPool::default();
        let messages: Vec<_> = (0..3).map(|_| message(1_000, &mut pool)).collect();
        messages.into_iter().for_each(|message| pool.put(message));
        for left in [3, 2, 1, 0, 0] {
            assert_eq!((pool.small.len(), pool.kept > 0), (left, left > 0));
            pool.shrink();
        }
    }

    #[test]
    fn a_buffer_is_at_most_twice_what_it_holds() {
        for piece in [1, 7, 1_000, 70_000] {
            let mut pool = AssemblyPool::default();
            let mut assembly = pool.take();
            let mut length = 0;
            while length < 300_000 {
                assembly
                    .append(&vec![7; piece], u64::MAX, false, &mut pool)
                    .unwrap();
                length += piece;
                let capacity = assembly.bytes.capacity();
                let most = Assembly::START + length * 2 + 16;
                assert!(capacity <= most, "{capacity} for {length}");
            }
        }
    }
}
