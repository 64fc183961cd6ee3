//! What is told besides the text: files, assertions, comparisons, sweeps, and that it is true.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Instant;

use serde_json::Value;

use crate::client::LONG_PATIENCE;
use crate::process::ServerProcess;
use crate::{Temporary, load, schema};

fn json(file: &Temporary) -> Value {
    let document = serde_json::from_str(&file.read()).unwrap();
    schema::check(&document);
    document
}

#[test]
fn the_json_is_as_its_schema_says_in_every_mode() {
    let server = ServerProcess::start(&["--max-publish-rate", "0"]);
    let file = Temporary::new("json");
    for (path, arguments, mode) in [
        ("/echo", "--messages 40", "echo"),
        ("/echo", "--rate 1000 --messages 40", "echo"),
        (
            "/echo?drop=0.5&seed=1",
            "--messages 8 --timeout 200ms",
            "echo",
        ),
        (
            "/echo?invalid=opcode",
            "--messages 8 --timeout 200ms",
            "echo",
        ),
        ("/nowhere", "--messages 8", "echo"),
        ("/broadcast/x", "--broadcast --messages 40", "broadcast"),
        ("/echo", "--connect --messages 40", "connect"),
        ("/echo", "--churn --messages 40 --text", "churn"),
        ("/echo", "--idle -t 100ms", "idle"),
    ] {
        let url = format!("ws://{}{path}", server.address);
        let arguments = format!(
            "{arguments} -c 4 --pid {} --json {}",
            server.id(),
            file.path()
        );
        let ran = load(&url, &arguments);
        let document = json(&file);
        let run = &document["runs"][0];
        assert_eq!(run["plan"]["mode"], mode, "{}", ran.said);
        let errors = run["counts"]["errors"].as_u64().unwrap();
        assert_eq!(
            ran.code == Some(0),
            errors == 0,
            "{arguments}: {document:#}"
        );
        assert_eq!(run["server"]["pid"], server.id());
    }
}

#[test]
fn logs_and_pages_are_written() {
    let server = ServerProcess::start(&[]);
    let url = format!("ws://{}/echo", server.address);
    let (log, page) = (Temporary::new("hdr"), Temporary::new("html"));
    let arguments = format!(
        "-c 2 --messages 100 --hdr {} --html {}",
        log.path(),
        page.path()
    );
    load(&url, &arguments).is_clean();
    let log = log.read();
    assert!(
        log.starts_with("#[Histogram log format version 1.3]\n"),
        "{log}"
    );
    // The intervals are V2 histograms, compressed, in base64.
    let tagged = |tag: &str| {
        log.lines()
            .any(|line| line.starts_with(tag) && line.contains(",HISTFAAA"))
    };
    assert!(tagged("Tag=service,") && tagged("Tag=handshake,"), "{log}");
    let page = page.read();
    assert!(
        page.starts_with("<!doctype html>") && page.contains("<svg"),
        "{page}"
    );
    for elsewhere in ["src=", "href=", "@import", "url("] {
        assert!(!page.contains(elsewhere), "{elsewhere} in {page}");
    }
}

#[test]
fn assertions_decide_the_exit_code() {
    let server = ServerProcess::start(&[]);
    let url = format!("ws://{}/echo", server.address);
    for (assertion, code) in [
        ("p99<1000s", 0),
        ("errors==0", 0),
        ("rate>=0.001", 0),
        ("p50<1ns", 1),
        ("lost>0", 1),
    ] {
        let ran = load(&url, &format!("-c 2 --messages 20 --assert {assertion}"));
        assert_eq!(ran.code, Some(code), "{assertion}: {}", ran.said);
        assert_eq!(
            ran.said.contains("does not hold"),
            code == 1,
            "{}",
            ran.said
        );
    }
}

