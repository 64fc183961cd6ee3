//! The published messages of a broadcast and how many members have received each of them. All
//! threads share this state.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

use super::numbering::SEQUENCE;

/// The publishers, one entry each.
#[derive(Debug)]
pub(super) struct Publications(Vec<Publisher>);

#[derive(Debug)]
pub(super) struct Publisher {
    /// Number of messages published.
    sent: AtomicU64,
    /// Number of messages that all members have received or that have expired.
    complete: AtomicU64,
    /// The last [`KEPT`] messages, indexed by number modulo [`KEPT`].
    kept: Vec<SentPublication>,
    /// The run has only one thread, so an atomic subtraction is not needed.
    is_alone: bool,
}

#[derive(Debug)]
struct SentPublication {
    number: AtomicU64,
    /// Number of members that have not received the message.
    left: AtomicU64,
    due: AtomicU64,
    at: AtomicU64,
}

/// A publication that a member has received.
#[derive(Clone, Copy, Debug)]
pub(super) struct Delivered {
    pub(super) due: u64,
    pub(super) at: u64,
    /// All other members had received it before.
    pub(super) is_last: bool,
}

/// Number of messages per publisher whose times are kept.
const KEPT: u64 = 1 << 12;
const NONE: u64 = u64::MAX;

impl Publications {
    pub(super) fn of(publishers: usize, threads: usize) -> Publications {
        let publication = |_| SentPublication {
            number: AtomicU64::new(NONE),
            left: AtomicU64::new(0),
            due: AtomicU64::new(0),
            at: AtomicU64::new(0),
        };
        let publisher = |_| Publisher {
            sent: AtomicU64::new(0),
            complete: AtomicU64::new(0),
            kept: (0..KEPT).map(publication).collect(),
            is_alone: threads == 1,
        };
        Publications((0..publishers).map(publisher).collect())
    }

    #[inline]
    pub(super) fn publisher(&self, number: usize) -> Option<&Publisher> {
        self.0.get(number)
    }

    pub(super) fn all(&self) -> &[Publisher] {
        &self.0
    }

    /// Whether all members have received all messages, or the missing ones have expired.
    pub(super) fn is_quiet(&self) -> bool {
        self.0.iter().all(Publisher::is_quiet)
    }

    /// The index of the publisher, the publisher, and the message number within that publisher;
    /// `None` if the message was never sent.
    #[inline]
    pub(super) fn find(&self, number: u64) -> Option<(usize, &Publisher, u64)> {
        let place = (number >> 40) as usize;
        let publisher = self.0.get(place)?;
        let number = number & SEQUENCE;
        (number < publisher.sent.load(Acquire)).then_some((place, publisher, number))
    }
}

impl Publisher {
    pub(super) fn sent(&self) -> u64 {
        self.sent.load(Acquire)
    }

    pub(super) fn is_quiet(&self) -> bool {
        self.complete.load(Acquire) >= self.sent.load(Acquire)
    }

    /// Registers `count` messages, each for `members` members. Must be called before they are
    /// written.
    pub(super) fn publish(&self, count: u64, members: u64, due: u64, now: u64) {
        let first = self.sent.load(Relaxed);
        for number in first..first + count {
            let kept = &self.kept[(number % KEPT) as usize];
            kept.number.store(NONE, Release);
            kept.left.store(members, Relaxed);
            kept.due.store(due, Relaxed);
            kept.at.store(now, Relaxed);
            kept.number.store(number, Release);
        }
        self.sent.store(first + count, Release);
    }

    /// Notes that a member has received a message; `None` if the message has expired.
    #[inline]
    pub(super) fn deliver(&self, number: u64) -> Option<Delivered> {
        let kept = &self.kept[(number % KEPT) as usize];
        if kept.number.load(Acquire) != number {
            return None;
        }
        let left = match self.is_alone {
            true => {
                let left = kept.left.load(Relaxed);
                kept.left.store(left.wrapping_sub(1), Relaxed);
                left
            }
            false => kept.left.fetch_sub(1, AcqRel),
        };
        let is_last = left == 1;
        if is_last {
            self.complete.fetch_add(1, AcqRel);
        }
        Some(Delivered {
            due: kept.due.load(Relaxed),
            at: kept.at.load(Relaxed),
            is_last,
        })
    }

    /// Expires the messages published before `since` that some member has not received. Returns the
    /// number of missing deliveries. Only the publisher's own thread may call this.
    pub(super) fn expire(&self, since: u64) -> u64 {
        let sent = self.sent.load(Relaxed);
        let mut missing = 0;
        for number in sent.saturating_sub(KEPT)..sent {
            let kept = &self.kept[(number % KEPT) as usize];
            let left = kept.left.load(Acquire);
            if left > 0 && kept.number.load(Acquire) == number && kept.at.load(Relaxed) < since {
                kept.number.store(NONE, Release);
                self.complete.fetch_add(1, AcqRel);
                missing += left;
            }
        }
        missing
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_complete_when_the_last_member_has_it() {
        let publications = Publications::of(2, 1);
        assert!(publications.find(1 << 40).is_none());
        let publisher = publications.publisher(1).unwrap();
        publisher.publish(2, 3, 10, 11);
        assert!(publications.find(1 << 40 | 2).is_none());
        let (place, found, number) = publications.find(1 << 40 | 1).unwrap();
        assert_eq!((place, number), (1, 1));
        for is_last in [false, false, true] {
            let delivered = found.deliver(number).unwrap();
            assert_eq!(
                (delivered.due, delivered.at, delivered.is_last),
                (10, 11, is_last)
            );
        }
        assert!(!publications.is_quiet());
        assert_eq!(publisher.expire(11), 0);
        assert_eq!(publisher.expire(12), 3);
        assert!(publisher.deliver(0).is_none());
        assert!(publications.is_quiet());
    }
}
