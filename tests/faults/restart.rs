//! Rows 20 and 21: the server is told to stop; the server restarts and all clients reconnect.

use std::fmt;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tungstenite::{Error, Message};

use crate::checker::{self, Log};
use crate::client::{self, LONG_PATIENCE, request};
use crate::process::ServerProcess;
use crate::report::{Kind, figure};
use crate::{lasting, times};

/// How the connections ended.
#[derive(Debug, Default)]
struct Ends {
    /// Close 1001, then FIN, after whole messages without a gap.
    told: u64,
    /// 503, or FIN before the client had sent a request.
    refused: u64,
    /// The client sent a request and got no answer.
    unanswered: u64,
    /// Reset, as by a second signal.
    cut: u64,
}

impl fmt::Display for Ends {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Ends {
            told,
            refused,
            unanswered,
            cut,
        } = self;
        write!(
            formatter,
            "{told} closed with 1001, {refused} refused, {unanswered} unanswered, {cut} cut"
        )
    }
}

enum End {
    Told,
    Refused,
    Unanswered,
    Cut,
}

impl Ends {
    fn count(&mut self, end: End) {
        *match end {
            End::Told => &mut self.told,
            End::Refused => &mut self.refused,
            End::Unanswered => &mut self.unanswered,
            End::Cut => &mut self.cut,
        } += 1;
    }
}

/// Sends and receives until the connection ends.
fn talk(address: SocketAddr, path: &str, number: u32, size: usize) -> End {
    let mut socket = match client::open(address, path) {
        Ok(socket) => socket,
        Err(error) if error.kind() == ErrorKind::InvalidData => return End::Refused,
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => return End::Refused,
        Err(_) => return End::Unanswered,
    };
    let mut log = Log::joining([(number, 0)]);
    let mut sequence = 0;
    loop {
        let text = checker::is_text(sequence);
        let message = client::message(text, checker::payload(number, sequence, size));
        sequence += 1;
        // The read below finds the reason why a write failed.
        let _ = socket.send(message);
        loop {
            match socket.read() {
                Ok(Message::Text(text)) => log.record(true, text.as_bytes()),
                Ok(Message::Binary(bytes)) => log.record(false, &bytes),
                Ok(Message::Close(frame)) => {
                    assert_eq!(u16::from(frame.unwrap().code), 1001);
                    let tally = log.left();
                    assert_eq!((tally.lost, tally.corrupted), (0, 0), "{tally}");
                    // tungstenite answers the Close; then FIN must follow.
                    return match socket.read() {
                        Err(Error::ConnectionClosed) => End::Told,
                        _ => End::Cut,
                    };
                }
                Ok(_) => continue,
                Err(_) => return End::Cut,
            }
            break;
        }
    }
}

/// Sends a request in two halves.
fn ask(address: SocketAddr, pause: Duration) -> End {
    let Ok(mut stream) = TcpStream::connect(address) else {
        return End::Refused;
    };
    stream.set_read_timeout(Some(LONG_PATIENCE)).unwrap();
    let request = request("/echo")
        .replace("GET /echo", "GET /healthz")
        .replace("Upgrade: websocket\r\n", "");
    let (first, rest) = request.split_at(40);
    let asked = stream.write_all(first.as_bytes()).is_ok() && {
        thread::sleep(pause);
        stream.write_all(rest.as_bytes()).is_ok()
    };
    let mut answer = [0; 12];
    match stream.read_exact(&mut answer) {
        Ok(()) if answer.starts_with(b"HTTP/1.1 200") => End::Told,
        Ok(()) => End::Refused,
        Err(_) if asked => End::Unanswered,
        Err(_) => End::Refused,
    }
}

