//! The machine, the time and the versions of a measurement.

use std::{fs, process::Command};

use frameloop::lab::load::Machine;
use serde_json::{Value, json};

use super::starting::peers_folder;

/// Crates whose versions the figures depend on, besides the peers themselves.
const OF_INTEREST: [&str; 7] = [
    "tokio-tungstenite",
    "tungstenite",
    "fastwebsockets",
    "sockudo-ws",
    "hyper",
    "tokio",
    "mio",
];

pub(crate) fn json() -> Value {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let meminfo = read("/proc/meminfo");
    let memory = meminfo.lines().next().and_then(|line| line.split_once(':'));
    let mut machine = json!(Machine::here());
    machine["hypervisor"] = read("/proc/cpuinfo").contains(" hypervisor ").into();
    machine["memory"] = memory.map(|(_, size)| size.trim()).into();
    machine
}

pub(crate) fn versions() -> Value {
    let lock = fs::read_to_string(peers_folder().join("Cargo.lock")).unwrap_or_default();
    let peers: serde_json::Map<_, _> = OF_INTEREST
        .iter()
        .map(|name| ((*name).to_owned(), locked_version(&lock, name).into()))
        .collect();
    json!({
        "frameloop": env!("CARGO_PKG_VERSION"),
        "commit": output("git", &["describe", "--always", "--dirty"]),
        "rustc": output("rustc", &["--version"]),
        "peers": peers,
    })
}

/// The date and time, in UTC.
pub(crate) fn date() -> Option<String> {
    output("date", &["--utc", "+%Y-%m-%dT%H:%M:%SZ"])
}

fn locked_version(lock: &str, name: &str) -> Option<String> {
    let package = format!("name = \"{name}\"\nversion = \"");
    Some(lock.split_once(&package)?.1.split_once('"')?.0.to_owned())
}

fn output(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program)
        .args(arguments)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .ok()
        .filter(|output| output.status.success())?;
    Some(String::from_utf8(output.stdout).ok()?.trim().to_owned())
}
