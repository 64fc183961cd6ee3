//! Measures servers in turn: A B C A B C.

use std::{fmt::Debug, io};

use super::report::Report;

/// Measures every entrant once a round, in the order given.
///
/// If an entrant fails, its error is reported and it is left out of later rounds.
pub(crate) fn take_turns<E: Copy + Debug, R>(
    entrants: impl IntoIterator<Item = E>,
    rounds: usize,
    report: &mut Report,
    measure: impl Fn(E, usize) -> io::Result<R>,
) -> Vec<(E, Vec<R>)> {
    let mut taking_part: Vec<_> = entrants
        .into_iter()
        .map(|entrant| (entrant, Vec::new()))
        .collect();
    for round in 0..rounds {
        taking_part.retain_mut(|(entrant, measured)| match measure(*entrant, round) {
            Ok(figures) => {
                measured.push(figures);
                true
            }
            Err(error) => {
                report.fail(format!("{entrant:?}: {error}"));
                false
            }
        });
    }
    taking_part
}
