//! One connection that has faults: a task that owns its stream.

use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, sleep_until, timeout};

use super::counted::Counted;
use super::input::Input;
use super::outgoing::{Frames, Outgoing};
use super::parameters::{After, Faults};
use crate::engine::{Deadlines, Disconnect, EndpointIndex, Settings, Tally, Timeout, Unanswered};
use crate::http::{Rate, Upgraded};
use crate::protocol::{AssemblyPool, CloseCode, CloseFrame, Limits, Message, Receiver, Role};

/// No connection with faults lives longer: some of them keep it from ending by itself.
const LIFETIME: Duration = Duration::from_secs(15 * 60);

/// How often it is looked whether a client that is not read from has gone.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

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

/// So many octets have gone out, or come in.
enum Moved {
    Out(usize),
    In(usize),
}

/// Serves it to its end, and counts it.
pub(super) async fn serve(
    mut connection: Connection,
    mut stream: Upgraded,
    endpoint: EndpointIndex,
) {
    let mut counted = Counted::new(&stream, endpoint);
    let served = async {
        // The 101, whatever happens to what comes after.
        stream.flush().await?;
        connection.run(&mut stream, &mut counted).await
    };
    let served = timeout(LIFETIME, served).await;
    connection.tell(&mut counted);
    counted.why = match (served, connection.why) {
        (_, Some(why)) => why,
        (Ok(Err(error)), None) => Disconnect::Broken(error.kind()),
        (Ok(Ok(())) | Err(_), None) => Disconnect::CutByServer,
    };
    // However it ended otherwise, the stream's drop is a FIN.
    if connection.phase == Phase::Aborted {
        stream.abort();
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
        let mut receiver = Receiver::new(Role::Server, self.limits);
        let mut pool = AssemblyPool::new(counted.budget());
        let mut input = Input::default();
        loop {
            self.tell(counted);
            self.due(Instant::now());
            if self.is_stalled() && stream.has_left() {
                self.outgoing.release();
                self.end(Disconnect::EndOfStream);
            }
            match self.phase {
                Phase::Aborted => return self.flush(stream).await,
                Phase::Ending if self.outgoing.is_empty() => return Ok(()),
                _ if self.is_read() && !input.is_empty() => {
                    self.received(&mut receiver, &mut input, &mut pool);
                    continue;
                }
                _ => {}
            }
            let event = self.event_at();
            tokio::select! {
                biased;
                _ = ending.wait_for(|ending| *ending), if !ends => {
                    ends = true;
                    self.outgoing.hurry();
                    self.close(CloseCode::Away, "");
                }
                () = sleep_until(event.unwrap_or(self.begun)), if event.is_some() => {}
                moved = self.exchange(stream, &mut input) => match moved? {
                    Moved::Out(octets) => self.outgoing.wrote(octets),
                    Moved::In(0) => {
                        self.outgoing.release();
                        self.end(Disconnect::EndOfStream);
                    }
                    Moved::In(_) => {}
                },
            }
        }
    }

    /// Has what has passed counted.
    fn tell(&mut self, counted: &mut Counted) {
        self.tally.sent = self.outgoing.take_sent();
        counted.tell(&std::mem::take(&mut self.tally), self.outgoing.octets());
    }

    /// Writes what is due, or reads what has come.
    async fn exchange(&mut self, stream: &mut Upgraded, input: &mut Input) -> io::Result<Moved> {
        let writable = self.outgoing.next_at();
        let is_read = self.is_read();
        let mut is_due = pin!(sleep_until(writable.unwrap_or(self.begun)));
        poll_fn(|context| {
            if writable.is_some() && is_due.as_mut().poll(context).is_ready() {
                let octets = self.outgoing.next();
                if let Poll::Ready(written) = Pin::new(&mut *stream).poll_write(context, octets) {
                    return Poll::Ready(written.map(Moved::Out));
                }
            } else if let Poll::Ready(Err(error)) = Pin::new(&mut *stream).poll_flush(context) {
                return Poll::Ready(Err(error)); // what TLS keeps back
            }
            match is_read {
                true => input.poll_fill(stream, context).map_ok(Moved::In),
                false => Poll::Pending,
            }
        })
        .await
    }

    /// Sends what is due and can go at once.
    async fn flush(&mut self, stream: &mut Upgraded) -> io::Result<()> {
        while self
            .outgoing
            .next_at()
            .is_some_and(|at| at <= Instant::now())
        {
            let writing = stream.write(self.outgoing.next());
            match timeout(Duration::ZERO, writing).await {
                Ok(written) => self.outgoing.wrote(written?),
                Err(_) => break,
            }
        }
        Ok(())
    }

    /// Whether the client is read from.
    fn is_read(&self) -> bool {
        !self.is_stalled() && self.phase != Phase::Ending && !self.outgoing.is_full()
    }

    fn is_stalled(&self) -> bool {
        let stall = self.faults.stall;
        self.phase != Phase::Ending && stall.is_some_and(|after| self.is_after(after))
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
            self.end(Disconnect::CutByServer);
            self.phase = Phase::Aborted;
        }
        self.keep_time(now);
        match self.phase {
            Phase::CloseSent(code, Some(deadline)) if deadline <= now => {
                self.outgoing.clear();
                self.end(Disconnect::Unanswered(Some(code), Unanswered::TimedOut));
            }
            Phase::Open => {
                let closes = match (self.faults.close_after, self.faults.close) {
                    (Some(after), _) => self.is_after(after),
                    (None, code) => code.is_some(),
                };
                if closes {
                    if let Some(After::Time(_)) = self.faults.close_after {
                        self.outgoing.hurry();
                    }
                    let reason = std::mem::take(&mut self.faults.reason);
                    let code = self.faults.close.unwrap_or(1000).into();
                    self.close(code, &reason);
                } else if let (Some(interval), Some(at)) = (self.faults.ping, self.next_ping)
                    && at <= now
                {
                    self.next_ping = Some(now + interval);
                    if !self.outgoing.is_full() {
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
            let reason = "message not finished in time";
            self.fail(CloseCode::Policy, reason, Timeout::Message);
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
        self.outgoing.push_control(0x9, &[]);
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
        let look = self.is_stalled().then(|| now + LOOK_AGAIN);
        let all = closing.into_iter().chain(others).chain(timed).chain([look]);
        all.flatten().min()
    }

    fn received(&mut self, receiver: &mut Receiver, input: &mut Input, pool: &mut AssemblyPool) {
        self.heard = Instant::now();
        self.pinged = None;
        let mut rest = input.unread();
        // What is asked for after so many messages comes between two of them, however they come.
        while self.is_read() && self.phase != Phase::Aborted {
            match receiver.receive(&mut rest, pool) {
                Ok(Some(message)) => {
                    if message.is_data() {
                        self.message_since = None;
                    }
                    self.message(message);
                    self.due(self.heard);
                }
                Ok(None) => break,
                Err(error) => {
                    let code = error.close_code();
                    self.close(code, error.reason());
                    self.end(Disconnect::Failed(error, code));
                }
            }
        }
        let left = rest.len();
        input.read_until(left);
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
                self.outgoing.push_control(0xA, payload);
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
            Message::Text(text) => {
                received.data.add(1, text.len());
                received.text.add(1, text.len());
            }
            Message::Binary(payload) => received.data.add(1, payload.len()),
            Message::Ping(_) | Message::Pong(_) | Message::Close(_) => {
                received.control.add(1, message.size());
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
            let kind = violation.kind(opcode);
            let frames = Frames::raw(frames, kind, payload.len());
            self.outgoing.push(frames, delay);
            if violation.ends() {
                self.end(Disconnect::CutByServer);
            }
            return;
        }
        let frames = self.frames(opcode, payload);
        if dup < self.faults.dup {
            self.outgoing.push(frames.clone(), delay);
        }
        let frames = match reorder < self.faults.reorder {
            true => self.outgoing.keep_back(frames, delay),
            false => Some(frames),
        };
        if let Some(frames) = frames {
            self.outgoing.push(frames, delay);
            self.outgoing.release();
        }
    }

    /// An echo, forced to the type that was asked for and cut as was asked for.
    fn frames(&self, opcode: u8, payload: &[u8]) -> Frames {
        let (opcode, payload) = match opcode {
            0x2 if self.faults.text => (0x1, String::from_utf8_lossy(payload).into_owned().into()),
            0x1 if self.faults.binary => (0x2, Bytes::copy_from_slice(payload)),
            _ => (opcode, Bytes::copy_from_slice(payload)),
        };
        Frames::message(opcode, payload, self.faults.fragment.unwrap_or(usize::MAX))
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
        let payload = Bytes::copy_from_slice(payload);
        let frame = Frames::message(0x8, payload, usize::MAX);
        self.outgoing.push(frame, Duration::ZERO);
    }
}
