//! Proof that no message is lost: publishers number and sign their messages, subscribers log what
//! they receive, and the logs are checked for loss, duplicates, reordering and corruption.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::iter::Sum;
use std::ops::Add;

/// The length of a message before its filler: publisher, sequence and checksum, in hexadecimal.
pub(crate) const HEAD: usize = 8 + 16 + 16;

/// A numbered, signed message of about `size` bytes. Every second one is text.
pub(crate) fn payload(publisher: u32, sequence: u64, size: usize) -> Vec<u8> {
    const TEXT: [char; 8] = ['a', 'Z', '7', ' ', 'é', 'κ', '水', '🦀'];
    let mut random = fastrand::Rng::with_seed(sequence << 16 ^ u64::from(publisher));
    let mut filler = Vec::with_capacity(size.saturating_sub(HEAD) + 4);
    while filler.len() + HEAD < size {
        if is_text(sequence) {
            let character = TEXT[random.usize(..TEXT.len())];
            filler.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
        } else {
            filler.extend_from_slice(&random.u64(..).to_le_bytes());
        }
    }
    let checksum = checksum(publisher, sequence, &filler);
    let mut payload = format!("{publisher:08x}{sequence:016x}{checksum:016x}").into_bytes();
    payload.append(&mut filler);
    payload
}

/// Whether a message is sent as text.
pub(crate) fn is_text(sequence: u64) -> bool {
    sequence % 2 == 1
}

/// The publisher and sequence of a message, if it is intact and of the right type.
pub(crate) fn parse(text: bool, payload: &[u8]) -> Option<(u32, u64)> {
    let (head, filler) = payload.split_at_checked(HEAD)?;
    let head = std::str::from_utf8(head).ok()?;
    let number = |range: std::ops::Range<usize>| u64::from_str_radix(head.get(range)?, 16).ok();
    let publisher = u32::try_from(number(0..8)?).ok()?;
    let sequence = number(8..24)?;
    let whole = number(24..40)? == checksum(publisher, sequence, filler);
    (whole && text == is_text(sequence)).then_some((publisher, sequence))
}

/// FNV-1a.
fn checksum(publisher: u32, sequence: u64, filler: &[u8]) -> u64 {
    let numbers = [u64::from(publisher).to_le_bytes(), sequence.to_le_bytes()].concat();
    numbers
        .iter()
        .chain(filler)
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
        })
}

/// The counts of a check. It passes only if all from `lost` on are zero.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Tally {
    pub(crate) sent: u64,
    pub(crate) received: u64,
    pub(crate) lost: u64,
    pub(crate) duplicated: u64,
    pub(crate) reordered: u64,
    pub(crate) corrupted: u64,
}

impl Tally {
    #[track_caller]
    pub(crate) fn assert_clean(&self) {
        let faults = self.lost + self.duplicated + self.reordered + self.corrupted;
        assert_eq!(faults, 0, "{self}");
        assert!(self.sent > 0 && self.received > 0, "nothing ran: {self}");
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Tally {
            sent,
            received,
            lost,
            duplicated,
            reordered,
            corrupted,
        } = self;
        write!(
            formatter,
            "sent {sent}, received {received}, lost {lost}, duplicated {duplicated}, \
             reordered {reordered}, corrupted {corrupted}"
        )
    }
}

impl Add for Tally {
    type Output = Tally;

    fn add(self, other: Tally) -> Tally {
        Tally {
            sent: self.sent + other.sent,
            received: self.received + other.received,
            lost: self.lost + other.lost,
            duplicated: self.duplicated + other.duplicated,
            reordered: self.reordered + other.reordered,
            corrupted: self.corrupted + other.corrupted,
        }
    }
}

impl Sum for Tally {
    fn sum<I: Iterator<Item = Tally>>(tallies: I) -> Tally {
        tallies.fold(Tally::default(), Add::add)
    }
}

/// The messages that one subscriber received, from its join to its leave.
#[derive(Debug, Default)]
pub(crate) struct Log {
    runs: BTreeMap<u32, Run>,
    /// The messages of all publishers, in the order of arrival.
    order: Vec<(u32, u64)>,
    tally: Tally,
}

/// The messages of one publisher.
#[derive(Debug)]
struct Run {
    /// The latest first message that is acceptable.
    due: u64,
    next: Option<u64>,
    missing: BTreeSet<u64>,
}

impl Log {
    /// The log of a subscriber that joins after these publishers have begun this many messages. All
    /// later messages must arrive.
    pub(crate) fn joining(begun: impl IntoIterator<Item = (u32, u64)>) -> Log {
        let runs = begun.into_iter().map(|(publisher, due)| {
            let run = Run {
                due,
                next: None,
                missing: BTreeSet::new(),
            };
            (publisher, run)
        });
        Log {
            runs: runs.collect(),
            ..Log::default()
        }
    }

    pub(crate) fn record(&mut self, text: bool, payload: &[u8]) {
        self.tally.received += 1;
        let parsed = parse(text, payload);
        let Some((publisher, sequence)) =
            parsed.filter(|(publisher, _)| self.runs.contains_key(publisher))
        else {
            self.tally.corrupted += 1;
            return;
        };
        self.order.push((publisher, sequence));
        let Some(run) = self.runs.get_mut(&publisher) else {
            return;
        };
        let next = run.next.unwrap_or_else(|| run.due.min(sequence));
        if sequence >= next {
            run.missing.extend(next..sequence);
            run.next = Some(sequence + 1);
        } else if run.missing.remove(&sequence) {
            self.tally.reordered += 1;
        } else {
            self.tally.duplicated += 1;
        }
    }

    /// Whether this message of this publisher has arrived.
    pub(crate) fn has(&self, publisher: u32, sequence: u64) -> bool {
        self.order.contains(&(publisher, sequence))
    }

    /// Whether all messages that these publishers have sent have arrived.
    pub(crate) fn has_all(&self, sent: impl IntoIterator<Item = (u32, u64)>) -> bool {
        sent.into_iter().all(|(publisher, sent)| {
            self.runs
                .get(&publisher)
                .is_some_and(|run| run.missing.is_empty() && run.next.unwrap_or(run.due) >= sent)
        })
    }

    /// The result for a subscriber that stayed until these publishers had sent this many messages.
    pub(crate) fn stayed(&self, sent: impl IntoIterator<Item = (u32, u64)>) -> Tally {
        let tail: u64 = sent
            .into_iter()
            .map(|(publisher, sent)| {
                let run = self.runs.get(&publisher);
                sent.saturating_sub(run.map_or(0, |run| run.next.unwrap_or(run.due)))
            })
            .sum();
        let mut tally = self.left();
        tally.lost += tail;
        tally
    }

    /// The result for a subscriber that left or was closed: no further message was due.
    pub(crate) fn left(&self) -> Tally {
        let missing: usize = self.runs.values().map(|run| run.missing.len()).sum();
        Tally {
            lost: missing as u64,
            ..self.tally
        }
    }

    /// The number of messages whose order differs between two logs: all members of a room must see
    /// the same order.
    pub(crate) fn disordered(&self, other: &Log) -> u64 {
        let places: HashMap<_, usize> = self.order.iter().copied().zip(0..).collect();
        let common = other.order.iter().filter_map(|message| places.get(message));
        let mut last = 0;
        let mut disordered = 0;
        for place in common {
            disordered += u64::from(*place < last);
            last = last.max(*place);
        }
        disordered
    }
}
