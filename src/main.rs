//! The binary: all of it is [`frameloop::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    frameloop::cli::run()
}
