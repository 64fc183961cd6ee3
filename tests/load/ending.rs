//! A run that is ended early.

use std::fs::File;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::Stdio;
use std::time::Instant;

use rustix::process::Signal;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use crate::client::LONG_PATIENCE;
use crate::process::{frameloop, signal_to};

/// Ctrl-C ends a run of a minute at once, with a whole report.
#[test]
fn an_interrupted_run_still_reports() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("ws://{}/", listener.local_addr().unwrap());
    let flags = ["--raw", "-c", "1", "-t", "60s", "--warmup", "0"];
    let mut child = frameloop(&["load", &url])
        .args(flags)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut stream, _) = listener.accept().unwrap();
    let mut buffer = [0; 1 << 16];
    // It runs: some messages have come back before the signal.
    for _ in 0..10 {
        let length = stream.read(&mut buffer).unwrap();
        stream.write_all(&buffer[..length]).unwrap();
    }
    signal_to(child.id(), Signal::INT);
    loop {
        match stream.read(&mut buffer) {
            Ok(0) | Err(_) => break,
            Ok(length) => {
                let _ = stream.write_all(&buffer[..length]);
            }
        }
    }
    let mut report = String::new();
    child
        .stdout
        .take()
        .unwrap()
        .read_to_string(&mut report)
        .unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0), "{report}");
    assert!(report.contains("interrupted after"), "{report}");
    assert!(report.contains("\nservice "), "{report}");
    assert!(report.contains("errors       none"), "{report}");
}

/// More errors than --max-errors allows end a run at once.
#[test]
fn too_many_errors_end_a_run() {
    let server = crate::process::ServerProcess::start(&[]);
    let url = format!("ws://{}/echo?dup=1", server.address);
    let ran = crate::load(&url, "-c 1 -t 3600s --max-errors 10");
    ran.tells(&["repeated"]);
}

/// A server that dies under load is reported, and the run does not wait for the rest of the hour.
#[test]
fn a_server_that_dies_ends_a_run() {
    let server = crate::process::ServerProcess::start(&[]);
    let url = format!("ws://{}/echo", server.address);
    let pid = server.id().to_string();
    let flags = ["-c", "2", "-t", "3600s", "--threads", "2", "--pid", &pid];
    let mut child = frameloop(&["load", &url])
        .args(flags)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let both = "frameloop_connections{endpoint=\"/echo\"} 2\n";
    let deadline = Instant::now() + LONG_PATIENCE;
    while !crate::reports::metrics(server.address).contains(both) {
        assert!(Instant::now() < deadline, "it does not connect");
    }
    drop(server);
    let mut report = String::new();
    let mut stdout = child.stdout.take().unwrap();
    stdout.read_to_string(&mut report).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(1), "{report}");
    assert!(report.contains("2 closed with 1006"), "{report}");
}

/// A terminal shows the progress in one line, which each new one replaces and the report clears.
#[test]
fn a_terminal_shows_the_progress() {
    let server = crate::process::ServerProcess::start(&[]);
    let url = format!("ws://{}/echo", server.address);
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let name = ptsname(&master, Vec::new()).unwrap();
    let terminal = File::options().write(true).open(name.to_str().unwrap());
    let mut child = frameloop(&["load", &url, "-c", "2", "-t", "3600s"])
        .stdout(Stdio::null())
        .stderr(terminal.unwrap())
        .spawn()
        .unwrap();
    let mut master = File::from(master);
    let mut shown = Vec::new();
    let mut buffer = [0; 1_024];
    let lines = |shown: &[u8]| String::from_utf8_lossy(shown).matches(" errors").count();
    // When the process has ended, its end of the terminal is gone: that is an error, not an end.
    while let Ok(length) = master.read(&mut buffer) {
        shown.extend_from_slice(&buffer[..length]);
        // One read may have several lines.
        if lines(&shown) >= 2 {
            signal_to(child.id(), Signal::INT);
        }
    }
    assert_eq!(child.wait().unwrap().code(), Some(0));
    let shown = String::from_utf8(shown).unwrap();
    assert!(
        shown.starts_with("\r\x1b[K   1 s  2 connections  "),
        "{shown:?}"
    );
    assert!(shown.ends_with(" 0 errors\r\x1b[K"), "{shown:?}");
    assert!(!shown.contains('\n'), "{shown:?}");
}
