//! permessage-deflate: what a compressed message costs the server, to echo and to fan out, and what
//! a connection keeps after one.
//!
//! `cargo bench --bench compression -- --seconds 3` compares frameloop with sockudo-ws, yawc, and
//! with `ws` of Node and aiohttp, which `tests/interop/run` installs. Messages are 1 KiB of JSON, compressed both ways
//! without context takeover; all servers take turns. The figure is server CPU per message.
#![allow(
    clippy::cast_precision_loss,
    clippy::expect_used,
    clippy::unwrap_used,
    missing_docs
)]

mod support;

use std::io::{self, Error, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use clap::Parser;
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};
use serde_json::{Value, json};

use support::contestants;
use support::options::{Options, is_test_run};
use support::process::Process;
use support::report::{Report, Table, WARM_UP_SECONDS};
use support::statistics::{figure, median};

const CONNECTIONS: usize = 50;
const MEMBERS: usize = 1_000;
const IDLE: usize = 5_000;
const SIZE: usize = 1_024;

/// Compression: echo, fan-out and memory against other servers
#[derive(Debug, Parser)]
#[command(name = "compression")]
struct CompressionOptions {
    #[command(flatten)]
    common: Options,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Peer {
    Frameloop,
    FrameloopWithTakeover,
    SockudoWs,
    Yawc,
    NodeWs,
    Aiohttp,
}

impl Peer {
    fn name(self) -> &'static str {
        match self {
            Peer::Frameloop => "frameloop",
            Peer::FrameloopWithTakeover => "frameloop --deflate-context-takeover both",
            Peer::SockudoWs => "sockudo-ws",
            Peer::Yawc => "yawc",
            Peer::NodeWs => "ws (Node)",
            Peer::Aiohttp => "aiohttp",
        }
    }

    fn start(self, duty: &str, options: &Options) -> io::Result<Process> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let interop = root.join("target/interop");
        let command = match self {
            Peer::Frameloop | Peer::FrameloopWithTakeover => {
                let built = || PathBuf::from(env!("CARGO_BIN_EXE_frameloop"));
                let mut command = Command::new(options.frameloop.clone().unwrap_or_else(built));
                command.args(["--listen", "127.0.0.1:0", "--workers", "1"]);
                if self == Peer::FrameloopWithTakeover {
                    command.args(["--deflate-context-takeover", "both"]);
                }
                command
            }
            Peer::SockudoWs | Peer::Yawc => contestants::peer(self.name(), "deflate"),
            Peer::NodeWs => {
                let mut command = Command::new("node");
                command.arg(root.join("benches/peers/node_ws.mjs"));
                command.arg(interop).arg(duty);
                command
            }
            Peer::Aiohttp => {
                let mut command = Command::new(interop.join("venv/bin/python"));
                command.arg(root.join("benches/peers/aiohttp_echo.py"));
                command
            }
        };
        let log = Path::new(env!("CARGO_TARGET_TMPDIR")).join("compression.log");
        Process::start(command, &options.server_cores, options.generator_core, &log)
    }
}

fn main() -> io::Result<()> {
    if is_test_run() {
        return Ok(());
    }
    let options = CompressionOptions::parse().common;
    rlimit::increase_nofile_limit(u64::MAX)?;
    let mut report = Report::new("compression", &options);
    let micros = "server CPU, us per message";
    let echoes = [
        Peer::Frameloop,
        Peer::FrameloopWithTakeover,
        Peer::SockudoWs,
        Peer::Yawc,
        Peer::NodeWs,
        Peer::Aiohttp,
    ];
    contestants::build_peers()?;
    compare(
        "echo of 1 KiB of JSON, 50 connections",
        micros,
        &echoes,
        &options,
        &mut report,
        echo,
    );
    let rooms = [Peer::Frameloop, Peer::NodeWs];
    let title = "fan-out of 1 KiB of JSON to 1,000";
    compare(
        title,
        "server CPU, us per delivery",
        &rooms,
        &options,
        &mut report,
        fan_out,
    );
    let title = "idle connections, 5,000, after one compressed echo";
    let keepers = [Peer::Frameloop, Peer::FrameloopWithTakeover, Peer::NodeWs];
    compare(
        title,
        "resident bytes each",
        &keepers,
        &options,
        &mut report,
        memory,
    );
    report.finish(options.json.as_deref())
}

