//! One connection: what an event, a command or a deadline makes of it.
//!
//! ```text
//!   Open ── failed, or our Close answered ──▶ Draining ── all is written: FIN ──▶ Lingering
//!    │                                         ▲    │                                │
//!    └── Close or EOF ──▶ Leaving ─────────────┘    └── EOF was read ──▶ over ◀──────┘
//! ```
//!
//! Lingering reads on until the peer's FIN: closing at once with unread input would make the
//! kernel send RST, and the peer would lose our Close (RFC 6455 §7.1.1).

use std::io;
use std::mem;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::backlog::{Backlog, messages_left};
use super::deadlines::{DeadlineTicks, Tick};
use super::disconnect::{Disconnect, Timeout};
use super::handler::{Handler, WebSocket};
use super::mailbox::Mailbox;
use super::output::Output;
use super::slots::Key;
use super::socket::Stream;
use super::tally::{Flow, Tally};
use super::{Settings, SlowConsumer};
use crate::log;
use crate::protocol::{
    AssemblyBudget, AssemblyPool, CloseCode, CloseFrame, DeflateParameters, Message, ProtocolError,
    Receiver, Role, Sender,
};

/// What a worker's connections share while one of them is driven.
pub(crate) struct Context {
    /// What a read goes into. Initialised once, never zeroed again.
    pub(super) input: Vec<u8>,
    /// What a turn's frames are gathered in. Empty between turns.
    pub(super) output: Vec<u8>,
    pub(super) pool: AssemblyPool,
    pub(super) now: Tick,
    /// How long a tick is.
    pub(super) tick: Duration,
    pub(super) deadlines: DeadlineTicks,
    pub(super) slow_consumer: SlowConsumer,
    pub(super) high_water_mark: usize,
    pub(super) linger_size: usize,
    pub(super) mailbox: Arc<Mailbox>,
    /// What was done since the observer was last told.
    pub(super) tally: Tally,
}

impl Context {
    /// Octets of the buffer that every read goes into.
    const INPUT: usize = 128 << 10;

    /// At the beginning of time.
    pub(super) fn new(
        settings: &Settings,
        tick: Duration,
        deadlines: DeadlineTicks,
        budget: AssemblyBudget,
        mailbox: Mailbox,
    ) -> Context {
        Context {
            input: vec![0; Self::INPUT],
            output: Vec::with_capacity(Output::CAPACITY),
            pool: AssemblyPool::new(budget),
            now: 0,
            tick,
            deadlines,
            slow_consumer: settings.slow_consumer,
            high_water_mark: settings.high_water_mark,
            linger_size: settings.linger_size,
            mailbox: Arc::new(mailbox),
            tally: Tally::default(),
        }
    }
}

/// What the frame loop sees of a connection, whatever its handler. One call for each event.
pub(crate) trait Drive {
    /// The connection is the frame loop's from now on. `head` is written before what the handler
    /// sends, but not before it has seen the connection; `early` has been read already.
    fn open(
        &mut self,
        key: Key,
        head: &[u8],
        early: &mut [u8],
        stream: &mut dyn Stream,
        context: &mut Context,
    ) -> Progress;

    /// Writes what waits, reads what is there, handles it and writes the answers.
    fn drive(&mut self, key: Key, stream: &mut dyn Stream, context: &mut Context) -> Progress;

    /// Whether something waits for the socket to take it.
    fn is_blocked(&self) -> bool;

    /// Sends encoded fan-out.
    fn deliver(
        &mut self,
        delivery: &Delivery<'_>,
        stream: &mut dyn Stream,
        context: &mut Context,
    ) -> Progress;

    /// Ends a connection that more was sent to than can be kept for it.
    fn overrun(&mut self, stream: &mut dyn Stream, context: &mut Context) -> Progress;

    /// Begins the closing handshake.
    fn close(
        &mut self,
        frame: Option<CloseFrame<'_>>,
        stream: &mut dyn Stream,
        context: &mut Context,
    ) -> Progress;

