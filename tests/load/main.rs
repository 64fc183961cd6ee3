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

use process::{frameloop, run, temporary};

/// The output of `frameloop load`.
struct Ran {
    code: Option<i32>,
    report: String,
    said: String,
}

/// A file of this test's own, removed when dropped.
struct Temporary(PathBuf);

impl Temporary {
    fn new(name: &str) -> Temporary {
        Temporary(temporary(name))
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
    let mut command = frameloop(&["load", url]);
    let (code, report, said) = run(command.args(arguments.split_whitespace()));
    Ran { code, report, said }
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
