//! Shows the progress of a run, and handles the signals that end it.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use crate::lab::load::{Interrupt, LoadProgress};

/// Prints a progress line on standard error: every second in a terminal, otherwise every ten
/// seconds.
pub(super) struct ProgressLine {
    begin: Instant,
    shown: Instant,
    received: u64,
    is_terminal: bool,
}

impl ProgressLine {
    pub(super) fn new() -> ProgressLine {
        let now = Instant::now();
        ProgressLine {
            begin: now,
            shown: now,
            received: 0,
            is_terminal: io::stderr().is_terminal(),
        }
    }

    pub(super) fn show(&mut self, progress: LoadProgress) {
        let Some(line) = self.line(Instant::now(), progress) else {
            return;
        };
        // A closed standard error does not end the run.
        let _ = match self.is_terminal {
            true => write!(io::stderr(), "\r\x1b[K{line}"),
            false => writeln!(io::stderr(), "{line}"),
        };
    }

    /// The progress line to print at `now`; `None` if the interval is not over.
    fn line(&mut self, now: Instant, progress: LoadProgress) -> Option<String> {
        let interval = Duration::from_secs(if self.is_terminal { 1 } else { 10 });
        let since = now - self.shown;
        if since < interval {
            return None;
        }
        self.shown = now;
        // The loads of a sweep, and the rounds of a comparison, begin at zero again.
        let received = progress.received.checked_sub(self.received);
        let rate = received.unwrap_or(progress.received) as f64 / since.as_secs_f64();
        self.received = progress.received;
        Some(format!(
            "{:4.0} s  {} connections  {} received  {rate:.0}/s  {} errors",
            (now - self.begin).as_secs_f64(),
            progress.opened,
            progress.received,
            progress.errors
        ))
    }

    pub(super) fn clear(&self) {
        if self.is_terminal {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}

/// Interrupts the run on SIGINT and SIGTERM.
pub(super) fn interrupt_on_signal(interrupt: Interrupt) {
    use tokio::signal::unix::{SignalKind, signal};
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .build();
        let Ok(runtime) = runtime else { return };
        runtime.block_on(async {
            let (Ok(mut one), Ok(mut other)) = (
                signal(SignalKind::interrupt()),
                signal(SignalKind::terminate()),
            ) else {
                return;
            };
            loop {
                tokio::select! {
                    _ = one.recv() => {}
                    _ = other.recv() => {}
                }
                interrupt.interrupt();
            }
        });
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The lines of a run of 30 s with 200 progress updates per second and 10 messages between two
    /// updates.
    fn lines(is_terminal: bool) -> Vec<String> {
        let mut line = ProgressLine::new();
        line.is_terminal = is_terminal;
        let mut progress = LoadProgress::default();
        let looks = (1..=6_000).filter_map(|look| {
            progress.received += 10;
            line.line(line.begin + Duration::from_millis(5) * look, progress)
        });
        looks.collect()
    }

    #[test]
    fn a_terminal_has_a_line_each_second_and_a_file_one_each_ten() {
        let seconds = lines(true);
        assert_eq!(seconds.len(), 30);
        assert_eq!(
            seconds[1],
            "   2 s  0 connections  4000 received  2000/s  0 errors"
        );
        let tens = lines(false);
        assert_eq!(tens.len(), 3);
        assert_eq!(
            tens[2],
            "  30 s  0 connections  60000 received  2000/s  0 errors"
        );
    }

    #[test]
    fn the_rate_begins_anew_with_the_next_load_of_a_sweep() {
        let mut line = ProgressLine::new();
        line.is_terminal = true;
        let mut at = |seconds, received| {
            let progress = LoadProgress {
                received,
                ..LoadProgress::default()
            };
            line.line(line.begin + Duration::from_secs(seconds), progress)
        };
        assert!(at(1, 5_000).unwrap().contains("  5000/s  "));
        assert!(at(2, 3_000).unwrap().contains("  3000/s  "));
        assert!(at(3, 7_000).unwrap().contains("  4000/s  "));
    }
}