    /// Looks at the deadlines; the peer was last heard `silence` ago.
    fn tick(&mut self, silence: Tick, stream: &mut dyn Stream, context: &mut Context) -> Progress;

    /// Octets that wait for the peer to take them.
    fn backlog_octets(&self) -> usize;

    /// What the peer has sent, and what was sent to it.
    fn traffic(&self) -> (Flow, Flow);

    /// The connection is over, and its handler goes with it.
    fn closed(self: Box<Self>, why: &Disconnect);
}

/// Fan-out in the forms that a connection chooses from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Delivery<'a> {
    pub(super) plain: Encoded<'a>,
    /// Compressed without context, in a window as the server's settings say.
    pub(super) compressed: Option<Encoded<'a>>,
    /// How many there are.
    pub(super) messages: usize,
}

/// Encoded frames.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Encoded<'a> {
    /// To be copied if they are to be kept.
    Lent(&'a [u8]),
    /// To be kept without a copy.
    Shared(&'a Bytes),
}

impl<'a> Encoded<'a> {
    fn octets(self) -> &'a [u8] {
        match self {
            Encoded::Lent(octets) => octets,
            Encoded::Shared(octets) => octets,
        }
    }

    /// What is left once `written` octets have gone.
    fn rest(self, written: usize) -> Bytes {
        match self {
            Encoded::Lent(octets) => {
                Bytes::copy_from_slice(octets.get(written..).unwrap_or_default())
            }
            Encoded::Shared(octets) => octets.slice(written..),
        }
    }
}

/// What is to be done with a connection next.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Progress {
    /// Wait for the socket; no deadline is running but the keepalive's.
    Idle,
    /// Wait for the socket, for so long.
    Waiting,
    /// More may be there to read: come back when others have had their turn.
    MoreToRead,
    /// It is over: drop it.
    Over(Disconnect),
}

/// A WebSocket connection and its handler.
#[derive(Debug)]
pub(crate) struct Connection<H> {
    handler: H,
    receiver: Receiver,
    sender: Sender,
    backlog: Backlog,
    phase: Phase,
    /// When what is waited for began: for the peer to take more of the backlog, to answer our
    /// FIN, or to be told that it was too slow.
    since: Tick,
    /// When our Close went out.
    close_since: Tick,
    /// When the message under way began.
    message_since: Tick,
    /// When the last data message ended.
    idle_since: Tick,
    /// When the Ping went out that nothing has been heard since.
    pinged: Option<Tick>,
    /// What the peer has sent, and what was sent to it.
    received: Flow,
    sent: Flow,
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    /// Frames are read and handled.
    Open,
    /// The peer's Close or FIN has come. It is answered by a command that goes through the
    /// mailbox, behind what the peer's own messages put there: those answers come first.
    Leaving { why: Disconnect },
    /// Nothing is read; what waits is written, then comes FIN.
    Draining { why: Disconnect, linger: bool },
    /// FIN is out; input is read and thrown away until the peer's, `allowance` octets at most.
    Lingering { why: Disconnect, allowance: usize },
}

/// What a read found.
enum Reading {
    /// The socket may have more.
    Full,
    /// The socket is empty: it will tell when it is not.
    Drained,
    EndOfStream,
}

/// How a panic of the handler is told to the peer.
const INTERNAL_ERROR: (CloseCode, &str) = (CloseCode::Error, "internal error");

impl<H: Handler> Connection<H> {
    /// A connection whose messages may be compressed if `deflate` says how.
    pub(crate) fn new(
        handler: H,
        settings: &Settings,
        deflate: Option<&DeflateParameters>,
    ) -> Connection<H> {
        let receiver = Receiver::new(Role::Server, settings.limits);
        Connection {
            handler,
            receiver: match deflate {
                Some(parameters) => receiver.with_deflate(parameters),
                None => receiver,
            },
            sender: deflate.map(Sender::with_deflate).unwrap_or_default(),
            backlog: Backlog::default(),
            phase: Phase::Open,
            since: 0,
            close_since: 0,
            message_since: 0,
            idle_since: 0,
            pinged: None,
            received: Flow::default(),
            sent: Flow::default(),
        }
    }

