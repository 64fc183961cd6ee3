//! The stream of a session's WebSocket: the engine's to write to and, between its frames, that of
//! [broadcasts](super::fan_out) that go past it.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use bytes::{Buf, Bytes};
use socketioxide::socket::Sid;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::fan_out::{Epoch, FanOut, Worker};
use super::service::opened_session;
use crate::http::Upgraded;
use crate::protocol::frame::Expectation;
use crate::protocol::{FrameHeader, Limits, OpCode, Role};

/// The engine's half of it.
pub(super) struct SessionStream {
    session: Arc<Session>,
    enrolment: Enrolment,
    /// What is waited for before anything more is read.
    until_read: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

/// Whether broadcasts may go past the engine.
enum Enrolment {
    /// They may not: it is none that they know of.
    None,
    /// Not before the engine has written the first packet of a namespace.
    Expected { fan_out: FanOut, sid: Option<Sid> },
    /// They may, until this is dropped.
    Done {
        fan_out: FanOut,
        sid: Sid,
        worker: Arc<Worker>,
    },
}

/// A session that has a WebSocket, as broadcasts see it.
pub(super) struct Session(Mutex<State<Upgraded>>);

/// What is written to a stream by two.
struct State<S> {
    stream: S,
    outgoing: Outgoing,
    /// The engine is waiting for the stream to take what it has written.
    is_stalled: bool,
    /// The engine may have more to write, of before this: only what began after it goes past it.
    settled: Epoch,
    /// What is left of a broadcast that the stream has taken in part. Until it is gone and flushed,
    /// the engine's writing is held.
    rest: Option<Bytes>,
    held: Option<Waker>,
}

/// What became of a broadcast.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Sent {
    /// It is written, or the stream is broken, which its reader will find.
    Written,
    /// The rest of it waits for [`Session::poll_drain`].
    Begun,
    /// It has to go by the engine, behind what waits there.
    Refused,
}

impl SessionStream {
    pub(super) fn new(stream: Upgraded) -> SessionStream {
        SessionStream {
            session: Arc::new(Session(Mutex::new(State::new(stream)))),
            enrolment: Enrolment::None,
            until_read: None,
        }
    }

    /// Lets broadcasts go past the engine once it has written a packet. Without a `sid`, it is the
    /// one in the open packet.
    pub(super) fn enrol(&mut self, fan_out: &FanOut, sid: Option<Sid>) {
        self.enrolment = Enrolment::Expected {
            fan_out: fan_out.clone(),
            sid,
        };
    }

    /// Waits while broadcasts wait for their place, of which the client could begin more.
    fn poll_uncongested(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if self.until_read.is_none()
            && let Enrolment::Done { worker, .. } = &self.enrolment
            && worker.is_congested()
        {
            let worker = Arc::clone(worker);
            self.until_read = Some(Box::pin(async move { drop(worker.place().await) }));
        }
        if let Some(until_read) = &mut self.until_read {
            ready!(until_read.as_mut().poll(context));
            self.until_read = None;
        }
        Poll::Ready(())
    }

    /// The engine writes these octets.
    fn wrote(&mut self, octets: &[u8], has_packet: bool) {
        let Enrolment::Expected { fan_out, sid } = &mut self.enrolment else {
            return;
        };
        match sid {
            None => *sid = opened_sid(octets),
            Some(sid) if has_packet => {
                if let Some(worker) = Worker::current(fan_out) {
                    let (fan_out, sid) = (fan_out.clone(), *sid);
                    self.session.lock().settled = fan_out.epoch();
                    fan_out.add(sid, Arc::clone(&worker), Arc::clone(&self.session));
                    self.enrolment = Enrolment::Done {
                        fan_out,
                        sid,
                        worker,
                    };
                }
            }
            Some(_) => {}
        }
    }
}

impl Enrolment {
    fn now(&self) -> Epoch {
        match self {
            Enrolment::Done { fan_out, .. } => fan_out.epoch(),
            Enrolment::None | Enrolment::Expected { .. } => Epoch::default(),
        }
    }
}

