//! The load of the handshake bench: connect, ask for the upgrade, read the answer, close.
//!
//! A fixed number of attempts is in flight. Each goes out from one of many loopback
//! addresses, so that ports which linger in TIME_WAIT never run out.

use std::{
    io,
    io::{Error, ErrorKind, Read, Write},
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;
use mio::{Events, Interest, Poll, Token, net::TcpStream};
use rustix::net::{AddressFamily, SocketType, bind, connect, socket};

use super::{
    statistics::new_histogram,
    wire::{check_upgraded, upgrade_request},
};

const PATIENCE: Duration = Duration::from_secs(20);

/// How the answer to the request looks, and who closes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Answer {
    /// `101`; the client closes.
    Upgraded,
    /// `200`, and the server closes.
    OkAndClosed,
    /// The request itself, from a raw TCP echo; the client closes.
    Echoed,
}

pub(crate) struct HandshakeLoad {
    poll: Poll,
    address: SocketAddr,
    answer: Answer,
    request: Vec<u8>,
    attempts: Vec<Attempt>,
    sources: Sources,
    tally: Tally,
}

pub(crate) struct Tally {
    pub(crate) handshakes: u64,
    /// Nanoseconds from before `connect` until the answer was complete.
    pub(crate) latency: Histogram<u64>,
}

struct Attempt {
    stream: TcpStream,
    head: Vec<u8>,
    started: Instant,
}

impl HandshakeLoad {
    pub(crate) fn start(address: SocketAddr, answer: Answer, in_flight: usize) -> io::Result<Self> {
        let poll = Poll::new()?;
        let request = upgrade_request("/echo");
        let mut sources = Sources::default();
        let attempts = (0..in_flight)
            .map(|place| Attempt::start(&mut sources, address, &request, &poll, place))
            .collect::<io::Result<_>>()?;
        let tally = Tally {
            handshakes: 0,
            latency: new_histogram(),
        };
        Ok(Self {
            poll,
            address,
            answer,
            request,
            attempts,
            sources,
            tally,
        })
    }

    /// Keeps all attempts going for `time`, and tells how many came to their end in it.
    pub(crate) fn run(&mut self, time: Duration) -> io::Result<&Tally> {
        self.tally.handshakes = 0;
        self.tally.latency.reset();
        let mut events = Events::with_capacity(1_024);
        let end = Instant::now() + time;
        while Instant::now() < end {
            self.poll.poll(&mut events, Some(PATIENCE))?;
            if events.is_empty() {
                return Err(Error::new(
                    ErrorKind::TimedOut,
                    "the server answers no more",
                ));
            }
            for event in &events {
                self.turn(event.token().0)?;
            }
        }
        Ok(&self.tally)
    }

    fn turn(&mut self, place: usize) -> io::Result<()> {
        let attempt = &mut self.attempts[place];
        if attempt.is_answered(self.answer, &self.request)? {
            let took = attempt.started.elapsed();
            self.tally.handshakes += 1;
            self.tally.latency.saturating_record(took.as_nanos() as u64);
            // Replacing the attempt closes its socket.
            *attempt = Attempt::start(
                &mut self.sources,
                self.address,
                &self.request,
                &self.poll,
                place,
            )?;
        }
        Ok(())
    }
}

impl Attempt {
    /// Connects, which on loopback is done when `connect` returns, and sends the request.
    fn start(
        sources: &mut Sources,
        address: SocketAddr,
        request: &[u8],
        poll: &Poll,
        place: usize,
    ) -> io::Result<Self> {
        let started = Instant::now();
        let stream = sources.connect(address)?;
        (&stream).write_all(request)?;
        stream.set_nonblocking(true)?;
        let mut stream = TcpStream::from_std(stream);
        poll.registry()
            .register(&mut stream, Token(place), Interest::READABLE)?;
        Ok(Self {
            stream,
            head: Vec::with_capacity(512),
            started,
        })
    }

    fn is_answered(&mut self, answer: Answer, request: &[u8]) -> io::Result<bool> {
        let mut chunk = [0; 1_024];
        loop {
            let length = match self.stream.read(&mut chunk) {
                Ok(length) => length,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            };
            self.head.extend_from_slice(&chunk[..length]);
            let at_end = length == 0;
            match answer {
                Answer::Upgraded if self.head.ends_with(b"\r\n\r\n") => {
                    return check_upgraded(&self.head).map(|()| true);
                }
                Answer::Echoed if self.head == request => return Ok(true),
                Answer::OkAndClosed if at_end => {
                    return match self.head.starts_with(b"HTTP/1.1 200 ") {
                        true => Ok(true),
                        false => Err(Error::other("the answer is not 200")),
                    };
                }
                _ if at_end => return Err(ErrorKind::UnexpectedEof.into()),
                _ => {}
            }
        }
    }
}

/// Loopback addresses 127.1.0.1 to 127.1.0.250, in turn.
#[derive(Debug, Default)]
pub(crate) struct Sources {
    used: u8,
}

impl Sources {
    /// A connection to `address` from the next of them.
    pub(crate) fn connect(&mut self, address: SocketAddr) -> io::Result<std::net::TcpStream> {
        self.used = self.used % 250 + 1;
        let source = SocketAddrV4::new(Ipv4Addr::new(127, 1, 0, self.used), 0);
        let socket = socket(AddressFamily::INET, SocketType::STREAM, None)?;
        bind(&socket, &source)?;
        connect(&socket, &address)?;
        Ok(std::net::TcpStream::from(socket))
    }
}
