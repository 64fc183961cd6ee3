//! Plays mutations of recorded sessions (`fuzz/recordings`) over real sockets against a server,
//! many at once, beside well-behaved clients. Those must lose nothing, the server must send only
//! valid answers, and at the end it must hold the same resources as at the start.

#![forbid(unsafe_code)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "the well-behaved clients come from the tests"
)]

mod answer;
mod mutation;
mod play;
mod server;
mod session;

#[path = "../../tests/support/checker.rs"]
#[allow(dead_code, reason = "the tests need the rest")]
mod checker;
#[path = "../../tests/support/client.rs"]
#[allow(dead_code, reason = "the tests need the rest")]
mod client;
#[path = "../properties/client.rs"]
#[allow(dead_code, reason = "the properties need the rest")]
mod frames;
#[path = "../../tests/support/load.rs"]
#[allow(dead_code, reason = "the tests need the rest")]
mod load;
#[path = "../../tests/support/resources.rs"]
mod resources;

use std::collections::HashMap;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use tokio::task::{JoinSet, LocalSet};

use load::{Load, Shape};
use play::Played;
use server::Server;
use session::{Session, escaped};

const USAGE: &str = "\
usage: sessions SERVER [--seconds S | --count N] [--seed N] [--parallel N]
       sessions SERVER --session SEED          plays one and shows it
SERVER is a frameloop binary; 20 s, seed of the moment, 64 at once unless told otherwise.";

/// Runs of at least this many sessions, or seconds, also check the memory.
const LONG: (u64, u64) = (500_000, 300);

/// Sessions before those: they run all code of the server once, and grow its tables to the largest
/// number of Socket.IO sessions.
const WARM_UP: u64 = 100_000;

/// After this time Socket.IO has freed abandoned sessions, and the allocator has returned its
/// reserve.
const FORGOTTEN: Duration = Duration::from_secs(60);

/// The most that the server's memory may grow: the variation of the allocator between runs, and 4
/// bytes for each of a million sessions.
const MAX_GROWTH_KIB: u64 = 4 << 10;

fn main() -> ExitCode {
    let arguments = match Arguments::parse(std::env::args().skip(1)) {
        Ok(arguments) => arguments,
        Err(error) => {
            eprintln!("sessions: {error}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    let outcome = match arguments.session {
        Some(seed) => show(&arguments, seed),
        None => run(&arguments),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("sessions: FAILED: {error}");
            ExitCode::FAILURE
        }
    }
}

#[derive(Clone)]
struct Arguments {
    server: PathBuf,
    count: Option<u64>,
    seconds: u64,
    seed: u64,
    parallel: usize,
    session: Option<u64>,
}

impl Arguments {
    fn is_long(&self) -> bool {
        let (count, seconds) = LONG;
        match self.count {
            Some(sessions) => sessions >= count,
            None => self.seconds >= seconds,
        }
    }

    fn parse(mut from: impl Iterator<Item = String>) -> Result<Arguments, String> {
        let server = from.next().ok_or("which server?")?;
        let mut arguments = Arguments {
            server: server.into(),
            count: None,
            seconds: 20,
            seed: fastrand::u64(..),
            parallel: 64,
            session: None,
        };
        while let Some(flag) = from.next() {
            let value = from.next().and_then(|value| value.parse().ok());
            let value: u64 = value.ok_or_else(|| format!("{flag} needs a number"))?;
            match flag.as_str() {
                "--count" => arguments.count = Some(value),
                "--seconds" => arguments.seconds = value,
                "--seed" => arguments.seed = value,
                "--parallel" => arguments.parallel = value.clamp(1, 4_096) as usize,
                "--session" => arguments.session = Some(value),
                _ => return Err(format!("no flag {flag}")),
            }
        }
        Ok(arguments)
    }
}

/// The recorded sessions, sorted by name.
fn recordings() -> Result<Vec<Session>, String> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("recordings");
    let entries = std::fs::read_dir(&directory).map_err(|error| error.to_string())?;
    let mut paths: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    let read = |path: &PathBuf| {
        let text = std::fs::read_to_string(path).map_err(|error| error.to_string());
        let session = text.and_then(|text| text.parse());
        session.map_err(|error| format!("{}: {error}", path.display()))
    };
    paths.iter().map(read).collect()
}

fn runtime() -> Result<tokio::runtime::Runtime, String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.map_err(|error| error.to_string())
}

/// Plays one session, and prints what was sent and received.
fn show(arguments: &Arguments, seed: u64) -> Result<(), String> {
    let mut server = Server::start(&arguments.server)?;
    let session = mutation::mutated(&recordings()?, seed);
    println!("{session}");
    let played = runtime()?.block_on(play::play(&session, server.address))?;
    for answer in &played.answers {
        println!("answered {}", escaped(answer));
    }
    println!(
        "{} of {} connections ended",
        played.ended,
        played.answers.len()
    );
    server.check()?;
    server.end()
}

