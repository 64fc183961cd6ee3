//! The handler of a connection with faults.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::outgoing::{FramedMessage, Outgoing};
use super::parameters::{After, Faults};
use super::timer::FaultTimer;
use crate::engine::for_faults::Demand;
use crate::engine::{Handler, Held, RawHandler, WebSocket};
use crate::protocol::{CloseCode, CloseFrame, Message, OpCode};

/// Maximum lifetime of a connection with faults. Some faults prevent it from ending by itself.
const LIFETIME: Duration = Duration::from_secs(15 * 60);

/// Maximum time that messages may wait beyond their requested delay, if the queue has more than
/// [`SMALL`] bytes.
const PATIENCE: Duration = Duration::from_secs(60);

/// Bytes that may wait for the lifetime of the connection.
const SMALL: usize = 4 << 10;

/// An echo handler with faults.
pub(super) struct Faulty {
    faults: Faults,
    random: fastrand::Rng,
    begun: Instant,
    /// The number of data messages received.
    messages: u64,
    outgoing: Outgoing,
    /// When to send the next Ping; `None` until something is received after a Ping.
    next_ping: Option<Instant>,
    phase: FaultPhase,
    /// Whether due bytes wait for the socket.
    wants_room: bool,
    timer: Option<FaultTimer>,
    held: Option<Held>,
}

#[derive(Debug)]
enum FaultPhase {
    Open,
    /// The Close to send once the queue is empty. `None` ends the connection without a Close frame.
    Closing(Option<(CloseCode, String)>),
    /// The engine sends the Close.
    Closed,
    /// The connection ends without a Close once the queue is empty.
    Ending,
    Aborted,
}

impl Faulty {
    /// `seed` is used if the client gives no seed. Without both seeds the faults are random.
    pub(super) fn new(faults: Faults, seed: Option<u64>) -> Faulty {
        let now = Instant::now();
        Faulty {
            random: match faults.seed.or(seed) {
                Some(seed) => fastrand::Rng::with_seed(seed),
                None => fastrand::Rng::new(),
            },
            begun: now,
            messages: 0,
            outgoing: Outgoing::new(faults.trickle),
            next_ping: faults.ping.map(|interval| now + interval),
            phase: FaultPhase::Open,
            wants_room: false,
            timer: None,
            held: None,
            faults,
        }
    }

    /// Does everything that is due now.
    fn advance(&mut self, socket: &mut WebSocket<'_>) {
        let now = Instant::now();
        self.reach(now);
        self.wants_room = self.outgoing.send_due(socket, now);
        if self.outgoing.is_empty()
            && let FaultPhase::Closing(frame) = &mut self.phase
        {
            let frame = frame.take();
            self.phase = FaultPhase::Closed;
            let frame = frame.as_ref().map(|(code, reason)| CloseFrame {
                code: *code,
                reason,
            });
            socket.release_close(frame);
        }
        self.set_timer(now);
        if self.held.is_none() && !self.outgoing.is_empty() {
            self.held = Some(socket.hold());
        }
        self.count_held();
    }

    /// Counts the queue in the server's budget for data that waits to be sent.
    fn count_held(&mut self) {
        match (self.outgoing.memory(), &mut self.held) {
            (0, held) => *held = None,
            (bytes, Some(held)) => held.set(bytes),
            (_, None) => {}
        }
    }

    /// Starts the faults whose time or number of messages is reached.
    fn reach(&mut self, now: Instant) {
        if self.is_after(self.faults.abort) {
            self.phase = FaultPhase::Aborted;
        } else if self.begun + LIFETIME <= now || self.is_kept_too_long(now) {
            self.outgoing.clear();
            self.phase = FaultPhase::Ending;
        }
        if !matches!(self.phase, FaultPhase::Open) {
            return;
        }
        let closes = match (self.faults.close_after, self.faults.close) {
            (after @ Some(_), _) => self.is_after(after),
            (None, code) => code.is_some(),
        };
        if closes {
            self.outgoing.release();
            if let Some(After::Time(_)) = self.faults.close_after {
                self.outgoing.hurry();
            }
            let reason = std::mem::take(&mut self.faults.reason);
            let code = self.faults.close.unwrap_or(1000).into();
            self.phase = FaultPhase::Closing(Some((code, reason)));
        } else if self.next_ping.is_some_and(|at| at <= now) && !self.outgoing.is_full() {
            self.next_ping = None;
            self.outgoing.push_control(OpCode::Ping, &[]);
        }
    }

    fn is_kept_too_long(&self, now: Instant) -> bool {
        self.keeping_ends().is_some_and(|at| at <= now)
    }

