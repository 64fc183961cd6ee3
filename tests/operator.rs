//! What the operator sees of the binary: metrics, readiness, the access log, certificate renewal.

#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/mod.rs"]
mod support;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use client::{Client, PATIENCE, connect, frame, reply};
use process::{ServerProcess, frameloop, temporary};
use rustix::process::Signal;
use support::*;

/// A server with an admin address.
struct Served {
    server: ServerProcess,
    admin: PathBuf,
}

impl Served {
    fn start(name: &str, arguments: &[&str]) -> Served {
        let admin = temporary(name);
        let mut command = frameloop(&["--log-format", "json"]);
        command
            .arg(format!("--admin-listen=unix:{}", admin.display()))
            .args(arguments)
            .stderr(Stdio::piped());
        Served {
            server: ServerProcess::spawn(&mut command),
            admin,
        }
    }

    fn open(&self, path: &str) -> Client {
        self.server.open(path)
    }

    fn connect(&self) -> TcpStream {
        connect(self.server.address, PATIENCE).unwrap()
    }

    /// The status and body of a response on the admin address.
    fn get(&self, path: &str) -> (u16, String) {
        get(&mut UnixStream::connect(&self.admin).unwrap(), path)
    }

    /// Waits until the metrics contain this line.
    fn tells(&self, line: &str) {
        self.tells_one(line, |told| told == line);
    }

    /// Waits until the metric of this name is above 0.
    fn tells_above_zero(&self, name: &str) {
        self.tells_one(name, |told| {
            let value = told
                .strip_prefix(name)
                .and_then(|rest| rest.trim().parse().ok());
            value.is_some_and(|value: f64| value > 0.0)
        });
    }

    fn tells_one(&self, what: &str, is_it: impl Fn(&str) -> bool) {
        let begin = Instant::now();
        loop {
            let (status, text) = self.get("/metrics");
            assert_eq!(status, 200);
            if text.lines().any(&is_it) {
                return;
            }
            assert!(begin.elapsed() < PATIENCE, "no {what:?} in\n{text}");
            std::thread::yield_now();
        }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.admin);
    }
}

fn get(stream: &mut (impl Read + Write), path: &str) -> (u16, String) {
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, body.into())
}

#[test]
fn metrics_count_throttled_publishers() {
    let served = Served::start("held", &["--max-publish-rate", "1"]);
    let mut publisher = served.open("/broadcast");
    // The first message uses up the rate of a second; the second waits for the next.
    publisher.send(&b"\x81\x81\0\0\0\0x".repeat(2));
    publisher.receives(&b"\x81\x01x".repeat(2));
    served.tells("frameloop_publishers_held_total 2");
    served.tells("frameloop_fanout_deliveries_total 2");
}

#[test]
fn metrics_count_connections_messages_and_closes() {
    for (name, path) in [("metrics", "/echo"), ("metrics-of-faults", "/echo?drop=0")] {
        check_metrics_of(&Served::start(name, &[]), path);
    }
}

fn check_metrics_of(served: &Served, path: &str) {
    let mut client = served.open(path);
    served.tells("frameloop_connections{endpoint=\"/echo\"} 1");
    served.tells("frameloop_handshakes_total{status=\"101\"} 1");
    // A text message of two bytes, a binary one of three, an empty Ping.
    client.send(b"\x81\x82\0\0\0\0hi\x82\x83\0\0\0\0abc\x89\x80\0\0\0\0");
    client.receives(b"\x81\x02hi\x82\x03abc\x8A\0");
    for direction in ["received", "sent"] {
        for (kind, bytes) in [("text", 2), ("binary", 3), ("control", 0)] {
            let labels = format!("direction=\"{direction}\",type=\"{kind}\"");
            served.tells(&format!("frameloop_messages_total{{{labels}}} 1"));
            served.tells(&format!(
                "frameloop_message_bytes_total{{{labels}}} {bytes}"
            ));
        }
    }
    client.send(b"\x88\x82\0\0\0\0\x03\xE8");
    client.receives(b"\x88\x02\x03\xE8");
    drop(client);
    served.tells("frameloop_connections{endpoint=\"/echo\"} 0");
    served.tells("frameloop_closes_total{code_sent=\"1000\",code_received=\"1000\",reason=\"closed by peer\"} 1");
    served.tells("frameloop_slow_consumers_total 0");
    served.tells("frameloop_gap_events_total 0");
    served.tells("frameloop_backlog_bytes 0");
    served.tells("frameloop_unsent_bytes 0");
    served.tells("frameloop_publishers_held_total 0");
    served.tells("frameloop_fanout_dropped_total 0");

    assert_eq!(get(&mut served.connect(), "/nowhere").0, 404);
    served.tells("frameloop_handshakes_total{status=\"404\"} 1");
    let (_, text) = served.get("/metrics");
    for name in [
        "process_resident_memory_bytes",
        "process_open_fds",
        "process_cpu_seconds_total",
    ] {
        let line = text
            .lines()
            .find(|line| line.starts_with(&format!("{name} ")));
        let value: f64 = line.unwrap().rsplit_once(' ').unwrap().1.parse().unwrap();
        assert!(value >= 0.0 && value.is_finite(), "{name}");
    }
    assert!(text.ends_with("# EOF\n"));
}

