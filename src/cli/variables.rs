//! Environment variables. Each flag has one, named after it. An empty variable counts as unset, and
//! an error about a value names the variable that sets the value.

use std::collections::BTreeSet;
use std::env;

use clap::builder::BoolishValueParser;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgAction, Command, Error};

use super::values::SECRETS;
use crate::app::compat::EchoService;

/// The only variable that counts even if it is empty: without its secret the server would
/// be open to all.
const NEVER_UNSET: &str = "FRAMELOOP_TOKEN";

/// Gives a flag its variable, unless it has one: with the prefix `FRAMELOOP_`, --max-message-size is
/// `FRAMELOOP_MAX_MESSAGE_SIZE`.
pub(super) fn named(prefix: &str, argument: Arg) -> Arg {
    match argument.get_long() {
        Some(flag) if argument.get_env().is_none() => {
            let name = flag.to_uppercase().replace('-', "_");
            argument.env(format!("{prefix}{name}"))
        }
        _ => argument,
    }
}

/// Gives a flag of the server its variable. The variable of a switch also takes `yes`, `on` and `1`.
pub(super) fn of_server(argument: Arg) -> Arg {
    if argument.get_id() == "print_config" {
        return argument;
    }
    let argument = named("FRAMELOOP_", argument);
    match argument.get_action() {
        ArgAction::SetTrue => argument.value_parser(BoolishValueParser::new()),
        _ => argument,
    }
}

/// Treats empty variables as unset: Compose files and service managers pass them.
pub(super) fn without_empty(command: Command) -> Command {
    command
        .mut_args(|argument| match has_empty_variable(&argument) {
            true => argument.env(None::<&str>),
            false => argument,
        })
        .mut_subcommands(without_empty)
}

fn has_empty_variable(argument: &Arg) -> bool {
    let variable = argument.get_env().unwrap_or_default();
    let is_empty = env::var_os(variable).is_some_and(|value| value.is_empty());
    is_empty && variable != NEVER_UNSET
}

/// Adds the variables that set the values to an error, and removes secrets from it. A compatible
/// `service` has variables of its own.
pub(super) fn explain(mut error: Error, command: &Command, service: Option<EchoService>) -> Error {
    let named = flags_in(&error);
    if named.iter().any(|named| SECRETS.contains(&&**named)) {
        let hidden = ContextValue::String(String::from("***"));
        error.insert(ContextKind::InvalidValue, hidden);
    }
    // The error names the missing flag, not the flag that requires it.
    let concerns_all = error.kind() == ErrorKind::MissingRequiredArgument;
    let commands = [command].into_iter().chain(command.get_subcommands());
    let tip = |argument: &Arg| {
        let flag = argument.get_long()?;
        let is_named = concerns_all || named.iter().any(|named| named == flag);
        let variables = variables_of(argument, flag, service);
        let is_set = is_named && !variables.is_empty();
        is_set.then(|| format!("--{flag} is set by {}", variables.join(" and ")))
    };
    let tips = commands.flat_map(Command::get_arguments).filter_map(tip);
    let tips: BTreeSet<String> = tips.collect();
    if !tips.is_empty() {
        let tips = tips.into_iter().map(Into::into).collect();
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(tips));
    }
    error
}

/// The long flags that an error names.
fn flags_in(error: &Error) -> Vec<String> {
    let mut named = Vec::new();
    for kind in [ContextKind::InvalidArg, ContextKind::PriorArg] {
        match error.get(kind) {
            Some(ContextValue::String(argument)) => named.push(argument.clone()),
            Some(ContextValue::Strings(arguments)) => named.extend(arguments.iter().cloned()),
            _ => {}
        }
    }
    let flag = |argument: String| {
        let flag = argument.strip_prefix("--")?;
        let end = flag.find([' ', '=', '[']).unwrap_or(flag.len());
        Some(flag[..end].to_owned())
    };
    named.into_iter().filter_map(flag).collect()
}

/// The variables that set a flag's value; empty if the command line sets it.
fn variables_of(argument: &Arg, flag: &str, service: Option<EchoService>) -> Vec<String> {
    let short = argument.get_short().map(|short| format!("-{short}"));
    let is_written = env::args_os().skip(1).any(|written| {
        let written = written.to_string_lossy();
        let name = written.split_once('=').map_or(&*written, |(name, _)| name);
        name.strip_prefix("--") == Some(flag)
            || short
                .as_ref()
                .is_some_and(|short| written.starts_with(short))
    });
    if is_written {
        return Vec::new();
    }
    let own = argument.get_env().and_then(|variable| variable.to_str());
    if let Some(own) = own.filter(|own| env::var_os(own).is_some()) {
        return vec![own.to_owned()];
    }
    let of_service = service.map_or(&[][..], |service| {
        service.variables_of(argument.get_id().as_str())
    });
    let is_set = |variable: &&&str| env::var_os(variable).is_some_and(|value| !value.is_empty());
    let set = of_service.iter().filter(is_set);
    set.map(|variable| String::from(*variable)).collect()
}
