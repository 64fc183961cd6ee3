//! The load of the fan-out bench: members of one topic, of which the first publishes.
//!
//! It publishes a burst, waits until every member, itself included, has got all of it and
//! each octet was right, then publishes the next.

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
    wire::{Batch, Protocol},
};

/// Bursts of different content that follow one another, so that a stale one shows.
const BURSTS: usize = 8;
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct FanoutLoad {
    poll: Poll,
    members: Vec<Member>,
    bursts: Vec<Batch>,
    next_burst: usize,
    buffer: Vec<u8>,
    events: Events,
}

/// What was delivered.
pub(crate) struct Tally {
    pub(crate) bursts: u64,
    pub(crate) time: Duration,
    /// Nanoseconds from the write of a burst until the last member had all of it.
    pub(crate) latency: Histogram<u64>,
}

struct Member {
    stream: TcpStream,
    received: usize,
}

impl FanoutLoad {
    pub(crate) fn connect(
        address: SocketAddr,
        protocol: Protocol,
        members: usize,
        burst: usize,
    ) -> io::Result<Self> {
        let mut random = Rng::with_seed(1);
        let commands: Vec<u8> = (0..=u8::MAX).collect();
        let bursts = commands
            .chunks(burst)
            .take(BURSTS)
            .map(|commands| Batch::published(protocol, commands, &mut random))
            .collect();
        let poll = Poll::new()?;
        let mut connected = Vec::with_capacity(members);
        for place in 0..members {
            let stream = protocol.connect(address)?;
            stream.set_nonblocking(true)?;
            let mut stream = TcpStream::from_std(stream);
            poll.registry()
                .register(&mut stream, Token(place), Interest::READABLE)?;
            connected.push(Member {
                stream,
                received: 0,
            });
        }
        Ok(Self {
            poll,
            members: connected,
            bursts,
            next_burst: 0,
            buffer: vec![0; 64 * 1_024],
            events: Events::with_capacity(1_024),
        })
    }

    /// Publishes for `time`, whole bursts.
    pub(crate) fn run(&mut self, time: Duration) -> io::Result<Tally> {
        let mut tally = Tally {
            bursts: 0,
            time: Duration::ZERO,
            latency: new_histogram(),
        };
        let begin = Instant::now();
        while tally.time < time {
            let published = tally.time;
            self.publish()?;
            tally.time = begin.elapsed();
            tally.bursts += 1;
            tally
                .latency
                .saturating_record((tally.time - published).as_nanos() as u64);
        }
        Ok(tally)
    }

    fn publish(&mut self) -> io::Result<()> {
        let burst = &self.bursts[self.next_burst];
        self.next_burst = (self.next_burst + 1) % self.bursts.len();
        let written = self.members[0].stream.write(&burst.request)?;
        if written < burst.request.len() {
            return Err(Error::other(
                "a burst does not fit into the publisher's socket",
            ));
        }
        let mut waiting = self.members.len();
        while waiting > 0 {
            self.poll.poll(&mut self.events, Some(PATIENCE))?;
            if self.events.is_empty() {
                let problem = format!("{waiting} members wait for their messages");
                return Err(Error::new(ErrorKind::TimedOut, problem));
            }
            for event in &self.events {
                let member = &mut self.members[event.token().0];
                if member.receive(&burst.reply, &mut self.buffer)? {
                    waiting -= 1;
                }
            }
        }
        for member in &mut self.members {
            member.received = 0;
        }
        Ok(())
    }
}

impl Member {
    /// True if that completes `expected`. The buffer is larger than a burst, so one read does.
    fn receive(&mut self, expected: &[u8], buffer: &mut [u8]) -> io::Result<bool> {
        let length = match self.stream.read(buffer) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(length) => length,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error),
        };
        let part = expected.get(self.received..self.received + length);
        if part != Some(&buffer[..length]) {
            let at = self.received;
            return Err(Error::other(format!(
                "wrong delivery within {length} octets at {at}"
            )));
        }
        self.received += length;
        Ok(self.received == expected.len())
    }
}