    /// When the connection ends because its queue has waited too long.
    fn keeping_ends(&self) -> Option<Instant> {
        let oldest = self.outgoing.oldest()?;
        (self.outgoing.bytes() > SMALL).then(|| oldest + PATIENCE)
    }

    fn is_after(&self, after: Option<After>) -> bool {
        after.is_some_and(|after| match after {
            After::Messages(messages) => self.messages >= messages,
            After::Time(time) => self.begun.elapsed() >= time,
        })
    }

    /// Sets the timer to the next time at which something is due.
    fn set_timer(&mut self, now: Instant) {
        let at = |after: Option<After>| match after {
            Some(After::Time(time)) => Some(self.begun + time).filter(|at| *at > now),
            _ => None,
        };
        let (close, ping) = match self.phase {
            FaultPhase::Closing(_) if self.outgoing.is_empty() => (Some(now), None),
            FaultPhase::Open => (at(self.faults.close_after), self.next_ping),
            _ => (None, None),
        };
        // While the socket is full, the engine wakes this handler. Bytes that did not fit into the
        // turn are due already, so the timer rings at once.
        let outgoing = self.outgoing.next_at().filter(|_| !self.wants_room);
        let all = [
            close,
            ping,
            outgoing,
            at(self.faults.abort),
            at(self.faults.stall),
            self.keeping_ends(),
            Some(self.begun + LIFETIME),
        ];
        if let Some(timer) = &mut self.timer {
            timer.set(all.into_iter().flatten().min());
        }
    }

    /// Schedules the next Ping after something was received.
    fn heard(&mut self) {
        if self.next_ping.is_none() {
            self.next_ping = self.faults.ping.map(|interval| Instant::now() + interval);
        }
    }

    fn echo(&mut self, opcode: OpCode, payload: &[u8]) {
        self.messages += 1;
        // Every message takes the same number of draws, so a seed repeats each fault independently
        // of the others.
        let [drop, dup, reorder, jitter] = [(); 4].map(|()| self.random.f64());
        let delay = self.faults.delay + self.faults.jitter.mul_f64(jitter);
        let due = Instant::now() + delay;
        if drop < self.faults.drop {
            return;
        }
        if let Some(violation) = self.faults.invalid
            && let Some(frames) = violation.frames(opcode as u8, payload)
        {
            let kind = violation.kind(opcode);
            let frames = FramedMessage::raw(frames, kind, payload.len());
            self.outgoing.push(frames, due);
            if violation.ends() {
                self.phase = FaultPhase::Ending;
            }
            return;
        }
        let frames = self.frames(opcode, payload);
        if dup < self.faults.dup {
            self.outgoing.push(frames.clone(), due);
        }
        if reorder < self.faults.reorder && !self.outgoing.keeps_back() {
            self.outgoing.keep_back(frames, due);
        } else {
            self.outgoing.push(frames, due);
            self.outgoing.release();
        }
    }

    /// An echo with the requested type and fragment size.
    fn frames(&self, opcode: OpCode, payload: &[u8]) -> FramedMessage {
        let (opcode, payload) = match opcode {
            OpCode::Binary if self.faults.text => (
                OpCode::Text,
                String::from_utf8_lossy(payload).into_owned().into(),
            ),
            OpCode::Text if self.faults.binary => (OpCode::Binary, Bytes::copy_from_slice(payload)),
            _ => (opcode, Bytes::copy_from_slice(payload)),
        };
        FramedMessage::message(opcode, payload, self.faults.fragment.unwrap_or(usize::MAX))
    }
}

impl Handler for Faulty {
    fn open(&mut self, socket: &mut WebSocket<'_>) {
        self.timer = Some(FaultTimer::new(socket.peer()));
        self.advance(socket);
    }

    fn message(&mut self, socket: &mut WebSocket<'_>, message: Message<'_>) {
        self.heard();
        match message {
            _ if !matches!(self.phase, FaultPhase::Open) => {}
            Message::Text(text) => self.echo(OpCode::Text, text.as_bytes()),
            Message::Binary(payload) => self.echo(OpCode::Binary, payload),
            Message::Ping(payload) if !self.faults.mute_pong => {
                self.outgoing.push_control(OpCode::Pong, payload);
            }
            Message::Ping(_) | Message::Pong(_) | Message::Close(_) => {}
        }
        self.advance(socket);
    }

    fn raw(&mut self) -> Option<&mut dyn RawHandler> {
        Some(self)
    }
}

