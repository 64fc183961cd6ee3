//! The binary: flags and variables, messages, exit codes, signals, logs.

#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/mod.rs"]
mod support;

use std::io::{BufRead, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use client::{Client, close_frame, request};
use process::{ServerProcess, command_under, frameloop, run, temporary};
use report::{Kind, figure};
use support::*;

#[test]
fn help_fits_one_screen_and_shows_the_common_flags() {
    for arguments in [&["--help"][..], &["-h"], &["serve", "--help"]] {
        let (code, help, _) = run(frameloop(arguments).env("COLUMNS", "80"));
        assert_eq!(code, Some(0));
        assert!(help.lines().count() <= 40, "{help}");
        assert!(help.lines().all(|line| line.len() <= 80), "{help}");
        let is_flag = |line: &&str| {
            let is_own = line.contains("--help") || line.contains("--version");
            line.trim_start().starts_with('-') && !is_own
        };
        assert_eq!(help.lines().filter(is_flag).count(), 10, "{help}");
        assert!(help.contains("frameloop --help-all"), "{help}");
    }
}

#[test]
fn help_all_names_each_flag_its_variable_and_the_exit_codes() {
    let (code, help, _) = run(&mut frameloop(&["--help-all"]));
    assert_eq!(code, Some(0));
    let (_, settings, _) = run(&mut frameloop(&["--print-config"]));
    let mut flags = 0;
    for line in settings.lines() {
        let (flag, _) = line.split_once(" = ").unwrap();
        let variable = format!("FRAMELOOP_{}", flag.to_uppercase().replace('-', "_"));
        assert!(
            help.contains(&format!("--{flag}")),
            "--help-all does not mention --{flag}"
        );
        assert!(
            help.contains(&variable),
            "--help-all does not mention {variable}"
        );
        flags += 1;
    }
    assert!(flags >= 20, "{settings}");
    for variable_and_range in [
        "[env: FRAMELOOP_WORKERS] [range: 1 to 65535]",
        "[env: FRAMELOOP_DEFLATE_WINDOW_BITS] [range: 9 to 15]",
    ] {
        assert!(help.contains(variable_and_range), "{help}");
    }
    assert!(help.contains("Exit codes: 0 "));
}

#[test]
fn compat_services_have_their_own_defaults_and_variables() {
    let config = |command: &mut Command| run(command.arg("--print-config")).1;
    let settings = config(frameloop(&["--compat", "jmalloc"]).env("PORT", "81"));
    for line in [
        "compat = jmalloc",
        "listen = 0.0.0.0:81",
        "ping-interval = 0",
    ] {
        assert!(settings.contains(&format!("{line}\n")), "{settings}");
    }
    let settings = config(
        frameloop(&["serve", "--ping-interval", "7s"])
            .env("FRAMELOOP_COMPAT", "lpinca")
            .env("MAX_MESSAGE_SIZE", "7")
            .env("HEARTBEAT_INTERVAL", "8")
            .env("BIND_ADDRESS", "127.0.0.1"),
    );
    for line in [
        "listen = 127.0.0.1:1337",
        "max-message-size = 7",
        "ping-interval = 7s",
        "ping-timeout = 8ms",
        "high-water-mark = 16384",
    ] {
        assert!(settings.contains(&format!("{line}\n")), "{settings}");
    }
    let (code, _, error) = run(frameloop(&["--compat", "lpinca"]).env("BIND_PORT", "many"));
    assert_eq!(code, Some(2));
    assert!(error.contains("invalid address '[::]:many'"), "{error}");
    let (code, _, error) = run(&mut frameloop(&["--compat", "httpbun"]));
    assert_eq!(code, Some(2));
    assert!(error.contains("httpbin"), "{error}");
}

/// LOG_HTTP_HEADERS and LOG_HTTP_BODY log requests, responses and messages.
#[test]
fn compat_jmalloc_logs_requests_and_messages() {
    let mut served = ServerProcess::spawn(
        frameloop(&["--compat", "jmalloc"])
            .env("LOG_HTTP_HEADERS", "true")
            .env("LOG_HTTP_BODY", "true")
            .env("SEND_SERVER_HOSTNAME", "false")
            .stderr(Stdio::piped()),
    );
    let mut client = served.open("/echo");
    let address = client.stream.local_addr().unwrap();
    client.receives_text("");
    client.send(b"\x81\x83\0\0\0\0a\nb\x82\x83\0\0\0\0\0\0\0");
    client.receives(b"\x81\x03a\nb\x82\x03\0\0\0");
    let mut other = TcpStream::connect(served.address).unwrap();
    let port = other.peer_addr().unwrap().port();
    let request = "POST /path?a=1 HTTP/1.1\r\nHost: a\r\nX-Field: its value\r\n\
                   Content-Length: 18\r\nConnection: close\r\n\r\nhello\0hello|hello.";
    other.write_all(request.as_bytes()).unwrap();
    other.read_to_end(&mut Vec::new()).unwrap();
    drop(client);
    served.signal(Signal::TERM);
    let mut said = String::new();
    served.stdout.read_to_string(&mut said).unwrap();
    let (_, log) = served.ended_with_log();
    let other = other.local_addr().unwrap();
    for line in [
        &*format!("Echo server listening on port {}.", port),
        &format!("--------  {address} | GET /echo"),
        "Headers",
        "Sec-Websocket-Version: 13",
        &format!("{address} | upgraded to websocket"),
        &format!("{address} | txt | a\\nb"),
        &format!("{address} | bin | 3 byte(s)"),
        &format!("--------  {other} | POST /path?a=1"),
        "X-Field: its value",
        "00000000  68 65 6c 6c 6f 00 68 65  6c 6c 6f 7c 68 65 6c 6c  |hello.hello|hell|",
        "00000010  6f 2e                                             |o.|",
    ] {
        let is_said = said.lines().any(|said| said == line);
        assert!(is_said, "{line}: {said}");
    }
    assert!(log.contains(" stopping: "), "{log}");
    assert!(!log.contains(" | "), "{log}");
}

#[test]
fn compat_httpbin_reads_its_variables() {
    let served = ServerProcess::spawn(
        frameloop(&["--compat", "httpbin"])
            .env("MAX_BODY_SIZE", "10")
            .env("MAX_DURATION", "200ms"),
    );
    for (query, status) in [
        ("max_message_size=11", "400"),
        ("max_message_size=10", "101"),
    ] {
        let mut stream = TcpStream::connect(served.address).unwrap();
        let request = request(&format!("/websocket/echo?{query}"));
        let patience = Duration::from_secs(5); // less than the default of 10 s
        stream.set_read_timeout(Some(patience)).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = Vec::new();
        if status == "101" {
            // The Close after the maximum connection time is answered.
            let mut byte = [0];
            while !answer.ends_with(b"\x88\x02\x03\xE8") {
                stream.read_exact(&mut byte).unwrap();
                answer.push(byte[0]);
            }
        } else {
            stream.read_to_end(&mut answer).unwrap();
        }
        let answer = String::from_utf8_lossy(&answer);
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{answer}"
        );
    }
    for (variable, value) in [
        ("MAX_BODY_SIZE", "1MiB"),
        ("MAX_BODY_SIZE", "0"),
        ("MAX_DURATION", "10"),
    ] {
        let command = &mut frameloop(&["--compat", "httpbin", "--listen", "127.0.0.1:0"]);
        let (code, _, error) = run(command.env(variable, value));
        assert_eq!(code, Some(2));
        let expected = format!("invalid {variable} \"{value}\": use ");
        assert!(error.contains(&expected), "{error}");
    }
}

