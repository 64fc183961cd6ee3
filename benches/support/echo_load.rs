//! The load of the echo bench: connections that each send a batch of messages, wait until
//! all have come back, compare every octet, and send the next.
//!
//! Batches are made once, before the clock runs: per batch the generator does one `write`,
//! and as few `read`s as the server's writes allow; it allocates nothing.

use std::{
    io,
    io::{Error, ErrorKind, Read, Write},
    net::SocketAddr,
    time::{Duration, Instant},
};

use fastrand::Rng;
use hdrhistogram::Histogram;
use mio::{Events, Interest, Poll, Token, net::TcpStream};

use super::{
    statistics::new_histogram,
    wire::{Batch, Kind, Protocol},
};

const BUFFER_SIZE: usize = 256 * 1_024;
/// Memory for batches; past it, connections share them.
const BATCHES_SIZE: usize = 8 * 1_024 * 1_024;
/// Silence after which a server counts as stuck.
const PATIENCE: Duration = Duration::from_secs(20);

/// What is sent, how much at a time, over how many connections.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(crate) struct Cell {
    pub(crate) size: usize,
    pub(crate) connections: usize,
    /// Messages that a connection has in flight; 1 is ping-pong.
    pub(crate) depth: usize,
    pub(crate) kind: Kind,
}

pub(crate) struct EchoLoad {
    poll: Poll,
    clients: Vec<Client>,
    batches: Vec<Batch>,
    buffer: Vec<u8>,
    tally: Tally,
}

/// What has come back.
pub(crate) struct Tally {
    pub(crate) octets: u64,
    /// Nanoseconds from the write of a batch to the last octet of its answer.
    pub(crate) latency: Histogram<u64>,
}

struct Client {
    stream: TcpStream,
    batch: usize,
    /// Octets of the batch's request that are written.
    sent: usize,
    /// Octets of its reply that are read, and right.
    received: usize,
    started: Instant,
}

impl EchoLoad {
    pub(crate) fn connect(
        address: SocketAddr,
        protocol: Protocol,
        cell: Cell,
        seed: u64,
    ) -> io::Result<Self> {
        let mut random = Rng::with_seed(seed);
        let distinct = (BATCHES_SIZE / (cell.size * cell.depth)).clamp(1, cell.connections);
        let batches = (0..distinct)
            .map(|_| Batch::echoed(protocol, cell.kind, cell.size, cell.depth, &mut random))
            .collect();
        let poll = Poll::new()?;
        let mut clients = Vec::with_capacity(cell.connections);
        for place in 0..cell.connections {
            let stream = protocol.connect(address)?;
            stream.set_nonblocking(true)?;
            let mut stream = TcpStream::from_std(stream);
            let both = Interest::READABLE | Interest::WRITABLE;
            poll.registry().register(&mut stream, Token(place), both)?;
            let batch = place % distinct;
            clients.push(Client {
                stream,
                batch,
                sent: 0,
                received: 0,
                started: Instant::now(),
            });
        }
        let tally = Tally {
            octets: 0,
            latency: new_histogram(),
        };
        let mut load = Self {
            poll,
            clients,
            batches,
            buffer: vec![0; BUFFER_SIZE],
            tally,
        };
        for client in &mut load.clients {
            client.started = Instant::now();
            client.send(&load.batches[client.batch])?;
        }
        Ok(load)
    }

    /// Octets that one message's reply has.
    pub(crate) fn reply_size(&self, cell: Cell) -> f64 {
        self.batches[0].reply.len() as f64 / cell.depth as f64
    }

    /// Keeps all connections busy for `time`, and tells what came back in it.
    pub(crate) fn run(&mut self, time: Duration) -> io::Result<&Tally> {
        self.tally.octets = 0;
        self.tally.latency.reset();
        let mut events = Events::with_capacity(1_024);
        let end = Instant::now() + time;
        let mut last_event = Instant::now();
        loop {
            self.poll
                .poll(&mut events, Some(Duration::from_millis(20)))?;
            for event in &events {
                let client = &mut self.clients[event.token().0];
                let batch = &self.batches[client.batch];
                if event.is_writable() {
                    client.send(batch)?;
                }
                if event.is_readable() {
                    client.receive(batch, &mut self.buffer, &mut self.tally)?;
                }
            }
            let now = Instant::now();
            if !events.is_empty() {
                last_event = now;
            } else if now - last_event > PATIENCE {
                return Err(Error::new(
                    ErrorKind::TimedOut,
                    "the server answers no more",
                ));
            }
            if now >= end {
                return Ok(&self.tally);
            }
        }
    }
}

impl Client {
    /// Writes what is left of the request, as far as the socket takes it.
    fn send(&mut self, batch: &Batch) -> io::Result<()> {
        while self.sent < batch.request.len() {
            match self.stream.write(&batch.request[self.sent..]) {
                Ok(length) => self.sent += length,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Reads once, and again only if the buffer came back full: a short read has emptied
    /// the socket, and what comes later is a new event.
    fn receive(&mut self, batch: &Batch, buffer: &mut [u8], tally: &mut Tally) -> io::Result<()> {
        loop {
            let length = match self.stream.read(buffer) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(length) => length,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            };
            let expected = batch.reply.get(self.received..self.received + length);
            if expected != Some(&buffer[..length]) {
                let at = self.received;
                return Err(Error::other(format!(
                    "wrong reply within {length} octets at {at}"
                )));
            }
            self.received += length;
            tally.octets += length as u64;
            if self.received == batch.reply.len() {
                let now = Instant::now();
                tally
                    .latency
                    .saturating_record((now - self.started).as_nanos() as u64);
                (self.sent, self.received, self.started) = (0, 0, now);
                self.send(batch)?;
            }
            if length < buffer.len() {
                return Ok(());
            }
        }
    }
}
