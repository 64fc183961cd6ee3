//! Builds a session from others, by a seed.

use std::ops::Range;

use fastrand::Rng;

use crate::session::{End, Session, Step};

/// The most bytes of a session.
const MAX_BYTES: usize = 64 << 10;
/// The most steps of a session.
const MAX_STEPS: usize = 40;

/// The mutation of the recorded sessions for this seed, always the same.
pub(crate) fn mutated(recordings: &[Session], seed: u64) -> Session {
    let mut random = Rng::with_seed(seed);
    let mut session = chosen(&mut random, recordings).clone();
    for _ in 0..random.usize(0..=6) {
        let before = session.clone();
        match random.u8(0..4) {
            0 => mutate_steps(&mut session, recordings, &mut random),
            _ => mutate_bytes(&mut session, recordings, &mut random),
        }
        if session.len() > MAX_BYTES || session.steps.len() > MAX_STEPS {
            session = before;
        }
    }
    session.end = match random.u8(0..10) {
        0 => End::Reset,
        1 | 2 => End::Leave,
        _ => End::Finish,
    };
    session
}

fn mutate_steps(session: &mut Session, recordings: &[Session], random: &mut Rng) {
    let steps = &mut session.steps;
    // The first step connects.
    if steps.len() < 2 {
        return;
    }
    let at = random.usize(1..steps.len());
    match random.u8(0..8) {
        0 => drop(steps.remove(at)),
        1 => steps.insert(at, steps[at].clone()),
        2 => {
            let other = random.usize(1..steps.len());
            steps.swap(at, other);
        }
        3 => steps.insert(at, Step::Await),
        4 => steps.truncate(at),
        5 => {
            if let Step::Send(bytes) = &mut steps[at]
                && !bytes.is_empty()
            {
                let rest = bytes.split_off(random.usize(..bytes.len()));
                steps.insert(at + 1, Step::Send(rest));
            }
        }
        6 => {
            // Steps no longer wait for answers before the next one.
            steps.retain(|step| *step != Step::Await);
        }
        _ => {
            let other = &chosen(random, recordings).steps;
            let from = random.usize(..other.len());
            steps.truncate(at);
            steps.extend_from_slice(&other[from..]);
        }
    }
}

fn mutate_bytes(session: &mut Session, recordings: &[Session], random: &mut Rng) {
    let Some(bytes) = some_bytes(session, random) else {
        return;
    };
    let range = some_range(bytes.len(), random);
    match random.u8(0..10) {
        0 => bytes[range.start] ^= 1 << random.u8(0..8),
        1 => bytes[range.start] = random.u8(..),
        2 => bytes[range.start] = *chosen(random, &INTERESTING),
        3 => drop(bytes.drain(range)),
        4 => {
            let copy = bytes[range.clone()].to_vec();
            bytes.splice(range.end..range.end, copy);
        }
        5 => {
            let copies = bytes[range.clone()].repeat(random.usize(2..64));
            bytes.splice(range, copies);
        }
        6 => {
            let inserted: Vec<u8> = (0..random.usize(1..9)).map(|_| random.u8(..)).collect();
            bytes.splice(range.start..range.start, inserted);
        }
        7 => {
            let number = chosen(random, &NUMBERS).to_be_bytes();
            let number = &number[8 - *chosen(random, &[1, 2, 4, 8])..];
            let end = bytes.len().min(range.start + number.len());
            bytes.splice(range.start..end, number.iter().copied());
        }
        8 => bytes.truncate(range.end),
        _ => {
            let mut other = chosen(random, recordings).clone();
            if let Some(other) = some_bytes(&mut other, random) {
                let piece = other[some_range(other.len(), random)].to_vec();
                bytes.splice(range, piece);
            }
        }
    }
}

/// First bytes of frames, lengths, masks, and line ends of HTTP.
const INTERESTING: [u8; 20] = [
    0x00, 0x01, 0x02, 0x08, 0x80, 0x81, 0x82, 0x83, 0x88, 0x89, 0x8A, 0xC1, 0xFE, 0xFF, 0x7F,
    b'\r', b'\n', b' ', b':', b'\t',
];

const NUMBERS: [u64; 12] = [
    0,
    1,
    125,
    126,
    127,
    0x7FFF,
    0xFFFF,
    0x1_0000,
    0x0100_0001,
    0x7FFF_FFFF,
    1 << 63,
    u64::MAX,
];

/// The bytes of a random step that has any.
fn some_bytes<'s>(session: &'s mut Session, random: &mut Rng) -> Option<&'s mut Vec<u8>> {
    let mut sends: Vec<_> = session
        .steps
        .iter_mut()
        .filter_map(|step| match step {
            Step::Send(bytes) if !bytes.is_empty() => Some(bytes),
            _ => None,
        })
        .collect();
    match sends.len() {
        0 => None,
        count => Some(sends.swap_remove(random.usize(..count))),
    }
}

/// A range that is not empty, mostly a short one.
fn some_range(length: usize, random: &mut Rng) -> Range<usize> {
    let start = random.usize(..length);
    let longest = match random.bool() {
        true => 16,
        false => length,
    };
    let most = (length - start).min(longest);
    start..start + random.usize(1..=most)
}

fn chosen<'a, T>(random: &mut Rng, all: &'a [T]) -> &'a T {
    &all[random.usize(..all.len())]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_always_gives_the_same_session_and_seeds_differ() {
        let recordings = [Session {
            steps: vec![Step::Connect, Step::Send(b"GET / HTTP/1.1".to_vec())],
            end: End::Finish,
        }];
        let of = |seed| mutated(&recordings, seed).to_string();
        let sessions: std::collections::BTreeSet<_> = (0..1_000).map(of).collect();
        assert!(sessions.len() > 500, "{}", sessions.len());
        assert!(
            (0..1_000)
                .map(of)
                .all(|session| sessions.contains(&session))
        );
    }
}
