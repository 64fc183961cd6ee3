//! The CPU time and memory of a serving process, from /proc.

use std::fs;
use std::io::{self, Error};
use std::time::Duration;

/// One look at a process.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct Sample {
    /// CPU time of all threads since they began, by the scheduler's count.
    pub cpu: Duration,
    /// How it divides, in ticks of the kernel: few, so that seconds are needed for a figure.
    pub user_ticks: u64,
    /// See [`Sample::user_ticks`].
    pub system_ticks: u64,
    /// Time that threads were ready to run while their core was taken by another.
    pub waited: Duration,
    /// Bytes of memory.
    pub resident: u64,
    /// Open descriptors.
    pub descriptors: u64,
    /// Times that a thread gave up its core to wait for something.
    pub voluntary_switches: u64,
}

impl Sample {
    /// Looks at a process.
    ///
    /// # Errors
    /// The process has ended or belongs to another user, or the system lacks /proc.
    pub fn of(process: u32) -> io::Result<Sample> {
        let root = format!("/proc/{process}");
        let mut sample = Sample::default();
        let (mut on_cpu, mut waited) = (0, 0);
        for task in fs::read_dir(format!("{root}/task"))? {
            let task = task?.path();
            // A thread may end between two of these.
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
        // The name, in brackets, may hold spaces: count the fields from its end.
        let after_name = stat.rsplit(')').next().unwrap_or_default();
        sample.user_ticks = field(after_name, 11)?;
        sample.system_ticks = field(after_name, 12)?;
        sample.resident = resident(process)?;
        sample.descriptors = fs::read_dir(format!("{root}/fd"))?.count() as u64;
        Ok(sample)
    }

    /// Adds what was used between two other looks.
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

    /// The share of user mode between two looks, from 0 to 1; `None` where no tick tells.
    pub fn user_share(&self, since: &Sample) -> Option<f64> {
        let user = self.user_ticks.saturating_sub(since.user_ticks);
        let system = self.system_ticks.saturating_sub(since.system_ticks);
        let all = user + system;
        (all > 0).then(|| user as f64 / all as f64)
    }
}

/// Bytes of memory that a process holds, as its page tables say.
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