    /// One read, and all that follows from it.
    fn read(
        &mut self,
        key: Key,
        stream: &mut dyn Stream,
        context: &mut Context,
    ) -> io::Result<Reading> {
        if let Some(space) = self.receiver.payload_space(&mut context.pool) {
            let wanted = space.len();
            let reading = Reading::of(stream.read(space), wanted)?;
            if let (Some(octets), reading) = reading {
                let advanced = self.receiver.advance(octets);
                self.handle(key, &mut [], advanced, stream, context)?;
                return Ok(reading);
            }
            return Ok(reading.1);
        }
        // Taken out for a moment, because the rest of the context is lent to the handler.
        let mut input = mem::take(&mut context.input);
        let reading = Reading::of(stream.read(&mut input), input.len());
        let handled = match reading {
            Ok((Some(octets), _)) => {
                let input = input.get_mut(..octets).unwrap_or_default();
                self.handle(key, input, Ok(()), stream, context)
            }
            _ => Ok(()),
        };
        context.input = input;
        handled?;
        reading.map(|(_, reading)| reading)
    }

    /// Hands every message of the input to the handler and writes the answers; `so_far` is what
    /// has come of earlier input that was not handled yet.
    fn handle(
        &mut self,
        key: Key,
        mut input: &mut [u8],
        so_far: Result<(), ProtocolError>,
        stream: &mut dyn Stream,
        context: &mut Context,
    ) -> io::Result<()> {
        let before = (self.backlog.is_empty(), self.sender.is_open());
        let inside = self.receiver.is_inside_message();
        let (mut texts, mut binaries) = (Flow::default(), Flow::default());
        let mut closed = None;

        let mut socket = WebSocket {
            sender: &mut self.sender,
            output: Output::new(stream, &mut context.output, &mut self.backlog),
            mailbox: &context.mailbox,
            key,
        };
        let handled = panic::catch_unwind(AssertUnwindSafe(|| {
            so_far?;
            while let Some(message) = self.receiver.receive(&mut input, &mut context.pool)? {
                socket.output.expect_more(!input.is_empty());
                match message {
                    Message::Text(text) => texts.add(1, text.len()),
                    Message::Binary(payload) => binaries.add(1, payload.len()),
                    Message::Ping(_) | Message::Pong(_) | Message::Close(_) => {
                        let length = message.frame().map_or(0, |(_, payload)| payload.len());
                        context.tally.received.control.add(1, length);
                        closed = dispatch_control(&mut self.handler, &mut socket, message);
                        continue;
                    }
                }
                if socket.sender.is_open() {
                    self.handler.message(&mut socket, message);
                } // else only the Close is waited for (§7.1.2)
            }
            Ok(())
        }));
        let failed = match handled {
            Ok(Ok(())) => None,
            Ok(Err(error)) => {
                socket.sender.fail(error, &mut socket.output);
                Some(Disconnect::Failed(error))
            }
            Err(_) => {
                self.receiver.discard();
                let (code, reason) = INTERNAL_ERROR;
                socket.sender.fail_with(code, reason, &mut socket.output);
                Some(Disconnect::HandlerPanicked)
            }
        };
        let written = socket.output.finish(&mut self.sent, &mut context.tally);
        self.received += texts;
        self.received += binaries;
        context.tally.received.text += texts;
        context.tally.received.binary += binaries;
        written?;

        let has_message = texts.messages + binaries.messages > 0;
        if has_message {
            self.idle_since = context.now;
        }
        if self.receiver.is_inside_message() && (has_message || !inside) {
            self.message_since = context.now;
        }
        if before != (self.backlog.is_empty(), self.sender.is_open()) {
            self.since = context.now;
            self.close_since = context.now;
        }
        if let Some(why) = failed {
            log::failed(&why, &stream.peer_address());
        }
        if let Some(why) = failed.or(closed) {
            self.phase = match self.sender.is_closed() {
                true => Phase::Draining { why, linger: true },
                false => Phase::Leaving { why },
            };
        }
        Ok(())
    }

