//! Writes log lines to standard error without blocking other threads. The lines of a compatible
//! service are written to standard output, where its users expect them.

use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::iter;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::Duration;

use tracing::{Event, Metadata, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, MakeWriter};
use tracing_subscriber::registry::LookupSpan;

use super::arguments::{LogArguments, LogFormat};
use crate::log;

/// Starts logging: coloured on a terminal unless `NO_COLOR` is set, JSON on request. The last
/// lines are written when the returned value is dropped.
///
/// A deterministic log has no times, and writes each line at once.
pub(super) fn start(arguments: &LogArguments, deterministic: bool) -> Logs {
    let colour = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let lines = Arc::new(match deterministic {
        true => Lines::at_once(),
        false => Lines::start(),
    });
    let builder = tracing_subscriber::fmt()
        .with_max_level(arguments.log_level)
        .with_ansi(colour)
        .with_target(false)
        .with_writer(ByTarget {
            lines: Arc::clone(&lines),
            is_text: matches!(arguments.log_format, LogFormat::Text),
        });
    if deterministic {
        log::make_deterministic();
    }
    match (arguments.log_format, deterministic) {
        (LogFormat::Text, false) => builder.map_event_format(CompatFormat).init(),
        (LogFormat::Text, true) => builder.without_time().map_event_format(CompatFormat).init(),
        (LogFormat::Json, false) => builder.json().flatten_event(true).init(),
        (LogFormat::Json, true) => builder.json().flatten_event(true).without_time().init(),
    }
    Logs(lines)
}

/// Omits time and level in the lines of a compatible service.
struct CompatFormat<F>(F);

impl<S, N, F> FormatEvent<S, N> for CompatFormat<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        if event.metadata().target() != log::COMPAT_TARGET {
            return self.0.format_event(context, writer, event);
        }
        context.format_fields(writer.by_ref(), event)?;
        writeln!(writer)
    }
}

/// Chooses the destination of a line by its target.
struct ByTarget {
    lines: Arc<Lines>,
    is_text: bool,
}

impl<'a> MakeWriter<'a> for ByTarget {
    type Writer = LinesTo<'a>;

    fn make_writer(&'a self) -> LinesTo<'a> {
        LinesTo(&self.lines, Destination::Error)
    }

    fn make_writer_for(&'a self, metadata: &Metadata<'_>) -> LinesTo<'a> {
        match self.is_text && metadata.target() == log::COMPAT_TARGET {
            true => LinesTo(&self.lines, Destination::Standard),
            false => self.make_writer(),
        }
    }
}

#[derive(Clone, Copy)]
enum Destination {
    Standard,
    Error,
}

impl Destination {
    /// Ignores errors: the destination may be closed or full, and nothing else could report it.
    fn write(self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let _ = match self {
            Destination::Standard => {
                let mut out = io::stdout().lock();
                out.write_all(bytes).and_then(|()| out.flush())
            }
            Destination::Error => io::stderr().write_all(bytes),
        };
    }
}

/// The running log. Its drop writes the last lines.
pub(super) struct Logs(Arc<Lines>);

impl Drop for Logs {
    fn drop(&mut self) {
        const PATIENCE: Duration = Duration::from_secs(1);
        let (written, all_written) = mpsc::channel();
        let asked = self.0.queue.as_ref();
        if asked.is_some_and(|queue| queue.send(LogEntry::Flush(written)).is_ok()) {
            // The reader of the log may have stopped.
            let _ = all_written.recv_timeout(PATIENCE);
        }
    }
}

/// Sends lines to a separate thread: a stopped reader of the log, or a slow disk, must not stop the
/// server. Bound: `MAX_BYTES` of waiting lines; further lines are left out and counted.
struct Lines {
    /// `None` writes at once.
    queue: Option<Sender<LogEntry>>,
    waiting: Arc<WaitingLines>,
}

#[derive(Default)]
struct WaitingLines {
    bytes: AtomicUsize,
    left_out: AtomicU64,
}

enum LogEntry {
    Line(Destination, Box<[u8]>),
    Flush(Sender<()>),
}

impl Lines {
    const MAX_BYTES: usize = 1 << 20;

    fn start() -> Lines {
        let (queue, entries) = mpsc::channel();
        let waiting = Arc::new(WaitingLines::default());
        let written = Arc::clone(&waiting);
        // If the thread cannot start, nothing is logged, and nothing can report it.
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
struct LinesTo<'a>(&'a Lines, Destination);

impl Write for LinesTo<'_> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let LinesTo(lines, output) = self;
        let Some(queue) = &lines.queue else {
            output.write(line);
            return Ok(line.len());
        };
        let WaitingLines { bytes, left_out } = &*lines.waiting;
        if bytes.fetch_add(line.len(), Ordering::Relaxed) + line.len() > Lines::MAX_BYTES {
            bytes.fetch_sub(line.len(), Ordering::Relaxed);
            left_out.fetch_add(1, Ordering::Relaxed);
        } else {
            // Without the log thread the line is lost.
            let _ = queue.send(LogEntry::Line(*output, line.into()));
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes lines until all senders are gone.
fn write(entries: &Receiver<LogEntry>, waiting: &WaitingLines) {
    /// Lines that come within this time are written together: thousands of lines a second wake this
    /// thread only a hundred times.
    const GATHERING: Duration = Duration::from_millis(10);
    let mut gathered = Gathered::default();
    while let Ok(first) = entries.recv() {
        if let LogEntry::Line(..) = first {
            thread::sleep(GATHERING);
        }
        for entry in iter::once(first).chain(entries.try_iter()) {
            match entry {
                LogEntry::Line(Destination::Standard, line) => {
                    gathered.standard.extend_from_slice(&line)
                }
                LogEntry::Line(Destination::Error, line) => gathered.error.extend_from_slice(&line),
                LogEntry::Flush(written) => {
                    gathered.write_out(waiting);
                    // The caller may have stopped waiting.
                    let _ = written.send(());
                }
            }
        }
        gathered.write_out(waiting);
    }
}

/// Lines that are written together.
#[derive(Default)]
struct Gathered {
    standard: Vec<u8>,
    error: Vec<u8>,
}

impl Gathered {
    fn write_out(&mut self, waiting: &WaitingLines) {
        for (output, lines) in [
            (Destination::Standard, &mut self.standard),
            (Destination::Error, &mut self.error),
        ] {
            output.write(lines);
            waiting.bytes.fetch_sub(lines.len(), Ordering::Relaxed);
            lines.clear();
        }
        let left_out = waiting.left_out.swap(0, Ordering::Relaxed);
        if left_out > 0 {
            tracing::warn!(
                left_out,
                "log lines were left out: their reader was too slow"
            );
        }
    }
}
