//! Receiving: reads bytes from the stream, gives messages to the handler, writes the answers.

use std::io;
use std::mem;
use std::panic::{self, AssertUnwindSafe};
use std::time::Duration;

use super::deferred::DeferredInput;
use super::raw::{pauses, postpones_close};
use super::{Connection, INTERNAL_ERROR, Phase};
use crate::engine::deadlines::Tick;
use crate::engine::disconnect::Disconnect;
use crate::engine::driver::Context;
use crate::engine::fan_out;
use crate::engine::handler::Handler;
use crate::engine::slab::ConnectionKey;
use crate::engine::socket::Stream;
use crate::engine::stats::{Traffic, WorkerStats};
use crate::engine::turn::{self, Turn};
use crate::engine::web_socket::WebSocket;
use crate::engine::write_batch::WriteBatch;
use crate::protocol::{AssemblyPool, CloseFrame, Message, ProtocolError, Receiver};

/// The state of the socket after a read.
pub(super) enum Reading {
    /// The socket may have more.
    Full,
    /// The socket is empty: the poller reports new input.
    Drained,
    EndOfStream,
}

impl<H: Handler> Connection<H> {
    /// Reads once and handles the input.
    pub(super) fn read<S: Stream>(
        &mut self,
        key: ConnectionKey,
        stream: &mut S,
        context: &mut Context,
    ) -> io::Result<Reading> {
        if let Some(space) = self.receiver.payload_space(&mut context.pool) {
            let wanted = space.len().min(context.turn.left().max(1));
            let space = space.get_mut(..wanted).unwrap_or_default();
            let reading = Reading::of(stream.read(space), wanted)?;
            if let (Some(bytes), reading) = reading {
                context.turn.charge_work(bytes);
                let advanced = self.receiver.advance(bytes);
                self.handle(key, &mut [], advanced, stream, context)?;
                return Ok(reading);
            }
            return Ok(reading.1);
        }
        // Taken out for the call, because the handler borrows the rest of the context.
        let mut input = mem::take(&mut context.input);
        let reading = Reading::of(stream.read(&mut input), input.len());
        let handled = match reading {
            Ok((Some(bytes), _)) => {
                let input = input.get_mut(..bytes).unwrap_or_default();
                self.handle(key, input, Ok(()), stream, context)
            }
            _ => Ok(()),
        };
        context.input = input;
        handled?;
        reading.map(|(_, reading)| reading)
    }

    /// Gives every message of the input to the handler and writes the answers. `so_far` is the
    /// result for bytes that were read directly into an unfinished message.
    pub(super) fn handle<S: Stream>(
        &mut self,
        key: ConnectionKey,
        input: &mut [u8],
        so_far: Result<(), ProtocolError>,
        stream: &mut S,
        context: &mut Context,
    ) -> io::Result<()> {
        let before = Before::of(self);
        let (allowance, bytes) = (context.pool.allowance(), input.len());
        fan_out::begin();
        let mut event = Event {
            handler: &mut self.handler,
            receiver: &mut self.receiver,
            deferred: &mut self.deferred,
            socket: WebSocket {
                sender: &mut self.sender,
                batch: WriteBatch::new(stream, &mut context.write_buffer, &mut self.outbound),
                mailbox: &context.mailbox,
                key,
            },
            pool: &mut context.pool,
            stats: &mut context.stats,
            turn: &context.turn,
            now: context.now,
            tick: &context.tick,
            data: Traffic::default(),
            closed: None,
        };
        let handled = panic::catch_unwind(AssertUnwindSafe(|| {
            so_far?;
            event.handle(input)
        }));
        let failed = match handled {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(fail(event.handler, error, &mut event.socket)),
            Err(_) => Some(event.panicked()),
        };
        let (data, closed, published) = (event.data, event.closed, fan_out::end());
        let written = event.socket.batch.finish();
        context.stats.received.data += data;
        context
            .turn
            .charge_frames(data.messages + context.pool.take_frames(), bytes);
        let inflated = allowance - context.pool.allowance();
        let cost = Turn::codec_cost(inflated) + turn::take_charged();
        context.turn.charge_work(cost);
        self.received += data;
        if published > 0 {
            self.wait_for_receivers(published, key, context);
        }
        written?;
        self.conclude(&before, data.messages > 0, context.now);
        if let Some(why) = failed {
            context.observer.failed(&why, stream.peer_address());
        }
        if let Some(why) = failed.or(closed) {
            self.leave(why);
        }
        self.obey(stream);
        Ok(())
    }

