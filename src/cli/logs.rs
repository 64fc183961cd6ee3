//! Log lines on standard error.

use std::io::{self, IsTerminal, LineWriter, Write};
use std::sync::Mutex;

use tracing::level_filters::LevelFilter;

use super::arguments::{LogArguments, LogFormat, LogLevel};

/// Starts logging: coloured on a terminal unless `NO_COLOR` is set, JSON on request.
pub(super) fn start(arguments: &LogArguments) {
    let level = match arguments.log_level {
        LogLevel::Off => LevelFilter::OFF,
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    let colour = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let builder = tracing_subscriber::fmt()
        .with_max_level(level)
        .with_ansi(colour)
        .with_target(false)
        .with_writer(Mutex::new(LineWriter::new(Unbreakable)));
    match arguments.log_format {
        LogFormat::Text => builder.init(),
        LogFormat::Json => builder.json().flatten_event(true).init(),
    }
}

/// Standard error, which may be closed or full without anybody here minding.
struct Unbreakable;

impl Write for Unbreakable {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        // There is nowhere to tell of it.
        let _ = io::stderr().write_all(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
