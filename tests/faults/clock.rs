//! Row 15: the wall clock jumps.

use std::fs;
use std::thread;
use std::time::Duration;

use crate::client;
use crate::process::{ServerProcess, frameloop, succeeds, temporary};
use crate::report::{Kind, skip};
use crate::{lasting, under_load};

#[test]
fn row_15_a_clock_that_jumps_by_days_ends_nothing() {
    const WHAT: &str = "wall clock jumps by ± 1 day (faketime)";
    const LIBRARIES: [&str; 2] = [
        "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1",
        "/usr/lib/aarch64-linux-gnu/faketime/libfaketimeMT.so.1",
    ];
    let library = LIBRARIES
        .iter()
        .find(|library| fs::exists(library).unwrap_or(false));
    let Some(library) = library.filter(|_| succeeds("faketime", &["--version"])) else {
        return skip(Kind::Fault, 15, WHAT, "no faketime");
    };
    let offset = temporary("clock");
    let jump = |to: &str| fs::write(&offset, format!("{to}\n")).unwrap();
    jump("+0");
    let mut command = frameloop(&["--message-timeout", "5s", "--log-level", "debug"]);
    command
        .env("LD_PRELOAD", library)
        .env("FAKETIME_TIMESTAMP_FILE", &offset)
        .env("FAKETIME_NO_CACHE", "1")
        .env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    let mut server = ServerProcess::spawn(&mut command);
    let between = lasting(Duration::from_secs(30), Duration::from_millis(200));
    under_load(15, WHAT, &mut server, |server| {
        let mut idle: Vec<_> = (0..20)
            .map(|_| client::open(server.address, "/echo").unwrap())
            .collect();
        for to in ["+1d", "-1d", "+0", "+365d", "+0"] {
            jump(to);
            thread::sleep(between);
            for socket in &mut idle {
                socket.send("still here?".into()).unwrap();
                while !socket.read().unwrap().is_text() {}
            }
        }
        "5 jumps: 20 idle connections kept"
    });
    let _ = fs::remove_file(&offset);
}