impl RawHandler for Faulty {
    fn wake(&mut self, socket: &mut WebSocket<'_>) {
        if let Some(timer) = &mut self.timer {
            timer.set(None);
        }
        self.advance(socket);
    }

    fn demand(&self) -> Demand {
        match self.phase {
            FaultPhase::Aborted => Demand::Abort,
            FaultPhase::Ending if self.outgoing.is_empty() => Demand::End,
            FaultPhase::Ending => Demand::Pause,
            _ if self.is_after(self.faults.stall) => Demand::Stall,
            _ if self.outgoing.is_full() => Demand::Pause,
            _ => Demand::Read,
        }
    }

    fn postpones_close(&mut self, frame: Option<CloseFrame<'_>>, is_urgent: bool) -> bool {
        match self.phase {
            FaultPhase::Open => self.outgoing.release(),
            FaultPhase::Closing(_) => {}
            FaultPhase::Closed | FaultPhase::Ending | FaultPhase::Aborted => return false,
        }
        if is_urgent {
            self.outgoing.hurry();
        }
        if let FaultPhase::Open = self.phase {
            if self.outgoing.is_empty() {
                self.phase = FaultPhase::Closed;
                return false;
            }
            let frame = frame.map(|frame| (frame.code, frame.reason.to_owned()));
            self.phase = FaultPhase::Closing(frame);
        }
        self.set_timer(Instant::now());
        true
    }

    fn held(&self) -> usize {
        self.held.as_ref().map_or(0, Held::bytes)
    }

    fn drop_kept(&mut self) {
        self.outgoing.drop_unbegun();
        self.count_held();
    }

    fn kept(&self) -> usize {
        self.outgoing.bytes()
    }

    fn wants_room(&self) -> bool {
        self.wants_room
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, Read, Write};
    use std::mem;

    use super::*;
    use crate::engine::{Settings, Simulation, Stream};
    use crate::protocol::FrameHeader;

    /// A client that has sent `input`, and how many bytes it has received.
    struct Client {
        input: Vec<u8>,
        received: usize,
    }

    impl Read for Client {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let size = self.input.len().min(buffer.len());
            let rest = self.input.split_off(size);
            buffer[..size].copy_from_slice(&mem::replace(&mut self.input, rest));
            match size {
                0 => Err(io::ErrorKind::WouldBlock.into()),
                size => Ok(size),
            }
        }
    }

    impl Write for Client {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.received += bytes.len();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Stream for Client {
        fn shutdown_write(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// The fragments of one message, and of many messages in one read, take many turns.
    #[tokio::test]
    async fn fragments_are_sent_in_turns() {
        for (size, count) in [(1 << 20, 1), (1 << 10, 120)] {
            let faults = Faults {
                fragment: Some(1),
                ..Faults::default()
            };
            let header = FrameHeader {
                fin: true,
                rsv1: false,
                opcode: OpCode::Binary,
                masking_key: Some([0; 4]),
                payload_length: size as u64,
            };
            let frame = [header.encode().as_ref(), &vec![7; size]].concat();
            let client = Client {
                input: frame.repeat(count),
                received: 0,
            };
            let mut simulation = Simulation::new(&Settings::default());
            let connection = simulation.open(client, Faulty::new(faults, Some(0)), None);
            simulation.ready(connection);
            let (mut received, mut most, mut longest) = (0, 0, Duration::ZERO);
            while received < 3 * size * count {
                tokio::task::yield_now().await; // the timer of the faults
                let began = Instant::now();
                simulation.turn();
                longest = longest.max(began.elapsed());
                let client = simulation.stream(connection).unwrap();
                most = most.max(client.received - received);
                received = client.received;
            }
            println!("{count} of {size} bytes: at most {most} bytes, {longest:.1?} in a turn");
            assert!(most <= 160 << 10, "{most} bytes in one turn");
        }
    }

    /// Attack 66: a connection with a large queue ends sooner than one with a small queue.
    #[test]
    fn a_large_queue_that_waits_too_long_ends_the_connection() {
        for (size, lateness, is_too_long) in [
            (SMALL + 1, PATIENCE, true),
            (SMALL + 1, PATIENCE / 2, false),
            (SMALL, 10 * PATIENCE, false),
        ] {
            let mut faulty = Faulty::new(Faults::default(), Some(0));
            let frames = FramedMessage::message(OpCode::Binary, vec![0; size].into(), usize::MAX);
            let due = Instant::now();
            faulty.outgoing.push(frames, due);
            assert_eq!(
                faulty.is_kept_too_long(due + lateness),
                is_too_long,
                "{size}"
            );
        }
    }
}
