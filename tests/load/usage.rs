//! Wrong flags: a sentence on standard error, and exit code 2.

use std::net::TcpListener;

use crate::load;
use crate::process::{frameloop, run};

#[test]
fn wrong_flags_are_refused_in_a_sentence() {
    let near = "ws://127.0.0.1:1/";
    for (url, arguments, words) in [
        ("http://127.0.0.1/", "", "is not a URL to load"),
        (near, "-c 0", "0 is not in 1..="),
        (near, "-s 20..10", "not a range of sizes"),
        (near, "-s 2GiB", "not a range of sizes"),
        (near, "--rate 0", "not a rate"),
        (near, "--fragment 8", "must be 16 bytes at least"),
        (near, "--raw --churn", "which --raw does not have"),
        (near, "--connect --idle", "cannot be used with"),
        (near, "--idle --rate 5", "no --rate"),
        (near, "-t 0", "use 1s, 500ms or 2m; 0 measures nothing"),
        (near, "--sweep 1000,2000", "write --sweep=1000,2000"),
        (near, "--text multibyte", "write --text=multibyte"),
        (
            near,
            "--pid 999999999",
            "--pid 999999999: no process has this number",
        ),
        (near, "--pid 1,1", "one process for each URL"),
        (near, "--cpus 0,9999", "cannot run on core 9999"),
        (
            near,
            "--json /nowhere/at/all",
            "--json /nowhere/at/all: No such file",
        ),
        (
            near,
            "--hdr /nowhere/at/all",
            "--hdr /nowhere/at/all: No such file",
        ),
        (near, "--html /tmp", "--html /tmp: Is a directory"),
        (near, "--assert cpu<1", "cpu and memory need --pid PID"),
        (near, "--assert memory<1", "cpu and memory need --pid PID"),
        (
            near,
            "--assert p95<5ms",
            "p50, p90, p99, p99.9, p99.99, mean, max",
        ),
        (near, "--header x", "is not a field"),
        (
            near,
            "--source 127.0.0.9-127.0.0.1",
            "is not an address or a range",
        ),
        (near, "-c 1000000", "open files"),
        (
            near,
            "--broadcast --publishers 2 -s 4",
            "must carry numbers",
        ),
        (near, "--sweep --idle", "not for --idle"),
        (near, "--sweep --rate 5", "cannot be used with"),
        (near, "--deflate --raw", "cannot be used with"),
        (near, "--file /nowhere", "/nowhere: No such file"),
        (near, "--records", "--file"),
        (near, "--assert p99<5", "is not an assertion"),
        (
            "ws://192.0.2.1/",
            "--rate 1000 --broadcast -c 1001",
            "--i-own-this-target",
        ),
        ("ws://192.0.2.1/", "--sweep=10,20", "--i-own-this-target"),
        ("ws://192.0.2.1/", "", "--i-own-this-target"),
        ("ws://192.0.2.1/", "--rate 1001", "--i-own-this-target"),
        (
            "ws://192.0.2.1/",
            "--rate 10 -c 1001",
            "--i-own-this-target",
        ),
    ] {
        let ran = load(url, arguments);
        assert_eq!(ran.code, Some(2), "{url} {arguments}: {}", ran.said);
        assert!(ran.said.contains(words), "{url} {arguments}: {}", ran.said);
        assert_eq!(ran.report, "");
    }
}

#[test]
fn a_server_that_is_not_there_ends_with_3() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("ws://{}/", listener.local_addr().unwrap());
    drop(listener);
    let ran = load(&url, "-c 2 -t 1s");
    assert_eq!(ran.code, Some(3), "{}", ran.report);
    assert!(
        ran.said.contains("cannot connect: connection refused"),
        "{}",
        ran.said
    );
    assert_eq!(load("unix:/nowhere/at/all", "-c 1").code, Some(3));
}

#[test]
fn every_flag_has_a_line_of_help_and_a_variable() {
    let (_, help, _) = run(&mut frameloop(&["load", "--help"]));
    let mut flags = 0;
    for line in help
        .lines()
        .filter(|line| line.trim_start().starts_with('-'))
    {
        let Some(flag) = line.split("--").nth(1) else {
            continue;
        };
        let is_name = |byte: &char| byte.is_ascii_lowercase() || *byte == '-';
        let flag: String = flag.chars().take_while(is_name).collect();
        let variable = format!(
            "[env: FRAMELOOP_LOAD_{}=",
            flag.to_uppercase().replace('-', "_")
        );
        assert!(flag == "help" || help.contains(&variable), "{flag}: {help}");
        flags += 1;
    }
    assert!(flags > 30, "{flags}: {help}");
    for words in [
        "Exit codes: 0 ",
        "or an assertion failed",
        "always exit with 1",
    ] {
        assert!(help.contains(words), "{words}: {help}");
    }
    let mut command = frameloop(&["load", "ws://127.0.0.1:1/"]);
    let (code, ..) = run(command.env("FRAMELOOP_LOAD_SIZE", "never"));
    assert_eq!(code, Some(2));
}