    /// The form of a delivery that goes to this peer.
    fn choose<'a>(&mut self, delivery: &Delivery<'a>, context: &Context) -> Encoded<'a> {
        if let (Some(compressed), Some(deflate)) = (delivery.compressed, context.mailbox.deflate())
        {
            let length = delivery.plain.octets().len();
            if self.sender.accepts_compressed(deflate.window_bits, length) {
                self.sender.sent_compressed();
                return compressed;
            }
        }
        delivery.plain
    }

    /// Ends the connection from our side, for a reason that the peer has no say in.
    fn end(
        &mut self,
        why: Disconnect,
        (code, reason): (CloseCode, &str),
        stream: &mut dyn Stream,
        context: &mut Context,
    ) -> Progress {
        log::failed(&why, &stream.peer_address());
        self.receiver.discard();
        self.backlog.drop_deliveries();
        let mut output = Output::new(stream, &mut context.output, &mut self.backlog);
        self.sender.fail_with(code, reason, &mut output);
        if output.finish(&mut self.sent, &mut context.tally).is_err() {
            return Progress::Over(why);
        }
        self.phase = Phase::Draining { why, linger: true };
        self.since = context.now;
        self.settle(stream, context)
    }

    /// Goes as far as an ending connection can go for now.
    #[cold]
    fn settle(&mut self, stream: &mut dyn Stream, context: &mut Context) -> Progress {
        loop {
            match self.phase {
                Phase::Draining { why, linger } => {
                    if !self.backlog.is_empty() {
                        return Progress::Waiting;
                    }
                    if !linger && !stream.has_unsent() {
                        return Progress::Over(why);
                    }
                    match stream.shutdown_write() {
                        Ok(()) if linger => {}
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                            return Progress::Waiting;
                        }
                        _ => return Progress::Over(why),
                    }
                    let allowance = self.linger_allowance(why, context.linger_size);
                    self.phase = Phase::Lingering { why, allowance };
                    self.since = context.now;
                }
                Phase::Lingering { why, allowance } => {
                    let size = context.input.len();
                    return match Reading::of(stream.read(&mut context.input), size) {
                        Ok((Some(octets), _)) if octets <= allowance => {
                            let allowance = allowance - octets;
                            self.phase = Phase::Lingering { why, allowance };
                            Progress::MoreToRead
                        }
                        Ok((None, Reading::Drained)) => Progress::Waiting,
                        Ok((None, Reading::Full)) => Progress::MoreToRead,
                        _ => Progress::Over(why),
                    };
                }
                Phase::Open | Phase::Leaving { .. } => return self.wait(),
            }
        }
    }

    /// Octets to read after our FIN. Whoever sends a message that is too big is most often still
    /// sending it, and would lose our Close to a reset.
    fn linger_allowance(&self, why: Disconnect, linger_size: usize) -> usize {
        match why {
            Disconnect::Failed(ProtocolError::FrameTooBig | ProtocolError::MessageTooBig) => {
                linger_size.saturating_add(self.receiver.limits().max_message_size)
            }
            _ => linger_size,
        }
    }

    /// Nothing can be done until the socket has something, or a deadline passes.
    fn wait(&self) -> Progress {
        let is_timed = !matches!(self.phase, Phase::Open)
            || !self.sender.is_open()
            || !self.backlog.is_empty()
            || self.receiver.is_inside_message()
            || self.pinged.is_some();
        if is_timed {
            Progress::Waiting
        } else {
            Progress::Idle
        }
    }

    /// Whether the peer is read from: not while it leaves lying what it was answered.
    fn is_read(&self, high_water_mark: usize) -> bool {
        !self.backlog.has_replies() && self.backlog.octets() <= high_water_mark
    }

    /// Writes of the backlog what the socket takes; says whether that was worth waiting for more.
    fn write_backlog(&mut self, stream: &mut dyn Stream, now: Tick) -> io::Result<bool> {
        let is_late = matches!(self.phase, Phase::Draining { why, .. } if why.is_stalled());
        let takes = self.backlog.write_to(stream)? > 0 && self.backlog.takes_progress();
        if takes && !is_late {
            self.since = now;
        }
        Ok(takes)
    }

    fn broken(&self, error: &io::Error) -> Progress {
        Progress::Over(match self.phase {
            Phase::Open => Disconnect::Broken(error.kind()),
            Phase::Leaving { why } | Phase::Draining { why, .. } | Phase::Lingering { why, .. } => {
                why
            }
        })
    }

    fn try_drive(
        &mut self,
        key: Key,
        stream: &mut dyn Stream,
        context: &mut Context,
    ) -> io::Result<Progress> {
        if !self.backlog.is_empty() {
            self.write_backlog(stream, context.now)?;
        }
        if let Phase::Open = self.phase {
            if !self.is_read(context.high_water_mark) {
                return Ok(Progress::Waiting);
            }
            match (self.read(key, stream, context)?, self.phase) {
                (Reading::Drained, Phase::Open) => return Ok(self.wait()),
                (Reading::Full, Phase::Open) => return Ok(Progress::MoreToRead),
                (Reading::EndOfStream, _) => {
                    let why = Disconnect::EndOfStream;
                    self.phase = Phase::Leaving { why };
                    context.mailbox.close(key, None);
                }
                (Reading::Drained | Reading::Full, _) => {}
            }
        }
        Ok(self.settle(stream, context))
    }
}

