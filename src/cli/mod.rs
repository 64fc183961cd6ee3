//! Floor 8: the command line.

mod arguments;
#[cfg(feature = "deflate")]
mod deflate;
mod logs;
mod memory;
mod serve;
#[cfg(feature = "tls")]
mod tls;
mod values;

use std::io::{self, Write};
use std::process::ExitCode;

use arguments::{Cli, Command};
use clap::{CommandFactory, FromArgMatches};

/// What the process ends with, as `--help` documents it.
#[derive(Clone, Copy, Debug)]
enum Exit {
    /// 0: served until it was told to stop.
    Done,
    /// 1: something failed while serving.
    Failed,
    /// 2: a flag, a variable or a value is wrong.
    Usage,
    /// 3: an address cannot be listened on.
    CannotListen,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(match exit {
            Exit::Done => 0,
            Exit::Failed => 1,
            Exit::Usage => 2,
            Exit::CannotListen => 3,
        })
    }
}

/// Runs the command line that this process was given.
pub fn run() -> ExitCode {
    let matches = Cli::command().get_matches();
    let cli = match Cli::from_arg_matches(&matches) {
        Ok(cli) => cli,
        Err(error) => {
            // clap prints what is wrong and what to do.
            let _ = error.print();
            return Exit::Usage.into();
        }
    };
    let (arguments, matches) = match cli.command {
        Some(Command::Serve(arguments)) => {
            (arguments, matches.subcommand().map(|(_, matches)| matches))
        }
        None => (cli.serve, Some(&matches)),
    };
    if arguments.print_config {
        let max_open_files = serve::raise_open_files();
        let settings = matches
            .map(|matches| arguments::effective(&arguments, matches, max_open_files))
            .unwrap_or_default();
        // `print!` would panic where standard output is closed or full.
        return match io::stdout().write_all(settings.as_bytes()) {
            Ok(()) => Exit::Done.into(),
            Err(error) => {
                eprintln!("frameloop: cannot print the settings: {error}");
                Exit::Failed.into()
            }
        };
    }
    serve::serve(&arguments).into()
}
