//! The handler of a connection that has faults.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::outgoing::{FramedMessage, Outgoing};
use super::parameters::{After, Faults};
use super::timer::FaultTimer;
use crate::engine::{Demand, Handler, Held, RawHandler, WebSocket};
use crate::protocol::{CloseCode, CloseFrame, Message, OpCode};

/// No connection with faults lives longer: some of them keep it from ending by itself.
const LIFETIME: Duration = Duration::from_secs(15 * 60);

/// How much longer than was asked for a message may wait, where more than [`SMALL`] does.
const PATIENCE: Duration = Duration::from_secs(60);

/// Bytes that may wait as long as the connection lives.
const SMALL: usize = 4 << 10;

/// Echoes, with faults.
pub(super) struct Faulty {
    faults: Faults,
    random: fastrand::Rng,
    begun: Instant,
    /// Data messages that have come.
    messages: u64,
    outgoing: Outgoing,
    /// When the next Ping goes out. A Ping follows the answer to the one before.
    next_ping: Option<Instant>,
    /// Nothing has been heard since the last Ping.
    is_ping_unanswered: bool,
    phase: FaultPhase,
    /// Something that is due waits for the socket.
    wants_room: bool,
    timer: Option<FaultTimer>,
    held: Option<Held>,
}

#[derive(Debug)]
enum FaultPhase {
    Open,
    /// This Close goes out when nothing waits before it. `None` is the end without a frame.
    Closing(Option<(CloseCode, String)>),
    /// The Close is the engine's to send.
    Closed,
    /// What waits is the last, and then the connection ends without a Close.
    Ending,
    Aborted,
}

impl Faulty {
    /// `seed` holds where the client gave none; without either its faults are random.
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
            is_ping_unanswered: false,
            phase: FaultPhase::Open,
            wants_room: false,
            timer: None,
            held: None,
            faults,
        }
    }

    /// Does what is to be done by now.
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

    /// Counts what is kept in the server's budget of what waits to be sent.
    fn count_held(&mut self) {
        match (self.outgoing.memory(), &mut self.held) {
            (0, held) => *held = None,
            (bytes, Some(held)) => held.set(bytes),
            (_, None) => {}
        }
    }

    /// Comes to what has its time, or its number of messages.
    fn reach(&mut self, now: Instant) {
        if self.faults.abort.is_some_and(|after| self.is_after(after)) {
            self.phase = FaultPhase::Aborted;
        } else if self.begun + LIFETIME <= now || self.is_kept_too_long(now) {
            self.outgoing.clear();
            self.phase = FaultPhase::Ending;
        }
        if !matches!(self.phase, FaultPhase::Open) {
            return;
        }
        let closes = match (self.faults.close_after, self.faults.close) {
            (Some(after), _) => self.is_after(after),
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
            self.is_ping_unanswered = true;
            self.outgoing.push_control(OpCode::Ping, &[]);
        }
    }

    fn is_kept_too_long(&self, now: Instant) -> bool {
        self.keeping_ends().is_some_and(|at| at <= now)
    }

    /// Until when what waits may wait.
    fn keeping_ends(&self) -> Option<Instant> {
        let oldest = self.outgoing.oldest()?;
        (self.outgoing.bytes() > SMALL).then(|| oldest + PATIENCE)
    }

    fn is_after(&self, after: After) -> bool {
        match after {
            After::Messages(messages) => self.messages >= messages,
            After::Time(time) => self.begun.elapsed() >= time,
        }
    }

    fn is_stalled(&self) -> bool {
        self.faults.stall.is_some_and(|after| self.is_after(after))
    }

    /// Sets the timer to the next time at which something happens by itself.
    fn set_timer(&self, now: Instant) {
        let at = |after: Option<After>| match after {
            Some(After::Time(time)) => Some(self.begun + time).filter(|at| *at > now),
            _ => None,
        };
        let (close, ping) = match self.phase {
            FaultPhase::Closing(_) if self.outgoing.is_empty() => (Some(now), None),
            FaultPhase::Open => (at(self.faults.close_after), self.next_ping),
            _ => (None, None),
        };
        // The engine says when there is room.
        let outgoing = self.outgoing.next_at().filter(|_| !self.wants_room);
        let others = [at(self.faults.abort), at(self.faults.stall)];
        let ends = [Some(self.begun + LIFETIME), self.keeping_ends()];
        let all = [close, ping, outgoing]
            .into_iter()
            .chain(others)
            .chain(ends);
        if let Some(timer) = &self.timer {
            timer.set(all.flatten().min());
        }
    }

    /// Something has come: the next Ping may follow.
    fn heard(&mut self) {
        if std::mem::take(&mut self.is_ping_unanswered) {
            self.next_ping = self.faults.ping.map(|interval| Instant::now() + interval);
        }
    }

    fn echo(&mut self, opcode: OpCode, payload: &[u8]) {
        self.messages += 1;
        // Always as many draws for a message, so that a seed repeats each fault by itself.
        let [drop, dup, reorder, jitter] = [(); 4].map(|()| self.random.f64());
        let delay = self.faults.delay + self.faults.jitter.mul_f64(jitter);
        if drop < self.faults.drop {
            return;
        }
        if let Some(violation) = self.faults.invalid
            && let Some(frames) = violation.frames(opcode as u8, payload)
        {
            let kind = violation.kind(opcode);
            let frames = FramedMessage::raw(frames, kind, payload.len());
            self.outgoing.push(frames, delay);
            if violation.ends() {
                self.phase = FaultPhase::Ending;
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
        if let Some(timer) = &self.timer {
            timer.rang();
        }
        self.advance(socket);
    }

    fn demand(&self) -> Demand {
        match self.phase {
            FaultPhase::Aborted => Demand::Abort,
            FaultPhase::Ending if self.outgoing.is_empty() => Demand::End,
            FaultPhase::Ending => Demand::Pause,
            _ if self.is_stalled() => Demand::Stall,
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
    use super::*;

    /// Attack 66: a connection that keeps much has not as long as one that keeps nothing.
    #[test]
    fn what_is_kept_too_long_ends() {
        for (size, lateness, is_too_long) in [
            (SMALL + 1, PATIENCE, true),
            (SMALL + 1, PATIENCE / 2, false),
            (SMALL, 10 * PATIENCE, false),
        ] {
            let mut faulty = Faulty::new(Faults::default(), Some(0));
            let frames = FramedMessage::message(OpCode::Binary, vec![0; size].into(), usize::MAX);
            let delay = Duration::from_secs(30);
            faulty.outgoing.push(frames, delay);
            let now = Instant::now() + delay + lateness;
            assert_eq!(faulty.is_kept_too_long(now), is_too_long, "{size}");
        }
    }
}
