//! Tests that the tables of docs/configuration.md list the flags; writes them on request.

use std::path::Path;

use clap::{Arg, Command};

const BEGIN: &str = "<!-- Flags: made by `FRAMELOOP_WRITE_DOCS=1 cargo test --all-features --lib configuration`. -->\n";
const END: &str = "<!-- End of the flags. -->\n";

#[test]
fn configuration_md_lists_the_flags_as_they_are() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/configuration.md");
    let text = std::fs::read_to_string(&file).unwrap();
    let (before, rest) = text.split_once(BEGIN).expect("the mark before the tables");
    let (_, after) = rest.split_once(END).expect("the mark after the tables");
    let current = format!("{before}{BEGIN}{}{END}{after}", tables());
    if std::env::var_os("FRAMELOOP_WRITE_DOCS").is_some() {
        std::fs::write(&file, current).unwrap();
        return;
    }
    assert!(
        text == current,
        "docs/configuration.md is stale: run FRAMELOOP_WRITE_DOCS=1 cargo test --all-features --lib configuration"
    );
}

/// `--help-all` has the ranges that the parsers have, for each flag that has one.
#[test]
fn the_help_has_the_ranges() {
    let mut command = super::command();
    command.build();
    let flags = command.get_arguments().filter(|it| it.get_env().is_some());
    for argument in flags {
        let range = range(argument, &command);
        let help = argument.get_long_help().unwrap().to_string();
        let written = format!(" [range: {range}]");
        let has_ends =
            range.starts_with(|first: char| first.is_ascii_digit()) && !range.ends_with("or more");
        assert_eq!(help.contains("[range: "), has_ends, "{argument:?}");
        assert_eq!(help.contains(&written), has_ends, "{argument:?}");
    }
}

/// One table for each heading, in the order of `--help-all`.
fn tables() -> String {
    let mut command = super::command();
    command.build();
    let healthcheck = command.find_subcommand("healthcheck").unwrap();
    let flags = |command: &Command| -> Vec<Arg> {
        let arguments = command.get_arguments();
        let is_setting = |argument: &&Arg| argument.get_env().is_some();
        arguments.filter(is_setting).cloned().collect()
    };
    let all = flags(&command);
    let heading = |argument: &Arg| argument.get_help_heading().unwrap_or("General").to_owned();
    let mut headings: Vec<String> = Vec::new();
    for heading in all.iter().map(heading) {
        if !headings.contains(&heading) {
            headings.push(heading);
        }
    }
    let mut text = String::new();
    for name in headings {
        let rows = all.iter().filter(|argument| heading(argument) == name);
        text.push_str(&table(&name, rows, &command));
    }
    let known = |argument: &&Arg| {
        !all.iter()
            .any(|other| other.get_long() == argument.get_long())
    };
    let own = flags(healthcheck);
    text + &table(
        "frameloop healthcheck",
        own.iter().filter(known),
        healthcheck,
    )
}

fn table<'a>(heading: &str, rows: impl Iterator<Item = &'a Arg>, command: &Command) -> String {
    let mut text = format!(
        "\n### {heading}\n\n| flag | default | unit, range | what it does |\n|---|---|---|---|\n"
    );
    for argument in rows {
        let flag = argument.get_long().unwrap();
        let variable = argument.get_env().unwrap().display();
        let (what, default) = what_and_default(argument);
        let range = range(argument, command).replace('|', "\\|");
        let what = what.replace('|', "\\|");
        text.push_str(&format!(
            "| `--{flag}`<br>`{variable}` | {default} | {range} | {what} |\n"
        ));
    }
    text + "\n"
}

/// Returns the last paragraph of the help, without possible values and variable, and the default:
/// from the brackets in that paragraph, or clap's.
fn what_and_default(argument: &Arg) -> (String, String) {
    let help = argument.get_long_help().or(argument.get_help());
    let help = help.unwrap().to_string();
    let is_text = |part: &&str| !part.starts_with("Possible values:") && !part.starts_with("[env");
    let text = help.rsplit("\n\n").find(is_text).unwrap();
    let text = text.replace('\n', " ");
    if let Some((what, default)) = text.split_once(" [default: ") {
        let default = default.trim_end_matches(']').to_owned();
        return (what.to_owned(), default);
    }
    let values = argument.get_default_values().iter();
    let values: Vec<_> = values
        .map(|value| format!("`{}`", value.display()))
        .collect();
    let is_flag = !argument.get_action().takes_values();
    match values.is_empty() || is_flag {
        true => (text, String::from(if is_flag { "off" } else { "none" })),
        false => (text, values.join(", ")),
    }
}

/// Returns the unit and the range. The parser is tried with values to find the ends of a range.
fn range(argument: &Arg, command: &Command) -> String {
    let values = argument.get_possible_values();
    if !argument.get_action().takes_values() {
        return String::from("on or off; variable: `true` or `false`");
    }
    if !values.is_empty() {
        let names: Vec<_> = values
            .iter()
            .map(|value| format!("`{}`", value.get_name()))
            .collect();
        return names.join(", ");
    }
    let kind = argument.get_value_names().unwrap()[0].to_string();
    let takes = |value: u64| {
        let written = format!("--{}={value}", argument.get_long().unwrap());
        let parsed = command
            .clone()
            .try_get_matches_from(["frameloop", &written]);
        parsed.is_ok()
    };
    match kind.as_str() {
        "TIME" => String::from("time, 0 or more"),
        "SIZE" => String::from("bytes, 0 or more"),
        "NUMBER" | "LEVEL" | "BITS" => {
            let least = (0..=100).find(|value| takes(*value)).unwrap();
            let mut ends = (least..=100).chain([u16::MAX.into(), u32::MAX.into(), u64::MAX]);
            match ends.rfind(|value| takes(*value)).unwrap() {
                u64::MAX => format!("{least} or more"),
                most => format!("{least} to {most}"),
            }
        }
        _ => format!("`{kind}`"),
    }
}
