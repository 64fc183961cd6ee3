//! Tests of the test tools: the message checker and the figures of the report.

use crate::checker::{HEAD, Log, Tally, is_text, payload};
use crate::report::{Kind, line};

/// The log of a subscriber that receives these messages, each changed by `harm`.
fn log(due: u64, messages: &[(u32, u64)], harm: impl Fn(usize, &mut Vec<u8>)) -> Log {
    let mut log = Log::joining([(1, due), (2, due)]);
    for (index, (publisher, sequence)) in messages.iter().enumerate() {
        let mut payload = payload(*publisher, *sequence, 100);
        harm(index, &mut payload);
        log.record(is_text(*sequence), &payload);
    }
    log
}

fn verdict(due: u64, messages: &[(u32, u64)], sent: [u64; 2]) -> [u64; 4] {
    let tally = log(due, messages, |_, _| {}).stayed([(1, sent[0]), (2, sent[1])]);
    assert_eq!(tally.received, messages.len() as u64);
    let Tally {
        lost,
        duplicated,
        reordered,
        corrupted,
        ..
    } = tally;
    [lost, duplicated, reordered, corrupted]
}

#[test]
fn each_kind_of_fault_is_counted_separately() {
    type Case = (&'static str, u64, &'static [(u32, u64)], [u64; 2], [u64; 4]);
    let cases: [Case; 12] = [
        ("clean", 0, &[(1, 0), (2, 0), (1, 1)], [2, 1], [0, 0, 0, 0]),
        ("first lost", 0, &[(1, 1), (2, 0)], [2, 1], [1, 0, 0, 0]),
        ("middle lost", 0, &[(1, 0), (1, 3)], [4, 0], [2, 0, 0, 0]),
        ("last lost", 0, &[(1, 0), (2, 0)], [3, 1], [2, 0, 0, 0]),
        ("all lost", 0, &[(1, 0)], [1, 5], [5, 0, 0, 0]),
        ("duplicate", 0, &[(1, 0), (1, 0)], [1, 0], [0, 1, 0, 0]),
        (
            "late duplicate",
            0,
            &[(1, 0), (1, 1), (1, 0)],
            [2, 0],
            [0, 1, 0, 0],
        ),
        ("reordered", 0, &[(1, 1), (1, 0)], [2, 0], [0, 0, 1, 0]),
        (
            "late by two",
            0,
            &[(1, 0), (1, 2), (1, 3), (1, 1)],
            [4, 0],
            [0, 0, 1, 0],
        ),
        (
            "joined at 5",
            5,
            &[(1, 5), (1, 6), (2, 5)],
            [7, 6],
            [0, 0, 0, 0],
        ),
        (
            "one before",
            5,
            &[(1, 4), (1, 5), (2, 5)],
            [6, 6],
            [0, 0, 0, 0],
        ),
        ("late join lost", 5, &[(1, 6), (2, 5)], [7, 6], [1, 0, 0, 0]),
    ];
    for (name, due, messages, sent, expected) in cases {
        assert_eq!(verdict(due, messages, sent), expected, "{name}");
    }
}

#[test]
fn a_subscriber_that_left_may_miss_later_messages_but_has_no_gap() {
    let messages = [(1, 7), (1, 8), (1, 10)];
    assert_eq!(log(7, &messages[..2], |_, _| {}).left().lost, 0);
    assert_eq!(log(7, &messages, |_, _| {}).left().lost, 1);
}

#[test]
fn every_flipped_bit_counts_as_corruption() {
    for byte in 0..payload(1, 0, 100).len() {
        for bit in 0..8 {
            let harm = |_: usize, payload: &mut Vec<u8>| payload[byte] ^= 1 << bit;
            let tally = log(0, &[(1, 0)], harm).left();
            // The other case of a hexadecimal digit has the same value.
            let is_case = byte < HEAD && payload(1, 0, 100)[byte].is_ascii_lowercase();
            let expected = u64::from(!(is_case && bit == 5));
            assert_eq!(tally.corrupted, expected, "byte {byte} bit {bit}");
        }
    }
}

#[test]
fn truncated_merged_and_retyped_messages_count_as_corrupted() {
    let cut = |_: usize, payload: &mut Vec<u8>| payload.truncate(60);
    let glued = |_: usize, payload: &mut Vec<u8>| payload.push(b'x');
    assert_eq!(log(0, &[(1, 0)], cut).left().corrupted, 1);
    assert_eq!(log(0, &[(1, 0)], glued).left().corrupted, 1);
    let mut log = Log::joining([(1, 0)]);
    log.record(true, &payload(1, 0, 100));
    assert_eq!(log.left().corrupted, 1);
    log.record(false, &payload(2, 0, 100));
    assert_eq!(log.left().corrupted, 2, "of a publisher of another room");
}

#[test]
fn a_different_order_in_two_logs_is_detected() {
    let one = log(0, &[(1, 0), (2, 0), (1, 1), (2, 1)], |_, _| {});
    let late = log(0, &[(1, 1), (2, 1)], |_, _| {});
    let other = log(0, &[(2, 0), (1, 0), (1, 1), (2, 1)], |_, _| {});
    assert_eq!(one.disordered(&one), 0);
    assert_eq!(one.disordered(&late), 0);
    assert_eq!(one.disordered(&other), 1);
}

#[test]
#[should_panic(expected = "lost 1")]
fn a_lost_message_fails_the_check() {
    log(0, &[(1, 0), (1, 2)], |_, _| {}).left().assert_clean();
}

#[test]
fn a_figure_is_one_line_of_four_cells() {
    assert_eq!(
        line(Kind::Attack, 7, &"a|b", &"< 1\n s", &0.5),
        "reliability: attack 7 | a/b | < 1/ s | 0.5"
    );
}
