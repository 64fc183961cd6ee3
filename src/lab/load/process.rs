//! Reads the CPU time and memory of a server process from /proc.

use std::fs;
use std::io::{self, Error};
use std::time::Duration;

/// The state of a process at one moment.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct Sample {
    /// CPU time of all threads since their start, as counted by the scheduler.
    pub cpu: Duration,
    /// CPU time in user mode, in kernel ticks. A tick is coarse, so a reliable figure needs seconds
    /// of measurement.
    pub user_ticks: u64,
    /// CPU time in kernel mode, in kernel ticks. See [`Sample::user_ticks`].
    pub system_ticks: u64,
    /// Time that threads were ready to run but waited for a core.
    pub waited: Duration,
    /// Resident memory in bytes.
    pub resident: u64,
    /// Open file descriptors.
    pub descriptors: u64,
    /// Number of times that a thread gave up its core to wait.
    pub voluntary_switches: u64,
}

impl Sample {
    /// Reads the state of a process.
    ///
    /// # Errors
    /// The process has ended or belongs to another user, or the system lacks /proc.
    pub fn of(process: u32) -> io::Result<Sample> {
        let root = format!("/proc/{process}");
        let mut sample = Sample::default();
        let (mut on_cpu, mut waited) = (0, 0);
        for task in fs::read_dir(format!("{root}/task"))? {
            let task = task?.path();
            // The thread may end between listing the threads and reading these files.
            let (Ok(schedstat), Ok(status)) = (
                fs::read_to_string(task.join("schedstat")),
                fs::read_to_string(task.join("status")),
            ) else {
                continue;
            };
            on_cpu += field(&schedstat, 0)?;
            waited += field(&schedstat, 1)?;
            sample.voluntary_switches += entry(&status, "voluntary_ctxt_switches:")?;
        }
        sample.cpu = Duration::from_nanos(on_cpu);
        sample.waited = Duration::from_nanos(waited);
        let stat = fs::read_to_string(format!("{root}/stat"))?;
        // The process name, in parentheses, may contain spaces: count the fields after the name.
        let after_name = stat.rsplit(')').next().unwrap_or_default();
        sample.user_ticks = field(after_name, 11)?;
        sample.system_ticks = field(after_name, 12)?;
        sample.resident = resident(process)?;
        sample.descriptors = fs::read_dir(format!("{root}/fd"))?.count() as u64;
        Ok(sample)
    }

    /// Adds the resources used between two other samples.
    pub(super) fn add_use(&mut self, begin: &Sample, end: &Sample) {
        self.cpu += end.cpu.saturating_sub(begin.cpu);
        self.waited += end.waited.saturating_sub(begin.waited);
        self.user_ticks += end.user_ticks.saturating_sub(begin.user_ticks);
        self.system_ticks += end.system_ticks.saturating_sub(begin.system_ticks);
        self.voluntary_switches += end
            .voluntary_switches
            .saturating_sub(begin.voluntary_switches);
        (self.resident, self.descriptors) = (end.resident, end.descriptors);
    }

    /// The share of CPU time spent in user mode since an earlier sample, from 0 to 1; `None` if no
    /// tick has passed.
    pub fn user_share(&self, since: &Sample) -> Option<f64> {
        let user = self.user_ticks.saturating_sub(since.user_ticks);
        let system = self.system_ticks.saturating_sub(since.system_ticks);
        let all = user + system;
        (all > 0).then(|| user as f64 / all as f64)
    }
}

/// Resident memory of a process in bytes, according to its page tables.
pub(super) fn resident(process: u32) -> io::Result<u64> {
    let rollup = fs::read_to_string(format!("/proc/{process}/smaps_rollup"))?;
    Ok(entry(&rollup, "Rss:")? * 1_024)
}

fn entry(text: &str, key: &str) -> io::Result<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(key));
    field(line.unwrap_or_default(), 0)
}

fn field(text: &str, index: usize) -> io::Result<u64> {
    text.split_ascii_whitespace()
        .nth(index)
        .and_then(|field| field.parse().ok())
        .ok_or_else(|| Error::other(format!("field {index} of {text:?} is not a number")))
}
