//! Ending: the closing handshake, our FIN, and reading until the peer's FIN.

use std::io;

use super::raw::postpones_close;
use super::receiving::Reading;
use super::{Connection, Phase};
use crate::engine::disconnect::Disconnect;
use crate::engine::driver::{Context, Progress};
use crate::engine::handler::Handler;
use crate::engine::socket::Stream;
use crate::engine::write_batch::WriteBatch;
use crate::protocol::{CloseCode, CloseFrame, ProtocolError};

impl<H: Handler> Connection<H> {
    /// Begins the closing handshake, or answers the peer's Close.
    pub(super) fn send_close<S: Stream>(
        &mut self,
        frame: Option<CloseFrame<'_>>,
        stream: &mut S,
        context: &mut Context,
    ) -> Progress {
        let is_owed = match self.phase {
            Phase::Open => self.sender.is_open(),
            Phase::Leaving { .. } => true,
            Phase::Draining { .. } | Phase::Lingering { .. } => false,
        };
        if !is_owed || postpones_close(&mut self.handler, frame, true) {
            return Progress::Waiting;
        }
        let mut batch = WriteBatch::new(stream, &mut context.write_buffer, &mut self.outbound);
        match self.phase {
            Phase::Open if self.sender.is_open() => self.sender.close(frame, &mut batch),
            Phase::Leaving { why } => {
                let linger = !why.is_end_of_stream();
                if linger {
                    self.sender.received_close(frame, &mut batch);
                }
                self.phase = Phase::Draining { why, linger };
            }
            _ => return Progress::Waiting,
        }
        if let Err(error) = batch.finish() {
            return self.broken(&error);
        }
        self.waiting_since = context.now;
        self.settle(stream, context)
    }

    /// [`Connection::fail`], unless the connection is ending already.
    pub(super) fn end<S: Stream>(
        &mut self,
        why: Disconnect,
        frame: (CloseCode, &'static str),
        stream: &mut S,
        context: &mut Context,
    ) -> Progress {
        match self.phase {
            Phase::Open | Phase::Leaving { .. } => self.fail(why, frame, stream, context),
            Phase::Draining { .. } | Phase::Lingering { .. } => Progress::Waiting,
        }
    }

    /// Ends the connection from our side: sends this Close and then FIN, without waiting for an
    /// answer.
    pub(super) fn fail<S: Stream>(
        &mut self,
        why: Disconnect,
        (code, reason): (CloseCode, &str),
        stream: &mut S,
        context: &mut Context,
    ) -> Progress {
        context.observer.failed(&why, stream.peer_address());
        self.receiver.discard();
        self.deferred = None;
        let frame = CloseFrame { code, reason };
        if postpones_close(&mut self.handler, Some(frame), false) {
            self.phase = Phase::Leaving { why };
            return Progress::Waiting;
        }
        self.drop_deliveries(context);
        let mut batch = WriteBatch::new(stream, &mut context.write_buffer, &mut self.outbound);
        self.sender.fail_with(code, reason, &mut batch);
        if batch.finish().is_err() {
            return Progress::Over(why);
        }
        self.phase = Phase::Draining { why, linger: true };
        self.waiting_since = context.now;
        self.settle(stream, context)
    }

    /// Drops the queued deliveries, unless our Close is queued behind them: without them, that
    /// Close would tell the peer that it has received everything.
    fn drop_deliveries(&mut self, context: &mut Context) {
        if !self.sender.is_close_sent() {
            context.stats.dropped += self.outbound.backlog.drop_deliveries() as u64;
        }
    }

    /// Moves an ending connection on as far as the socket allows.
    #[cold]
    pub(super) fn settle<S: Stream>(&mut self, stream: &mut S, context: &mut Context) -> Progress {
        loop {
            match self.phase {
                Phase::Draining { why, linger } => {
                    if !self.outbound.backlog.is_empty() {
                        return self.wait_for_socket();
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
                    let allowance = self.linger_allowance(why, context.settings.linger_size);
                    self.phase = Phase::Lingering { why, allowance };
                    self.waiting_since = context.now;
                }
                Phase::Lingering { why, allowance } => {
                    let size = context.input.len();
                    return match Reading::of(stream.read(&mut context.input), size) {
                        Ok((Some(bytes), _)) if bytes <= allowance as usize => {
                            let allowance = allowance - bytes as u32;
                            self.phase = Phase::Lingering { why, allowance };
                            Progress::MoreToRead
                        }
                        Ok((None, Reading::Drained)) => Progress::Waiting,
                        Ok((None, Reading::Full)) => Progress::MoreToRead,
                        _ => Progress::Over(why),
                    };
                }
                Phase::Open | Phase::Leaving { .. } => return self.wait(context.now),
            }
        }
    }

    /// Returns how many bytes to read after our FIN. A client whose message is too big, or that
    /// publishes too fast, is most often still sending, and a reset would lose our Close.
    fn linger_allowance(&self, why: Disconnect, linger_size: usize) -> u32 {
        let bytes = match why {
            Disconnect::FastPublisher
            | Disconnect::Failed(ProtocolError::FrameTooBig | ProtocolError::MessageTooBig, _) => {
                linger_size.saturating_add(self.receiver.limits().max_message_size)
            }
            _ => linger_size,
        };
        u32::try_from(bytes).unwrap_or(u32::MAX)
    }
}