impl<H: Handler> Drive for Connection<H> {
    fn open(
        &mut self,
        key: Key,
        head: &[u8],
        early: &mut [u8],
        stream: &mut dyn Stream,
        context: &mut Context,
    ) -> Progress {
        self.idle_since = context.now;
        context.output.extend_from_slice(head);
        let mut socket = WebSocket {
            sender: &mut self.sender,
            output: Output::new(stream, &mut context.output, &mut self.backlog),
            mailbox: &context.mailbox,
            key,
        };
        let opened = panic::catch_unwind(AssertUnwindSafe(|| self.handler.open(&mut socket)));
        let so_far = socket.output.finish(&mut self.sent, &mut context.tally);
        self.since = context.now;
        if opened.is_err() {
            let why = Disconnect::HandlerPanicked;
            return self.end(why, INTERNAL_ERROR, stream, context);
        }
        match so_far.and_then(|()| self.handle(key, early, Ok(()), stream, context)) {
            Ok(()) => self.settle(stream, context),
            Err(error) => self.broken(&error),
        }
    }

    fn drive(&mut self, key: Key, stream: &mut dyn Stream, context: &mut Context) -> Progress {
        self.try_drive(key, stream, context)
            .unwrap_or_else(|error| self.broken(&error))
    }

    fn is_blocked(&self) -> bool {
        !self.backlog.is_empty()
    }

    fn deliver(
        &mut self,
        delivery: &Delivery<'_>,
        stream: &mut dyn Stream,
        context: &mut Context,
    ) -> Progress {
        match self.phase {
            Phase::Open if self.sender.is_open() => {}
            Phase::Leaving { .. } => {}
            _ => return Progress::Waiting,
        }
        let messages = delivery.messages;
        let encoded = self.choose(delivery, context);
        let frames = encoded.octets();
        context.tally.delivered.add(messages, frames.len());
        self.sent.add(messages, frames.len());
        if self.backlog.is_empty() {
            let written = match write_all(stream, frames) {
                Ok(written) => written,
                Err(error) => return self.broken(&error),
            };
            if written < frames.len() {
                let messages = messages_left(messages, frames.len() - written, frames.len());
                self.backlog
                    .push_delivery(encoded.rest(written), messages, written > 0);
                self.since = context.now;
            }
            return self.wait();
        }
        let SlowConsumer {
            max_octets,
            max_messages,
        } = context.slow_consumer;
        if self.backlog.octets() + frames.len() > max_octets
            || self.backlog.messages() + messages > max_messages
        {
            return self.overrun(stream, context);
        }
        self.backlog.push_delivery(encoded.rest(0), messages, false);
        Progress::Waiting
    }

