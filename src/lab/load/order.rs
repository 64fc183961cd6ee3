//! Detects lost, repeated and reordered messages of a connection by their numbers.

/// The numbers received so far. The first number is 0.
#[derive(Debug, Default)]
pub(super) struct Order {
    /// One more than the highest received number.
    next: u64,
    /// The numbers below `next` that have not been received, in rising order.
    /// Bound: [`MOST_MISSING`].
    missing: Vec<u64>,
    /// Count of missing numbers that did not fit in `missing`.
    forgotten: u64,
}

/// How a number relates to the numbers received before it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Arrived {
    /// Higher than all earlier numbers.
    New,
    /// Received for the first time, after a higher number.
    Overtaken,
    /// Received before.
    Repeated,
}

/// Bounds the memory of a connection that loses nearly everything.
const MOST_MISSING: usize = 1 << 16;

impl Order {
    /// The next number if nothing is lost.
    #[inline]
    pub(super) fn next(&self) -> u64 {
        self.next
    }

    #[inline]
    pub(super) fn note(&mut self, number: u64) -> Arrived {
        if number == self.next {
            self.next += 1;
            return Arrived::New;
        }
        self.note_out_of_order(number)
    }

    /// Notes that the next `count` numbers were received in order.
    #[inline]
    pub(super) fn advance(&mut self, count: u64) {
        self.next += count;
    }

    #[cold]
    fn note_out_of_order(&mut self, number: u64) -> Arrived {
        if number > self.next {
            let room = (MOST_MISSING - self.missing.len()) as u64;
            let first_kept = number.saturating_sub(room).max(self.next);
            self.forgotten += first_kept - self.next;
            self.missing.extend(first_kept..number);
            self.next = number + 1;
            return Arrived::New;
        }
        match self.missing.binary_search(&number) {
            Ok(place) => {
                self.missing.remove(place);
                Arrived::Overtaken
            }
            Err(_) => Arrived::Repeated,
        }
    }

    /// How many of the first `sent` numbers have not been received.
    pub(super) fn lost(&self, sent: u64) -> u64 {
        self.missing.len() as u64 + self.forgotten + sent.saturating_sub(self.next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn each_fault_has_its_place() {
        let mut order = Order::default();
        for (number, place) in [
            (0, Arrived::New),
            (2, Arrived::New),
            (1, Arrived::Overtaken),
            (1, Arrived::Repeated),
            (2, Arrived::Repeated),
            (5, Arrived::New),
        ] {
            assert_eq!(order.note(number), place, "{number}");
        }
        assert_eq!(order.lost(6), 2); // 3 and 4
        assert_eq!(order.lost(8), 4); // 6 and 7, too
    }

    #[test]
    fn a_jump_is_bounded_in_memory_and_counted_in_full() {
        let mut order = Order::default();
        order.note(1 << 30);
        assert_eq!(order.missing.len(), MOST_MISSING);
        assert_eq!(order.lost((1 << 30) + 1), 1 << 30);
        assert_eq!(order.note((1 << 30) - 1), Arrived::Overtaken);
        assert_eq!(order.lost((1 << 30) + 1), (1 << 30) - 1);
    }

    proptest! {
        /// Compares with a plain set: every number is new, overtaken or repeated, and every number
        /// that was never received is lost.
        #[test]
        fn it_agrees_with_a_set(numbers in proptest::collection::vec(0_u64..64, 0..200)) {
            let mut order = Order::default();
            let mut seen = std::collections::BTreeSet::new();
            for number in numbers {
                let highest = seen.last().copied();
                let place = if seen.contains(&number) {
                    Arrived::Repeated
                } else if highest.is_some_and(|highest| number < highest) {
                    Arrived::Overtaken
                } else {
                    Arrived::New
                };
                seen.insert(number);
                prop_assert_eq!(order.note(number), place);
                prop_assert_eq!(order.lost(64), 64 - seen.len() as u64);
            }
        }
    }
}
