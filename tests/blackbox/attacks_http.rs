//! Attacks by plain HTTP requests: metrics, bodies, refused upgrades, tokens.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use frameloop::app::compat::EchoService;
use frameloop::app::{self, AppSettings};
use frameloop::handshake::Policy;
use frameloop::metrics::Metrics;
use rustix::process::Signal;

use crate::client::{Client, PATIENCE, request};
use crate::process::{ServerProcess, frameloop};
use crate::report::{Kind, figure};
use crate::server::TestServer;

/// The next response on a connection: its head and its body.
fn response(stream: &mut impl BufRead) -> (String, Vec<u8>) {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert_ne!(
            stream.read_line(&mut head).unwrap(),
            0,
            "FIN after {head:?}"
        );
    }
    let length = head.to_lowercase();
    let (_, length) = length.split_once("content-length: ").unwrap();
    let length = length.split("\r\n").next().unwrap().parse().unwrap();
    let mut body = vec![0; length];
    stream.read_exact(&mut body).unwrap();
    (head, body)
}

/// Sends a request and returns the status of the response and its head.
fn answer(server: &TestServer, request: &str) -> (String, String) {
    let mut client = Client::connect(server);
    client.send(request.as_bytes());
    let head = client.receive_head();
    (head[9..12].to_owned(), head)
}

/// Requests `/metrics` as fast as possible until `stop` is set. Returns the number of responses and
/// the different bodies.
fn flood_metrics(server: &ServerProcess, stop: &AtomicBool) -> (usize, HashSet<Vec<u8>>) {
    const AT_ONCE: usize = 16;
    let mut client = Client::at(server.address);
    let mut stream = BufReader::new(client.stream.try_clone().unwrap());
    let request = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(AT_ONCE);
    let (mut count, mut texts) = (0, HashSet::new());
    while !stop.load(Ordering::Relaxed) {
        client.send(&request);
        for _ in 0..AT_ONCE {
            texts.insert(response(&mut stream).1);
        }
        count += AT_ONCE;
    }
    (count, texts)
}

/// Connections open and close during the test, so each newly written body differs from the last.
#[test]
fn attack_59_metrics_are_written_ten_times_a_second_at_most() {
    const SECONDS: usize = 2;
    let server = ServerProcess::start(&["--workers", "1"]);
    let stop = AtomicBool::new(false);
    let (mut times, mut asked, mut texts) = (Vec::new(), 0, HashSet::new());
    let began = Instant::now();
    thread::scope(|scope| {
        let floods = [(); 2].map(|()| scope.spawn(|| flood_metrics(&server, &stop)));
        while began.elapsed() < Duration::from_secs(SECONDS as u64) {
            let mut innocent = Client::at(server.address);
            innocent.send(request("/echo").as_bytes());
            innocent.receive_head();
            let sent = Instant::now();
            innocent.send_text("innocent");
            innocent.receives_text("innocent");
            times.push(sent.elapsed());
        }
        stop.store(true, Ordering::Relaxed);
        for flood in floods {
            let (count, received) = flood.join().unwrap();
            asked += count;
            texts.extend(received);
        }
    });
    let spent = began.elapsed().as_secs() as usize;
    let figures: HashSet<&str> = texts
        .iter()
        .flat_map(|text| std::str::from_utf8(text).unwrap().lines())
        .filter(|line| line.starts_with("process_cpu_seconds_total "))
        .collect();
    times.sort();
    let p99 = times[times.len() * 99 / 100];
    figure(
        Kind::Attack,
        59,
        "2 clients pipeline GET /metrics: bodies written, /proc reads, p99 echo time of others",
        "<= 10 and <= 1 a second; < 5 ms",
        format_args!(
            "{} and {} for {asked} requests in {SECONDS} s; {p99:.1?}",
            texts.len(),
            figures.len()
        ),
    );
    assert!(texts.len() <= 10 * (spent + 1) + 1, "{}", texts.len());
    assert!(figures.len() <= spent + 2, "{}", figures.len());
    assert!(asked > texts.len(), "{asked}");
}

