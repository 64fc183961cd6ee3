//! The last bytes of a text, up to the size of a window.

use super::{AssemblyBudget, ProtocolError};
use crate::protocol::budget::Loan;

/// A ring buffer with the last bytes of a text. It grows with the text up to `max` bytes; then new
/// bytes overwrite the oldest bytes. No byte moves within the buffer.
#[derive(Debug)]
pub(in crate::protocol) struct History {
    bytes: Vec<u8>,
    /// Index of the oldest byte.
    start: u16,
    max: u16,
    /// Accounts for the capacity of `bytes`; `None` if the capacity counts towards no budget.
    loan: Option<Loan>,
}

impl History {
    /// The capacity grows in multiples of this number of bytes: otherwise every short message would
    /// reallocate the buffer.
    const GRAIN: usize = 256;

    /// An empty history. Bound: `max` bytes, at most 32 KiB, the largest window.
    pub(super) fn new(max: usize) -> History {
        History {
            bytes: Vec::new(),
            start: 0,
            max: u16::try_from(max).unwrap_or(u16::MAX),
            loan: None,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// The text, the older part first.
    pub(super) fn parts(&self) -> [&[u8]; 2] {
        let (newer, older) = self
            .bytes
            .split_at(usize::from(self.start).min(self.bytes.len()));
        [older, newer]
    }

    /// Takes from `budget` the capacity that the buffer needs in addition for `more` bytes of text.
    ///
    /// # Errors
    /// [`ProtocolError::BudgetExceeded`] if the budget has no room for the growth.
    pub(super) fn lend(
        &mut self,
        more: usize,
        budget: &AssemblyBudget,
    ) -> Result<(), ProtocolError> {
        let growth = self
            .capacity_for(more)
            .saturating_sub(self.bytes.capacity());
        match growth {
            0 => Ok(()),
            _ => self
                .loan
                .get_or_insert_with(|| budget.loan())
                .extend(growth),
        }
    }

    /// Appends to the text.
    pub(super) fn push(&mut self, text: &[u8]) {
        let max = usize::from(self.max);
        let (_, text) = text.split_at(text.len().saturating_sub(max));
        let capacity = self.capacity_for(text.len());
        self.bytes
            .reserve_exact(capacity.saturating_sub(self.bytes.len()));
        let room = max.saturating_sub(self.bytes.len()).min(text.len());
        let (head, tail) = text.split_at(room);
        self.bytes.extend_from_slice(head);
        if tail.is_empty() {
            return;
        }
        // The buffer is full: overwrite the oldest bytes.
        let start = usize::from(self.start);
        let (to_end, from_begin) = tail.split_at(tail.len().min(max.saturating_sub(start)));
        for (at, piece) in [(start, to_end), (0, from_begin)] {
            let end = at.saturating_add(piece.len());
            if let Some(place) = self.bytes.get_mut(at..end) {
                place.copy_from_slice(piece);
            }
        }
        let start = start.saturating_add(tail.len());
        let start = if start >= max {
            start.saturating_sub(max)
        } else {
            start
        };
        self.start = u16::try_from(start).unwrap_or_default();
    }

    /// Drops the text and frees its memory.
    pub(super) fn clear(&mut self) {
        self.bytes = Vec::new();
        self.start = 0;
        self.loan = None;
    }

    fn capacity_for(&self, more: usize) -> usize {
        let needed = self.bytes.len().saturating_add(more);
        let rounded = needed.checked_next_multiple_of(Self::GRAIN);
        rounded.unwrap_or(needed).min(usize::from(self.max))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_the_text_is_kept_however_it_came() {
        for length in [1, 7, 256, 300, 511, 512, 513, 1_024, 3_000] {
            let mut history = History::new(512);
            let mut text = Vec::new();
            for round in 0..40_u8 {
                let more: Vec<u8> = (0..length)
                    .map(|at| round.wrapping_mul(31) ^ u8::try_from(at % 251).unwrap())
                    .collect();
                history.push(&more);
                text.extend(more);
                let last = &text[text.len().saturating_sub(512)..];
                assert_eq!(history.parts().concat(), last, "{length}");
                assert!(history.bytes.capacity() <= 512);
            }
        }
    }

    #[test]
    fn nothing_is_kept_without_context() {
        let mut history = History::new(0);
        history.push(b"text");
        assert_eq!(
            (history.parts().concat().len(), history.bytes.capacity()),
            (0, 0)
        );
    }

    #[test]
    fn it_counts_what_it_grows_by_and_no_more() {
        let budget = AssemblyBudget::new(700);
        let mut history = History::new(32 << 10);
        let mut push = |length: usize| {
            history
                .lend(length, &budget)
                .map(|()| history.push(&vec![7; length]))
        };
        assert_eq!((push(10), budget.lent()), (Ok(()), 256));
        assert_eq!((push(246), budget.lent()), (Ok(()), 256));
        assert_eq!((push(1), budget.lent()), (Ok(()), 512));
        assert_eq!(push(300), Err(ProtocolError::BudgetExceeded));
        drop(history);
        assert_eq!(budget.lent(), 0);
    }
}