/// The first message of jmalloc's echo server, and one of its response headers.
#[test]
fn compat_jmalloc_reads_its_variables() {
    let served = ServerProcess::spawn(
        frameloop(&["--compat", "jmalloc"])
            .env("SEND_SERVER_HOSTNAME", "false")
            .env("SEND_HEADER_X_SERVED_IN", "a test")
            .env("WEBSOCKET_ROOT", "/root\"&"),
    );
    let mut client = served.open("/echo");
    client.receives_text("");
    client.is_echoed();
    let mut stream = TcpStream::connect(served.address).unwrap();
    let request = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    stream.write_all(request).unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).unwrap();
    assert!(
        response.contains("\r\nX-Served-In: a test\r\n"),
        "{response}"
    );
    let body = "\r\n\r\nGET / HTTP/1.1\n\nHost: a\nConnection: close\n";
    assert!(response.ends_with(body), "{response}");
    let mut stream = TcpStream::connect(served.address).unwrap();
    let request = b"GET /.ws HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    stream.write_all(request).unwrap();
    let mut page = String::new();
    stream.read_to_string(&mut page).unwrap();
    assert!(
        page.contains(" data-endpoint=\"/root&quot;&amp;\""),
        "{page}"
    );
}

#[test]
fn the_version_is_that_of_the_package() {
    let expected = format!("frameloop {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(
        run(&mut frameloop(&["--version"])),
        (Some(0), expected, String::new())
    );
}

