//! One connection that has faults: a task that owns its stream.

use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, sleep_until, timeout};

use super::parameters::{After, Faults};
use super::violation::length;
use crate::http::Upgraded;
use crate::protocol::{
    AssemblyBudget, AssemblyPool, CloseCode, CloseFrame, Limits, Message, Receiver, Role,
};

/// No connection with faults lives longer: some of them keep it from ending by itself.
const LIFETIME: Duration = Duration::from_secs(15 * 60);

/// How long the client has to answer a Close.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(10);

/// Octets of the largest message, if the client does not ask for another bound: its echo may be
/// several times as much in small fragments.
const MAX_MESSAGE_SIZE: usize = 1 << 20;

/// Octets, and messages, that may wait to be sent before nothing more is read.
const MAX_WAITING_OCTETS: usize = 1 << 20;
const MAX_WAITING: usize = 1_024;

pub(super) struct Connection {
    faults: Faults,
    random: fastrand::Rng,
    limits: Limits,
    phase: Phase,
    begun: Instant,
    /// Data messages that have come.
    messages: u64,
    /// What is to go out, and not before when.
    waiting: VecDeque<(Instant, Vec<u8>)>,
    waiting_octets: usize,
    /// The echo that the next one is to overtake.
    overtaken: Option<Vec<u8>>,
    next_ping: Option<Instant>,
    /// When the trickle has the next drop.
    next_drop: Instant,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Phase {
    Open,
    /// Our Close goes out; the client has until then to answer.
    CloseSent(Instant),
    /// What waits is the last.
    Ending,
    Aborted,
}

/// Serves it to its end.
pub(super) async fn serve(mut connection: Connection, mut stream: Upgraded) {
    let served = async {
        // The 101, whatever happens to what comes after.
        stream.flush().await?;
        connection.run(&mut stream).await
    };
    let served = timeout(LIFETIME, served).await;
    // However it ended otherwise, the stream's drop is a FIN.
    if let Ok(Ok(())) = served
        && connection.phase == Phase::Aborted
    {
        stream.abort();
    }
}

impl Connection {
    /// `seed` holds where the client gave none; without either its faults are random.
    pub(super) fn new(faults: Faults, seed: Option<u64>, limits: Limits) -> Connection {
        let asked = faults.max_message_size.unwrap_or(MAX_MESSAGE_SIZE);
        let limits = Limits {
            max_message_size: limits.max_message_size.min(asked),
            ..limits
        };
        let now = Instant::now();
        Connection {
            random: match faults.seed.or(seed) {
                Some(seed) => fastrand::Rng::with_seed(seed),
                None => fastrand::Rng::new(),
            },
            limits,
            phase: Phase::Open,
            begun: now,
            messages: 0,
            waiting: VecDeque::new(),
            waiting_octets: 0,
            overtaken: None,
            next_ping: faults.ping.map(|interval| now + interval),
            next_drop: now,
            faults,
        }
    }

    async fn run(&mut self, stream: &mut Upgraded) -> io::Result<()> {
        let mut ending = stream.ending();
        let mut ends = false;
        let (mut reader, mut writer) = tokio::io::split(stream);
        let mut receiver = Receiver::new(Role::Server, self.limits);
        let mut buffer = vec![0; 16 << 10];
        let mut pool = AssemblyPool::new(AssemblyBudget::new(64 << 20));
        loop {
            self.due(Instant::now());
            if self.phase == Phase::Aborted
                || (self.phase == Phase::Ending && self.waiting.is_empty())
            {
                return Ok(());
            }
            let writable = self.writable_at();
            let event = self.event_at();
            let piece = self.piece();
            tokio::select! {
                biased;
                _ = ending.wait_for(|ending| *ending), if !ends => {
                    ends = true;
                    self.cut();
                    self.close(1001, "");
                }
                () = sleep_until(event.unwrap_or(self.begun)), if event.is_some() => {}
                written = async {
                    sleep_until(writable.unwrap_or(self.begun)).await;
                    let octets = self.waiting.front().map_or(&[][..], |(_, octets)| octets);
                    writer.write(&octets[..octets.len().min(piece)]).await
                }, if writable.is_some() => self.wrote(written?),
                read = reader.read(&mut buffer), if self.is_read() => match read? {
                    0 => {
                        self.release();
                        self.phase = Phase::Ending;
                    }
                    octets => self.received(&mut receiver, &mut buffer[..octets], &mut pool),
                },
            }
        }
    }

