//! What a user can ask for.

use crate::load;
use crate::process::ServerProcess;

#[test]
fn an_echo_comes_back_whole_whatever_its_size_and_kind() {
    let server = ServerProcess::start(&[]);
    let url = format!("ws://{}/echo", server.address);
    for arguments in [
        "-c 3 --messages 300",
        "-c 3 --messages 300 -d 16 -s 20",
        "-c 2 --messages 301 -d 7 -s 0..70000",
        "-c 2 --messages 100 -s 0",
        "-c 2 --messages 100 -s 7 --text",
        "-c 2 --messages 100 -s 8 --text -d 3",
        "-c 2 --messages 100 -s 16..300 --text=multibyte",
        "-c 2 --messages 100 -s 1000 --fragment 16",
        "-c 2 --messages 100 -s 100000 --fresh-masks -d 4",
        "-c 2 --messages 100 -s 1MiB --check first",
        "-c 5 --messages 1000 --threads 2 -d 5 --check none",
        "-c 5 --messages 100 --rate 100000 --threads 2",
        "-c 2 --messages 10 --subprotocol chat --header Cookie:a=b",
        "-c 3 --messages 30 --source 127.1.0.1-127.1.0.3",
        "-c 3 --messages 30 --ramp 50ms",
    ] {
        let ran = load(&url, arguments);
        let asked = arguments.split("--messages ").nth(1).unwrap();
        let asked: u64 = asked.split(' ').next().unwrap().parse().unwrap();
        let sent = format!(
            "messages     {} sent, {} received",
            thousands(asked),
            thousands(asked)
        );
        assert!(
            ran.is_clean().report.contains(&sent),
            "{arguments}: {}",
            ran.report
        );
    }
}

fn thousands(number: u64) -> String {
    match number {
        0..1_000 => number.to_string(),
        _ => format!("{},{:03}", number / 1_000, number % 1_000),
    }
}

#[test]
fn connections_are_opened_for_their_own_sake() {
    let server = ServerProcess::start(&[]);
    let url = format!("ws://{}/echo", server.address);
    let ran = load(&url, "--connect -c 4 --messages 100");
    assert!(
        ran.is_clean().report.contains("connections  100 opened"),
        "{}",
        ran.report
    );
    let ran = load(&url, "--churn -c 4 --messages 100 -d 3");
    assert!(
        ran.is_clean().report.contains("connections  100 opened"),
        "{}",
        ran.report
    );
    assert!(
        ran.report.contains("300 sent, 300 received"),
        "{}",
        ran.report
    );
    let ran = load(&url, "--churn -c 4 --messages 100 --rate 10000");
    assert!(
        ran.is_clean().report.contains("connections  100 opened"),
        "{}",
        ran.report
    );
}

#[test]
fn idle_connections_stay_and_the_server_is_watched() {
    let server = ServerProcess::start(&[]);
    let url = format!("ws://{}/echo", server.address);
    let ran = load(
        &url,
        &format!("--idle -c 100 -t 300ms --pid {}", server.id()),
    );
    let report = &ran.is_clean().report;
    for words in [
        "connections  100 open\n",
        "100 sent, 100 received",
        "B a connection",
        "descriptors",
    ] {
        assert!(report.contains(words), "{words}: {report}");
    }
}

#[test]
fn a_unix_socket_is_loaded() {
    let path = std::env::temp_dir().join(format!("frameloop-load-{}", std::process::id()));
    let listen = format!("127.0.0.1:0,unix:{}", path.display());
    let _server = ServerProcess::start(&["--listen", &listen]);
    load(
        &format!("unix:{}:/echo", path.display()),
        "-c 3 --messages 300 -d 2",
    )
    .is_clean();
    let _ = std::fs::remove_file(path);
}

/// The open loop goes on while the server does not: what is due is sent, and waits for its answer.
#[test]
fn an_open_loop_sends_what_is_due() {
    let server = ServerProcess::start(&[]);
    let url = format!("ws://{}/echo?delay=200", server.address);
    let ran = load(&url, "-c 2 --rate 500 --messages 100");
    assert!(
        ran.is_clean().report.contains("100 sent, 100 received"),
        "{}",
        ran.report
    );
    assert!(ran.report.contains("\nresponse  "), "{}", ran.report);
    assert!(!ran.report.contains("closed loop"), "{}", ran.report);
}
