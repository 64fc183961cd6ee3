//! A connection during its opening, and how long each part takes.

use std::io::{self, ErrorKind, Read, Write};
use std::net::IpAddr;

use mio::{Registry, Token};

use super::clock::LoadClock;
use super::opening::{MOST_HEAD, Opening};
use super::stream::{Connector, LoadStream};
use super::tally::OpeningLatencies;
use super::target::Remote;

#[derive(Debug)]
pub(super) struct Arrival {
    stream: LoadStream,
    is_raw: bool,
    stage: OpeningStage,
    /// Bytes of the request written so far.
    written: usize,
    head: Vec<u8>,
    times: OpeningTimes,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum OpeningStage {
    Connecting,
    Securing,
    Upgrading,
}

/// Times at which the parts of the opening were completed, in nanoseconds.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct OpeningTimes {
    begin: u64,
    connected: u64,
    secured: u64,
    end: u64,
}

/// The progress of an opening.
#[derive(Clone, Copy, Debug)]
pub(super) enum Step {
    /// The opening waits for the socket.
    Waits,
    /// The WebSocket is open. The buffer holds `early` bytes received after the answer.
    Open { early: usize },
}

impl Arrival {
    pub(super) fn begin(
        remote: &Remote,
        connector: Option<&Connector>,
        is_raw: bool,
        source: Option<IpAddr>,
        now: u64,
    ) -> io::Result<Arrival> {
        let mut stream = LoadStream::connect(remote, source)?;
        if let Some(connector) = connector {
            stream = stream.secure(connector)?;
        }
        Ok(Arrival {
            stream,
            is_raw,
            stage: OpeningStage::Connecting,
            written: 0,
            head: Vec::new(),
            times: OpeningTimes {
                begin: now,
                ..OpeningTimes::default()
            },
        })
    }

    pub(super) fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        self.stream.register(registry, token)
    }

    /// Whether the TCP connection is there.
    pub(super) fn is_connected(&self) -> bool {
        self.stage != OpeningStage::Connecting
    }

    pub(super) fn began(&self) -> u64 {
        self.times.begin
    }

    /// Advances the opening as far as the socket allows.
    ///
    /// # Errors
    /// A short text about the failure.
    pub(super) fn advance(
        &mut self,
        opening: &Opening,
        buffer: &mut [u8],
        clock: LoadClock,
    ) -> Result<Step, String> {
        let named = |error: io::Error| match error.get_ref() {
            Some(inner) => inner.to_string(), // a TLS error
            None => error.kind().to_string(),
        };
        if self.stage == OpeningStage::Connecting {
            if !self.stream.is_connected().map_err(named)? {
                return Ok(Step::Waits);
            }
            self.times.connected = clock.now();
            self.stage = OpeningStage::Securing;
        }
        if self.stage == OpeningStage::Securing {
            if !self.stream.is_secured().map_err(named)? {
                return Ok(Step::Waits);
            }
            self.times.secured = match self.stream.is_tls() {
                true => clock.now(),
                false => self.times.connected,
            };
            self.stage = OpeningStage::Upgrading;
            if self.is_raw {
                self.times.end = self.times.secured;
                return Ok(Step::Open { early: 0 });
            }
        }
        if self.stream.is_blocked() {
            self.stream.flush().map_err(named)?;
        }
        if !self.request(opening).map_err(named)? {
            return Ok(Step::Waits);
        }
        self.answer(opening, buffer, clock)
    }

    /// Writes the request. Returns whether all of it is written.
    fn request(&mut self, opening: &Opening) -> io::Result<bool> {
        while self.written < opening.request.len() {
            match self.stream.write(&opening.request[self.written..]) {
                Ok(written) => self.written += written,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    fn answer(
        &mut self,
        opening: &Opening,
        buffer: &mut [u8],
        clock: LoadClock,
    ) -> Result<Step, String> {
        loop {
            let length = match self.stream.read(buffer) {
                Ok(0) => return Err(String::from("closed before the answer")),
                Ok(length) => length,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Step::Waits),
                Err(error) => return Err(error.kind().to_string()),
            };
            let before = self.head.len();
            self.head.extend_from_slice(&buffer[..length]);
            let searched = before.saturating_sub(3);
            let end = self.head[searched..]
                .windows(4)
                .position(|window| window == b"\r\n\r\n");
            if let Some(end) = end {
                let end = searched + end + 4;
                opening.check(&self.head[..end])?;
                self.times.end = clock.now();
                let early = self.head.len() - end;
                // The early bytes are at the end of the last read.
                buffer.copy_within(length - early..length, 0);
                return Ok(Step::Open { early });
            }
            if self.head.len() > MOST_HEAD {
                return Err(String::from("an endless answer"));
            }
        }
    }

    pub(super) fn done(self) -> (LoadStream, OpeningTimes) {
        (self.stream, self.times)
    }
}

impl OpeningTimes {
    pub(super) fn record(&self, latencies: &mut OpeningLatencies) {
        latencies.tcp.record(self.connected - self.begin, 1);
        if self.secured > self.connected {
            latencies.tls.record(self.secured - self.connected, 1);
        }
        if self.end > self.secured {
            latencies.upgrade.record(self.end - self.secured, 1);
        }
        latencies.whole.record(self.end - self.begin, 1);
    }
}
