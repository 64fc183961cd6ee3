//! One connection that has faults: a task that owns its stream.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, sleep_until, timeout};

use super::outgoing::Outgoing;
use super::parameters::{After, Faults};
use super::violation::length;
use crate::engine::{
    ConnectionRecord, Deadlines, Disconnect, EndpointIndex, Flow, PeerAddress, Settings, Tally,
    Timeout,
};
use crate::http::{Account, Rate, Upgraded};
use crate::protocol::{AssemblyPool, CloseCode, CloseFrame, Limits, Message, Receiver, Role};

/// No connection with faults lives longer: some of them keep it from ending by itself.
const LIFETIME: Duration = Duration::from_secs(15 * 60);

/// Octets of the largest message, if the client does not ask for another bound: its echo may be
/// several times as much in small fragments.
const MAX_MESSAGE_SIZE: usize = 1 << 20;

pub(super) struct Connection {
    faults: Faults,
    deadlines: Deadlines,
    rate: Option<Rate>,
    /// When the client was last heard, or could not be.
    heard: Instant,
    /// When the Ping went out that nothing has been heard since.
    pinged: Option<Instant>,
    /// When the message under way began.
    message_since: Option<Instant>,
    /// What has passed since that was last told.
    tally: Tally,
    /// How it ends, once it does.
    why: Option<Disconnect>,
    random: fastrand::Rng,
    limits: Limits,
    phase: Phase,
    begun: Instant,
    /// Data messages that have come.
    messages: u64,
    outgoing: Outgoing,
    next_ping: Option<Instant>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Phase {
    Open,
    /// Our Close, with this code, goes out; the client has until then to answer.
    CloseSent(CloseCode, Option<Instant>),
    /// What waits is the last.
    Ending,
    Aborted,
}

/// Serves it to its end, and counts it.
pub(super) async fn serve(
    mut connection: Connection,
    mut stream: Upgraded,
    endpoint: EndpointIndex,
) {
    let account = stream.account();
    // Told by its drop, so that also a connection that is cut is counted out.
    let mut counted = Counted {
        number: account.opened(endpoint),
        endpoint,
        peer: stream.peer(),
        begun: connection.begun,
        received: Flow::default(),
        sent: Flow::default(),
        why: Disconnect::CutAtShutdown,
        account,
    };
    let served = async {
        // The 101, whatever happens to what comes after.
        stream.flush().await?;
        connection.run(&mut stream, &mut counted).await
    };
    let served = timeout(LIFETIME, served).await;
    counted.tell(&mut connection);
    counted.why = match (served, connection.why) {
        (_, Some(why)) => why,
        (Ok(Err(error)), None) => Disconnect::Broken(error.kind()),
        (Ok(Ok(())) | Err(_), None) => Disconnect::ClosedByUs(None, None),
    };
    // However it ended otherwise, the stream's drop is a FIN.
    if connection.phase == Phase::Aborted {
        stream.abort();
    }
}

/// A connection in the server's counts.
struct Counted {
    account: Arc<dyn Account>,
    number: u64,
    endpoint: EndpointIndex,
    peer: PeerAddress,
    begun: Instant,
    received: Flow,
    sent: Flow,
    why: Disconnect,
}

impl Counted {
    /// Tells what has passed since it was last told.
    fn tell(&mut self, connection: &mut Connection) {
        if connection.tally != Tally::default() {
            let tally = std::mem::take(&mut connection.tally);
            self.received += tally.received.text;
            self.received += tally.received.binary;
            self.sent += tally.sent.text;
            self.sent += tally.sent.binary;
            self.account.tallied(&tally);
        }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.account.closed(&ConnectionRecord {
            number: self.number,
            endpoint: self.endpoint,
            peer: self.peer,
            duration: self.begun.elapsed(),
            received: self.received,
            sent: self.sent,
            why: &self.why,
        });
    }
}

impl Connection {
    /// `seed` holds where the client gave none; without either its faults are random.
    pub(super) fn new(faults: Faults, seed: Option<u64>, settings: &Settings) -> Connection {
        let asked = faults.max_message_size.unwrap_or(MAX_MESSAGE_SIZE);
        let limits = Limits {
            max_message_size: settings.limits.max_message_size.min(asked),
            ..settings.limits
        };
        let now = Instant::now();
        Connection {
            deadlines: settings.deadlines.clone(),
            rate: settings.max_message_rate.map(Rate::new),
            heard: now,
            pinged: None,
            message_since: None,
            tally: Tally::default(),
            why: None,
            random: match faults.seed.or(seed) {
                Some(seed) => fastrand::Rng::with_seed(seed),
                None => fastrand::Rng::new(),
            },
            limits,
            phase: Phase::Open,
            begun: now,
            messages: 0,
            outgoing: Outgoing::new(faults.trickle),
            next_ping: faults.ping.map(|interval| now + interval),
            faults,
        }
    }