#[test]
fn invalid_values_exit_with_2_and_say_what_to_write() {
    let cases: [(&[&str], &str); 14] = [
        (&["--listen", "8000"], "use 127.0.0.1:8000"),
        (&["--listen", "localhost:99999"], "use 127.0.0.1:8000"),
        (&["--workers", "0"], "1..=65535"),
        (
            &["--max-message-size", "1TB"],
            "use 65536, 64KiB, 16MiB or 1GiB",
        ),
        (
            &["--ping-interval", "1d"],
            "invalid duration '1d': use 10s, 500ms, 2m or 1h",
        ),
        (
            &["--allow-origin", "example.com"],
            "use https://example.com",
        ),
        (&["--allow-host", "a b"], "use example.com"),
        // A star elsewhere would match nothing and would not be reported.
        (
            &["--allow-origin", "*.example.com"],
            "use https://*.example.com",
        ),
        (&["--allow-origin", "*"], "leave it out"),
        (&["--allow-host", ".example.com"], "*.example.com"),
        (&["--allow-host", "*"], "leave it out"),
        (
            &["--trust-forwarded-from", "proxy.example"],
            "use 10.0.0.7, 10.0.0.0/8 or fd00::/8, or unix",
        ),
        (&["--log-format", "xml"], "text, json"),
        (&["--no-such-flag"], "--help"),
    ];
    for (arguments, advice) in cases {
        let (code, _, message) = run(&mut frameloop(arguments));
        assert_eq!(code, Some(2), "{arguments:?}");
        assert!(message.contains(advice), "{arguments:?}: {message}");
    }
    let (code, _, message) = run(frameloop(&[]).env("FRAMELOOP_WORKERS", "many"));
    assert_eq!(code, Some(2), "{message}");
}

#[test]
fn a_port_in_use_exits_with_3_and_advice() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let (code, _, message) = run(&mut frameloop(&["--listen", &address]));
    assert_eq!(code, Some(3));
    assert_eq!(message.lines().count(), 1, "{message}");
    assert!(
        message.contains(&address) && message.contains("--listen"),
        "{message}"
    );
}

#[test]
fn flags_take_precedence_over_variables() {
    let (_, settings, _) = run(
        frameloop(&["serve", "--max-queue-size", "2MiB", "--print-config"])
            .env("FRAMELOOP_MAX_QUEUE_SIZE", "3MiB")
            .env("FRAMELOOP_PING_INTERVAL", "7s")
            .env(
                "FRAMELOOP_ALLOW_ORIGIN",
                "https://a.example,https://b.example",
            )
            .env("FRAMELOOP_REQUIRE_ORIGIN", "1"),
    );
    for line in [
        "max-queue-size = 2MiB",
        "ping-interval = 7s",
        "allow-origin = https://a.example,https://b.example",
        "listen = 127.0.0.1:8000",
    ] {
        assert!(
            settings.lines().any(|found| found == line),
            "{line} in:\n{settings}"
        );
    }
}

#[test]
fn the_first_line_has_the_address_and_the_rest_lists_endpoints() {
    let mut served = ServerProcess::logging(&[]);
    served.open("/echo").is_echoed();
    let mut line = String::new();
    let mut listed = Vec::new();
    while !line.starts_with("Ctrl-C") {
        line.clear();
        assert_ne!(served.stdout.read_line(&mut line).unwrap(), 0);
        listed.extend(line.split_whitespace().next().map(str::to_owned));
    }
    for endpoint in ["echo", "ws", "ws/1", "ws/chat/lobby/", "broadcast"] {
        let url = format!("ws://{}/{endpoint}", served.address);
        assert!(listed.contains(&url), "{url} in {listed:?}");
    }
}