fn compare(
    title: &str,
    unit: &str,
    peers: &[Peer],
    options: &Options,
    report: &mut Report,
    measure: fn(Peer, &Options) -> io::Result<f64>,
) {
    let mut rounds = vec![Vec::new(); peers.len()];
    for _ in 0..options.rounds {
        for (peer, figures) in peers.iter().zip(&mut rounds) {
            match measure(*peer, options) {
                Ok(measured) => figures.push(measured),
                Err(error) => report.fail(format!("{}: {error}", peer.name())),
            }
        }
    }
    println!("\n{title}: {unit}");
    let mut table = Table::new(&["server", "median", "of frameloop's"]);
    let mut cells = serde_json::Map::new();
    let first = median(rounds[0].iter().copied());
    for (peer, figures) in peers
        .iter()
        .zip(&rounds)
        .filter(|(_, figures)| !figures.is_empty())
    {
        let middle = median(figures.iter().copied());
        let ratio = format!("{:.2}", middle / first);
        table.row(vec![peer.name().to_owned(), format!("{middle:.2}"), ratio]);
        let rounds: Vec<Value> = figures.iter().copied().map(figure).collect();
        cells.insert(
            peer.name().to_owned(),
            json!({ "median": figure(middle), "rounds": rounds }),
        );
    }
    table.print();
    report.add(json!({ "part": title, "unit": unit, "servers": cells }));
}

fn echo(peer: Peer, options: &Options) -> io::Result<f64> {
    let process = peer.start("echo", options)?;
    let mut clients = open(&process, "/echo", CONNECTIONS, peer)?;
    cpu_per_message(&process, options, || {
        for client in &mut clients {
            client.send()?;
        }
        for client in &mut clients {
            client.receive()?;
        }
        Ok(CONNECTIONS)
    })
}

fn fan_out(peer: Peer, options: &Options) -> io::Result<f64> {
    let process = peer.start("fanout", options)?;
    let mut members = open(&process, "/broadcast/bench", MEMBERS, peer)?;
    cpu_per_message(&process, options, || {
        members[0].send()?;
        for member in &mut members {
            member.receive()?;
        }
        Ok(MEMBERS)
    })
}

fn memory(peer: Peer, options: &Options) -> io::Result<f64> {
    let process = peer.start("echo", options)?;
    let mut connections = Vec::new();
    let mut add = |count| -> io::Result<u64> {
        for mut client in open(&process, "/echo", count, peer)? {
            client.send()?;
            client.receive()?;
            connections.push(client);
        }
        process.settled_resident()
    };
    let before = add(10)?;
    let after = add(IDLE)?;
    Ok((after as f64 - before as f64) / IDLE as f64)
}

/// Microseconds of the server's CPU for each message of so many rounds as fit into the time.
fn cpu_per_message(
    process: &Process,
    options: &Options,
    mut round: impl FnMut() -> io::Result<usize>,
) -> io::Result<f64> {
    let mut run = |seconds| -> io::Result<usize> {
        let end = Instant::now() + Duration::from_secs_f64(seconds);
        let mut messages = 0;
        while Instant::now() < end {
            messages += round()?;
        }
        Ok(messages)
    };
    run(WARM_UP_SECONDS)?;
    let before = process.cpu()?;
    let messages = run(options.seconds)?;
    let spent = process.cpu()?.since(before).total;
    Ok(spent.as_secs_f64() * 1e6 / messages as f64)
}

/// A connection that sends one message again and again, and checks what comes back.
struct Client {
    stream: TcpStream,
    text: Vec<u8>,
    request: Vec<u8>,
    buffer: Vec<u8>,
    inflate: Decompress,
    takes_over: bool,
    /// A payload that has been found right, which need not be inflated again.
    known: Vec<u8>,
}

