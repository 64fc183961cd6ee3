//! Log lines on standard error, which nobody who logs ever waits for.

use std::io::{self, IsTerminal, Write};
use std::iter;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::Duration;

use tracing::level_filters::LevelFilter;

use super::arguments::{LogArguments, LogFormat, LogLevel};
use crate::log;

/// Starts logging: coloured on a terminal unless `NO_COLOR` is set, JSON on request. What is logged
/// last is written when what is returned is dropped.
///
/// A deterministic log has no times, and each line is written before anything else is done.
pub(super) fn start(arguments: &LogArguments, deterministic: bool) -> Logs {
    let level = match arguments.log_level {
        LogLevel::Off => LevelFilter::OFF,
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    let colour = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let lines = Arc::new(match deterministic {
        true => Lines::at_once(),
        false => Lines::start(),
    });
    let builder = tracing_subscriber::fmt()
        .with_max_level(level)
        .with_ansi(colour)
        .with_target(false)
        .with_writer(Arc::clone(&lines));
    if deterministic {
        log::make_deterministic();
    }
    match (arguments.log_format, deterministic) {
        (LogFormat::Text, false) => builder.init(),
        (LogFormat::Text, true) => builder.without_time().init(),
        (LogFormat::Json, false) => builder.json().flatten_event(true).init(),
        (LogFormat::Json, true) => builder.json().flatten_event(true).without_time().init(),
    }
    Logs(lines)
}

/// The running log.
pub(super) struct Logs(Arc<Lines>);

impl Drop for Logs {
    fn drop(&mut self) {
        const PATIENCE: Duration = Duration::from_secs(1);
        let (written, all_written) = mpsc::channel();
        let asked = self.0.queue.as_ref();
        if asked.is_some_and(|queue| queue.send(Entry::Flush(written)).is_ok()) {
            // Whoever reads the log may have stopped to.
            let _ = all_written.recv_timeout(PATIENCE);
        }
    }
}

/// Lines on their way to a thread of their own: a reader of the log that stops, or a slow disk,
/// must not stop the server. What does not fit is left out and counted.
struct Lines {
    /// `None` writes at once.
    queue: Option<Sender<Entry>>,
    waiting: Arc<Waiting>,
}

#[derive(Default)]
struct Waiting {
    octets: AtomicUsize,
    left_out: AtomicU64,
}

enum Entry {
    Line(Box<[u8]>),
    Flush(Sender<()>),
}

impl Lines {
    const MAX_OCTETS: usize = 1 << 20;

    fn start() -> Lines {
        let (queue, entries) = mpsc::channel();
        let waiting = Arc::new(Waiting::default());
        let written = Arc::clone(&waiting);
        // Without the thread nothing is logged, and there is nowhere to tell of it.
        let _ = thread::Builder::new()
            .name(String::from("log"))
            .spawn(move || write(&entries, &written));
        Lines {
            queue: Some(queue),
            waiting,
        }
    }

    fn at_once() -> Lines {
        Lines {
            queue: None,
            waiting: Arc::default(),
        }
    }
}

/// Each write is a whole line.
impl Write for &Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let Some(queue) = &self.queue else {
            return io::stderr().write_all(line).map(|()| line.len());
        };
        let Waiting { octets, left_out } = &*self.waiting;
        if octets.fetch_add(line.len(), Ordering::Relaxed) + line.len() > Lines::MAX_OCTETS {
            octets.fetch_sub(line.len(), Ordering::Relaxed);
            left_out.fetch_add(1, Ordering::Relaxed);
        } else {
            // Without a thread there is nobody to write it.
            let _ = queue.send(Entry::Line(line.into()));
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes what comes, until nobody is left to log anything.
fn write(entries: &Receiver<Entry>, waiting: &Waiting) {
    /// What comes within this time is written together: thousands of lines a second wake this
    /// thread a hundred times.
    const GATHERING: Duration = Duration::from_millis(10);
    let mut lines = Vec::new();
    while let Ok(first) = entries.recv() {
        if let Entry::Line(_) = first {
            thread::sleep(GATHERING);
        }
        for entry in iter::once(first).chain(entries.try_iter()) {
            match entry {
                Entry::Line(line) => lines.extend_from_slice(&line),
                Entry::Flush(written) => {
                    write_out(&mut lines, waiting);
                    // Whoever asked may not wait any more.
                    let _ = written.send(());
                }
            }
        }
        write_out(&mut lines, waiting);
    }
}

fn write_out(lines: &mut Vec<u8>, waiting: &Waiting) {
    // Standard error may be closed or full; there is nowhere to tell of it.
    let _ = io::stderr().write_all(lines);
    waiting.octets.fetch_sub(lines.len(), Ordering::Relaxed);
    lines.clear();
    let left_out = waiting.left_out.swap(0, Ordering::Relaxed);
    if left_out > 0 {
        tracing::warn!(left_out, "standard error was too slow for log lines");
    }
}