    fn overrun(&mut self, stream: &mut dyn Stream, context: &mut Context) -> Progress {
        match self.phase {
            Phase::Open | Phase::Leaving { .. } => {
                let frame = (CloseCode::Policy, "slow consumer");
                self.end(Disconnect::SlowConsumer, frame, stream, context)
            }
            Phase::Draining { .. } | Phase::Lingering { .. } => Progress::Waiting,
        }
    }

    fn close(
        &mut self,
        frame: Option<CloseFrame<'_>>,
        stream: &mut dyn Stream,
        context: &mut Context,
    ) -> Progress {
        let mut output = Output::new(stream, &mut context.output, &mut self.backlog);
        match self.phase {
            Phase::Open if self.sender.is_open() => self.sender.close(frame, &mut output),
            Phase::Leaving { why } => {
                let linger = why != Disconnect::EndOfStream;
                if linger {
                    self.sender.received_close(frame, &mut output);
                }
                self.phase = Phase::Draining { why, linger };
            }
            _ => return Progress::Waiting,
        }
        if let Err(error) = output.finish(&mut self.sent, &mut context.tally) {
            return self.broken(&error);
        }
        self.since = context.now;
        self.close_since = context.now;
        self.settle(stream, context)
    }

    fn tick(&mut self, silence: Tick, stream: &mut dyn Stream, context: &mut Context) -> Progress {
        let (now, deadlines) = (context.now, context.deadlines);
        let waited = now.wrapping_sub(self.since);
        match self.phase {
            Phase::Lingering { why, .. } if waited >= deadlines.linger => {
                return Progress::Over(why);
            }
            Phase::Draining { why, .. } if why.is_stalled() && waited >= deadlines.linger => {
                return Progress::Over(why);
            }
            Phase::Draining { why, .. }
                if stream.has_unsent() && waited >= deadlines.write_stall =>
            {
                return Progress::Over(why);
            }
            _ if !self.backlog.is_empty() && waited >= deadlines.write_stall => {
                // A socket tells of room when a third of its buffer is free, which a slow reader
                // may take longer for: whoever takes something is not stalled.
                if matches!(self.write_backlog(stream, now), Ok(true)) {
                    return Progress::MoreToRead;
                }
                let why = Disconnect::TimedOut(Timeout::WriteStall);
                log::failed(&why, &stream.peer_address());
                return Progress::Over(why);
            }
            Phase::Leaving { .. } | Phase::Draining { .. } | Phase::Lingering { .. } => {
                return Progress::Waiting;
            }
            Phase::Open => {}
        }
        let is_read = self.is_read(context.high_water_mark);
        if !is_read {
            // It cannot be heard: what it would say has all its time when it can.
            self.message_since = now;
            self.pinged = None;
        }
        let timeout = if self.sender.is_close_sent()
            && now.wrapping_sub(self.close_since) >= deadlines.close
        {
            Some((Timeout::Close, ""))
        } else if self.receiver.is_inside_message()
            && now.wrapping_sub(self.message_since) >= deadlines.message
        {
            Some((Timeout::Message, "message not finished in time"))
        } else if let Some(idle) = deadlines.idle
            && now.wrapping_sub(self.idle_since) >= idle
        {
            Some((Timeout::Idle, "idle timeout"))
        } else if is_read {
            self.keep_alive(silence, stream, context)
        } else {
            None
        };
        match timeout {
            Some((timeout, reason)) => {
                let frame = (CloseCode::Policy, reason);
                self.end(Disconnect::TimedOut(timeout), frame, stream, context)
            }
            None => self.wait(),
        }
    }

