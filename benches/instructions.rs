//! Instructions that the server executes for a message, a delivery and an opening handshake,
//! counted by callgrind. The counts do not depend on the load of the machine, so this bench
//! is the check that detects regressions.
//!
//! `cargo bench --bench instructions` runs the release binary under callgrind with one client in
//! lockstep, and compares the counts with `benches/results/instructions.json`. It fails if a count
//! has grown by more than 5 %. `-- --store` writes the counts to that file instead. Without
//! valgrind it prints a message and measures nothing.
//!
//! For messages and deliveries, the instructions of [`TURN`] and of all functions that it calls are
//! counted, without the kernel and without tokio's waiting, which varies. For a handshake, the
//! whole process is counted.
//!
//! The client is not the load generator: it sends the next batch only after the last reply of the
//! one before, so that every run gives the server the same bytes in the same turns. With a client
//! that polls many sockets, the number of turns and with it the counts would vary.
#![allow(
    clippy::cast_precision_loss,
    clippy::expect_used,
    clippy::unwrap_used,
    missing_docs
)]

mod support;

use std::collections::BTreeMap;
use std::io::{self, Error, Read, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::{env, fs};

use clap::Parser;
use fastrand::Rng;
use serde_json::{Value, json};

use support::machine;
use support::options::is_test_run;
use support::process::Process;
use support::wire::{Batch, Kind, PUBLISHED_SIZE, connect};

/// The function of the frame loop's turn: poll, read, receive, handle, write.
const TURN: &str = "*FrameLoop::turn*";

/// Bound: the share by which a count may grow.
const TOLERANCE: f64 = 0.05;

/// Counts the instructions of a message, a delivery and a handshake
#[derive(Debug, Parser)]
struct Arguments {
    /// Store the counts for later comparisons instead of comparing
    #[arg(long)]
    store: bool,

    /// Cargo passes this flag to every bench
    #[arg(long, hide = true)]
    bench: bool,
}

enum Load {
    /// Batches of `depth` messages of `size` bytes, from one client.
    Echo {
        kind: Kind,
        size: usize,
        depth: usize,
    },
    /// Messages of 100 bytes, `burst` at a time, to `members` members.
    FanOut {
        members: usize,
        burst: usize,
    },
    Handshake,
}

const CASES: [(&str, Load); 8] = [
    (
        "echo 20 B",
        Load::Echo {
            kind: Kind::Binary,
            size: 20,
            depth: 1,
        },
    ),
    (
        "echo 20 B, 16 deep",
        Load::Echo {
            kind: Kind::Binary,
            size: 20,
            depth: 16,
        },
    ),
    (
        "echo 1 KiB",
        Load::Echo {
            kind: Kind::Binary,
            size: 1 << 10,
            depth: 1,
        },
    ),
    (
        "echo 1 KiB of text",
        Load::Echo {
            kind: Kind::Text,
            size: 1 << 10,
            depth: 1,
        },
    ),
    (
        "echo 16 KiB",
        Load::Echo {
            kind: Kind::Binary,
            size: 16 << 10,
            depth: 1,
        },
    ),
    (
        "delivery to 1 of 100",
        Load::FanOut {
            members: 100,
            burst: 1,
        },
    ),
    (
        "delivery to 1 of 100, bursts of 16",
        Load::FanOut {
            members: 100,
            burst: 16,
        },
    ),
    ("opening handshake", Load::Handshake),
];

fn main() -> ExitCode {
    if is_test_run() {
        return ExitCode::SUCCESS;
    }
    let arguments = Arguments::parse();
    if Command::new("valgrind").arg("--version").output().is_err() {
        println!("valgrind is missing (Debian: apt install valgrind)");
        println!("0 passed, 0 failed, {} skipped", CASES.len());
        return ExitCode::SUCCESS;
    }
    let counts: BTreeMap<&str, u64> = CASES
        .iter()
        .map(|(name, load)| (*name, count(load).expect("the server answers")))
        .collect();
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/results/instructions.json");
    if arguments.store {
        return store(&counts, &file);
    }
    let stored: Value = fs::read_to_string(&file)
        .ok()
        .and_then(|text| serde_json::from_str(&text).ok())
        .unwrap_or_default();
    compare(&counts, &stored)
}

fn store(counts: &BTreeMap<&str, u64>, file: &Path) -> ExitCode {
    let results = json!({
        "machine": machine::json(),
        "versions": machine::versions(),
        "date": machine::date(),
        "unit": "instructions per message, delivery or handshake",
        "counts": counts,
    });
    let text = serde_json::to_string_pretty(&results).expect("no map with odd keys");
    fs::write(file, text + "\n").expect("the results' folder is there");
    println!("stored in {}", file.display());
    ExitCode::SUCCESS
}

/// Prints both counts of each case. Fails if a count has grown too much or is not stored.
fn compare(counts: &BTreeMap<&str, u64>, stored: &Value) -> ExitCode {
    println!("{:<36} {:>8} {:>8}", "instructions", "stored", "now");
    let mut grown = 0;
    for (name, count) in counts {
        let before = stored["counts"][name].as_u64().unwrap_or_default();
        let is_grown = *count as f64 > before as f64 * (1.0 + TOLERANCE);
        grown += usize::from(is_grown);
        let change = (*count as f64 / before as f64 - 1.0) * 100.0;
        let mark = if is_grown { "  <- grown" } else { "" };
        println!("{name:<36} {before:>8} {count:>8}  {change:+.1} %{mark}");
    }
    if grown > 0 {
        explain(stored);
    }
    println!("{} passed, {grown} failed, 0 skipped", counts.len() - grown);
    ExitCode::from(u8::from(grown > 0))
}

fn explain(stored: &Value) {
    println!(
        "stored with {}, counted with {}: another compiler counts differently.\n\
         If the growth is meant, store it in the same commit: \
         cargo bench --bench instructions -- --store",
        stored["versions"]["rustc"],
        machine::versions()["rustc"],
    );
}

/// Instructions of one message, delivery or handshake.
fn count(load: &Load) -> io::Result<u64> {
    let (few, many) = (100, 600);
    match load {
        Load::Handshake => {
            let (fewer, more) = (run(load, few)?, run(load, many)?);
            Ok((more - fewer) / (many - few))
        }
        // Counting starts with the first message, so subtraction is not needed.
        Load::Echo { depth, .. } => Ok(run(load, many)? / many / *depth as u64),
        Load::FanOut { members, burst } => {
            Ok(run(load, few)? / few / (*members as u64 * *burst as u64))
        }
    }
}

/// The number of instructions of `times` exchanges.
fn run(load: &Load, times: u64) -> io::Result<u64> {
    let counted = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("callgrind.out");
    let mut command = Command::new("valgrind");
    command
        .arg("--tool=callgrind")
        .arg(format!("--callgrind-out-file={}", counted.display()));
    if !matches!(load, Load::Handshake) {
        command.arg(format!("--toggle-collect={TURN}"));
    }
    command.arg(env!("CARGO_BIN_EXE_frameloop"));
    command.args([
        "--listen",
        "127.0.0.1:0",
        "--workers",
        "1",
        "--log-level",
        "error",
    ]);
    let server = Process::start(command, &[0], 0, &counted.with_extension("log"))?;
    exchange(load, times, server.address())?;
    server.terminate()?;
    let text = fs::read_to_string(&counted)?;
    let summary = text.lines().find_map(|line| line.strip_prefix("totals: "));
    summary
        .and_then(|summary| summary.trim().parse().ok())
        .ok_or_else(|| Error::other(format!("no totals in {}", counted.display())))
}

fn exchange(load: &Load, times: u64, address: SocketAddr) -> io::Result<()> {
    let mut random = Rng::with_seed(7);
    match *load {
        Load::Handshake => {
            for _ in 0..times {
                // The server's FIN shows that this connection has ended before the next starts.
                let mut client = connect(address, "/echo")?;
                client.shutdown(std::net::Shutdown::Write)?;
                client.read_to_end(&mut Vec::new())?;
            }
        }
        Load::Echo { kind, size, depth } => {
            let mut client = connect(address, "/echo")?;
            let batch = Batch::new(kind, size, depth, &mut random);
            let mut reply = vec![0; batch.reply.len()];
            for _ in 0..times {
                client.write_all(&batch.request)?;
                client.read_exact(&mut reply)?;
                assert!(reply == batch.reply, "the echo is wrong");
            }
        }
        Load::FanOut { members, burst } => {
            let mut clients = (0..members)
                .map(|_| connect(address, "/broadcast/instructions"))
                .collect::<io::Result<Vec<_>>>()?;
            let batch = Batch::new(Kind::Binary, PUBLISHED_SIZE, burst, &mut random);
            let mut reply = vec![0; batch.reply.len()];
            for _ in 0..times {
                clients[0].write_all(&batch.request)?;
                for client in &mut clients {
                    client.read_exact(&mut reply)?;
                    assert!(reply == batch.reply, "the delivery is wrong");
                }
            }
        }
    }
    Ok(())
}
