//! Servers that do wrong are told of.

use crate::load;
use crate::process::ServerProcess;

#[test]
fn each_fault_of_an_echo_has_its_counter() {
    let server = ServerProcess::start(&[]);
    for (fault, arguments, words) in [
        (
            "drop=0.5&seed=1",
            "-c 4 -d 4 --messages 32",
            &[" lost", " timed out"][..],
        ),
        ("dup=0.5&seed=1", "-c 4 -d 4 --messages 64", &[" repeated"]),
        (
            "reorder=0.5&seed=1",
            "-c 4 -d 4 --messages 32",
            &[" reordered"],
        ),
        (
            "delay=700",
            "-c 2 --messages 2",
            &["2 late, after the timeout"],
        ),
        (
            "abort=3",
            "-c 2 -d 2 --messages 100",
            &[" closed with 1006"],
        ),
        (
            "close_after=3",
            "-c 2 -d 2 --messages 100",
            &["2 closed with 1000"],
        ),
        (
            "close_after=3&close=4321",
            "-c 2 -d 2 --messages 100",
            &["2 closed with 4321"],
        ),
        (
            "stall=4",
            "-c 2 -d 4 --messages 16",
            &["8 lost (8 timed out)"],
        ),
    ] {
        let url = format!("ws://{}/echo?{fault}", server.address);
        load(&url, &format!("{arguments} -s 20 --timeout 400ms")).tells(words);
    }
}

#[test]
fn each_violation_of_the_protocol_has_its_counter() {
    let server = ServerProcess::start(&[]);
    for (violation, words) in [
        ("accept_key", "2 refused: wrong Sec-WebSocket-Accept"),
        ("subprotocol", "2 refused: wrong Sec-WebSocket-Protocol"),
        ("extension", "2 refused: wrong Sec-WebSocket-Extensions"),
        ("opcode", "2 against the protocol: "),
        ("control_opcode", "2 against the protocol: "),
        ("rsv1", "2 against the protocol: "),
        ("rsv2", "2 against the protocol: "),
        ("rsv3", "2 against the protocol: "),
        ("utf8", " corrupt"),
        ("masked", "2 against the protocol: "),
        ("oversized_control", "2 against the protocol: "),
        ("fragmented_control", "2 against the protocol: "),
        ("length", "2 against the protocol: "),
        ("length_msb", "2 against the protocol: "),
        ("truncated", "2 closed with 1006"),
        ("continuation", "2 against the protocol: "),
        ("interleaved", "2 against the protocol: "),
        ("one_octet_close", "2 against the protocol: "),
        ("close_code", "2 against the protocol: "),
        ("close_reason", "2 against the protocol: "),
        ("after_close", "2 "),
    ] {
        let url = format!("ws://{}/echo?invalid={violation}", server.address);
        let ran = load(&url, "-c 2 --messages 4 -s 20 --text --timeout 400ms");
        match words.contains("refused") {
            true => {
                assert_eq!(ran.code, Some(3), "{violation}: {}{}", ran.report, ran.said);
                assert!(ran.report.contains(words), "{violation}: {}", ran.report);
            }
            false => drop(ran.tells(&[words])),
        }
    }
}

#[test]
fn errors_within_max_errors_leave_the_exit_code_at_0() {
    let server = ServerProcess::start(&[]);
    let url = format!("ws://{}/echo?dup=0.5&seed=1", server.address);
    let arguments = "-c 1 -d 4 --messages 40 -s 20";
    assert_eq!(
        load(&url, &format!("{arguments} --max-errors 40")).code,
        Some(0)
    );
    assert_eq!(
        load(&url, &format!("{arguments} --max-errors 1")).code,
        Some(1)
    );
}

#[test]
fn a_refusal_is_reported_with_its_status() {
    let server = ServerProcess::start(&["--max-connections-per-address", "2"]);
    let ran = load(
        &format!("ws://{}/echo", server.address),
        "-c 5 --messages 20",
    );
    ran.tells(&["3 refused: HTTP 503"]);
    let ran = load(
        &format!("ws://{}/nowhere", server.address),
        "-c 2 --messages 2",
    );
    assert_eq!(ran.code, Some(3), "{}", ran.report);
    assert!(
        ran.said.contains("no WebSocket could be opened: HTTP 404"),
        "{}",
        ran.said
    );
    let secured = ServerProcess::start(&["--token", "secret"]);
    let open = format!("ws://{}/echo", server.address);
    let ran = load(
        &format!("ws://{}/echo", secured.address),
        &format!("{open} -c 2 --messages 2"),
    );
    assert_eq!(ran.code, Some(3), "{}", ran.report);
    let words = "no WebSocket could be opened for A: HTTP 401";
    assert!(ran.said.contains(words), "{}", ran.said);
}