#[test]
fn fan_out_is_counted_once_for_each_receiver() {
    let served = Served::start("fan-out", &[]);
    let mut members = [(); 3].map(|()| served.open("/broadcast"));
    members[0].send_text("hi");
    for member in &mut members {
        member.receives_text("hi");
    }
    served.tells("frameloop_fanout_deliveries_total 3");
    served.tells("frameloop_fanout_bytes_total 12");
}

#[test]
fn metrics_show_the_backlog_of_a_client_that_does_not_read() {
    // More than the kernel's buffers hold.
    const LENGTH: usize = 15 << 20;
    let served = Served::start("backlog", &[]);
    let mut client = served.open("/echo");
    client.send(&frame(0x82, &vec![0; LENGTH]));
    served.tells_above_zero("frameloop_backlog_bytes");
    served.tells_above_zero("frameloop_unsent_bytes");
    client.receives(&reply(0x82, &vec![0; LENGTH]));
    served.tells("frameloop_backlog_bytes 0");
}

#[test]
fn metrics_count_slow_consumers() {
    let message = vec![0; 60_000];
    // The connection ends when the deadline of its Close is over.
    let options = ["--max-queue-size", "100000", "--write-timeout", "1s"];
    let served = Served::start("slow", &options);
    let _slow = served.open("/broadcast");
    let mut publisher = served.open("/broadcast");
    // More than the kernel's buffers hold.
    for _ in 0..400 {
        publisher.send(&frame(0x82, &message));
        publisher.receives(&reply(0x82, &message));
    }
    served.tells("frameloop_slow_consumers_total 1");
    served.tells("frameloop_closes_total{code_sent=\"1008\",code_received=\"1006\",reason=\"slow consumer\"} 1");
}

#[test]
fn metrics_move_to_the_admin_address_if_there_is_one() {
    let served = Served::start("where", &[]);
    assert_eq!(get(&mut served.connect(), "/metrics").0, 404);
    let ready = get(&mut served.connect(), "/readyz");
    assert_eq!(ready, (200, "ready".into()));
    assert_eq!(served.get("/healthz"), (200, "ok".into()));
    assert_eq!(served.get("/echo").0, 404);

    let server = ServerProcess::start(&[]);
    let mut stream = connect(server.address, PATIENCE).unwrap();
    let (status, text) = get(&mut stream, "/metrics");
    assert_eq!(status, 200);
    assert!(text.contains("frameloop_messages_total"));
}

#[test]
fn readyz_answers_503_during_a_drain() {
    let served = Served::start("drains", &["--drain-timeout", "10s"]);
    let mut client = served.open("/echo");
    assert_eq!(served.get("/readyz"), (200, "ready".into()));
    served.server.signal(Signal::TERM);
    client.receives(b"\x88\x02\x03\xE9");
    // The client has not answered yet, so the server is still draining.
    assert_eq!(served.get("/readyz"), (503, "draining".into()));
}