#[test]
fn it_listens_on_several_addresses_and_on_unix_sockets() {
    let path = temporary("listen.sock");
    let unix = format!("unix:{}", path.display());
    let arguments = ["--listen", "127.0.0.1:0", "--listen", &unix];
    for _ in 0..2 {
        let served = ServerProcess::start(&arguments);
        served.open("/echo").is_echoed();
        Client::on(UnixStream::connect(&path).unwrap(), "/echo").is_echoed();
        // A killed server leaves its socket file behind, and the next server replaces it.
    }
    let served = ServerProcess::start(&arguments);
    served.signal(Signal::TERM);
    assert_eq!(served.ended().code(), Some(0));
    assert!(!path.exists(), "the file was not removed at the end");
}

/// A misspelt fault does nothing, but the log says so.
#[test]
fn an_unknown_parameter_of_echo_is_ignored_and_logged() {
    let served = ServerProcess::logging(&["--log-level", "debug"]);
    served.open("/echo?drp=1&dup=0&token=x").is_echoed();
    served.open("/echo?dup=0&token=x").is_echoed();
    served.signal(Signal::TERM);
    let (_, log) = served.ended_with_log();
    assert_eq!(log.matches("/echo has no parameter").count(), 1, "{log}");
    assert!(log.contains("/echo has no parameter drp: ignored"), "{log}");
}

/// The URLs of a server on a Unix domain socket are ones that `frameloop load` takes.
#[test]
fn a_unix_socket_and_an_admin_address_are_announced() {
    let (path, admin) = (
        temporary("announced.sock"),
        temporary("announced-admin.sock"),
    );
    let (unix, admin) = (
        format!("unix:{}", path.display()),
        format!("unix:{}", admin.display()),
    );
    let limit = "--max-connections-per-address=1";
    let mut child = frameloop(&["--listen", &unix, "--admin-listen", &admin, limit])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = String::new();
    let mut stdout = std::io::BufReader::new(child.stdout.take().unwrap());
    while !said.contains("Ctrl-C") {
        assert_ne!(stdout.read_line(&mut said).unwrap(), 0, "{said}");
    }
    process::signal_to(child.id(), Signal::TERM);
    let log = String::from_utf8(child.wait_with_output().unwrap().stderr).unwrap();
    for line in [
        format!("frameloop serves on {unix}\n"),
        format!("the operator's address is {admin}\n"),
        format!("  {unix}:/echo "),
        format!("  {unix}:/readyz "),
        format!("  {admin}:/metrics "),
    ] {
        assert!(said.contains(&line), "{line} in {said}");
    }
    assert!(!said.contains("127.0.0.1"), "{said}");
    assert!(!said.contains(&format!("{unix}:/metrics")), "{said}");
    let warning = format!("--max-connections-per-address has no effect on {unix}:");
    assert_eq!(log.matches(&warning).count(), 1, "{log}");
}

#[test]
fn the_list_at_the_root_has_the_operators_pages() {
    let list = |arguments: &[&str]| {
        let served = ServerProcess::start(arguments);
        let mut stream = TcpStream::connect(served.address).unwrap();
        let request = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        stream.write_all(request).unwrap();
        let mut list = String::new();
        stream.read_to_string(&mut list).unwrap();
        ["/healthz", "/readyz", "/metrics"].map(|page| list.contains(&format!(" {page} ")))
    };
    assert_eq!(list(&[]), [true, true, true]);
    assert_eq!(list(&["--no-metrics"]), [true, true, false]);
}

#[test]
fn an_address_that_every_web_page_may_connect_to_is_warned_of() {
    for (arguments, is_warned) in [
        (&["--listen=0.0.0.0:0"][..], true),
        (&["--listen=127.0.0.1:0"], false),
        (&["--listen=0.0.0.0:0", "--token=secret"], false),
        (
            &["--listen=0.0.0.0:0", "--allow-origin=https://a.example"],
            false,
        ),
    ] {
        let mut command = frameloop(arguments);
        let served = ServerProcess::spawn(command.stderr(Stdio::piped()));
        served.signal(Signal::TERM);
        let (_, log) = served.ended_with_log();
        let warnings = log.matches("every web page may connect to 0.0.0.0:");
        assert_eq!(warnings.count(), usize::from(is_warned), "{log}");
    }
}