    /// Drops what waits, but for the frame that has begun to go out.
    fn cut(&mut self) {
        let kept = if self.phase == Phase::Ending { 0 } else { 1 };
        self.waiting.truncate(kept);
        self.overtaken = None;
        self.waiting_octets = self.waiting.iter().map(|(_, octets)| octets.len()).sum();
    }

    /// Whether the client is read from.
    fn is_read(&self) -> bool {
        let stalled = self.faults.stall.is_some_and(|after| self.is_after(after));
        !stalled
            && self.phase != Phase::Ending
            && self.waiting_octets < MAX_WAITING_OCTETS
            && self.waiting.len() < MAX_WAITING
    }

    fn is_after(&self, after: After) -> bool {
        match after {
            After::Messages(messages) => self.messages >= messages,
            After::Time(time) => self.begun.elapsed() >= time,
        }
    }

    /// What is to happen by now.
    fn due(&mut self, now: Instant) {
        if self.faults.abort.is_some_and(|after| self.is_after(after)) {
            self.phase = Phase::Aborted;
        }
        match self.phase {
            Phase::CloseSent(deadline) if deadline <= now => {
                self.waiting.clear();
                self.phase = Phase::Ending;
            }
            Phase::Open => {
                let closes = match (self.faults.close_after, self.faults.close) {
                    (Some(after), _) => self.is_after(after),
                    (None, code) => code.is_some(),
                };
                if closes {
                    let reason = std::mem::take(&mut self.faults.reason);
                    self.close(self.faults.close.unwrap_or(1000), &reason);
                } else if let (Some(interval), Some(at)) = (self.faults.ping, self.next_ping)
                    && at <= now
                {
                    self.next_ping = Some(now + interval);
                    if self.waiting.len() < MAX_WAITING {
                        self.push(vec![0x89, 0x00], Duration::ZERO);
                    }
                }
            }
            _ => {}
        }
    }

    /// The next time at which something happens by itself.
    fn event_at(&self) -> Option<Instant> {
        let now = Instant::now();
        let at = |after: Option<After>| match after {
            Some(After::Time(time)) => Some(self.begun + time).filter(|at| *at > now),
            _ => None,
        };
        let closing = match self.phase {
            Phase::CloseSent(deadline) => [Some(deadline), None],
            Phase::Open => [at(self.faults.close_after), self.next_ping],
            _ => [None, None],
        };
        let others = [at(self.faults.abort), at(self.faults.stall)];
        closing.into_iter().chain(others).flatten().min()
    }

    /// When the next piece may go out, if any waits.
    fn writable_at(&self) -> Option<Instant> {
        let (due, _) = self.waiting.front()?;
        Some((*due).max(self.next_drop))
    }

    /// How many octets may go out at once: the trickle has about twenty drops a second.
    fn piece(&self) -> usize {
        let drop = |rate: u32| usize::try_from(rate / 20).unwrap_or(usize::MAX).max(1);
        self.faults.trickle.map_or(usize::MAX, drop)
    }

    fn wrote(&mut self, octets: usize) {
        if let Some(rate) = self.faults.trickle {
            let pause = Duration::from_secs_f64(octets as f64 / f64::from(rate));
            self.next_drop = Instant::now() + pause;
        }
        self.waiting_octets -= octets;
        if let Some((_, front)) = self.waiting.front_mut() {
            front.drain(..octets);
            if front.is_empty() {
                self.waiting.pop_front();
            }
        }
    }

    fn received(&mut self, receiver: &mut Receiver, mut input: &mut [u8], pool: &mut AssemblyPool) {
        loop {
            match receiver.receive(&mut input, pool) {
                Ok(Some(message)) => self.message(message),
                Ok(None) => break,
                Err(error) => {
                    self.close(error.close_code().into(), error.reason());
                    self.phase = Phase::Ending;
                }
            }
        }
    }