fn open(process: &Process, path: &str, count: usize, peer: Peer) -> io::Result<Vec<Client>> {
    let takes_over = peer == Peer::FrameloopWithTakeover;
    let offer = match takes_over {
        true => "permessage-deflate; client_max_window_bits",
        false => "permessage-deflate; server_no_context_takeover; client_no_context_takeover",
    };
    let text = json_text();
    let mut payload = Vec::with_capacity(2 * SIZE);
    Compress::new(Compression::default(), false).compress_vec(
        &text,
        &mut payload,
        FlushCompress::Sync,
    )?;
    payload.truncate(payload.len() - 4);
    let mut request = vec![0xC1, 0x80 | 126];
    request.extend(u16::try_from(payload.len()).unwrap().to_be_bytes());
    let key = [0x37, 0xFA, 0x21, 0x3D];
    request.extend(key);
    request.extend(
        payload
            .iter()
            .zip(key.iter().cycle())
            .map(|(byte, key)| byte ^ key),
    );
    (0..count)
        .map(|_| {
            let mut stream = TcpStream::connect(process.address())?;
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(Duration::from_secs(20)))?;
            write!(
                stream,
                "GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\n\
                 Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
                 Sec-WebSocket-Version: 13\r\nSec-WebSocket-Extensions: {offer}\r\n\r\n"
            )?;
            let mut head = Vec::new();
            let mut byte = [0];
            while !head.ends_with(b"\r\n\r\n") {
                stream.read_exact(&mut byte)?;
                head.push(byte[0]);
            }
            let head = String::from_utf8_lossy(&head).into_owned();
            if !head.contains("permessage-deflate") {
                return Err(Error::other(format!("no compression: {head}")));
            }
            Ok(Client {
                stream,
                text: text.clone(),
                request: request.clone(),
                buffer: vec![0; 4 * SIZE],
                inflate: Decompress::new(false),
                takes_over,
                known: Vec::new(),
            })
        })
        .collect()
}

impl Client {
    fn send(&mut self) -> io::Result<()> {
        self.stream.write_all(&self.request)
    }

    fn receive(&mut self) -> io::Result<()> {
        let mut filled = 0;
        let frame = loop {
            filled += match self.stream.read(&mut self.buffer[filled..])? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                bytes => bytes,
            };
            let length = match self.buffer[1] {
                126 => 4 + usize::from(u16::from_be_bytes([self.buffer[2], self.buffer[3]])),
                length => 2 + usize::from(length),
            };
            if filled >= 4 && filled >= length {
                break &self.buffer[..length];
            }
        };
        if frame[0] != 0xC1 || filled != frame.len() {
            return Err(Error::other(format!(
                "{:02X} is no compressed text",
                frame[0]
            )));
        }
        let payload = &frame[if frame[1] == 126 { 4 } else { 2 }..];
        if !self.takes_over && payload == self.known {
            return Ok(());
        }
        self.known = payload.to_vec();
        if !self.takes_over {
            self.inflate.reset(false);
        }
        let mut text = Vec::with_capacity(2 * SIZE);
        let payload = [payload, b"\x00\x00\xFF\xFF"].concat();
        self.inflate
            .decompress_vec(&payload, &mut text, FlushDecompress::Sync)?;
        match text == self.text {
            true => Ok(()),
            false => Err(Error::other("not what was sent")),
        }
    }
}

/// Records as an API would send them.
fn json_text() -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(1);
    let mut text = String::from("[");
    while text.len() < SIZE {
        let record = json!({
            "id": random.u32(..1_000_000),
            "user": random.choice(["alice", "bob", "carol", "dave"]),
            "score": random.u16(..),
            "active": random.bool(),
            "message": format!("hello from {}", random.choice(["Oslo", "Lima", "Kyoto"]).unwrap()),
        });
        text.push_str(&record.to_string());
        text.push(',');
    }
    text.truncate(SIZE);
    text.into_bytes()
}