#[test]
fn a_socket_file_that_cannot_be_made_gets_advice() {
    for (address, words) in [
        (
            "unix:/nowhere/at/all.sock",
            "the directory /nowhere/at does not exist: make it",
        ),
        (
            "unix:/tmp/frameloop-no-group.sock,group=nobody-has-this",
            "unknown group 'nobody-has-this': /etc/group does not list it\n",
        ),
    ] {
        let (code, _, message) = run(&mut frameloop(&["--listen", address]));
        assert_eq!(code, Some(3), "{message}");
        assert!(message.contains(words), "{message}");
        assert!(!message.contains("another address"), "{message}");
    }
}

#[test]
fn print_config_prints_what_can_be_typed_and_no_password() {
    let url = "redis://me:secret@redis.example:6379/0";
    let (_, settings, _) = run(&mut frameloop(&["--redis-url", url, "--print-config"]));
    let hidden = "\nredis-url = redis://me:***@redis.example:6379/0\n";
    assert!(settings.contains(hidden), "{settings}");
    assert!(!settings.contains("secret"), "{settings}");
    for flag in ["max-unfinished-size", "max-unsent-size"] {
        let written = settings.split(&format!("\n{flag} = ")).nth(1).unwrap();
        let written = written.lines().next().unwrap();
        assert!(written.ends_with("iB"), "{written}");
        let typed = format!("--{flag}={written}");
        let (code, again, _) = run(&mut frameloop(&[&typed, "--print-config"]));
        assert_eq!(code, Some(0), "{typed}");
        assert!(again.contains(&format!("{flag} = {written}\n")), "{again}");
    }
}

#[test]
fn a_signal_sends_1001_and_ends_with_0() {
    for signal in [Signal::TERM, Signal::INT] {
        let served = ServerProcess::start(&[]);
        let mut client = served.open("/echo");
        served.signal(signal);
        client.receives(b"\x88\x02\x03\xE9");
        client.send(b"\x88\x82\0\0\0\0\x03\xE9");
        drop(client);
        assert_eq!(served.ended().code(), Some(0), "{signal:?}");
    }
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let (term, int) = (Signal::TERM, Signal::INT);
    for (first, second) in [(term, term), (int, int), (term, int)] {
        let served = ServerProcess::start(&["--drain-timeout", "1h"]);
        let mut silent = served.open("/echo");
        served.signal(first);
        silent.receives(b"\x88\x02\x03\xE9");
        served.signal(second);
        assert_eq!(served.ended().code(), Some(0), "{first:?}, {second:?}");
    }
}

#[test]
fn a_unix_socket_in_use_exits_with_3() {
    let path = temporary("live.sock");
    let unix = format!("unix:{}", path.display());
    let first = ServerProcess::start(&["--listen", "127.0.0.1:0", "--listen", &unix]);
    let (code, _, message) = run(&mut frameloop(&["--listen", &unix]));
    assert_eq!(code, Some(3), "{message}");
    assert!(message.contains("in use"), "{message}");
    // The first server still serves there.
    Client::on(UnixStream::connect(&path).unwrap(), "/echo").is_echoed();
    first.signal(Signal::TERM);
    assert_eq!(first.ended().code(), Some(0));
}

#[test]
fn print_config_prints_all_settings_or_the_error() {
    let full = std::fs::File::options()
        .write(true)
        .open("/dev/full")
        .unwrap();
    let mut child = frameloop(&["--print-config"])
        .stdout(full)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut message = String::new();
    let mut stderr = child.stderr.take().unwrap();
    stderr.read_to_string(&mut message).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(1));
    assert!(message.starts_with("frameloop: cannot print"), "{message}");
}