    /// Stops reading from a connection that must wait for the receivers of its publications. Their
    /// `cost` does not count towards this turn, because the workers deliver in turns of their own.
    #[cold]
    fn wait_for_receivers(&mut self, cost: usize, key: ConnectionKey, context: &Context) {
        if let Some(ticket) = fan_out::hold(cost, &context.mailbox, key) {
            DeferredInput::pause(&mut self.deferred, &ticket);
        }
    }

    /// Begins to end the connection, for the reason that an event gave.
    #[cold]
    fn leave(&mut self, why: Disconnect) {
        self.phase = match self.sender.is_closed() {
            true => Phase::Draining { why, linger: true },
            false => Phase::Leaving { why },
        };
    }

    /// Restarts the clocks of the waits that an event has begun or ended.
    #[inline(always)]
    fn conclude(&mut self, before: &Before, has_message: bool, now: Tick) {
        if has_message {
            self.idle_since = now;
        }
        if self.receiver.is_inside_message() && (has_message || !before.is_inside_message) {
            self.message_started = now;
        }
        if before.is_blocked == self.outbound.backlog.is_empty()
            || before.is_open != self.sender.is_open()
        {
            self.waiting_since = now;
        }
    }

    /// Handles the deferred input, unless it must wait longer. Returns whether more may be read.
    #[cold]
    pub(super) fn resume<S: Stream>(
        &mut self,
        key: ConnectionKey,
        stream: &mut S,
        context: &mut Context,
    ) -> io::Result<bool> {
        if !self.is_held(context.now)
            && !context.mailbox.flush_before_next()
            && let Some(deferred) = &mut self.deferred
        {
            deferred.is_next = false;
            deferred.is_behind = false;
            let mut input = mem::take(&mut deferred.input);
            deferred.held = None;
            self.handle(key, &mut input, Ok(()), stream, context)?;
            let is_held_back = |deferred: &DeferredInput| deferred.hold.is_some();
            if !self.is_deferred_kept(context.now)
                && !self.deferred.as_deref().is_some_and(is_held_back)
            {
                self.deferred = None;
            }
        }
        Ok(matches!(self.phase, Phase::Open)
            && self.is_read(context.settings.high_water_mark)
            && !self.is_deferred_kept(context.now))
    }
}

/// The state of a connection before an event.
struct Before {
    is_blocked: bool,
    is_open: bool,
    is_inside_message: bool,
}

impl Before {
    #[inline(always)]
    fn of<H>(connection: &Connection<H>) -> Before {
        Before {
            is_blocked: !connection.outbound.backlog.is_empty(),
            is_open: connection.sender.is_open(),
            is_inside_message: connection.receiver.is_inside_message(),
        }
    }
}

/// The parts of a connection and its worker that handle the messages of an event.
struct Event<'a, H> {
    handler: &'a mut H,
    receiver: &'a mut Receiver,
    deferred: &'a mut Option<Box<DeferredInput>>,
    socket: WebSocket<'a>,
    pool: &'a mut AssemblyPool,
    stats: &'a mut WorkerStats,
    turn: &'a Turn,
    now: Tick,
    tick: &'a Duration,
    /// Data messages of the event.
    data: Traffic,
    /// How the connection closes. `None` if no Close has arrived.
    closed: Option<Disconnect>,
}

