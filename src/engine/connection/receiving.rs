//! Receiving: bytes from the stream, messages to the handler, answers to the stream.

use std::io;
use std::mem;
use std::panic::{self, AssertUnwindSafe};

use super::raw::{pauses, postpones_close};
use super::{Connection, DeferredInput, INTERNAL_ERROR, Phase};
use crate::engine::disconnect::Disconnect;
use crate::engine::driver::Context;
use crate::engine::handler::{Handler, WebSocket};
use crate::engine::slab::ConnectionKey;
use crate::engine::socket::Stream;
use crate::engine::stats::Traffic;
use crate::engine::write_batch::WriteBatch;
use crate::protocol::{CloseFrame, Message, ProtocolError};

/// What a read found.
pub(super) enum Reading {
    /// The socket may have more.
    Full,
    /// The socket is empty: it will tell when it is not.
    Drained,
    EndOfStream,
}

impl<H: Handler> Connection<H> {
    /// One read, and all that follows from it.
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
                context.turn.charge_bytes(bytes);
                let advanced = self.receiver.advance(bytes);
                self.handle(key, &mut [], advanced, stream, context)?;
                return Ok(reading);
            }
            return Ok(reading.1);
        }
        // Taken out for a moment, because the rest of the context is lent to the handler.
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

    /// Hands every message of the input to the handler and writes the answers; `so_far` is what
    /// has come of earlier input that was not handled yet.
    pub(super) fn handle<S: Stream>(
        &mut self,
        key: ConnectionKey,
        mut input: &mut [u8],
        so_far: Result<(), ProtocolError>,
        stream: &mut S,
        context: &mut Context,
    ) -> io::Result<()> {
        let before = (self.backlog.is_empty(), self.sender.is_open());
        let inside = self.receiver.is_inside_message();
        let mut has_message = false;
        let mut closed = None;
        let received = &mut context.stats.received;
        let received_before = self.received;
        let (allowance, bytes) = (context.pool.allowance(), input.len());

        let mut socket = WebSocket {
            sender: &mut self.sender,
            batch: WriteBatch::new(
                stream,
                &mut context.write_buffer,
                &mut self.backlog,
                &mut context.stats.sent,
                &mut self.sent,
            ),
            mailbox: &context.mailbox,
            key,
        };
        let handled = panic::catch_unwind(AssertUnwindSafe(|| {
            so_far?;
            loop {
                // Without `?`, by which the message would go through memory.
                let message = match self.receiver.receive_whole(&mut input) {
                    Ok(Some(message)) => message,
                    Ok(None) => {
                        let pool = &mut context.pool;
                        match self.receiver.receive_piecewise(&mut input, pool)? {
                            Some(message) => message,
                            None if input.is_empty() => return Ok(()),
                            None => {
                                let unsent = socket.batch.unsent();
                                DeferredInput::defer(&mut self.deferred, input, false, unsent);
                                return Ok(());
                            }
                        }
                    }
                    Err(error) => return Err(error),
                };
                socket.batch.expect_more(!input.is_empty());
                match message {
                    Message::Text(text) => {
                        received.text.add(1, text.len());
                        self.received.add(1, text.len());
                    }
                    Message::Binary(payload) => self.received.add(1, payload.len()),
                    Message::Ping(_) | Message::Pong(_) | Message::Close(_) => {
                        let flow = &mut received.control;
                        closed = dispatch_control(&mut self.handler, &mut socket, message, flow);
                        continue;
                    }
                }
                has_message = true;
                if socket.sender.is_open() {
                    self.handler.message(&mut socket, message);
                    if let Some(time) = self.handler.hold() {
                        let ticks = time.as_nanos().div_ceil(context.tick.as_nanos());
                        let unsent = socket.batch.unsent();
                        DeferredInput::hold(&mut self.deferred, context.now, ticks, input, unsent);
                        context.stats.holds += 1;
                        self.receiver.release_delivered(&mut context.pool);
                        break;
                    }
                    let is_busy = self.handler.is_busy() || pauses(&mut self.handler);
                    let stops = || socket.mailbox.flush_before_next() || socket.batch.is_full();
                    if is_busy || (socket.batch.may_stop() && stops()) {
                        let unsent = socket.batch.unsent();
                        DeferredInput::defer(&mut self.deferred, input, is_busy, unsent);
                        self.receiver.release_delivered(&mut context.pool);
                        break;
                    }
                } // else only the Close is waited for (§7.1.2)
            }
            Ok(())
        }));
        let failed = match handled {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(fail(&mut self.handler, error, &mut socket)),
            Err(_) => {
                self.receiver.discard();
                let (code, reason) = INTERNAL_ERROR;
                socket.sender.fail_with(code, reason, &mut socket.batch);
                Some(Disconnect::HandlerPanicked)
            }
        };
        let written = socket.batch.finish();
        let handled = self.received - received_before;
        context.stats.received.data += handled;
        context.turn.charge_messages(handled.messages, bytes as u64);
        if allowance != context.pool.allowance() {
            context
                .turn
                .charge_codec(allowance - context.pool.allowance());
        }
        written?;

        if has_message {
            self.idle_since = context.now;
        }
        if self.receiver.is_inside_message() && (has_message || !inside) {
            self.message_started = context.now;
        }
        if before != (self.backlog.is_empty(), self.sender.is_open()) {
            self.waiting_since = context.now;
            self.close_since = context.now;
        }
        if let Some(why) = failed {
            context.observer.failed(&why, stream.peer_address());
        }
        if let Some(why) = failed.or(closed) {
            self.phase = match self.sender.is_closed() {
                true => Phase::Draining { why, linger: true },
                false => Phase::Leaving { why },
            };
        }
        self.obey(stream);
        Ok(())
    }

    /// Handles what was kept back of a peer under back-pressure, unless it is held still. Says
    /// whether more may be read.
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
        }
        Ok(matches!(self.phase, Phase::Open)
            && self.is_read(context.high_water_mark)
            && !self.is_deferred_kept(context.now))
    }
}

/// Counts a control frame and answers it, and then the handler sees it. Says how the connection
/// closes if that was a Close.
#[inline(never)] // within the loop it would have every message go through memory
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
        // Nobody who closes wants the rest of a room's messages first.
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
    /// How many bytes a read brought, and what that says about the socket. An interrupted read
    /// counts as a full one: it is to be tried again.
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
