//! What is refused before a run begins.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::Path;

use super::values::rate;
use super::{Load, Unusable};
use crate::cli::open_files::raise_open_files;
use crate::lab::load::{Mode, Plan, Sample, is_core};

impl Load {
    /// Refuses invalid combinations of flags, and large loads on other people's servers.
    pub(super) fn refuse(&self, plan: &Plan) -> Result<(), Unusable> {
        let usage = |why: &str| Err(Unusable::Usage(why.to_owned()));
        if self.fragment.is_some_and(|size| size < 16) {
            return usage(
                "--fragment must be 16 bytes at least: the first frame holds the message's number",
            );
        }
        if plan.is_raw && matches!(plan.mode, Mode::Churn) {
            return usage("--churn closes by a handshake, which --raw does not have");
        }
        if plan.is_raw && self.fresh_masks {
            return usage("--fresh-masks cannot be compared with what --raw gets back");
        }
        let carries_numbers = !self.deflate && self.file.is_none() && self.size.from >= 8;
        if self.publishers > 1 && self.broadcast && !carries_numbers {
            return usage(
                "messages of several --publishers must carry numbers: 8 bytes at least, and neither --file nor --deflate",
            );
        }
        if self.sweep.is_some() && (self.urls.len() > 1 || plan.mode == Mode::Idle) {
            return usage("--sweep is for one URL, and not for --idle");
        }
        if plan.messages.compression.is_some() && !cfg!(feature = "deflate") {
            return usage("this frameloop is built without permessage-deflate");
        }
        if plan.mode == Mode::Idle && (plan.rate.is_some() || self.messages.is_some()) {
            return usage(
                "--idle sends one message for each connection: it has no --rate and no --messages",
            );
        }
        let is_gentle = plan.is_gentle() && self.sweep.is_none();
        if !plan.target.is_near() && !is_gentle && !self.i_own_this_target {
            return usage(
                "this address is neither this machine's nor private: --rate 1000 and -c 1000 are the most that it is given, unless --i-own-this-target says that it is yours",
            );
        }
        let files = raise_open_files();
        if plan.connections + 64 > files {
            return Err(Unusable::Usage(format!(
                "{} connections need {} open files, and {files} are allowed: raise them with 'ulimit -n'",
                plan.connections,
                plan.connections + 64
            )));
        }
        Ok(())
    }

    /// Refuses `--sweep 1000,2000` and `--text multibyte`: their values need an equals sign, and
    /// would be URLs.
    pub(super) fn refuse_values_after_a_blank(&self) -> Result<(), Unusable> {
        let is_rates = |text: &str| text.split(',').all(|part| rate(part).is_ok());
        for url in &self.urls {
            if self.sweep.is_some() && is_rates(url) {
                return Err(Unusable::Usage(format!("write --sweep={url}")));
            }
            if self.text.is_some() && matches!(&**url, "ascii" | "multibyte") {
                return Err(Unusable::Usage(format!("write --text={url}")));
            }
        }
        Ok(())
    }

    /// Refuses processes, cores and files that the run needs and does not find.
    pub(super) fn refuse_what_is_not_there(&self, plans: &[Plan]) -> Result<(), Unusable> {
        if self.pid.len() > self.urls.len() {
            return Err(Unusable::Usage(String::from(
                "--pid takes one process for each URL",
            )));
        }
        for pid in &self.pid {
            Sample::of(*pid).map_err(|error| {
                let why = match error.kind() {
                    ErrorKind::NotFound => String::from("no process has this number"),
                    ErrorKind::PermissionDenied => String::from("the process is another user's"),
                    _ => error.to_string(),
                };
                Unusable::Usage(format!("--pid {pid}: {why}"))
            })?;
        }
        let mut assertions = self.assertions.iter();
        let is_watched = plans.iter().all(|plan| plan.server.is_some());
        if let Some(assertion) =
            assertions.find(|assertion| assertion.needs_server() && !is_watched)
        {
            let pids = if plans.len() > 1 { "PID,PID" } else { "PID" };
            return Err(Unusable::Usage(format!(
                "--assert '{assertion}': cpu and memory need --pid {pids}"
            )));
        }
        if let Some(core) = self.cpus.iter().find(|core| !is_core(**core)) {
            return Err(Unusable::Usage(format!(
                "--cpus: this process cannot run on core {core}"
            )));
        }
        let files = [
            ("--json", &self.json),
            ("--hdr", &self.hdr),
            ("--html", &self.html),
        ];
        for (flag, path) in files {
            if let Some(path) = path {
                try_to_write(path).map_err(|error| {
                    Unusable::Usage(format!("{flag} {}: {error}", path.display()))
                })?;
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
