//! Describes the machine that figures were measured on.

use std::fs;

use serde::Serialize;

/// The machine that the generator runs on.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Machine {
    /// The model name of the processor.
    pub cpu: Option<String>,
    /// Cores that this process may use.
    pub cores: usize,
    /// The operating system and its release.
    pub kernel: Option<String>,
    /// The TCP congestion control algorithm.
    pub congestion_control: Option<String>,
    /// The load averages before the run.
    pub load_average: Option<String>,
    /// The version of frameloop.
    pub frameloop: &'static str,
}

impl Machine {
    /// Describes this machine at the current time.
    pub fn here() -> Machine {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = cpuinfo.lines().find(|line| line.starts_with("model name"));
        Machine {
            cpu: model
                .and_then(|line| line.split_once(':'))
                .map(|(_, name)| name.trim().to_owned()),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            kernel: read("/proc/sys/kernel/osrelease")
                .map(|release| format!("{} {release}", std::env::consts::OS)),
            congestion_control: read("/proc/sys/net/ipv4/tcp_congestion_control"),
            load_average: read("/proc/loadavg"),
            frameloop: env!("CARGO_PKG_VERSION"),
        }
    }
}

fn read(path: &str) -> Option<String> {
    Some(fs::read_to_string(path).ok()?.trim().to_owned())
}
