//! A Django Channels chat room over one Redis: deliveries per second and server CPU per delivery,
//! for one frameloop, two frameloops, and daphne with the same channels_redis layer.
//!
//! `cargo bench --bench cluster` needs `redis-server`. daphne needs the Python of `tests/interop`:
//! `tests/interop/run python_channels` installs it into `target/interop`, or `CHANNELS_PYTHON`
//! names another. One member publishes a message; when all members have received it, the member
//! publishes the next. The CPU time of Redis is not counted: it is the same for all servers.
#![allow(
    clippy::cast_precision_loss,
    clippy::expect_used,
    clippy::unwrap_used,
    missing_docs
)]

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use clap::Parser;
use frameloop::lab::load::{Content, End, Interrupt, Mode, Plan, Sample, Target, Text, run};
use serde_json::{Value, json};

/// Deliveries of a chat room over Redis, against Django Channels
#[derive(Debug, Parser)]
struct Arguments {
    /// Members of the room, spread over the nodes
    #[arg(long, default_value = "50")]
    members: usize,

    /// Length of each measurement
    #[arg(long, default_value = "3")]
    seconds: u64,

    /// Write all figures to this file
    #[arg(long)]
    json: Option<String>,

    /// Cargo passes this flag to every bench
    #[arg(long, hide = true)]
    bench: bool,
}

/// A server process, which is ended when it is dropped.
struct Process {
    child: Child,
    port: u16,
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Process {
    fn start(command: &mut Command, port: u16) -> Process {
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let process = Process {
            child: child.expect("it starts"),
            port,
        };
        let began = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(
                began.elapsed() < Duration::from_secs(30),
                "it does not listen"
            );
            thread::sleep(Duration::from_millis(20));
        }
        process
    }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

fn redis() -> Process {
    let port = free_port();
    let mut command = Command::new("redis-server");
    command.args([
        "--port",
        &port.to_string(),
        "--save",
        "",
        "--appendonly",
        "no",
    ]);
    Process::start(&mut command, port)
}

fn frameloop(redis: &Process, layer: &str) -> Process {
    let port = free_port();
    let mut command = Command::new(env!("CARGO_BIN_EXE_frameloop"));
    command
        .args(["--listen", &format!("127.0.0.1:{port}"), "--workers", "1"])
        .args([
            "--channel-layer",
            &format!("redis-{layer}"),
            "--max-publish-rate",
            "0",
        ])
        .args([
            "--redis-url",
            &format!("redis://127.0.0.1:{}/0", redis.port),
        ]);
    Process::start(&mut command, port)
}

/// Starts daphne; `None` if the Python with Channels is not installed.
fn daphne(redis: &Process, layer: &str) -> Option<Process> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let installed = root.join("target/interop/venv/bin/python");
    let python = std::env::var_os("CHANNELS_PYTHON").map_or(installed, Into::into);
    let port = free_port();
    let mut command = Command::new(&python);
    command
        .args(["-m", "daphne", "-b", "127.0.0.1", "-p", &port.to_string()])
        .arg("channels_app:application")
        .env("PYTHONPATH", root.join("tests/interop"))
        .env("REDIS", format!("127.0.0.1:{}", redis.port))
        .env("LAYER", layer);
    python.exists().then(|| Process::start(&mut command, port))
}

/// Measures deliveries per second and CPU per delivery. One member publishes; when all members have
/// received the message, it publishes the next.
fn measure(nodes: &[Process], arguments: &Arguments) -> (f64, f64) {
    let hosts: Vec<_> = nodes
        .iter()
        .map(|node| format!("127.0.0.1:{}", node.port))
        .collect();
    let url = format!("ws://{}/ws/chat/bench/", hosts.join(","));
    let mut plan = Plan::new(Target::parse(&url).expect("it is a URL"));
    plan.mode = Mode::Broadcast { publishers: 1 };
    plan.connections = arguments.members;
    plan.messages.text = Some(Text::Ascii);
    plan.messages.content = Content::File(vec![br#"{"message": "sixteen bytes.."}"#.to_vec()]);
    // A node that has not joined the group yet receives nothing. The warm-up is longer than that.
    plan.warm_up = Duration::from_secs(3);
    plan.timeout = Duration::from_secs(1);
    plan.end = End::Time(Duration::from_secs(arguments.seconds));
    let cpu = || {
        let sample = |node: &Process| Sample::of(node.child.id()).expect("it runs").cpu;
        nodes.iter().map(sample).sum::<Duration>()
    };
    let before = cpu();
    let outcome = run(&plan, &Interrupt::default(), |_| {}).expect("it runs");
    let deliveries = outcome.counts.received as f64;
    assert!(outcome.measured.received > 0, "{:?}", outcome.counts);
    let rate = outcome.measured.received as f64 / outcome.measured.time.as_secs_f64();
    (rate, (cpu() - before).as_secs_f64() * 1e6 / deliveries)
}

fn main() {
    let arguments = Arguments::parse();
    let is_there = Command::new("redis-server")
        .arg("--version")
        .output()
        .is_ok();
    if !arguments.bench || !is_there {
        println!("skipped: cargo bench runs it, with redis-server");
        return;
    }
    let mut results = Vec::<Value>::new();
    println!(
        "{:<8} {:<12} {:>12} {:>12} {:>8}",
        "layer", "nodes", "deliveries/s", "CPU us each", "x"
    );
    for layer in ["pubsub", "core"] {
        let redis = redis();
        let mut baseline = None;
        let contestants = [
            (
                "daphne",
                daphne(&redis, layer).into_iter().collect::<Vec<_>>(),
            ),
            ("frameloop", vec![frameloop(&redis, layer)]),
            (
                "2 frameloop",
                vec![frameloop(&redis, layer), frameloop(&redis, layer)],
            ),
        ];
        for (name, nodes) in contestants {
            if nodes.is_empty() {
                println!("{layer:<8} {name:<12} skipped: no Python with Channels");
                continue;
            }
            let (rate, cpu) = measure(&nodes, &arguments);
            let times = *baseline.get_or_insert(cpu) / cpu;
            println!("{layer:<8} {name:<12} {rate:>12.0} {cpu:>12.2} {times:>8.1}");
            results.push(json!({
                "layer": layer, "nodes": name, "deliveries_per_second": rate,
                "cpu_us_per_delivery": cpu, "times_cheaper": times,
            }));
        }
    }
    if let Some(file) = &arguments.json {
        let all = json!({ "members": arguments.members, "results": results });
        fs::write(file, format!("{all:#}\n")).expect("the file can be written");
    }
}