    async fn run(&mut self, stream: &mut Upgraded, counted: &mut Counted) -> io::Result<()> {
        let mut ending = stream.ending();
        let mut ends = false;
        let (mut reader, mut writer) = tokio::io::split(stream);
        let mut receiver = Receiver::new(Role::Server, self.limits);
        let mut buffer = vec![0; 16 << 10];
        let mut pool = AssemblyPool::new(counted.account.budget());
        loop {
            counted.tell(self);
            self.due(Instant::now());
            if self.phase == Phase::Aborted
                || (self.phase == Phase::Ending && self.outgoing.is_empty())
            {
                return Ok(());
            }
            let writable = self.outgoing.next_at();
            let event = self.event_at();
            tokio::select! {
                biased;
                _ = ending.wait_for(|ending| *ending), if !ends => {
                    ends = true;
                    // A frame that has begun to go out is to be whole before the Close.
                    self.outgoing.cut(usize::from(self.phase != Phase::Ending));
                    self.close(CloseCode::Away, "");
                }
                () = sleep_until(event.unwrap_or(self.begun)), if event.is_some() => {}
                written = async {
                    sleep_until(writable.unwrap_or(self.begun)).await;
                    writer.write(self.outgoing.next()).await
                }, if writable.is_some() => self.outgoing.wrote(written?),
                read = reader.read(&mut buffer), if self.is_read() => match read? {
                    0 => {
                        self.outgoing.release();
                        self.end(Disconnect::EndOfStream);
                    }
                    octets => self.received(&mut receiver, &mut buffer[..octets], &mut pool),
                },
            }
        }
    }

    /// Whether the client is read from.
    fn is_read(&self) -> bool {
        let stalled = self.faults.stall.is_some_and(|after| self.is_after(after));
        !stalled && self.phase != Phase::Ending && !self.outgoing.is_full()
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
            self.end(Disconnect::ClosedByUs(None, None));
            self.phase = Phase::Aborted;
        }
        self.keep_time(now);
        match self.phase {
            Phase::CloseSent(_, Some(deadline)) if deadline <= now => {
                self.outgoing.cut(0);
                self.end(Disconnect::TimedOut(Timeout::Close));
            }
            Phase::Open => {
                let closes = match (self.faults.close_after, self.faults.close) {
                    (Some(after), _) => self.is_after(after),
                    (None, code) => code.is_some(),
                };
                if closes {
                    let reason = std::mem::take(&mut self.faults.reason);
                    let code = self.faults.close.unwrap_or(1000).into();
                    self.close(code, &reason);
                } else if let (Some(interval), Some(at)) = (self.faults.ping, self.next_ping)
                    && at <= now
                {
                    self.next_ping = Some(now + interval);
                    if !self.outgoing.has_too_many() {
                        self.ping();
                    }
                }
            }
            _ => {}
        }
    }

    /// Looks whether the client is alive and goes on with its message. It cannot show that while
    /// it is not read from, and need not while something goes out to it.
    fn keep_time(&mut self, now: Instant) {
        if !self.is_timed() {
            self.heard = now;
            self.message_since = self.message_since.map(|_| now);
            return;
        }
        if self.keepalive_at().is_some_and(|at| at <= now) {
            if self.pinged.is_some() {
                self.fail(CloseCode::Policy, "ping timeout", Timeout::Ping);
            } else {
                self.pinged = Some(now);
                self.heard = now;
                self.ping();
            }
        } else if self.message_at().is_some_and(|at| at <= now) {
            self.fail(CloseCode::Policy, "message timeout", Timeout::Message);
        }
    }

    fn is_timed(&self) -> bool {
        self.phase == Phase::Open && self.outgoing.is_empty() && self.is_read()
    }

    /// When the client has been silent for too long.
    fn keepalive_at(&self) -> Option<Instant> {
        let patience = match self.pinged {
            None => self.deadlines.ping_interval,
            Some(_) => self.deadlines.ping_timeout,
        };
        (!patience.is_zero()).then(|| self.heard + patience)
    }

    /// When the message under way has taken too long.
    fn message_at(&self) -> Option<Instant> {
        let patience = self.deadlines.message;
        let since = self.message_since.filter(|_| !patience.is_zero())?;
        Some(since + patience)
    }

    fn ping(&mut self) {
        self.tally.sent.control.add(1, 0);
        self.outgoing.push(vec![0x89, 0x00], Duration::ZERO);
    }

    /// Closes without waiting for the client's answer.
    fn fail(&mut self, code: CloseCode, reason: &str, timeout: Timeout) {
        self.close(code, reason);
        self.end(Disconnect::TimedOut(timeout));
    }