#[test]
fn two_servers_take_turns() {
    let (a, b) = (ServerProcess::start(&[]), ServerProcess::start(&[]));
    let file = Temporary::new("two");
    let url = format!("ws://{}/echo", a.address);
    let arguments = format!(
        "ws://{}/echo --pid {},{} -c 2 --messages 100 --rounds 3 --json {}",
        b.address,
        a.id(),
        b.id(),
        file.path()
    );
    let ran = load(&url, &arguments);
    assert_eq!(ran.code, Some(0), "{}{}", ran.report, ran.said);
    assert!(
        ran.report.contains("in 3 rounds of A and B"),
        "{}",
        ran.report
    );
    assert!(ran.report.contains("B/A\n"), "{}", ran.report);
    let too_few = ran.report.matches("too few rounds for an interval").count();
    assert_eq!(too_few, 4, "{}", ran.report);
    assert!(!ran.report.contains("95 %"), "{}", ran.report);
    let document = json(&file);
    assert_eq!(document["comparison"]["rounds"], 3);
    for ratio in document["comparison"]["ratios"].as_array().unwrap() {
        assert_eq!(
            (&ratio["low"], &ratio["high"]),
            (&Value::Null, &Value::Null)
        );
        let [a, b, quotient] = ["a", "b", "ratio"].map(|name| ratio[name].as_f64().unwrap());
        assert!((b / a / quotient - 1.0).abs() < 1e-3, "{ratio}");
    }
    for (run, server) in [(0, &a), (1, &b)] {
        let run = &document["runs"][run];
        assert_eq!(run["counts"]["sent"], 300);
        assert_eq!(run["server"]["pid"], server.id());
    }
}

/// With enough rounds a ratio has its interval, and a condition that fails names its server.
#[test]
fn five_rounds_have_an_interval() {
    let server = ServerProcess::start(&[]);
    let url = format!("ws://{}/echo", server.address);
    let ran = load(&url, &format!("{url} -c 2 --messages 20 --assert p50<1ns"));
    assert_eq!(ran.code, Some(1), "{}", ran.said);
    assert_eq!(ran.report.matches(" (95 %): ").count(), 3, "{}", ran.report);
    for name in [
        "does not hold for A: p50<1ns",
        "does not hold for B: p50<1ns",
    ] {
        assert!(ran.said.contains(name), "{}", ran.said);
    }
}

#[test]
fn a_sweep_offers_more_and_more() {
    let server = ServerProcess::start(&[]);
    let url = format!("ws://{}/echo", server.address);
    let (file, page) = (Temporary::new("sweep"), Temporary::new("sweep-page"));
    let arguments = format!(
        "--sweep=100,200,300 -c 2 -t 200ms --warmup 0 --json {} --html {}",
        file.path(),
        page.path()
    );
    let ran = load(&url, &arguments);
    assert_eq!(ran.code, Some(0), "{}{}", ran.report, ran.said);
    assert!(ran.report.contains("\nknee: "), "{}", ran.report);
    let document = json(&file);
    let runs = document["runs"].as_array().unwrap();
    let offered: Vec<_> = runs
        .iter()
        .map(|run| run["measured"]["offered_per_second"].as_f64())
        .collect();
    let all = [Some(100.0), Some(200.0), Some(300.0)];
    // On a machine with more to do the knee may come at once, and end it.
    assert!(
        offered.len() > 1 && all.starts_with(&offered),
        "{offered:?}"
    );
    assert!(page.read().contains("Latency against offered load"));
    let ran = load(&url, "--sweep -c 2 -t 50ms --warmup 0 --max-errors 1000000");
    assert!(
        ran.report.contains("a closed loop reached"),
        "{}{}",
        ran.report,
        ran.said
    );
}

/// What the generator counts is what the server counts, once its figures are a second old.
#[test]
fn counts_are_those_of_the_servers_metrics() {
    let server = ServerProcess::start(&["--max-publish-rate", "0"]);
    load(
        &format!("ws://{}/echo", server.address),
        "-c 7 --messages 1003 -d 5",
    )
    .is_clean();
    load(
        &format!("ws://{}/broadcast/x", server.address),
        "--broadcast -c 5 --messages 40",
    )
    .is_clean();
    let expected = [
        "frameloop_messages_total{direction=\"received\",type=\"binary\"} 1043",
        "frameloop_fanout_deliveries_total 200",
    ];
    let deadline = Instant::now() + LONG_PATIENCE;
    loop {
        let metrics = metrics(server.address);
        if expected
            .iter()
            .all(|line| metrics.lines().any(|it| it == *line))
        {
            return;
        }
        assert!(Instant::now() < deadline, "{metrics}");
    }
}

pub(crate) fn metrics(address: SocketAddr) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    let request = "GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}
