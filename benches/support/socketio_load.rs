//! The loads of the Socket.IO bench: clients of the Flask-SocketIO tutorial, by raw bytes.

use std::{
    io,
    io::{Error, ErrorKind, Read, Write},
    net::SocketAddr,
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;
use mio::{Events, Interest, Poll, Token, net::TcpStream};

use super::{
    handshake_load::Sources,
    statistics::new_histogram,
    wire::{check_upgraded, upgrade_request},
};

const PATIENCE: Duration = Duration::from_secs(30);

const WEBSOCKET: &str = "/socket.io/?EIO=4&transport=websocket";

/// A client that has a WebSocket, and what came on it that is not yet taken.
struct Client<S> {
    stream: S,
    received: Vec<u8>,
}

impl Client<std::net::TcpStream> {
    /// Asks for a WebSocket and waits for it.
    fn connect(sources: &mut Sources, address: SocketAddr) -> io::Result<Self> {
        let mut client = Self::ask(sources, address)?;
        client.wait_for_upgrade()?;
        Ok(client)
    }

    /// Asks for a WebSocket.
    fn ask(sources: &mut Sources, address: SocketAddr) -> io::Result<Self> {
        let mut stream = sources.connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(&upgrade_request(WEBSOCKET))?;
        Ok(Self {
            stream,
            received: Vec::new(),
        })
    }

    /// Waits until the server has agreed. The first packet may come with the head.
    fn wait_for_upgrade(&mut self) -> io::Result<()> {
        let end = loop {
            self.fill()?;
            let mut windows = self.received.windows(4);
            if let Some(end) = windows.position(|window| window == b"\r\n\r\n") {
                break end + 4;
            }
        };
        let head: Vec<u8> = self.received.drain(..end).collect();
        check_upgraded(&head)
    }

    /// Waits for a packet that begins with `prefix`.
    fn wait_for(&mut self, prefix: &str) -> io::Result<()> {
        loop {
            while let Some(packet) = self.next_packet()? {
                if packet.starts_with(prefix.as_bytes()) {
                    return Ok(());
                }
            }
            self.fill()?;
        }
    }
}

/// Appends a packet's frame.
fn frame(packet: &str, frames: &mut Vec<u8>) {
    frames.push(0x81);
    match packet.len() {
        length @ 0..126 => frames.push(0x80 | length as u8),
        length => {
            frames.push(0x80 | 126);
            frames.extend((length as u16).to_be_bytes());
        }
    }
    // The key zero masks nothing.
    frames.extend([0; 4]);
    frames.extend(packet.as_bytes());
}

impl<S: Read + Write> Client<S> {
    fn send(&mut self, packet: &str) -> io::Result<()> {
        let mut frames = Vec::new();
        frame(packet, &mut frames);
        self.stream.write_all(&frames)
    }

    fn fill(&mut self) -> io::Result<()> {
        let mut chunk = [0; 16_384];
        match self.stream.read(&mut chunk)? {
            0 => Err(ErrorKind::UnexpectedEof.into()),
            length => {
                self.received.extend_from_slice(&chunk[..length]);
                Ok(())
            }
        }
    }

    /// The next whole packet; a Ping is answered.
    fn next_packet(&mut self) -> io::Result<Option<Vec<u8>>> {
        let (head, length) = match *self.received {
            [0x81, length @ 0..126, ..] => (2, usize::from(length)),
            [0x81, 126, high, low, ..] => (4, usize::from(u16::from_be_bytes([high, low]))),
            [] | [0x81] | [0x81, 126, ..] => return Ok(None),
            _ => {
                return Err(Error::other(format!(
                    "no text frame: {:02x?}",
                    self.received
                )));
            }
        };
        if self.received.len() < head + length {
            return Ok(None);
        }
        let packet = self.received[head..head + length].to_vec();
        self.received.drain(..head + length);
        if packet == b"2" {
            self.send("3")?;
        }
        Ok(Some(packet))
    }
}

/// Clients of one namespace, of which the first sends a message that all get.
pub(crate) struct BroadcastLoad {
    poll: Poll,
    clients: Vec<Client<TcpStream>>,
    /// Messages that are sent at once, by one write.
    burst: usize,
    sent: u64,
    events: Events,
}

pub(crate) struct Tally {
    pub(crate) operations: u64,
    /// Nanoseconds from the beginning of an operation to its end.
    pub(crate) latency: Histogram<u64>,
}

impl BroadcastLoad {
    pub(crate) fn connect(address: SocketAddr, members: usize, burst: usize) -> io::Result<Self> {
        let poll = Poll::new()?;
        let mut sources = Sources::default();
        let mut clients = Vec::with_capacity(members);
        for place in 0..members {
            let mut client = Client::connect(&mut sources, address)?;
            client.wait_for("0")?;
            client.send("40")?;
            // Flask-SocketIO greets before it confirms, others after.
            client.wait_for("4")?;
            client.wait_for("4")?;
            client.stream.set_nonblocking(true)?;
            let mut stream = TcpStream::from_std(client.stream);
            poll.registry()
                .register(&mut stream, Token(place), Interest::READABLE)?;
            clients.push(Client {
                stream,
                received: client.received,
            });
        }
        Ok(Self {
            poll,
            clients,
            burst,
            sent: 0,
            events: Events::with_capacity(1_024),
        })
    }

    /// Sends bursts of messages of 100 bytes for `time`, each when all clients have the one
    /// before.
    pub(crate) fn run(&mut self, time: Duration) -> io::Result<Tally> {
        let mut tally = Tally {
            operations: 0,
            latency: new_histogram(),
        };
        let begin = Instant::now();
        while begin.elapsed() < time {
            let sent = Instant::now();
            self.broadcast()?;
            tally.operations += (self.clients.len() * self.burst) as u64;
            let took = sent.elapsed().as_nanos() as u64;
            tally.latency.saturating_record(took);
        }
        Ok(tally)
    }

    fn broadcast(&mut self) -> io::Result<()> {
        let mut ends = Vec::with_capacity(self.burst);
        let mut frames = Vec::new();
        for _ in 0..self.burst {
            self.sent += 1;
            let text = format!("{:0100}", self.sent);
            frame(&format!(r#"42["message","{text}"]"#), &mut frames);
            ends.push(format!(r#": {text}"}}]"#));
        }
        self.clients[0].stream.write_all(&frames)?;
        let mut received = vec![0; self.clients.len()];
        let mut waiting = self.clients.len();
        while waiting > 0 {
            self.poll.poll(&mut self.events, Some(PATIENCE))?;
            if self.events.is_empty() {
                let problem = format!("{waiting} clients wait for their messages");
                return Err(Error::new(ErrorKind::TimedOut, problem));
            }
            for event in &self.events {
                let place = event.token().0;
                let client = &mut self.clients[place];
                match client.fill() {
                    Ok(()) => {}
                    Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
                    Err(error) => return Err(error),
                }
                while let Some(packet) = client.next_packet()? {
                    let end = ends.get(received[place]).map(String::as_bytes);
                    if packet.starts_with(b"42") && end.is_some_and(|end| packet.ends_with(end)) {
                        received[place] += 1;
                        waiting -= usize::from(received[place] == self.burst);
                    } else if packet != b"2" {
                        return Err(Error::other("a wrong packet"));
                    }
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
}

/// Connects, joins `/`, and leaves again, so many at once, for `time`.
pub(crate) fn connects(
    address: SocketAddr,
    transport: Transport,
    at_once: usize,
    time: Duration,
) -> io::Result<Tally> {
    let mut tally = Tally {
        operations: 0,
        latency: new_histogram(),
    };
    let mut sources = Sources::default();
    let begin = Instant::now();
    while begin.elapsed() < time {
        let started = Instant::now();
        match transport {
            Transport::WebSocket => by_websocket(&mut sources, address, at_once)?,
            Transport::Polling => by_polling(&mut sources, address, at_once)?,
        }
        let took = started.elapsed().as_nanos() as u64;
        tally.latency.saturating_record(took);
        tally.operations += at_once as u64;
    }
    Ok(tally)
}

fn by_websocket(sources: &mut Sources, address: SocketAddr, at_once: usize) -> io::Result<()> {
    let clients = (0..at_once).map(|_| Client::ask(sources, address));
    let mut clients = clients.collect::<io::Result<Vec<_>>>()?;
    for client in &mut clients {
        client.wait_for_upgrade()?;
        client.wait_for("0")?;
        client.send("40")?;
    }
    clients
        .iter_mut()
        .try_for_each(|client| client.wait_for("40"))
}

fn by_polling(sources: &mut Sources, address: SocketAddr, at_once: usize) -> io::Result<()> {
    let mut streams = Vec::with_capacity(at_once);
    for _ in 0..at_once {
        let mut stream = sources.connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
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
    streams
        .iter_mut()
        .try_for_each(|(stream, _)| answer(stream).map(drop))
}

fn ask(stream: &mut impl Write, method: &str, session: &str, body: &str) -> io::Result<()> {
    let length = body.len();
    let request = format!(
        "{method} /socket.io/?EIO=4&transport=polling{session} HTTP/1.1\r\nHost: 127.0.0.1\r\n\
         Content-Type: text/plain\r\nContent-Length: {length}\r\n\r\n{body}"
    );
    stream.write_all(request.as_bytes())
}

/// The body of a response that says how long it is.
fn answer(stream: &mut impl Read) -> io::Result<String> {
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
        if !head.starts_with("http/1.1 200 ") {
            return Err(Error::other(head));
        }
        let (_, length) = head.split_once("content-length: ").unwrap_or_default();
        let digits = length.split("\r\n").next().unwrap_or_default();
        let length: usize = digits.parse().map_err(Error::other)?;
        if body.len() >= length {
            return Ok(body.to_owned());
        }
    }
}
