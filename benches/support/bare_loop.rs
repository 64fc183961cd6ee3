//! The minimal work of a generator: write a prepared buffer, read into one buffer, count bytes. It
//! does not parse messages or measure latencies.

use std::{
    io,
    io::{Error, ErrorKind, Read, Write},
    net::SocketAddr,
    time::{Duration, Instant},
};

use fastrand::Rng;
use frameloop::lab::load::Latencies;
use mio::{Events, Interest, Poll, Token, net::TcpStream};

use super::{
    cores::thread_cpu,
    wire::{self, Batch, Kind},
};

const BUFFER_SIZE: usize = 256 * 1_024;
const PATIENCE: Duration = Duration::from_secs(20);

/// Number of messages, CPU time of the thread, and elapsed time.
pub(crate) type Done = (u64, Duration, Duration);

struct Client {
    stream: TcpStream,
    sent: usize,
    received: usize,
}

fn connect(address: SocketAddr, path: &str, count: usize) -> io::Result<(Poll, Vec<Client>)> {
    let poll = Poll::new()?;
    let mut clients = Vec::with_capacity(count);
    for place in 0..count {
        let stream = wire::connect(address, path)?;
        stream.set_nonblocking(true)?;
        let mut stream = TcpStream::from_std(stream);
        let both = Interest::READABLE | Interest::WRITABLE;
        poll.registry().register(&mut stream, Token(place), both)?;
        clients.push(Client {
            stream,
            sent: 0,
            received: 0,
        });
    }
    Ok((poll, clients))
}

fn batch(size: usize, depth: usize) -> Batch {
    Batch::new(Kind::Binary, size, depth, &mut Rng::with_seed(1))
}

impl Client {
    fn send(&mut self, request: &[u8]) -> io::Result<()> {
        while self.sent < request.len() {
            match self.stream.write(&request[self.sent..]) {
                Ok(length) => self.sent += length,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Reads available bytes. Returns whether a reply of `reply` bytes is complete.
    fn receive(&mut self, buffer: &mut [u8], reply: usize) -> io::Result<bool> {
        loop {
            let length = match self.stream.read(buffer) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(length) => length,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            };
            self.received += length;
            if self.received >= reply {
                self.received = 0;
                return Ok(true);
            }
            if length < buffer.len() {
                return Ok(false);
            }
        }
    }
}

/// The latencies of one connection with messages of 20 bytes, measured by a blocking client.
pub(crate) fn blocking_echo(address: SocketAddr, time: Duration) -> io::Result<Latencies> {
    let mut stream = wire::connect(address, "/echo")?;
    let batch = batch(20, 1);
    let mut reply = vec![0; batch.reply.len()];
    let mut latencies = Latencies::default();
    let begin = Instant::now();
    while begin.elapsed() < time {
        let sent = Instant::now();
        stream.write_all(&batch.request)?;
        stream.read_exact(&mut reply)?;
        latencies.record(sent.elapsed().as_nanos() as u64, 1);
    }
    Ok(latencies)
}

fn stuck() -> Error {
    Error::new(ErrorKind::TimedOut, "the server answers no more")
}

pub(crate) struct BareEcho {
    poll: Poll,
    clients: Vec<Client>,
    batch: Batch,
    depth: u64,
    buffer: Vec<u8>,
}

impl BareEcho {
    pub(crate) fn connect(
        address: SocketAddr,
        connections: usize,
        size: usize,
        depth: usize,
    ) -> io::Result<Self> {
        let (poll, mut clients) = connect(address, "/echo", connections)?;
        let batch = batch(size, depth);
        for client in &mut clients {
            client.send(&batch.request)?;
        }
        Ok(Self {
            poll,
            clients,
            batch,
            depth: depth as u64,
            buffer: vec![0; BUFFER_SIZE],
        })
    }

    pub(crate) fn run(&mut self, time: Duration) -> io::Result<Done> {
        let mut events = Events::with_capacity(1_024);
        let (begin, cpu) = (Instant::now(), thread_cpu());
        let mut messages = 0;
        while begin.elapsed() < time {
            self.poll.poll(&mut events, Some(PATIENCE))?;
            if events.is_empty() {
                return Err(stuck());
            }
            for event in &events {
                let client = &mut self.clients[event.token().0];
                if client.sent < self.batch.request.len() {
                    client.send(&self.batch.request)?;
                }
                if event.is_readable()
                    && client.receive(&mut self.buffer, self.batch.reply.len())?
                {
                    messages += self.depth;
                    client.sent = 0;
                    client.send(&self.batch.request)?;
                }
            }
        }
        Ok((messages, thread_cpu() - cpu, begin.elapsed()))
    }
}

pub(crate) struct BareFanout {
    poll: Poll,
    members: Vec<Client>,
    batch: Batch,
    depth: u64,
    buffer: Vec<u8>,
}

impl BareFanout {
    pub(crate) fn connect(
        address: SocketAddr,
        members: usize,
        size: usize,
        depth: usize,
    ) -> io::Result<Self> {
        const PATH: &str = "/broadcast/bare";
        let (poll, members) = connect(address, PATH, members)?;
        Ok(Self {
            poll,
            members,
            batch: batch(size, depth),
            depth: depth as u64,
            buffer: vec![0; BUFFER_SIZE],
        })
    }

    /// Publishes a burst, waits until every member has received it, and publishes the next.
    pub(crate) fn run(&mut self, time: Duration) -> io::Result<Done> {
        let mut events = Events::with_capacity(1_024);
        let (begin, cpu) = (Instant::now(), thread_cpu());
        let mut messages = 0;
        while begin.elapsed() < time {
            self.members[0].sent = 0;
            self.members[0].send(&self.batch.request)?;
            let mut waiting = self.members.len();
            while waiting > 0 {
                self.poll.poll(&mut events, Some(PATIENCE))?;
                if events.is_empty() {
                    return Err(stuck());
                }
                for event in &events {
                    let member = &mut self.members[event.token().0];
                    if event.is_readable()
                        && member.receive(&mut self.buffer, self.batch.reply.len())?
                    {
                        waiting -= 1;
                    }
                }
            }
            messages += self.depth * self.members.len() as u64;
        }
        Ok((messages, thread_cpu() - cpu, begin.elapsed()))
    }
}
