//! Writes log lines to standard error without blocking other threads. The lines of a compatible
//! service are written to standard output, where its users expect them.

use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::mem;
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

use tracing::{Event, Metadata, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::writer::MakeWriterExt;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use super::arguments::{LogArguments, LogFormat};
use crate::lock::lock;
use crate::log;

/// Starts logging: coloured on a terminal unless `NO_COLOR` is set, JSON on request. The last
/// lines are written when the returned value is dropped.
///
/// A deterministic log has no times, and writes each line at once.
pub(super) fn start(arguments: &LogArguments, deterministic: bool) -> Logs {
    let colour = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let lines = Lines::start(deterministic);
    let to = |destination| {
        let lines = Arc::clone(&lines);
        move || LinesTo(Arc::clone(&lines), destination)
    };
    let is_text = matches!(arguments.log_format, LogFormat::Text);
    let is_compat = move |line: &Metadata<'_>| is_text && line.target() == log::COMPAT_TARGET;
    let compat = to(Destination::Standard).with_filter(is_compat);
    let builder = tracing_subscriber::fmt()
        .with_max_level(arguments.log_level)
        .with_ansi(colour)
        .with_target(false)
        .with_writer(compat.or_else(to(Destination::Error)));
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

/// Where lines go. The number of a destination is its index in [`WaitingLines::lines`].
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
        // The reader of the log may have stopped.
        let is_waiting = |waiting: &mut WaitingLines| waiting.bytes > 0;
        let waiting = lock(&self.0.waiting);
        let _ = self
            .0
            .changed
            .wait_timeout_while(waiting, PATIENCE, is_waiting);
    }
}

/// Passes lines to a separate thread: a stopped reader of the log, or a slow disk, must not stop the
/// server. Bound: `MAX_BYTES` of waiting lines; further lines are left out and counted.
struct Lines {
    /// Whether each line is written at once, without the thread.
    at_once: bool,
    waiting: Mutex<WaitingLines>,
    /// Notified when lines begin to wait, and when none wait any more.
    changed: Condvar,
}

#[derive(Default)]
struct WaitingLines {
    lines: [Vec<u8>; 2],
    /// Bytes of `lines`, and of those that are being written.
    bytes: usize,
    left_out: u64,
}

impl Lines {
    const MAX_BYTES: usize = 1 << 20;

    fn start(at_once: bool) -> Arc<Lines> {
        let lines = Arc::new(Lines {
            at_once,
            waiting: Mutex::default(),
            changed: Condvar::new(),
        });
        if !at_once {
            let waiting = Arc::clone(&lines);
            let thread = thread::Builder::new().name(String::from("log"));
            // If the thread cannot start, nothing is logged, and nothing can report it.
            let _ = thread.spawn(move || waiting.write());
        }
        lines
    }

    /// Writes waiting lines for ever.
    fn write(&self) {
        /// Lines that come within this time are written together: thousands of lines a second wake
        /// this thread only a hundred times.
        const GATHERING: Duration = Duration::from_millis(10);
        loop {
            let waits = |waiting: &mut WaitingLines| waiting.bytes == 0;
            drop(self.changed.wait_while(lock(&self.waiting), waits));
            thread::sleep(GATHERING);
            let [standard, error] = mem::take(&mut lock(&self.waiting).lines);
            Destination::Standard.write(&standard);
            Destination::Error.write(&error);
            let mut waiting = lock(&self.waiting);
            waiting.bytes -= standard.len() + error.len();
            let left_out = mem::take(&mut waiting.left_out);
            drop(waiting);
            if left_out > 0 {
                tracing::warn!(
                    left_out,
                    "log lines were left out: their reader was too slow"
                );
            }
            self.changed.notify_all();
        }
    }
}

/// Each write is a whole line.
struct LinesTo(Arc<Lines>, Destination);

impl Write for LinesTo {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let LinesTo(lines, destination) = self;
        if lines.at_once {
            destination.write(line);
            return Ok(line.len());
        }
        let mut waiting = lock(&lines.waiting);
        if waiting.bytes + line.len() > Lines::MAX_BYTES {
            waiting.left_out += 1;
            return Ok(line.len());
        }
        waiting.lines[*destination as usize].extend_from_slice(line);
        waiting.bytes += line.len();
        // The thread sleeps only while no line waits.
        if waiting.bytes == line.len() {
            lines.changed.notify_all();
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
