//! Clients of the Flask-SocketIO tutorial. `frameloop load` does not support Socket.IO, so these
//! clients use blocking sockets, one after the other, with the codec of tungstenite.

use std::{
    io,
    io::{Error, ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use frameloop::lab::load::Latencies;
use rustix::net::{AddressFamily, SocketType, bind, connect, socket};
use tungstenite::{Message, WebSocket, protocol::Role};

use super::wire;

const PATIENCE: Duration = Duration::from_secs(30);
const PATH: &str = "/socket.io/?EIO=4&transport=websocket";

/// A Socket.IO session over a WebSocket.
type Client = WebSocket<TcpStream>;

pub(crate) struct Tally {
    pub(crate) operations: u64,
    /// Time from the start of a round to its end.
    pub(crate) latency: Latencies,
}

/// Repeats a round of `operations` operations for `time`.
pub(crate) fn repeat(
    time: Duration,
    operations: usize,
    mut round: impl FnMut() -> io::Result<()>,
) -> io::Result<Tally> {
    let mut tally = Tally {
        operations: 0,
        latency: Latencies::default(),
    };
    let begin = Instant::now();
    while begin.elapsed() < time {
        let started = Instant::now();
        round()?;
        tally.operations += operations as u64;
        tally.latency.record(started.elapsed().as_nanos() as u64, 1);
    }
    Ok(tally)
}

fn send(client: &mut Client, packet: String) -> io::Result<()> {
    client.send(Message::text(packet)).map_err(Error::other)
}

/// The next packet that begins with `prefix`. Answers a Ping (`2`) with a Pong (`3`).
fn next(client: &mut Client, prefix: &str) -> io::Result<String> {
    loop {
        let packet = client.read().map_err(Error::other)?;
        let packet = packet.into_text().map_err(Error::other)?;
        match packet.as_str() {
            "2" => send(client, String::from("3"))?,
            packet if packet.starts_with(prefix) => return Ok(packet.to_owned()),
            _ => {}
        }
    }
}

/// Clients of one namespace. The first client sends messages to all.
pub(crate) struct BroadcastLoad {
    clients: Vec<Client>,
    sent: u64,
}

impl BroadcastLoad {
    pub(crate) fn connect(address: SocketAddr, members: usize) -> io::Result<Self> {
        let mut clients = Vec::with_capacity(members);
        while clients.len() < members {
            clients.extend(by_websocket(address, 1)?);
        }
        Ok(Self { clients, sent: 0 })
    }

    /// Sends `burst` messages of 100 bytes in one write, and waits until all clients have
    /// received them.
    pub(crate) fn broadcast(&mut self, burst: usize) -> io::Result<()> {
        let texts: Vec<_> = (self.sent..)
            .take(burst)
            .map(|it| format!("{it:0100}"))
            .collect();
        self.sent += burst as u64;
        for text in &texts {
            let packet = Message::text(format!(r#"42["message","{text}"]"#));
            self.clients[0].write(packet).map_err(Error::other)?;
        }
        self.clients[0].flush().map_err(Error::other)?;
        for client in &mut self.clients {
            for text in &texts {
                if !next(client, "42")?.contains(text) {
                    return Err(Error::other("a wrong packet"));
                }
            }
        }
        Ok(())
    }
}

/// How clients connect.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Transport {
    WebSocket,
    Polling,
}

impl Transport {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::WebSocket => "websocket",
            Self::Polling => "polling",
        }
    }

    /// Connects `at_once` clients at the same time. They join `/`, and leave at the end.
    pub(crate) fn connect(self, address: SocketAddr, at_once: usize) -> io::Result<()> {
        match self {
            Self::WebSocket => by_websocket(address, at_once).map(drop),
            Self::Polling => by_polling(address, at_once),
        }
    }
}

/// Connects a socket. Source addresses are 250 loopback addresses in turn, because one address
/// does not have enough ports.
fn dial(address: SocketAddr, place: usize) -> io::Result<TcpStream> {
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None)?;
    let source = SocketAddr::from(([127, 1, 0, (place % 250 + 1) as u8], 0));
    bind(&socket, &source)?;
    connect(&socket, &address)?;
    let stream = TcpStream::from(socket);
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

fn by_websocket(address: SocketAddr, at_once: usize) -> io::Result<Vec<Client>> {
    let mut streams = Vec::with_capacity(at_once);
    for place in 0..at_once {
        let mut stream = dial(address, place)?;
        wire::ask(&mut stream, PATH)?;
        streams.push(stream);
    }
    let mut clients = Vec::with_capacity(at_once);
    for mut stream in streams {
        let early = wire::answer(&mut stream)?;
        let mut client = WebSocket::from_partially_read(stream, early, Role::Client, None);
        next(&mut client, "0")?;
        send(&mut client, String::from("40"))?;
        clients.push(client);
    }
    for client in &mut clients {
        // A confirmation and a greeting, in any order. Flask-SocketIO sends the greeting first.
        next(client, "4")?;
        next(client, "4")?;
    }
    Ok(clients)
}

fn by_polling(address: SocketAddr, at_once: usize) -> io::Result<()> {
    let mut streams = Vec::with_capacity(at_once);
    for place in 0..at_once {
        let mut stream = dial(address, place)?;
        ask(&mut stream, "GET", "", "")?;
        streams.push((stream, String::new()));
    }
    for (stream, session) in &mut streams {
        let open = answer(stream)?;
        let (_, rest) = open.split_once(r#""sid":""#).unwrap_or_default();
        *session = format!("&sid={}", rest.split('"').next().unwrap_or_default());
        ask(stream, "POST", session, "40")?;
    }
    for (stream, session) in &mut streams {
        answer(stream)?;
        ask(stream, "GET", session, "")?;
    }
    for (stream, session) in &mut streams {
        while !answer(stream)?.contains("40{") {
            ask(stream, "GET", session, "")?;
        }
        ask(stream, "POST", session, "1")?;
    }
    let mut all = streams.iter_mut();
    all.try_for_each(|(stream, _)| answer(stream).map(drop))
}

fn ask(stream: &mut TcpStream, method: &str, session: &str, body: &str) -> io::Result<()> {
    let length = body.len();
    let request = format!(
        "{method} /socket.io/?EIO=4&transport=polling{session} HTTP/1.1\r\nHost: 127.0.0.1\r\n\
         Content-Type: text/plain\r\nContent-Length: {length}\r\n\r\n{body}"
    );
    stream.write_all(request.as_bytes())
}

/// Reads the body of a response with a Content-Length.
fn answer(stream: &mut TcpStream) -> io::Result<String> {
    let mut received = Vec::new();
    let mut chunk = [0; 4_096];
    loop {
        match stream.read(&mut chunk)? {
            0 => return Err(ErrorKind::UnexpectedEof.into()),
            length => received.extend_from_slice(&chunk[..length]),
        }
        let text = String::from_utf8_lossy(&received);
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            continue;
        };
        let head = head.to_ascii_lowercase();
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "));
        match length.and_then(|length| length.parse::<usize>().ok()) {
            Some(length) if head.starts_with("http/1.1 200 ") => {
                if body.len() >= length {
                    return Ok(body.to_owned());
                }
            }
            _ => return Err(Error::other(head)),
        }
    }
}