#[test]
fn each_connection_that_ends_has_a_log_line() {
    for (name, path) in [("access", "/echo"), ("access-of-faults", "/echo?drop=0")] {
        a_line_is_logged(Served::start(name, &[]), path);
    }
}

fn a_line_is_logged(mut served: Served, path: &str) {
    let mut client = served.open(path);
    client.send(b"\x81\x82\0\0\0\0hi\x88\x82\0\0\0\0\x03\xE8");
    client.stream.read_to_end(&mut Vec::new()).unwrap();
    drop(client);
    let line = access_line(&mut served);
    let fields = &line;
    assert!(
        fields["peer"].as_str().unwrap().starts_with("127.0.0.1:"),
        "{line}"
    );
    assert!(
        fields["connection"].as_str().unwrap().ends_with("-1"),
        "{line}"
    );
    assert!(fields["seconds"].is_number(), "{line}");
    for (name, value) in [
        ("received", 1),
        ("received_bytes", 2),
        ("sent", 1),
        ("sent_bytes", 2),
        ("code_sent", 1000),
        ("code_received", 1000),
    ] {
        assert_eq!(fields[name], value, "{name}: {line}");
    }
    assert_eq!(fields["endpoint"], "/echo");
}

/// The first line of the access log.
fn access_line(served: &mut Served) -> serde_json::Value {
    let log = BufReader::new(served.server.stderr());
    let mut lines = log.lines().map(Result::unwrap);
    let line = lines.find(|line| line.contains("\"endpoint\"")).unwrap();
    serde_json::from_str(&line).unwrap()
}

/// A reset is logged if the client has sent a message. A silent client was probably a port check.
#[test]
fn a_reset_is_logged_only_after_a_message() {
    for (name, path) in [("reset", "/echo"), ("reset-of-faults", "/echo?drop=0")] {
        let mut served = Served::start(name, &[]);
        reset(served.open(path));
        served.tells(
            "frameloop_closes_total{code_sent=\"1006\",code_received=\"1006\",reason=\"broken\"} 1",
        );
        let mut client = served.open(path);
        client.is_echoed();
        reset(client);
        // Only the second reset is logged: its line is the first.
        let line = access_line(&mut served);
        for (name, value) in [
            ("received", 1),
            ("sent", 1),
            ("code_sent", 1006),
            ("code_received", 1006),
        ] {
            assert_eq!(line[name], value, "{name}: {line}");
        }
    }
}

/// Ends the connection with RST.
fn reset(client: Client) {
    rustix::net::sockopt::set_socket_linger(&client.stream, Some(Duration::ZERO)).unwrap();
}

/// Every metric on the dashboard exists under that name.
#[test]
fn every_metric_on_the_dashboard_exists() {
    let dashboard = include_str!("../package/grafana.json");
    let dashboard: serde_json::Value = serde_json::from_str(dashboard).unwrap();
    let served = Served::start("dashboard", &[]);
    drop(served.open("/echo"));
    served.tells("frameloop_connections{endpoint=\"/echo\"} 0");
    // The figures of the process are read beside the first request.
    served.tells_above_zero("process_resident_memory_bytes");
    let (_, told) = served.get("/metrics");
    let mut drawn = 0;
    for panel in dashboard["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().unwrap() {
            let expression = target["expr"].as_str().unwrap();
            let name = expression
                .split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
                .find(|word| word.starts_with("frameloop_") || word.starts_with("process_"))
                .unwrap();
            let is_told = |line: &str| {
                let rest = line.strip_prefix(name);
                rest.is_some_and(|rest| rest.starts_with(['{', ' ']))
            };
            assert!(told.lines().any(is_told), "{name} in\n{told}");
            drawn += 1;
        }
    }
    assert!(drawn >= 12);
}

/// The log lines of failed TLS handshakes, until the server exits.
fn failed_handshakes(mut served: Served) -> Vec<serde_json::Value> {
    let log = BufReader::new(served.server.stderr());
    served.server.signal(Signal::TERM);
    let lines = log.lines().map(Result::unwrap);
    let events = lines.map(|line| serde_json::from_str::<serde_json::Value>(&line).unwrap());
    events
        .filter(|event| {
            event["message"]
                .as_str()
                .unwrap()
                .starts_with("TLS handshake failed")
        })
        .collect()
}