    fn backlog_octets(&self) -> usize {
        self.backlog.octets()
    }

    fn traffic(&self) -> (Flow, Flow) {
        (self.received, self.sent)
    }

    fn closed(self: Box<Self>, why: &Disconnect) {
        let mut handler = self.handler;
        let _ = panic::catch_unwind(AssertUnwindSafe(|| handler.closed(why)));
        // One by one: a panic while another unwinds would abort the process.
        let _ = panic::catch_unwind(AssertUnwindSafe(|| drop(handler)));
    }
}

impl<H: Handler> Connection<H> {
    /// Sends a Ping after silence; says when one was not answered. Whatever is heard is an
    /// answer: a slow upload is as alive as a Pong.
    fn keep_alive(
        &mut self,
        silence: Tick,
        stream: &mut dyn Stream,
        context: &mut Context,
    ) -> Option<(Timeout, &'static str)> {
        match self.pinged.map(|pinged| context.now.wrapping_sub(pinged)) {
            // A Ping follows silence, so what was heard in its own tick came after it.
            Some(unanswered) if silence <= unanswered => self.pinged = None,
            Some(unanswered) if unanswered >= context.deadlines.ping_timeout => {
                return Some((Timeout::Ping, "ping timeout"));
            }
            // What waits already is as good a question.
            None if silence >= context.deadlines.ping_interval
                && self.sender.is_open()
                && self.backlog.is_empty() =>
            {
                self.pinged = Some(context.now);
                let mut output = Output::new(stream, &mut context.output, &mut self.backlog);
                self.sender.send(Message::Ping(b""), &mut output);
                // A socket that is broken says so at the next read, too.
                let _ = output.finish(&mut self.sent, &mut context.tally);
                self.since = context.now;
            }
            _ => {}
        }
        None
    }
}

/// Answers a control frame, and then the handler sees it. Says how the connection closes if that
/// was a Close.
fn dispatch_control<H: Handler>(
    handler: &mut H,
    socket: &mut WebSocket<'_>,
    message: Message<'_>,
) -> Option<Disconnect> {
    let Message::Close(frame) = message else {
        if socket.sender.is_open() {
            if let Message::Ping(payload) = message {
                socket.send(Message::Pong(payload)); // §5.5.2
            }
            handler.message(socket, message);
        }
        return None;
    };
    let code = frame.map(|frame| frame.code);
    let why = if socket.sender.is_close_sent() {
        let why = Disconnect::ClosedByUs(socket.sender.close_code_sent(), code);
        socket.sender.received_close(frame, &mut socket.output);
        why
    } else {
        // Nobody who closes wants the rest of a room's messages first.
        socket.output.backlog().drop_deliveries();
        socket.sender.owe_close();
        socket.mailbox.close(socket.key, frame);
        Disconnect::ClosedByPeer(code)
    };
    handler.message(socket, message);
    Some(why)
}

impl Reading {
    /// How many octets a read brought, and what that says about the socket. An interrupted read
    /// counts as a full one: it is to be tried again.
    fn of(result: io::Result<usize>, wanted: usize) -> io::Result<(Option<usize>, Reading)> {
        match result {
            Ok(0) => Ok((None, Reading::EndOfStream)),
            Ok(octets) if octets < wanted => Ok((Some(octets), Reading::Drained)),
            Ok(octets) => Ok((Some(octets), Reading::Full)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok((None, Reading::Drained)),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok((None, Reading::Full)),
            Err(error) => Err(error),
        }
    }
}

/// Writes until all is written or the socket takes no more; says how much that was.
fn write_all(stream: &mut dyn Stream, octets: &[u8]) -> io::Result<usize> {
    let mut written = 0;
    while let Some(rest) = octets.get(written..).filter(|rest| !rest.is_empty()) {
        match stream.write(rest) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(octets) => written += octets,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(written)
}