#[test]
fn attack_59_metrics_need_the_token() {
    let server = ServerProcess::start(&["--token", "s3cret"]);
    let status = |path: &str| {
        let mut client = Client::at(server.address);
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        client.send(request.as_bytes());
        client.receive_head()[9..12].to_owned()
    };
    assert_eq!(status("/metrics"), "401");
    assert_eq!(status("/metrics?token=s3cre"), "401");
    assert_eq!(status("/metrics?token=s3cret"), "200");
    assert_eq!(status("/readyz"), "200");
    assert_eq!(status("/"), "200");
}

#[test]
fn disabled_services_answer_404() {
    let server = ServerProcess::start(&["--no-socketio", "--no-metrics"]);
    for (path, expected) in [
        ("/socket.io/?EIO=4&transport=polling", "404"),
        ("/socket.io/socket.io.js", "404"),
        ("/metrics", "404"),
        ("/", "200"),
    ] {
        let mut client = Client::at(server.address);
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        client.send(request.as_bytes());
        let mut answer = String::new();
        client.stream.read_to_string(&mut answer).unwrap();
        assert_eq!(&answer[9..12], expected, "{path}");
        assert!(!answer.contains("Socket.IO"), "{answer}");
    }
}

#[test]
fn attack_62_a_body_of_one_byte_chunks_takes_no_more_memory_than_its_bytes() {
    const CHUNKS: usize = 150_000;
    let server = ServerProcess::start(&["--workers", "1", "--compat", "jmalloc"]);
    let before = server.settled().anonymous;
    let mut clients: Vec<Client> = (0..2).map(|_| Client::at(server.address)).collect();
    for client in &mut clients {
        client.send(b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n");
        client.send(&b"1\r\nx\r\n".repeat(CHUNKS));
    }
    // The server has read everything once both sockets' queues are empty.
    let deadline = Instant::now() + 3 * PATIENCE;
    while clients.iter().any(|client| unread(&server, client) > 0) {
        assert!(Instant::now() < deadline);
        thread::sleep(Duration::from_millis(10));
    }
    let grown = server.resources().anonymous.saturating_sub(before);
    for client in &mut clients {
        client.send(b"0\r\n\r\n");
        assert!(client.receive_head().starts_with("HTTP/1.1 200 "));
    }
    figure(
        Kind::Attack,
        62,
        "2 unfinished bodies of 150,000 one-byte chunks: growth of RSS",
        "< 4 MB",
        format_args!("{grown} KiB"),
    );
    assert!(grown < 4_000, "{grown} KiB");
}

/// The unread bytes of this connection in the server's socket and in the client's, from /proc.
fn unread(server: &ServerProcess, client: &Client) -> u64 {
    let (server, client) = (
        server.address.port(),
        client.stream.local_addr().unwrap().port(),
    );
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let port =
        |address: &str| u16::from_str_radix(address.rsplit(':').next().unwrap(), 16).unwrap();
    let waiting = table.lines().skip(1).map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let ends = (port(fields[1]), port(fields[2]));
        let (sent, received) = fields[4].split_once(':').unwrap();
        let bytes = |queue| u64::from_str_radix(queue, 16).unwrap();
        match ends {
            ends if ends == (server, client) => bytes(received),
            ends if ends == (client, server) => bytes(sent),
            _ => 0,
        }
    });
    waiting.sum()
}

