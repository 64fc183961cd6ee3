//! The limit on the memory for all received data.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::ProtocolError;

/// The maximum number of bytes that a server holds for received data: unfinished messages, buffers
/// kept for later messages, and the windows of clients that compress with context takeover. Clones
/// share one budget.
#[derive(Clone, Debug)]
pub struct AssemblyBudget {
    max_bytes: usize,
    bytes: Arc<AtomicUsize>,
}

impl AssemblyBudget {
    /// A budget of `max_bytes`.
    pub fn new(max_bytes: usize) -> AssemblyBudget {
        AssemblyBudget {
            max_bytes,
            bytes: Arc::default(),
        }
    }

    /// Whether more than half of the budget is in use. New connections then decline compression, to
    /// leave the rest for messages.
    pub fn is_scarce(&self) -> bool {
        self.bytes.load(Ordering::Relaxed) > self.max_bytes / 2
    }

    /// Whether `bytes` exceeds a sixteenth of the budget, the maximum that one connection may hold
    /// for long.
    pub fn is_much(&self, bytes: usize) -> bool {
        bytes > self.max_bytes / 16
    }

    /// Bytes in use.
    pub(crate) fn lent(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// An empty loan; [`Loan::extend`] adds bytes.
    pub(crate) fn loan(&self) -> Loan {
        Loan {
            bytes: 0,
            budget: self.clone(),
        }
    }
}

impl Default for AssemblyBudget {
    /// A budget without a limit.
    fn default() -> AssemblyBudget {
        AssemblyBudget::new(usize::MAX)
    }
}

/// Bytes taken from a budget. Dropping the loan returns the bytes.
#[derive(Debug)]
pub(crate) struct Loan {
    bytes: usize,
    budget: AssemblyBudget,
}

impl Loan {
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Takes `more` bytes from the budget.
    ///
    /// # Errors
    /// [`ProtocolError::BudgetExceeded`] if the budget has fewer than `more` bytes left.
    pub(crate) fn extend(&mut self, more: usize) -> Result<(), ProtocolError> {
        let AssemblyBudget { max_bytes, bytes } = &self.budget;
        let extended = |bytes: usize| bytes.checked_add(more).filter(|sum| sum <= max_bytes);
        bytes
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, extended)
            .map_err(|_| ProtocolError::BudgetExceeded)?; // §10.4
        self.bytes = self.bytes.saturating_add(more);
        Ok(())
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        let AssemblyBudget { bytes, .. } = &self.budget;
        bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_budget_is_what_may_be_taken_and_scarce_beyond_half_of_it() {
        let budget = AssemblyBudget::new(10);
        let mut loan = budget.loan();
        assert_eq!(loan.extend(5), Ok(()));
        assert!(!budget.is_scarce());
        assert_eq!(loan.extend(5), Ok(()));
        assert!(budget.is_scarce());
        assert_eq!(loan.extend(1), Err(ProtocolError::BudgetExceeded));
        drop(loan);
        assert_eq!(budget.loan().extend(11), Err(ProtocolError::BudgetExceeded));
        assert_eq!(budget.lent(), 0);
    }
}