impl Session {
    /// Writes the frames of a broadcast that began at `epoch`, if the engine has nothing to write
    /// that was there before.
    pub(super) fn send(&self, frames: &Bytes, epoch: Epoch) -> Sent {
        self.lock().send(frames, epoch)
    }

    /// What was there to be written goes by the engine, until then nothing past it.
    pub(super) fn settle(&self, epoch: Epoch) {
        self.lock().settled = epoch;
    }

    /// Writes the rest of what has begun.
    pub(super) fn poll_drain(&self, context: &mut Context<'_>) -> Poll<()> {
        self.lock().poll_drain(context)
    }

    /// A poisoned lock is taken all the same: a panic within the stream leaves it broken, at worst.
    fn lock(&self) -> MutexGuard<'_, State<Upgraded>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S: AsyncWrite + Unpin> State<S> {
    fn new(stream: S) -> State<S> {
        State {
            stream,
            outgoing: Outgoing::default(),
            is_stalled: false,
            settled: Epoch::default(),
            rest: None,
            held: None,
        }
    }

    fn send(&mut self, frames: &Bytes, epoch: Epoch) -> Sent {
        if !self.outgoing.is_between_packets()
            || self.is_stalled
            || self.rest.is_some()
            || epoch <= self.settled
        {
            return Sent::Refused;
        }
        // Nobody waits to write; if it blocks, `poll_drain` will.
        let context = &mut Context::from_waker(Waker::noop());
        let mut stream = Pin::new(&mut self.stream);
        let written = match stream.as_mut().poll_write(context, frames) {
            Poll::Ready(Ok(written)) => written,
            Poll::Ready(Err(_)) => return Sent::Written,
            Poll::Pending => 0,
        };
        if written == frames.len() && stream.poll_flush(context).is_ready() {
            return Sent::Written;
        }
        self.rest = Some(frames.slice(written..));
        Sent::Begun
    }

    fn poll_drain(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if ready!(self.poll_rest(context)).is_err() {
            self.outgoing.is_closed = true; // the reader finds why
        }
        self.rest = None;
        if let Some(held) = self.held.take() {
            held.wake();
        }
        Poll::Ready(())
    }

    fn poll_rest(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let State { stream, rest, .. } = self;
        let mut stream = Pin::new(stream);
        if let Some(rest) = rest {
            while !rest.is_empty() {
                match ready!(stream.as_mut().poll_write(context, rest))? {
                    0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                    written => rest.advance(written),
                }
            }
        }
        stream.poll_flush(context)
    }

    /// Writes what the engine has to write, unless a broadcast has begun; it is `now`.
    fn poll_engine_write(
        &mut self,
        context: &mut Context<'_>,
        octets: &[u8],
        now: Epoch,
    ) -> Poll<io::Result<usize>> {
        let written = match self.poll_turn(context) {
            Poll::Ready(()) => Pin::new(&mut self.stream).poll_write(context, octets),
            Poll::Pending => Poll::Pending,
        };
        let taken = match &written {
            Poll::Ready(Ok(written)) => octets.get(..*written).unwrap_or_default(),
            Poll::Ready(Err(_)) | Poll::Pending => &[],
        };
        self.outgoing.pass(taken);
        self.stalls(taken.len() < octets.len(), now);
        written
    }

    fn poll_engine_flush(&mut self, context: &mut Context<'_>, now: Epoch) -> Poll<io::Result<()>> {
        let flushed = match self.poll_turn(context) {
            Poll::Ready(()) => Pin::new(&mut self.stream).poll_flush(context),
            Poll::Pending => Poll::Pending,
        };
        self.stalls(flushed.is_pending(), now);
        flushed
    }

    /// The engine waits for the stream, or does so no more: then it may have more to write, of what
    /// was there until now.
    fn stalls(&mut self, is_stalled: bool, now: Epoch) {
        if self.is_stalled && !is_stalled {
            self.settled = now;
        }
        self.is_stalled = is_stalled;
    }