#[test]
fn attack_64_a_request_for_an_upgrade_that_fails_is_the_last_on_its_connection() {
    let behind = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let jmalloc = app::router_with(AppSettings {
        compat: Some(EchoService::Jmalloc),
        ..AppSettings::default()
    });
    for (router, path, status) in [
        (
            app::router(),
            "/socket.io/?EIO=4&transport=websocket&sid=x",
            "400",
        ),
        (
            app::router(),
            "/socket.io/?EIO=3&transport=websocket",
            "400",
        ),
        (app::router(), "/healthz", "200"),
        (app::router(), "/nothing", "404"),
        (jmalloc, "/x", "426"),
    ] {
        let metrics = Metrics::new();
        let counted = metrics.clone();
        let server = TestServer::serving(router, |server| server.with_metrics(counted));
        let mut wanted = request(path);
        if status == "426" {
            wanted = wanted.replace(": 13", ": 1777");
        }
        let mut client = Client::connect(&server);
        client.send(format!("{wanted}{behind}").as_bytes());
        let mut stream = BufReader::new(&client.stream);
        let (head, _) = response(&mut stream);
        assert_eq!(&head[9..12], status, "{path}");
        let head = head.to_lowercase();
        assert!(head.contains("close\r\n"), "{path}: {head}");
        let mut rest = String::new();
        stream.read_to_string(&mut rest).unwrap();
        assert_eq!(rest, "", "{path}");
        let line = format!("frameloop_handshakes_total{{status=\"{status}\"}} 1");
        let told = metrics.encode();
        assert!(told.lines().any(|told| told == line), "{path}: {told}");
    }
    figure(
        Kind::Attack,
        64,
        "an upgrade refused by a nested service or a page, with a second request behind it: responses",
        "one, then FIN",
        "one, then FIN, 5 of 5",
    );
}

#[test]
fn attack_65_only_a_cors_preflight_needs_no_token() {
    let router = app::router_with(AppSettings {
        compat: Some(EchoService::Jmalloc),
        ..AppSettings::default()
    });
    let policy = Policy {
        token: Some("s3cret".parse().unwrap()),
        ..Policy::default()
    };
    let server = TestServer::serving(router, |server| server.with_policy(policy));
    let origin = "Origin: https://a.example\r\n";
    let method = "Access-Control-Request-Method: GET\r\n";
    for (fields, status) in [
        (String::new(), "401"),
        (origin.into(), "401"),
        (method.into(), "401"),
        (format!("{origin}{method}"), "204"),
    ] {
        let request = format!("OPTIONS /x.sse HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n");
        let (answered, head) = answer(&server, &request);
        assert_eq!(answered, status, "{fields}");
        assert!(!head.contains("event-stream"), "{head}");
    }
    figure(
        Kind::Attack,
        65,
        "OPTIONS without the token and with none, some or all of the preflight headers",
        "401; 401; 204",
        "401; 401; 204",
    );
}

#[test]
fn attack_74_no_log_line_contains_the_token() {
    const TOKEN: &str = "s3cret-of-many-letters";
    let mut seen = String::new();
    let mut lines = 0;
    for mode in [&["--compat", "jmalloc"][..], &[], &["--log-format", "json"]] {
        let mut command = frameloop(mode);
        command.env("LOG_HTTP_HEADERS", "1").stderr(Stdio::piped());
        let mut server = ServerProcess::spawn(command.args(["--token", TOKEN]));
        let plain = |target: &str, field: &str| {
            format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n{field}Connection: close\r\n\r\n")
        };
        let shown = format!("/x?a=b&token={TOKEN}");
        for request in [
            plain(&shown, ""),
            plain(&format!("{shown}&c=d"), ""),
            plain("/x", &format!("Authorization: Bearer {TOKEN}\r\n")),
            plain(&shown, &format!("Referer: http://localhost{shown}\r\n")),
            request(&shown),
            request(&shown).replace(": 13", ": 1777"),
        ] {
            let mut client = Client::at(server.address);
            client.send(request.as_bytes());
            client.receive_head();
        }
        // A drain closes every connection, so every log line is written.
        server.signal(Signal::TERM);
        server.stdout.read_to_string(&mut seen).unwrap();
        seen += &server.ended_with_log().1;
        lines = seen.lines().count();
    }
    let occurrences = seen.matches(TOKEN).count();
    let mut what = String::new();
    let _ = write!(
        what,
        "requests with a token in 3 modes, {lines} log lines: lines that contain the token"
    );
    figure(Kind::Attack, 74, what, "0", occurrences);
    assert_eq!(occurrences, 0, "{seen}");
    assert!(lines > 20, "{seen}");
    assert!(seen.contains("token=***"), "{seen}");
}