/// Sends these bytes and reads to the end.
fn says(served: &Served, bytes: &[u8]) -> std::net::SocketAddr {
    let mut client = served.connect();
    client.write_all(bytes).unwrap();
    client.shutdown(std::net::Shutdown::Write).unwrap();
    let _ = client.read_to_end(&mut Vec::new());
    client.local_addr().unwrap()
}

/// A ClientHello of TLS 1.0 with two cipher suites and a server name.
fn old_hello() -> Vec<u8> {
    let name = b"\0\0\0\x0E\0\x0C\0\0\x09localhost";
    let mut hello = b"\x03\x01".to_vec();
    hello.extend([7; 32]);
    hello.extend(b"\0\0\x04\0\x35\0\x2F\x01\0\0\x12");
    hello.extend(name);
    let length = hello.len() as u8;
    let head = [0x16, 3, 1, 0, length + 4, 1, 0, 0, length];
    [&head[..], &hello].concat()
}

#[test]
fn a_failed_tls_handshake_is_logged_with_what_the_client_sent() {
    let served = Served::start(
        "tls-log",
        &["--tls-self-signed", "--handshake-timeout", "0.3s"],
    );
    let half = &old_hello()[..20];
    let cases: [(&[u8], &str); 4] = [
        (
            b"GET /echo HTTP/1.1\r\nHost: localhost\r\n\r\n",
            "the client speaks plain HTTP: 'GET /echo HTTP/1.1'",
        ),
        (
            &old_hello(),
            "the client offered TLS 1.0; cipher suites 0035 002F; server name 'localhost'",
        ),
        (b"\x80\x2E\x01\x03\x01", "the client sent 80 2E 01 03 01"),
        (half, "the client sent 16 03 01 00"),
    ];
    let mut peers: Vec<String> = cases
        .iter()
        .map(|(bytes, _)| says(&served, bytes).to_string())
        .collect();
    // A client without trusted roots: its offer is fine, and its alert names the problem.
    let mut distrusting = served.connect();
    peers.push(distrusting.local_addr().unwrap().to_string());
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    let name = "localhost".try_into().unwrap();
    let mut session = rustls::ClientConnection::new(config.into(), name).unwrap();
    assert!(session.complete_io(&mut distrusting).is_err());
    let _ = session.write_tls(&mut distrusting);
    let _ = distrusting.read_to_end(&mut Vec::new());
    // Half a ClientHello, and nothing more until the deadline.
    let mut slow = served.connect();
    peers.push(slow.local_addr().unwrap().to_string());
    slow.write_all(half).unwrap();
    let _ = slow.read_to_end(&mut Vec::new());
    // A connection without a byte is a port check: it is not logged, whichever side closes it.
    says(&served, b"");
    let mut silent = served.connect();
    let _ = silent.read_to_end(&mut Vec::new());

    let expected = cases.iter().map(|(_, expected)| *expected);
    let expected = expected.chain([
        "UnknownCA; the client offered TLS 1.3, TLS 1.2; cipher suites 1302",
        "it took too long; the client sent 16 03 01 00",
    ]);
    let lines = failed_handshakes(served);
    assert_eq!(lines.len(), peers.len(), "{lines:#?}");
    for ((line, expected), peer) in lines.iter().zip(expected).zip(&peers) {
        let message = line["message"].as_str().unwrap();
        assert!(message.contains(expected), "{expected} in {message}");
        assert_eq!(line["level"], "INFO");
        assert_eq!(line["peer"], **peer, "{message}");
    }
}

#[test]
fn a_flood_of_failed_tls_handshakes_does_not_flood_the_log() {
    const CLIENTS: usize = 500;
    let served = Served::start("tls-flood", &["--tls-self-signed"]);
    let began = Instant::now();
    for _ in 0..CLIENTS {
        says(&served, b"GET / HTTP/1.1\r\n\r\n");
    }
    let seconds = began.elapsed().as_secs() as usize;
    let lines = failed_handshakes(served).len();
    assert!(
        lines >= 100 && lines <= 100 * (seconds + 2),
        "{lines} in {seconds} s"
    );
}
