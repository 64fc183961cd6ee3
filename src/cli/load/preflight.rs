//! What is refused before a run begins.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::Path;

use super::Load;
use super::values::rate;
use crate::cli::open_files::raise_open_files;
use crate::lab::load::{Mode, Plan, Sample, is_core};

impl Load {
    /// Refuses invalid combinations of flags, and large loads on other people's servers.
    pub(super) fn refuse(&self, plan: &Plan) -> Result<(), String> {
        let carries_numbers = !self.deflate && self.file.is_none() && self.size.from >= 8;
        let is_gentle = plan.is_gentle() && self.sweep.is_none();
        let refusals = [
            (
                self.fragment.is_some_and(|size| size < 16),
                "--fragment must be 16 bytes at least: the first frame holds the message's number",
            ),
            (
                plan.is_raw && matches!(plan.mode, Mode::Churn),
                "--churn closes by a handshake, which --raw does not have",
            ),
            (
                plan.is_raw && self.fresh_masks,
                "--fresh-masks cannot be compared with what --raw gets back",
            ),
            (
                self.publishers > 1 && self.broadcast && !carries_numbers,
                "messages of several --publishers must carry numbers: 8 bytes at least, and neither --file nor --deflate",
            ),
            (
                self.sweep.is_some() && (self.urls.len() > 1 || plan.mode == Mode::Idle),
                "--sweep is for one URL, and not for --idle",
            ),
            (
                plan.mode == Mode::Idle && (plan.rate.is_some() || self.messages.is_some()),
                "--idle sends one message for each connection: it has no --rate and no --messages",
            ),
            (
                !plan.target.is_near() && !is_gentle && !self.i_own_this_target,
                "this address is neither this machine's nor private: --rate 1000 and -c 1000 are the most that it is given, unless --i-own-this-target says that it is yours",
            ),
        ];
        if let Some((_, why)) = refusals.iter().find(|(is_refused, _)| *is_refused) {
            return Err(String::from(*why));
        }
        let (files, needed) = (raise_open_files(), plan.connections + 64);
        if needed > files {
            return Err(format!(
                "{} connections need {needed} open files, and {files} are allowed: raise them with 'ulimit -n'",
                plan.connections
            ));
        }
        Ok(())
    }

    /// Refuses `--sweep 1000,2000` and `--text multibyte`: their values need an equals sign, and
    /// would be URLs.
    pub(super) fn refuse_values_after_a_blank(&self) -> Result<(), String> {
        let is_rates = |text: &str| text.split(',').all(|part| rate(part).is_ok());
        for url in &self.urls {
            if self.sweep.is_some() && is_rates(url) {
                return Err(format!("write --sweep={url}"));
            }
            if self.text.is_some() && matches!(&**url, "ascii" | "multibyte") {
                return Err(format!("write --text={url}"));
            }
        }
        Ok(())
    }

    /// Refuses processes, cores and files that the run needs and does not find.
    pub(super) fn refuse_what_is_not_there(&self, plans: &[Plan]) -> Result<(), String> {
        if self.pid.len() > self.urls.len() {
            return Err(String::from("--pid takes one process for each URL"));
        }
        for pid in &self.pid {
            Sample::of(*pid).map_err(|error| {
                let why = match error.kind() {
                    ErrorKind::NotFound => String::from("no process has this number"),
                    ErrorKind::PermissionDenied => String::from("the process is another user's"),
                    _ => error.to_string(),
                };
                format!("--pid {pid}: {why}")
            })?;
        }
        let mut assertions = self.assertions.iter();
        let is_watched = plans.iter().all(|plan| plan.server.is_some());
        if let Some(assertion) =
            assertions.find(|assertion| assertion.needs_server() && !is_watched)
        {
            let pids = if plans.len() > 1 { "PID,PID" } else { "PID" };
            return Err(format!(
                "--assert '{assertion}': cpu and memory need --pid {pids}"
            ));
        }
        if let Some(core) = self.cpus.iter().find(|core| !is_core(**core)) {
            return Err(format!("--cpus: this process cannot run on core {core}"));
        }
        let files = [
            ("--json", &self.json),
            ("--hdr", &self.hdr),
            ("--html", &self.html),
        ];
        for (flag, path) in files {
            if let Some(path) = path {
                try_to_write(path)
                    .map_err(|error| format!("{flag} {}: {error}", path.display()))?;
            }
        }
        Ok(())
    }
}

/// Opens a file as the report will be written to it, and leaves its content. A pipe or a device is
/// not opened: its reader would see an end.
fn try_to_write(path: &Path) -> io::Result<()> {
    match fs::metadata(path) {
        Ok(there) if !there.is_file() && !there.is_dir() => Ok(()),
        _ => File::options()
            .create(true)
            .append(true)
            .open(path)
            .map(drop),
    }
}