fn run(arguments: &Arguments) -> Result<(), String> {
    let recordings = recordings()?;
    let mut server = Server::start(&arguments.server)?;
    let mut before = server.settled()?;
    if arguments.is_long() {
        println!("warming up with {WARM_UP} sessions: {before}");
        let first = Arguments {
            count: Some(WARM_UP),
            ..arguments.clone()
        };
        LocalSet::new().block_on(&runtime()?, play_all(&first, &recordings, &mut server))?;
        std::thread::sleep(FORGOTTEN);
        before = server.settled()?;
    }
    println!(
        "seed {}, {} recordings; the server holds {before}",
        arguments.seed,
        recordings.len()
    );
    let load = Load::of(
        Shape {
            pause: Duration::from_millis(10),
            ..Shape::default()
        },
        server.address,
    );
    let counts =
        LocalSet::new().block_on(&runtime()?, play_all(arguments, &recordings, &mut server))?;
    println!("{counts}");
    let tally = load.finish();
    println!("beside them: {tally}");
    let faults = tally.lost + tally.duplicated + tally.reordered + tally.corrupted;
    if faults > 0 || tally.sent == 0 || tally.received == 0 {
        return Err(String::from("the well-behaved clients lost messages"));
    }
    let after = server.returned_to(before)?;
    println!("the server holds {after} and 0 connections; before: {before}");
    server.check()?;
    if arguments.is_long() {
        std::thread::sleep(FORGOTTEN);
        let after = server.resources();
        println!("{FORGOTTEN:?} later {after}");
        let growth = after.resident.saturating_sub(before.resident);
        if growth > MAX_GROWTH_KIB {
            return Err(format!(
                "the server's memory grew by {growth} KiB; the limit is {MAX_GROWTH_KIB}"
            ));
        }
    }
    server.end()
}

/// The totals of a run.
#[derive(Debug, Default)]
struct Counts {
    sessions: u64,
    connections: u64,
    ended: u64,
    received: u64,
    took: Duration,
}

impl std::fmt::Display for Counts {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Counts {
            sessions,
            connections,
            ended,
            received,
            took,
        } = self;
        let rate = *sessions as f64 / took.as_secs_f64();
        write!(
            formatter,
            "{sessions} sessions, {rate:.0}/s, {connections} connections, {ended} ended by both \
             sides, {received} bytes received"
        )
    }
}

async fn play_all(
    arguments: &Arguments,
    recordings: &[Session],
    server: &mut Server,
) -> Result<Counts, String> {
    let address = server.address;
    let mut seeds = fastrand::Rng::with_seed(arguments.seed);
    let mut counts = Counts::default();
    let (began, mut told) = (Instant::now(), Instant::now());
    let interval = Duration::from_secs(if std::io::stdout().is_terminal() {
        1
    } else {
        10
    });
    let limit = Duration::from_secs(arguments.seconds);
    let mut playing = JoinSet::new();
    let mut under_way = HashMap::new();
    let mut begun = 0;
    loop {
        let more = match arguments.count {
            Some(count) => begun < count,
            None => began.elapsed() < limit,
        };
        if more && playing.len() < arguments.parallel {
            let seed = seeds.u64(..);
            let session = mutation::mutated(recordings, seed);
            let task = playing.spawn_local(async move {
                let outcome = play::play(&session, address).await;
                (seed, outcome)
            });
            under_way.insert(task.id(), seed);
            begun += 1;
            continue;
        }
        let next = tokio::time::timeout(Duration::from_secs(10), playing.join_next_with_id()).await;
        match next {
            Ok(Some(Ok((id, (seed, outcome))))) => {
                under_way.remove(&id);
                counts.add(&outcome.map_err(|error| failure(recordings, &error, [&seed]))?);
            }
            Ok(Some(Err(error))) => {
                let seed = under_way.get(&error.id());
                return Err(failure(recordings, &error.to_string(), seed));
            }
            Ok(None) => break,
            Err(_) => {}
        }
        if told.elapsed() > interval {
            // The cause is one of these sessions, or one that has just ended.
            server
                .check()
                .map_err(|error| failure(recordings, &error, under_way.values()))?;
            counts.took = began.elapsed();
            println!("   {counts}; {}", server.resources());
            told = Instant::now();
        }
    }
    counts.took = began.elapsed();
    Ok(counts)
}

impl Counts {
    fn add(&mut self, played: &Played) {
        self.sessions += 1;
        self.connections += played.answers.len() as u64;
        self.ended += played.ended as u64;
        self.received += played
            .answers
            .iter()
            .map(|answer| answer.len() as u64)
            .sum::<u64>();
    }
}

/// The error, and the sessions that may have caused it.
fn failure<'s>(
    recordings: &[Session],
    error: &str,
    seeds: impl IntoIterator<Item = &'s u64>,
) -> String {
    let mut text = String::from(error);
    for seed in seeds {
        let session = mutation::mutated(recordings, *seed);
        text.push_str(&format!("\n-- session {seed}:\n{session}"));
    }
    text
}
