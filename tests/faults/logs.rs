//! Row 14: the reader of the log is gone or stopped, or the disk is full.

use std::fs::{self, File};

use crate::client;
use crate::process::{ServerProcess, frameloop, succeeds, temporary};
use crate::report::{Kind, skip};
use crate::under_load;

/// Makes the server log more lines than a pipe holds.
fn provoke(server: &mut ServerProcess) -> String {
    let connections = 2_000;
    for _ in 0..connections {
        drop(client::open(server.address, "/echo").unwrap());
    }
    format!("{connections} connections, each logged")
}

#[test]
fn row_14_a_log_reader_that_is_gone() {
    let mut server = ServerProcess::logging(&["--log-level", "debug"]);
    drop(server.stderr());
    under_load(14, "log pipe closed", &mut server, provoke);
}

#[test]
fn row_14_a_log_reader_that_does_not_read() {
    let mut server = ServerProcess::logging(&["--log-level", "debug"]);
    let unread = server.stderr();
    under_load(14, "log reader stopped", &mut server, provoke);
    drop(unread);
}

#[test]
fn row_14_a_full_disk() {
    const WHAT: &str = "log on a full disk (tmpfs)";
    let mount = temporary("full");
    let path = mount.to_str().unwrap();
    fs::create_dir_all(&mount).unwrap();
    if !succeeds("mount", &["-t", "tmpfs", "-o", "size=16k", "none", path]) {
        fs::remove_dir(&mount).unwrap();
        return skip(Kind::Fault, 14, WHAT, "mount is missing or not permitted");
    }
    let log = File::create(mount.join("log")).unwrap();
    let mut command = frameloop(&["--log-level", "debug"]);
    command.stderr(log);
    let mut server = ServerProcess::spawn(&mut command);
    under_load(14, WHAT, &mut server, provoke);
    drop(server);
    drop(command);
    assert!(succeeds("umount", &[path]));
    fs::remove_dir(&mount).unwrap();
}
