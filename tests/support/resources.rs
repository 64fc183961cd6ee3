//! The resources of a process, from `/proc`.

use std::fmt;
use std::fs;

/// The resources of a process.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Resources {
    /// Kibibytes.
    pub(crate) resident: u64,
    /// The part of `resident` that is not file-backed. Pages of the program's file belong to the
    /// page cache and appear when code first runs.
    pub(crate) anonymous: u64,
    pub(crate) descriptors: u64,
    pub(crate) threads: u64,
}

impl fmt::Display for Resources {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Resources {
            resident,
            anonymous,
            descriptors,
            threads,
        } = self;
        write!(
            formatter,
            "{resident} KiB resident, {anonymous} of them anonymous, {descriptors} descriptors, {threads} threads"
        )
    }
}

impl Resources {
    pub(crate) fn of(process: u32) -> Resources {
        let process = format!("/proc/{process}");
        let status = fs::read_to_string(format!("{process}/status")).unwrap_or_default();
        let value = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            let value = line.and_then(|line| line.split_whitespace().next());
            value.and_then(|value| value.parse().ok()).unwrap_or(0)
        };
        Resources {
            resident: value("VmRSS:"),
            anonymous: value("RssAnon:"),
            threads: value("Threads:"),
            descriptors: fs::read_dir(format!("{process}/fd")).map_or(0, |fds| fds.count() as u64),
        }
    }
}
