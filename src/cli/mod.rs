//! The command line.

mod access;
mod announcement;
mod arguments;
mod channel_layer;
mod deadlines;
mod deflate;
mod healthcheck;
mod help;
mod limits;
#[cfg(feature = "lab")]
mod load;
mod logs;
mod memory;
mod open_files;
mod operator;
mod serve;
mod service_manager;
mod socketio;
mod tls;
mod values;
mod variables;
mod warnings;

use std::io::{self, Write};
use std::process::ExitCode;

use arguments::{Cli, Serve, Tool};
use clap::{ArgMatches, FromArgMatches};

use crate::app::compat::EchoService;

/// The exit code, as `--help-all` documents it.
#[derive(Clone, Copy, Debug)]
enum Exit {
    /// 0: success, or stopped by a signal.
    Done = 0,
    /// 1: something failed while serving, or a server is not healthy.
    Failed = 1,
    /// 2: a flag, a variable or a value is wrong.
    Usage = 2,
    /// 3: cannot listen on an address, or cannot connect to a server.
    NoAddress = 3,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit as u8)
    }
}

/// Runs this process's command line. Returns the exit code.
pub fn run() -> ExitCode {
    let parsed = parse(None).and_then(|matches| match arguments::compat(&matches) {
        Some(service) => parse(Some(service)),
        None => Ok(matches),
    });
    let parsed = parsed.and_then(|matches| Ok((Cli::from_arg_matches(&matches)?, matches)));
    let (cli, matches) = match parsed {
        Ok(parsed) => parsed,
        Err(error) => {
            // clap prints the error and a hint, or the help.
            let _ = error.print();
            return match error.use_stderr() {
                true => Exit::Usage.into(),
                false => Exit::Done.into(),
            };
        }
    };
    match cli.command {
        None => serve(&cli.serve, &matches),
        Some(Tool::Serve(arguments)) => {
            let matches = matches.subcommand_matches("serve").unwrap_or(&matches);
            serve(&arguments, matches)
        }
        Some(Tool::Healthcheck(healthcheck)) => match healthcheck.run() {
            Ok(()) => Exit::Done,
            Err(error) => {
                eprintln!("frameloop: not healthy: {error}");
                Exit::Failed
            }
        },
        #[cfg(feature = "lab")]
        Some(Tool::Load(load)) => load.run(),
        Some(Tool::Completions { shell }) => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut help::command(), "frameloop", &mut script);
            print(&script)
        }
        Some(Tool::Man) => {
            let mut page = Vec::new();
            match clap_mangen::Man::new(help::command()).render(&mut page) {
                Ok(()) => print(&page),
                Err(error) => cannot_print(&error),
            }
        }
    }
    .into()
}

/// Parses the flags and variables, with the defaults of a compatible service.
fn parse(service: Option<EchoService>) -> Result<ArgMatches, clap::Error> {
    let command = service.map_or_else(help::command, arguments::with_defaults);
    let command = variables::without_empty(command);
    let parsed = command.clone().try_get_matches();
    parsed.map_err(|error| variables::explain(error, &command, service))
}

fn serve(arguments: &Serve, matches: &ArgMatches) -> Exit {
    if arguments.print_config {
        return print(arguments::effective(arguments, matches).as_bytes());
    }
    serve::serve(arguments)
}

/// Prints bytes. `print!` would panic if standard output is closed or full.
fn print(bytes: &[u8]) -> Exit {
    let mut out = io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Ok(()) => Exit::Done,
        Err(error) => cannot_print(&error),
    }
}

fn cannot_print(error: &io::Error) -> Exit {
    eprintln!("frameloop: cannot print: {error}");
    Exit::Failed
}
