//! `--help` shows one screen with the flags that most people need; `--help-all` shows all flags.

use clap::{Arg, ArgAction, Command, CommandFactory};

use super::arguments::Cli;
use super::variables::of_server;

/// The flags of `--help`, by field name.
const SHORT: [&str; 10] = [
    "listen",
    "print_config",
    "compat",
    "allow_origin",
    "token",
    "max_message_size",
    "max_connections",
    "tls_cert",
    "tls_key",
    "log_format",
];

/// The flags whose numbers have ends, as docs/configuration.md has them. Their parsers do not tell.
const RANGES: [(&str, &str); 5] = [
    ("workers", "1 to 65535"),
    ("max_message_rate", "0 to 4294967295"),
    ("max_publish_rate", "0 to 4294967295"),
    ("deflate_level", "1 to 9"),
    ("deflate_window_bits", "9 to 15"),
];

const MORE: &str = "All flags, with their variables, ranges and exit codes: frameloop --help-all";

const DETAILS: &str = "\
Try it:
  frameloop                                       serve on 127.0.0.1:8000
  frameloop --listen 0.0.0.0:80 --listen unix:/run/frameloop.sock
  frameloop --allow-origin https://example.com    accept browsers from one site only
  frameloop --print-config                        print the settings, and stop
  websocat ws://127.0.0.1:8000/echo               talk to it

A time is 10s, 0.5s, 500ms, 2m or 1h; a bare number is seconds. A size is 65536, 64KiB or 16MiB;
a bare number is bytes. A time of 0 switches a deadline off, but --linger 0 does not linger and
--drain-timeout 0 does not wait.
SIGHUP reads the certificate again. SIGTERM or SIGINT sends each client a Close 1001 and stops; a
second signal stops at once.

Exit codes: 0 stopped as told, 1 failed while serving or not healthy, 2 wrong flag or value,
3 cannot listen on an address.";

/// The command line.
pub(super) fn command() -> Command {
    // This switches the help flag off in the subcommands, too: each gets its own.
    let command = Cli::command().disable_help_flag(true);
    let command = command.override_usage("frameloop [OPTIONS] [COMMAND]");
    short_and_long(command).mut_subcommands(|command| match command.get_name() {
        "serve" => short_and_long(command),
        "healthcheck" => command.mut_args(of_server).arg(help(ArgAction::Help)),
        _ => command.arg(help(ArgAction::Help)),
    })
}

fn short_and_long(command: Command) -> Command {
    let all = Arg::new("help-all").long("help-all").hide_short_help(true);
    command
        .after_help(MORE)
        .after_long_help(DETAILS)
        .mut_args(of_server)
        .mut_args(with_all_in_long_help)
        .mut_args(
            |argument| match SHORT.contains(&argument.get_id().as_str()) {
                true => argument.help_heading(None),
                false => argument.hide_short_help(true),
            },
        )
        .arg(help(ArgAction::HelpShort))
        .arg(option(
            all,
            ArgAction::HelpLong,
            "Print help with all flags",
        ))
}

/// Moves variables, ranges and possible values to the long help: in `--help` they would add a line
/// for each flag.
fn with_all_in_long_help(argument: Arg) -> Arg {
    let text = argument.get_long_help().or(argument.get_help());
    let mut text = text.map(ToString::to_string).unwrap_or_default();
    let takes_values = argument.get_action().takes_values();
    if takes_values && !argument.get_possible_values().is_empty() {
        text.push_str("\n\nPossible values:");
        for value in argument.get_possible_values() {
            let help = value.get_help().map(|help| format!(": {help}"));
            text.push_str(&format!(
                "\n- {}{}",
                value.get_name(),
                help.unwrap_or_default()
            ));
        }
    }
    if let Some(variable) = argument.get_env() {
        text.push_str(&format!("\n\n[env: {}]", variable.display()));
    }
    if let Some((_, range)) = RANGES.iter().find(|(flag, _)| argument.get_id() == flag) {
        text.push_str(&format!(" [range: {range}]"));
    }
    let argument = argument.hide_env(true).long_help(text);
    match takes_values {
        true => argument.hide_possible_values(true),
        false => argument,
    }
}

fn help(action: ArgAction) -> Arg {
    let help = Arg::new("help").short('h').long("help");
    option(help, action, "Print help")
}

fn option(argument: Arg, action: ArgAction, help: &'static str) -> Arg {
    argument.action(action).help(help).help_heading(None)
}

#[cfg(test)]
#[path = "configuration.rs"]
mod configuration;