#[test]
fn json_logs_have_one_object_per_line_for_any_input() {
    let arguments = ["--log-format", "json", "--log-level", "debug"];
    let mut served = ServerProcess::logging(&arguments);
    for hostile in ["/%0a{\"level\":\"error\"}", "/\u{1F600}"] {
        let mut stream = TcpStream::connect(served.address).unwrap();
        write!(stream, "GET {hostile} HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        stream.read_to_end(&mut Vec::new()).unwrap();
    }
    let mut client = served.open("/echo");
    let reason = b"\x1B]0;x\x07\n{\"level\":\"error\"}";
    client.send(&close_frame(1000, reason));
    client.stream.read_to_end(&mut Vec::new()).unwrap();
    drop(client);
    served.signal(Signal::TERM);
    let mut said = String::new();
    served.stdout.read_to_string(&mut said).unwrap();
    assert_eq!(said, "", "more than the address on standard output");
    let (_, log) = served.ended_with_log();
    assert!(log.lines().count() >= 3, "{log}");
    for line in log.lines() {
        let event: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_ne!(event["level"], "error", "{line}");
    }
    assert!(
        log.bytes().all(|byte| byte >= 0x20 || byte == b'\n'),
        "{log:?}"
    );
    figure(
        Kind::Attack,
        39,
        "escapes, line ends and JSON in paths and Close reasons: lines that are not an object",
        0,
        0,
    );
}

/// Attack 40: refusals are logged up to a rate, and suppressed lines are counted.
#[test]
fn attack_40_a_flood_of_invalid_handshakes_does_not_flood_the_log() {
    const REQUESTS: usize = 3_000;
    let served = ServerProcess::logging(&[]);
    let refused = || {
        let mut stream = TcpStream::connect(served.address).unwrap();
        stream
            .write_all(b"GET /nowhere HTTP/1.1\r\nHost: localhost\r\n\r\n")
            .unwrap();
        stream.read_to_end(&mut Vec::new()).unwrap();
    };
    let began = Instant::now();
    (0..REQUESTS).for_each(|_| refused());
    let seconds = began.elapsed().as_secs();
    // The first line of the next second counts the suppressed ones.
    std::thread::park_timeout(Duration::from_millis(1_050));
    refused();
    served.signal(Signal::TERM);
    let (_, log) = served.ended_with_log();
    let lines = log
        .lines()
        .filter(|line| line.contains("request refused") && line.contains(" peer=127.0.0.1:"))
        .count();
    let left_out: usize = log
        .lines()
        .filter_map(|line| {
            line.split("left_out=")
                .nth(1)?
                .split(' ')
                .next()?
                .parse::<usize>()
                .ok()
        })
        .sum();
    figure(
        Kind::Attack,
        40,
        format_args!(
            "{} refusals in {seconds} s: lines; counted as suppressed",
            REQUESTS + 1
        ),
        "<= 100 a second; the rest",
        format_args!("{lines}; {left_out}"),
    );
    assert!(lines <= 100 * (seconds as usize + 3), "{lines} lines");
    assert_eq!(lines + left_out, REQUESTS + 1);
}

/// Attack 38: the server survives clients that reset during an echo, and a closed log pipe.
#[test]
fn attack_38_broken_pipes_do_not_end_the_server() {
    let mut served = ServerProcess::logging(&["--log-level", "debug"]);
    drop(served.stderr());
    let mut bystander = served.open("/echo");
    for _ in 0..20 {
        let mut client = served.open("/echo");
        let mut message = b"\x82\xFF\0\0\0\0\x01\0\0\0\0\0\0\0".to_vec();
        message.resize(message.len() + (16 << 20), 7);
        client.send(&message);
        // The echo has begun, but most of it cannot be sent.
        client.stream.read_exact(&mut [0; 10]).unwrap();
        rustix::net::sockopt::set_socket_linger(&client.stream, Some(Duration::ZERO)).unwrap();
        drop(client);
        bystander.is_echoed();
    }
    served.signal(Signal::TERM);
    let status = served.ended();
    figure(
        Kind::Attack,
        38,
        "20 resets during an echo of 16 MiB, log pipe closed: exit code",
        0,
        status.code().unwrap_or(-1),
    );
    assert_eq!(status.code(), Some(0));
}

#[test]
fn a_closed_standard_output_or_error_does_not_end_the_server() {
    let mut served = ServerProcess::logging(&[]);
    drop(served.stderr());
    // A refused request is logged, but the pipe is closed.
    let mut stream = TcpStream::connect(served.address).unwrap();
    stream
        .write_all(b"GET /nowhere HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .unwrap();
    stream.read_to_end(&mut Vec::new()).unwrap();
    served.open("/echo").is_echoed();
}

/// Attack 35: without a free descriptor the server still serves its connections, does not spin, and
/// accepts again once a descriptor is free.
#[test]
fn attack_35_exhausted_descriptors_neither_spin_nor_kill() {
    let limited = ["sh", "-c", "ulimit -n 40; exec \"$0\" \"$@\""];
    let served = ServerProcess::spawn(&mut command_under(&limited, &["--workers", "1"]));
    let mut first = served.open("/echo");
    let mut others = Vec::new();
    // More connections than descriptors: the rest is closed or waits.
    for _ in 0..100 {
        others.push(TcpStream::connect(served.address).unwrap());
        first.is_echoed();
    }
    let ticks = cpu_ticks(served.id());
    let before = ticks;
    for _ in 0..20 {
        first.is_echoed();
        std::thread::park_timeout(Duration::from_millis(50));
    }
    // A tick is 10 ms: spinning for a second would take 100 ticks.
    let spent = cpu_ticks(served.id()) - before;
    figure(
        Kind::Attack,
        35,
        "100 connections for 40 descriptors: CPU in 1 s with 20 echoes",
        "< 5 % of a core",
        format_args!("{} ms", spent * 10),
    );
    assert!(spent < 30, "{spent} ticks");
    drop(others);
    // The other connections may take a moment to close.
    let is_served = (0..1_000).any(|_| {
        let mut stream = TcpStream::connect(served.address).unwrap();
        stream
            .write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            .unwrap();
        let mut response = String::new();
        stream.read_to_string(&mut response).is_ok() && response.ends_with("ok")
    });
    assert!(is_served);
    first.is_echoed();
}

/// Attack 34, C26, C27 and fault 1: a client that resets its connection at any byte leaves no
/// descriptor behind. A reset before its first message is not logged.
#[test]
fn attack_34_resets_at_every_byte_leave_no_descriptor_and_no_log_line() {
    let served = ServerProcess::logging(&[]);
    let mut bystander = served.open("/echo");
    let session = [
        request("/broadcast").as_bytes(),
        b"\x81\x82\0\0\0\0hi",
        b"\x01\x81\0\0\0\0a",
        b"\x89\x80\0\0\0\0",
        b"\x80\x81\0\0\0\0b",
        b"\x88\x82\0\0\0\0\x03\xE8",
    ]
    .concat();
    let before = descriptors(served.id());
    for length in 0..=session.len() {
        let mut stream = TcpStream::connect(served.address).unwrap();
        stream.write_all(&session[..length]).unwrap();
        rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO)).unwrap();
        drop(stream);
        if length % 50 == 0 {
            bystander.is_echoed();
        }
    }
    // The server accepts in order, so it has accepted all earlier connections by now.
    served.open("/echo").is_echoed();
    let began = Instant::now();
    while descriptors(served.id()) > before {
        assert!(
            began.elapsed() < Duration::from_secs(5),
            "{} descriptors, {before} before",
            descriptors(served.id())
        );
        std::thread::park_timeout(Duration::from_millis(5));
    }
    figure(
        Kind::Attack,
        34,
        format_args!(
            "RST at each of {} bytes: descriptors left; log lines",
            session.len() + 1
        ),
        "0; 0",
        format_args!("0 after {:.1?}; 0", began.elapsed()),
    );
    bystander.is_echoed();
    drop(bystander);
    served.signal(Signal::TERM);
    let (status, log) = served.ended_with_log();
    assert_eq!(status.code(), Some(0));
    // A client that has sent a message has an access log line.
    let has_spoken = |line: &str| line.contains("endpoint=") && !line.contains(" received=0 ");
    let lines = log.lines().filter(|line| !has_spoken(line));
    assert_eq!(lines.count(), 1, "{log}");
    assert!(log.contains("stopping"), "{log}");
}

/// The number of open descriptors of a process.
fn descriptors(process: u32) -> usize {
    std::fs::read_dir(format!("/proc/{process}/fd"))
        .unwrap()
        .count()
}

/// The CPU time of a process in ticks, user and system time together.
fn cpu_ticks(process: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    let fields: Vec<&str> = stat
        .rsplit(')')
        .next()
        .unwrap()
        .split_whitespace()
        .collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}
