//! The inflaters of a worker: one that all connections share, and some that still hold the window
//! of the last connection that used them.

use std::sync::atomic::{AtomicU64, Ordering};

use super::codec::Inflater;
use super::{AssemblyBudget, InvalidData, ProtocolError, TakeoverContext};
use crate::protocol::budget::Loan;

/// The inflaters that are not in use.
///
/// A message with context takeover needs a copy of its connection's window. The copy, up to 32 KiB,
/// takes as long as inflating 1 KiB. Therefore the inflater of a connection that needed the copy is
/// kept for the connection's next message, until another connection needs the place.
#[derive(Debug)]
pub(in crate::protocol) struct Inflaters {
    /// The inflater for connections without a kept inflater.
    spare: Option<Box<MessageInflater>>,
    /// The kept inflaters, counted in the budget. `None` while the inflater of a place is in use.
    /// Bound: [`Inflaters::MAX_KEPT`].
    kept: Vec<Option<Box<MessageInflater>>>,
    /// Number of messages that needed a place while all places were taken.
    refused: usize,
    /// The number of the next ticket.
    serial: u64,
}

/// An inflater, and its state for one message.
#[derive(Debug)]
pub(in crate::protocol) struct MessageInflater {
    inflater: Inflater,
    /// Accounts for [`Inflater::BYTES`].
    loan: Loan,
    /// The ticket of the connection whose window the inflater holds; `None` if it is not kept.
    ticket: Option<Ticket>,
    /// Whether a large window was copied for this message.
    copied_window: bool,
}

/// Identifies an inflater that holds a connection's window: its place, and a number that is unique
/// in the process.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Ticket {
    place: usize,
    serial: u64,
}

impl Inflaters {
    /// The cost of beginning a message, as a number of inflated bytes.
    pub(in crate::protocol) const BEGINNING: usize = Inflater::BEGINNING;

    /// Maximum number of kept inflaters: 6 MiB in total.
    const MAX_KEPT: usize = 128;

    /// While all places are taken, one message in this many gets a place. If every message got a
    /// place, connections that send in turn and outnumber the places would never find their own
    /// inflaters.
    const PATIENCE: usize = 8;

    /// Returns an inflater for the next message of a connection.
    ///
    /// # Errors
    /// [`ProtocolError::BudgetExceeded`] if the budget has no room for a new inflater.
    pub(in crate::protocol) fn take(
        &mut self,
        context: Option<&TakeoverContext>,
        budget: &AssemblyBudget,
    ) -> Result<Box<MessageInflater>, ProtocolError> {
        let ticket = context.and_then(|context| context.ticket);
        let place = ticket.and_then(|ticket| self.kept.get_mut(ticket.place));
        if let Some(mut own) = place.and_then(|place| place.take_if(|kept| kept.ticket == ticket)) {
            own.inflater.resume();
            return Ok(own);
        }
        let mut shared = match self.spare.take() {
            Some(spare) => spare,
            None => MessageInflater::new(budget)?,
        };
        shared.copied_window = context.is_some_and(TakeoverContext::has_large_window);
        let history = context.map(|context| context.history.parts());
        shared.inflater.begin(history.unwrap_or_default());
        Ok(shared)
    }

    /// Takes back an inflater after its message is complete and stored in `context`.
    pub(in crate::protocol) fn put(
        &mut self,
        mut inflater: Box<MessageInflater>,
        context: Option<&mut TakeoverContext>,
        budget: &AssemblyBudget,
    ) {
        let place = match inflater.ticket.take() {
            _ if !inflater.inflater.is_continuous() || budget.is_scarce() => None,
            Some(ticket) => Some(ticket.place),
            None if inflater.copied_window => self.free_place(),
            None => None,
        };
        if let Some(place) = place
            && let Some(context) = context
            && let Some(kept) = self.kept.get_mut(place)
        {
            let serial = self.serial;
            self.serial = serial.wrapping_add(1);
            inflater.ticket = Some(Ticket { place, serial });
            context.ticket = inflater.ticket;
            if let Some(mut displaced) = kept.replace(inflater) {
                displaced.ticket = None;
                self.spare = Some(displaced);
            }
        } else {
            self.spare = Some(inflater);
        }
    }

    /// Returns a place for one more inflater: a new place, or a taken place for one call in
    /// [`Inflaters::PATIENCE`].
    fn free_place(&mut self) -> Option<usize> {
        let places = self.kept.len();
        if places < Self::MAX_KEPT {
            self.kept.push(None);
            return Some(places);
        }
        self.refused = self.refused.wrapping_add(1);
        if !self.refused.is_multiple_of(Self::PATIENCE) {
            return None;
        }
        (self.refused / Self::PATIENCE).checked_rem(places)
    }

    /// Frees one kept inflater.
    pub(in crate::protocol) fn shrink(&mut self) {
        drop(self.kept.pop());
    }
}

