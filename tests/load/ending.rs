//! A run that is ended early.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::Stdio;
use std::time::Instant;

use rustix::process::Signal;

use crate::client::LONG_PATIENCE;
use crate::command;
use crate::process::signal_to;

/// Ctrl-C ends a run of a minute at once, with a whole report.
#[test]
fn an_interrupted_run_reports_all_the_same() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("ws://{}/", listener.local_addr().unwrap());
    let mut child = command()
        .args([
            "load", &url, "--raw", "-c", "1", "-t", "60s", "--warmup", "0",
        ])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
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

/// More errors than are let pass end a run at once.
#[test]
fn too_many_errors_end_a_run() {
    let server = crate::process::ServerProcess::start(&[]);
    let url = format!("ws://{}/echo?dup=1", server.address);
    let ran = crate::load(&url, "-c 1 -t 3600s --max-errors 10");
    ran.tells(&["repeated"]);
}

/// A server that dies under load is told of, and nobody waits for the rest of the hour.
#[test]
fn a_server_that_dies_ends_a_run() {
    let server = crate::process::ServerProcess::start(&[]);
    let url = format!("ws://{}/echo", server.address);
    let pid = server.id().to_string();
    let mut child = command()
        .args([
            "load",
            &url,
            "-c",
            "2",
            "-t",
            "3600s",
            "--threads",
            "2",
            "--pid",
            &pid,
        ])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
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