    /// What waits is the last.
    fn end(&mut self, why: Disconnect) {
        self.phase = Phase::Ending;
        self.why.get_or_insert(why);
    }

    /// The next time at which something happens by itself.
    fn event_at(&self) -> Option<Instant> {
        let now = Instant::now();
        let at = |after: Option<After>| match after {
            Some(After::Time(time)) => Some(self.begun + time).filter(|at| *at > now),
            _ => None,
        };
        let closing = match self.phase {
            Phase::CloseSent(_, deadline) => [deadline, None],
            Phase::Open => [at(self.faults.close_after), self.next_ping],
            _ => [None, None],
        };
        let others = [at(self.faults.abort), at(self.faults.stall)];
        let timed = match self.is_timed() {
            true => [self.keepalive_at(), self.message_at()],
            false => [None, None],
        };
        let all = closing.into_iter().chain(others).chain(timed);
        all.flatten().min()
    }

    fn received(&mut self, receiver: &mut Receiver, mut input: &mut [u8], pool: &mut AssemblyPool) {
        self.heard = Instant::now();
        self.pinged = None;
        loop {
            match receiver.receive(&mut input, pool) {
                Ok(Some(message)) => {
                    if message.is_data() {
                        self.message_since = None;
                    }
                    self.message(message);
                }
                Ok(None) => break,
                Err(error) => {
                    let code = error.close_code();
                    self.close(code, error.reason());
                    self.end(Disconnect::Failed(error, code));
                }
            }
        }
        let inside = receiver.is_inside_message();
        self.message_since = inside.then(|| self.message_since.unwrap_or(self.heard));
    }

    fn message(&mut self, message: Message<'_>) {
        self.count(&message);
        let is_close = matches!(message, Message::Close(_));
        if self.phase == Phase::Open && !is_close && !self.rate.as_mut().is_none_or(Rate::admits) {
            self.close(CloseCode::Policy, "too many messages");
        }
        if self.phase != Phase::Open && !matches!(message, Message::Close(_)) {
            return;
        }
        match message {
            Message::Text(text) => self.echo(0x1, text.as_bytes()),
            Message::Binary(payload) => self.echo(0x2, payload),
            Message::Ping(payload) if !self.faults.mute_pong => {
                let pong = [&[0x8A], &*length(payload.len()), payload].concat();
                self.tally.sent.control.add(1, payload.len());
                self.outgoing.push(pong, Duration::ZERO);
            }
            Message::Ping(_) | Message::Pong(_) => {}
            Message::Close(frame) => {
                let code = frame.map(|frame| frame.code);
                if let Phase::CloseSent(ours, _) = self.phase {
                    self.end(Disconnect::ClosedByUs(Some(ours), code));
                    return;
                }
                if self.phase == Phase::Open {
                    self.outgoing.release();
                    let payload = frame.map(|frame| frame.encode()).unwrap_or_default();
                    self.push_close(&payload);
                }
                self.end(Disconnect::ClosedByPeer(code));
            }
        }
    }

    fn count(&mut self, message: &Message<'_>) {
        let received = &mut self.tally.received;
        match message {
            Message::Text(text) => received.text.add(1, text.len()),
            Message::Binary(payload) => received.binary.add(1, payload.len()),
            control => {
                let length = control.frame().map_or(0, |(_, payload)| payload.len());
                received.control.add(1, length);
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
            self.outgoing.push(frames, delay);
            if violation.ends() {
                self.end(Disconnect::ClosedByUs(None, None));
            }
            return;
        }
        let frames = self.encode(opcode, payload);
        let copies = if dup < self.faults.dup { 2 } else { 1 };
        let is_text = frames.first().is_some_and(|first| first & 0xF == 0x1);
        let sent = match is_text {
            true => &mut self.tally.sent.text,
            false => &mut self.tally.sent.binary,
        };
        sent.add(copies, copies * payload.len());
        if copies > 1 {
            self.outgoing.push(frames.clone(), delay);
        }
        let frames = match reorder < self.faults.reorder {
            true => self.outgoing.keep_back(frames),
            false => Some(frames),
        };
        if let Some(frames) = frames {
            self.outgoing.push(frames, delay);
            self.outgoing.release();
        }
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

    fn close(&mut self, code: CloseCode, reason: &str) {
        if self.phase == Phase::Open {
            self.outgoing.release();
            self.push_close(&CloseFrame { code, reason }.encode());
            let patience = self.deadlines.close;
            let deadline = (!patience.is_zero()).then(|| Instant::now() + patience);
            self.phase = Phase::CloseSent(code, deadline);
        }
    }

    fn push_close(&mut self, payload: &[u8]) {
        self.tally.sent.control.add(1, payload.len());
        let frame = [&[0x88], &*length(payload.len()), payload].concat();
        self.outgoing.push(frame, Duration::ZERO);
    }
}
