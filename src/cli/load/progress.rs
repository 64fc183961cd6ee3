//! How far a run is, and signals that end it.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use crate::lab::load::{Interrupt, LoadProgress};

/// What goes on, on standard error: a line a second in a terminal, one each ten seconds elsewhere.
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
        let interval = Duration::from_secs(if self.is_terminal { 1 } else { 10 });
        let since = self.shown.elapsed();
        if since < interval {
            return;
        }
        self.shown += since;
        let rate = (progress.received - self.received) as f64 / since.as_secs_f64();
        self.received = progress.received;
        let line = format!(
            "{:4.0} s  {} connections  {} received  {rate:.0}/s  {} errors",
            self.begin.elapsed().as_secs_f64(),
            progress.opened,
            progress.received,
            progress.errors
        );
        // Nobody may be there to see it.
        let _ = match self.is_terminal {
            true => write!(io::stderr(), "\r\x1b[K{line}"),
            false => writeln!(io::stderr(), "{line}"),
        };
    }

    pub(super) fn clear(&self) {
        if self.is_terminal {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}

/// SIGINT and SIGTERM end a run early.
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