fn stops(rounds: u32, second: bool) -> (Ends, Duration) {
    let mut ends = Ends::default();
    let mut longest = Duration::ZERO;
    for round in 0..rounds {
        let mut random = fastrand::Rng::with_seed(round.into());
        let server = ServerProcess::start(&["--drain-timeout", "5s"]);
        let address = server.address;
        let size = if round % 5 == 0 { 4 << 20 } else { 20_000 };
        let mut clients = Vec::new();
        for number in 0..3 {
            clients.push(thread::spawn(move || talk(address, "/echo", number, size)));
        }
        for number in 3..6 {
            let path = format!("/broadcast/{number}");
            clients.push(thread::spawn(move || talk(address, &path, number, 2_000)));
        }
        for _ in 0..4 {
            let pause = Duration::from_micros(random.u64(..10_000));
            clients.push(thread::spawn(move || ask(address, pause)));
        }
        thread::sleep(Duration::from_micros(random.u64(..20_000)));
        let began = Instant::now();
        server.signal([Signal::TERM, Signal::INT][round as usize % 2]);
        if second {
            thread::sleep(Duration::from_micros(random.u64(..2_000)));
            server.signal(Signal::TERM);
        }
        let status = server.ended();
        longest = longest.max(began.elapsed());
        assert_eq!(status.code(), Some(0), "round {round}: {status}");
        for client in clients {
            ends.count(client.join().unwrap());
        }
    }
    (ends, longest)
}

#[test]
fn row_20_a_signal_at_a_random_time_drains() {
    let rounds = times(1_000, 12);
    let (ends, longest) = stops(rounds, false);
    figure(
        Kind::Fault,
        20,
        "SIGTERM or SIGINT during handshakes, large echoes and broadcast",
        "all closed with 1001 or refused, 0 cut, exit code 0",
        format_args!("{rounds} signals: {ends}; longest stop {longest:.1?}"),
    );
    assert_eq!(ends.cut, 0, "{ends}");
    // A request in flight may cross the FIN of its connection.
    assert!(ends.unanswered * 8 <= ends.told, "{ends}");
    assert!(
        longest < Duration::from_secs(5),
        "the server waited too long for a client"
    );
}

#[test]
fn row_20_a_second_signal_stops_at_once() {
    let rounds = times(200, 6);
    let (ends, longest) = stops(rounds, true);
    figure(
        Kind::Fault,
        20,
        "a second signal within 2 ms of the first",
        "stops at once, exit code 0",
        format_args!("two signals, {rounds} times: {ends}; longest stop {longest:.1?}"),
    );
    assert!(longest < Duration::from_secs(3), "{longest:?}");
}

#[test]
fn row_21_all_clients_reconnect_at_once_after_a_restart() {
    let _alone = crate::alone_with_many_connections();
    let limit = rlimit::increase_nofile_limit(u64::MAX).unwrap();
    let clients = u64::from(times(10_000, 1_000)).min(limit.saturating_sub(1_000));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let all_open = |address: SocketAddr| {
        let began = Instant::now();
        let sockets = runtime.block_on(async {
            let opening: Vec<_> = (0..clients)
                .map(|_| tokio::spawn(reconnect(address)))
                .collect();
            let mut sockets = Vec::new();
            for socket in opening {
                sockets.push(socket.await.unwrap());
            }
            sockets
        });
        (sockets, began.elapsed())
    };
    let first = ServerProcess::start(&[]);
    let address = first.address;
    let (sockets, _) = all_open(address);
    first.signal(Signal::KILL);
    assert!(!first.ended().success());
    drop(sockets);
    let mut second = ServerProcess::start(&["--listen", &address.to_string()]);
    let load = crate::load::Load::start(address);
    let (sockets, took) = all_open(address);
    let tally = load.finish_clean();
    second.lives();
    figure(
        Kind::Fault,
        21,
        "simultaneous reconnects after the server was killed and started again",
        "10,000 within 10 s",
        format_args!("{} within {took:.1?}; others: {tally}", sockets.len()),
    );
    assert!(
        took < lasting(Duration::from_secs(10), LONG_PATIENCE),
        "{took:?}"
    );
}

/// Opens a WebSocket, and retries until it succeeds.
async fn reconnect(address: SocketAddr) -> tokio::net::TcpStream {
    loop {
        let open = async {
            let mut stream = tokio::net::TcpStream::connect(address).await?;
            stream.write_all(request("/echo").as_bytes()).await?;
            let mut head = [0; 12];
            stream.read_exact(&mut head).await?;
            assert_eq!(&head, b"HTTP/1.1 101");
            std::io::Result::Ok(stream)
        };
        if let Ok(stream) = open.await {
            return stream;
        }
    }
}