impl<H: Handler> Event<'_, H> {
    /// Gives every message of the input to the handler, until the rest must wait.
    #[inline(always)]
    fn handle(&mut self, mut input: &mut [u8]) -> Result<(), ProtocolError> {
        loop {
            // Not with `?`, which would copy the message through memory.
            let message = match self.receiver.receive_whole(&mut input) {
                Ok(Some(message)) => message,
                Ok(None) => match self.receiver.receive_piecewise(&mut input, self.pool)? {
                    Some(message) => message,
                    None if input.is_empty() => return Ok(()),
                    None => {
                        let unsent = self.socket.batch.unsent();
                        DeferredInput::defer(self.deferred, input, false, unsent);
                        return Ok(());
                    }
                },
                Err(error) => return Err(error),
            };
            self.socket.batch.more_follows = !input.is_empty();
            match message {
                Message::Text(text) => {
                    self.stats.received.text.add(1, text.len());
                    self.data.add(1, text.len());
                }
                Message::Binary(payload) => self.data.add(1, payload.len()),
                Message::Ping(_) | Message::Pong(_) | Message::Close(_) => {
                    let flow = &mut self.stats.received.control;
                    self.closed = dispatch_control(self.handler, &mut self.socket, message, flow);
                    continue;
                }
            }
            // After a Close, data is ignored: only the peer's Close still matters (§7.1.2).
            if self.socket.sender.is_open() {
                self.handler.message(&mut self.socket, message);
                if self.stops(input) {
                    self.receiver.release_delivered(self.pool);
                    return Ok(());
                }
            }
        }
    }

    /// Whether the rest of the input must wait. If so, it is kept as deferred input.
    #[inline(always)]
    fn stops(&mut self, rest: &[u8]) -> bool {
        if let Some(time) = self.handler.throttle() {
            let ticks = time.as_nanos().div_ceil(self.tick.as_nanos());
            let unsent = self.socket.batch.unsent();
            DeferredInput::throttle(self.deferred, self.now, ticks, rest, unsent);
            self.stats.holds += 1;
            return true;
        }
        let is_busy = self.handler.is_busy() || pauses(self.handler);
        let (batch, mailbox) = (&self.socket.batch, self.socket.mailbox);
        let stops = || {
            mailbox.flush_before_next()
                || batch.is_full()
                || self.turn.is_over_with(turn::charged())
        };
        if is_busy || (batch.may_stop && stops()) {
            DeferredInput::defer(self.deferred, rest, is_busy, batch.unsent());
            return true;
        }
        false
    }

    /// Closes the connection of a handler that has panicked.
    #[cold]
    fn panicked(&mut self) -> Disconnect {
        self.receiver.discard();
        let (code, reason) = INTERNAL_ERROR;
        let WebSocket { sender, batch, .. } = &mut self.socket;
        sender.fail_with(code, reason, batch);
        Disconnect::HandlerPanicked
    }
}

/// Counts a control frame, answers it and gives it to the handler. Returns how the connection
/// closes if the frame is a Close.
#[inline(never)] // inlined, it would copy every message through memory
fn dispatch_control<H: Handler>(
    handler: &mut H,
    socket: &mut WebSocket<'_>,
    message: Message<'_>,
    received: &mut Traffic,
) -> Option<Disconnect> {
    received.add(1, message.size());
    let Message::Close(frame) = message else {
        if socket.sender.is_open() {
            if let Message::Ping(payload) = message
                && handler.raw().is_none()
            {
                socket.send(Message::Pong(payload)); // §5.5.2
            }
            handler.message(socket, message);
        }
        return None;
    };
    let code = frame.map(|frame| frame.code);
    let why = if socket.sender.is_close_sent() {
        let why = Disconnect::ClosedLocally(socket.sender.close_code_sent(), code);
        socket.sender.received_close(frame, &mut socket.batch);
        why
    } else {
        // A peer that closes does not want the rest of a group's messages first.
        socket.batch.backlog().drop_deliveries();
        socket.sender.owe_close();
        if !postpones_close(handler, frame, false) {
            socket.mailbox.close(socket.key, frame);
        }
        Disconnect::ClosedByPeer(code)
    };
    handler.message(socket, message);
    Some(why)
}

/// Answers a client that has broken a rule of the protocol.
#[cold]
fn fail<H: Handler>(
    handler: &mut H,
    error: ProtocolError,
    socket: &mut WebSocket<'_>,
) -> Disconnect {
    let (code, reason) = (handler.close_code(error), error.reason());
    if !postpones_close(handler, Some(CloseFrame { code, reason }), false) {
        socket.sender.fail_with(code, reason, &mut socket.batch);
    }
    Disconnect::Failed(error, code)
}

impl Reading {
    /// Returns the number of bytes read, `None` if there were none, and the state of the socket. An
    /// interrupted read counts as full, so it is tried again.
    pub(super) fn of(
        result: io::Result<usize>,
        wanted: usize,
    ) -> io::Result<(Option<usize>, Reading)> {
        match result {
            Ok(0) => Ok((None, Reading::EndOfStream)),
            Ok(bytes) if bytes < wanted => Ok((Some(bytes), Reading::Drained)),
            Ok(bytes) => Ok((Some(bytes), Reading::Full)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok((None, Reading::Drained)),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok((None, Reading::Full)),
            Err(error) => Err(error),
        }
    }
}
