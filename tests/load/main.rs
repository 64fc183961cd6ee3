//! `frameloop load` against frameloop itself and against peers: every mode ends with all messages
//! accounted for, and every fault of the server has its counter and its exit code.
//!
//! No test asserts a time.

#![cfg(unix)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

#[path = "../support/mod.rs"]
mod support;

use support::*;

mod ending;
mod faults;
mod modes;
mod peers;
mod reports;
mod schema;
mod usage;

use std::path::PathBuf;
use std::process::{Command, Stdio};

/// The output of `frameloop load`.
struct Ran {
    code: Option<i32>,
    report: String,
    said: String,
}

/// `frameloop load` without FRAMELOOP_* variables.
fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_frameloop"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("FRAMELOOP_")) {
        command.env_remove(name);
    }
    command
}

/// A file of this test's own, removed when dropped.
struct Temporary(PathBuf);

impl Temporary {
    fn new(name: &str) -> Temporary {
        let name = format!("frameloop-load-{}-{name}", std::process::id());
        Temporary(std::env::temp_dir().join(name))
    }

    fn path(&self) -> String {
        self.0.display().to_string()
    }

    fn read(&self) -> String {
        std::fs::read_to_string(&self.0).unwrap()
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// `frameloop load URL` with these further arguments, a word each.
fn load(url: &str, arguments: &str) -> Ran {
    let mut command = command();
    command
        .arg("load")
        .arg(url)
        .args(arguments.split_whitespace());
    let output = command.stdin(Stdio::null()).output().unwrap();
    Ran {
        code: output.status.code(),
        report: String::from_utf8(output.stdout).unwrap(),
        said: String::from_utf8(output.stderr).unwrap(),
    }
}

impl Ran {
    /// Everything came back, and the run says so.
    #[track_caller]
    fn is_clean(&self) -> &Ran {
        assert_eq!(self.code, Some(0), "{}{}", self.report, self.said);
        assert!(
            self.report.contains("\nerrors       none\n"),
            "{}",
            self.report
        );
        self
    }

    /// It ends with 1, and its line of errors has all of these words.
    #[track_caller]
    fn tells(&self, words: &[&str]) -> &Ran {
        assert_eq!(self.code, Some(1), "{}{}", self.report, self.said);
        let errors = self.report.lines().find(|line| line.starts_with("errors"));
        let errors = errors.unwrap_or_else(|| panic!("{}", self.report));
        for word in words {
            assert!(errors.contains(word), "{word}: {}", self.report);
        }
        self
    }
}