    fn message(&mut self, message: Message<'_>) {
        if self.phase != Phase::Open && !matches!(message, Message::Close(_)) {
            return;
        }
        match message {
            Message::Text(text) => self.echo(0x1, text.as_bytes()),
            Message::Binary(payload) => self.echo(0x2, payload),
            Message::Ping(payload) if !self.faults.mute_pong => {
                let pong = [&[0x8A], &*length(payload.len()), payload].concat();
                self.push(pong, Duration::ZERO);
            }
            Message::Ping(_) | Message::Pong(_) => {}
            Message::Close(frame) => {
                if self.phase == Phase::Open {
                    self.release();
                    let payload = frame.map(|frame| frame.encode()).unwrap_or_default();
                    self.push(close_frame(&payload), Duration::ZERO);
                }
                self.phase = Phase::Ending;
            }
        }
    }

    fn echo(&mut self, opcode: u8, payload: &[u8]) {
        self.messages += 1;
        // Always as many draws for a message, so that a seed repeats each fault by itself.
        let [drop, dup, reorder, jitter] = [(); 4].map(|()| self.random.f64());
        let delay = self.faults.delay + self.faults.jitter.mul_f64(jitter);
        if drop < self.faults.drop {
            return;
        }
        let invalid = self.faults.invalid;
        if let Some(violation) = invalid
            && let Some(frames) = violation.frames(opcode, payload)
        {
            self.push(frames, delay);
            if violation.ends() {
                self.phase = Phase::Ending;
            }
            return;
        }
        let frames = self.encode(opcode, payload);
        if dup < self.faults.dup {
            self.push(frames.clone(), delay);
        }
        if reorder < self.faults.reorder && self.overtaken.is_none() {
            self.waiting_octets += frames.len();
            self.overtaken = Some(frames);
            return;
        }
        self.push(frames, delay);
        self.release();
    }

    /// An echo, forced to the type that was asked for and cut as was asked for.
    fn encode(&self, opcode: u8, payload: &[u8]) -> Vec<u8> {
        let text;
        let (opcode, payload) = match opcode {
            0x2 if self.faults.text => {
                text = String::from_utf8_lossy(payload);
                (0x1, text.as_bytes())
            }
            0x1 if self.faults.binary => (0x2, payload),
            _ => (opcode, payload),
        };
        let size = self.faults.fragment.unwrap_or(usize::MAX);
        let mut frames = Vec::with_capacity(payload.len() + 10);
        let mut rest = payload;
        let mut first = opcode;
        loop {
            let (fragment, after) = rest.split_at(rest.len().min(size));
            let fin = if after.is_empty() { 0x80 } else { 0x00 };
            frames.push(fin | first);
            frames.extend(length(fragment.len()));
            frames.extend_from_slice(fragment);
            if after.is_empty() {
                return frames;
            }
            (first, rest) = (0x0, after);
        }
    }

    /// Sends the echo that was overtaken.
    fn release(&mut self) {
        if let Some(frames) = self.overtaken.take() {
            self.waiting_octets -= frames.len();
            self.push(frames, Duration::ZERO);
        }
    }

    /// Sends, after what goes out already.
    fn push(&mut self, octets: Vec<u8>, delay: Duration) {
        let before = self.waiting.back().map(|(due, _)| *due);
        let due = (Instant::now() + delay).max(before.unwrap_or(self.begun));
        self.waiting_octets += octets.len();
        self.waiting.push_back((due, octets));
    }

    fn close(&mut self, code: u16, reason: &str) {
        if self.phase == Phase::Open {
            self.release();
            let code = CloseCode::from(code);
            let payload = CloseFrame { code, reason }.encode();
            self.push(close_frame(&payload), Duration::ZERO);
            self.phase = Phase::CloseSent(Instant::now() + CLOSE_TIMEOUT);
        }
    }
}

fn close_frame(payload: &[u8]) -> Vec<u8> {
    [&[0x88], &*length(payload.len()), payload].concat()
}