impl Default for Inflaters {
    fn default() -> Inflaters {
        // Several pools may receive from a connection in turn, so each pool has its own numbers.
        static POOLS: AtomicU64 = AtomicU64::new(0);
        Inflaters {
            spare: None,
            kept: Vec::new(),
            refused: 0,
            serial: POOLS.fetch_add(1, Ordering::Relaxed) << 40,
        }
    }
}

impl MessageInflater {
    /// Bytes of the budget that the inflater holds.
    pub(in crate::protocol) fn held(&self) -> usize {
        self.loan.bytes()
    }

    /// See [`Inflater::inflate`].
    pub(in crate::protocol) fn inflate(
        &mut self,
        input: &mut &[u8],
        output: &mut [u8],
    ) -> (usize, Result<(), InvalidData>) {
        self.inflater.inflate(input, output)
    }

    /// See [`Inflater::finish`].
    pub(in crate::protocol) fn finish(&mut self) -> Result<(), InvalidData> {
        self.inflater.finish()
    }

    fn new(budget: &AssemblyBudget) -> Result<Box<MessageInflater>, ProtocolError> {
        let mut loan = budget.loan();
        loan.extend(Inflater::BYTES)?;
        Ok(Box::new(MessageInflater {
            inflater: Inflater::default(),
            loan,
            ticket: None,
            copied_window: false,
        }))
    }
}

#[cfg(test)]
#[cfg(feature = "deflate")]
mod tests {
    use super::*;
    use crate::protocol::DeflateParameters;

    fn context(text: usize) -> TakeoverContext {
        let mut context = TakeoverContext::of_client(&DeflateParameters {
            server_no_context_takeover: true,
            client_no_context_takeover: false,
            server_max_window_bits: 15,
            client_max_window_bits: 15,
        });
        context.remember(&vec![7; text]);
        context
    }

    /// Inflates one message of each client in turn. Returns the number of copied windows.
    fn copies(
        inflaters: &mut Inflaters,
        clients: &mut [TakeoverContext],
        budget: &AssemblyBudget,
    ) -> usize {
        let is_copied = |client: &mut TakeoverContext| {
            let inflater = inflaters.take(Some(client), budget).unwrap();
            let is_copied = inflater.ticket.is_none();
            inflaters.put(inflater, Some(client), budget);
            is_copied
        };
        clients
            .iter_mut()
            .map(is_copied)
            .filter(|copied| *copied)
            .count()
    }

    #[test]
    fn an_inflater_counts_in_the_budget() {
        // An inflater holds zlib's state and a window of 32 KiB.
        let take = |max_bytes| {
            let budget = AssemblyBudget::new(max_bytes);
            Inflaters::default().take(None, &budget).err()
        };
        assert_eq!(take(40 << 10), Some(ProtocolError::BudgetExceeded));
        assert_eq!(take(64 << 10), None);
    }

    #[test]
    fn a_window_is_copied_for_the_first_message_that_needs_it_and_for_no_other() {
        let (mut inflaters, budget) = (Inflaters::default(), AssemblyBudget::default());
        let mut clients: Vec<_> = (0..50).map(|_| context(32 << 10)).collect();
        assert_eq!(copies(&mut inflaters, &mut clients, &budget), 50);
        for _ in 0..10 {
            assert_eq!(copies(&mut inflaters, &mut clients, &budget), 0);
        }
        // A freed inflater costs one copy; then the connection's inflater is kept again.
        inflaters.shrink();
        assert_eq!(copies(&mut inflaters, &mut clients, &budget), 1);
        assert_eq!(copies(&mut inflaters, &mut clients, &budget), 0);
    }

    #[test]
    fn more_clients_than_places_do_not_take_them_from_each_other_all_the_time() {
        let (mut inflaters, budget) = (Inflaters::default(), AssemblyBudget::default());
        let mut clients: Vec<_> = (0..2 * Inflaters::MAX_KEPT)
            .map(|_| context(32 << 10))
            .collect();
        for _ in 0..20 {
            copies(&mut inflaters, &mut clients, &budget);
        }
        let copies = copies(&mut inflaters, &mut clients, &budget);
        let expected = Inflaters::MAX_KEPT..Inflaters::MAX_KEPT * 5 / 4;
        assert!(expected.contains(&copies), "{copies}");
        let kept = budget.lent() / Inflater::BYTES;
        assert_eq!(kept, Inflaters::MAX_KEPT + 1);
    }

    #[test]
    fn inflaters_are_kept_neither_for_small_windows_nor_where_the_budget_is_scarce() {
        for (text, max_bytes) in [(4 << 10, usize::MAX), (32 << 10, Inflater::BYTES)] {
            let (mut inflaters, budget) = (Inflaters::default(), AssemblyBudget::new(max_bytes));
            let mut clients = [context(text), context(text)];
            for _ in 0..3 {
                assert_eq!(copies(&mut inflaters, &mut clients, &budget), 2);
            }
            assert_eq!(budget.lent(), Inflater::BYTES);
        }
    }
}