    /// Waits while a broadcast has begun.
    fn poll_turn(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if self.rest.is_none() {
            return Poll::Ready(());
        }
        self.held = Some(context.waker().clone());
        Poll::Pending
    }
}

impl AsyncRead for SessionStream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_uncongested(context));
        Pin::new(&mut this.session.lock().stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for SessionStream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        octets: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let mut state = this.session.lock();
        let written = state.poll_engine_write(context, octets, this.enrolment.now());
        let has_packet = state.outgoing.has_packet;
        drop(state);
        this.wrote(octets, has_packet);
        written
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.session.lock();
        state.poll_engine_flush(context, self.enrolment.now())
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.session.lock();
        ready!(state.poll_turn(context));
        Pin::new(&mut state.stream).poll_shutdown(context)
    }
}

impl Drop for SessionStream {
    fn drop(&mut self) {
        if let Enrolment::Done { fan_out, sid, .. } = &self.enrolment {
            fan_out.remove(*sid, &self.session);
        }
        self.session.lock().outgoing.is_closed = true;
    }
}

impl fmt::Debug for SessionStream {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("SessionStream")
            .finish_non_exhaustive()
    }
}

/// The frames that the engine writes, of which only so much is looked at as tells where another may
/// come in between.
#[derive(Debug, Default)]
struct Outgoing {
    /// The first octets of a header that is not whole yet.
    header: Vec<u8>,
    /// Octets of payload that are still to come.
    payload: u64,
    opcode: Option<OpCode>,
    /// There was a packet of a namespace, so the session's transport is this one.
    has_packet: bool,
    /// There was a Close, or nothing will come any more.
    is_closed: bool,
}

impl Outgoing {
    fn is_between_packets(&self) -> bool {
        self.has_packet && !self.is_closed && self.payload == 0 && self.header.is_empty()
    }

    fn pass(&mut self, mut octets: &[u8]) {
        while !octets.is_empty() && !self.is_closed {
            if self.payload > 0 {
                // Engine.IO's messages are text that begins with 4, or binary.
                self.has_packet |= match self.opcode.take() {
                    Some(OpCode::Text) => octets.first() == Some(&b'4'),
                    opcode => opcode == Some(OpCode::Binary),
                };
                let length = usize::try_from(self.payload)
                    .unwrap_or(usize::MAX)
                    .min(octets.len());
                octets = octets.get(length..).unwrap_or_default();
                self.payload -= length as u64;
            } else {
                octets = self.pass_header(octets);
            }
        }
    }

    /// What comes after the octets of a header.
    fn pass_header<'o>(&mut self, octets: &'o [u8]) -> &'o [u8] {
        let expected = Expectation {
            role: Role::Client,
            fragmented: false,
            compressed: false,
            deflate: false,
            assembled: 0,
            limits: Limits {
                max_message_size: usize::MAX,
                max_frame_size: usize::MAX,
            },
        };
        let before = self.header.len();
        let whole = FrameHeader::MAX_LENGTH.min(before + octets.len());
        let more = octets.get(..whole - before).unwrap_or_default();
        self.header.extend_from_slice(more);
        match FrameHeader::decode(&self.header, &expected) {
            Ok(Some((header, length))) => {
                self.header.clear();
                self.payload = header.payload_length;
                self.opcode = Some(header.opcode);
                self.is_closed = header.opcode == OpCode::Close;
                octets.get(length - before..).unwrap_or_default()
            }
            Ok(None) => &[],
            Err(_) => {
                self.is_closed = true; // it is none of the engine's
                &[]
            }
        }
    }
}

/// The session that a frame with an open packet opens.
fn opened_sid(octets: &[u8]) -> Option<Sid> {
    let payload = octets.get(octets.iter().position(|octet| *octet == b'{')?..)?;
    let (_, sid, _) = opened_session(payload)?;
    sid.parse().ok()
}

#[cfg(test)]
mod tests;
