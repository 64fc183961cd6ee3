//! One connection: its sent messages, its received replies, and its messages in flight.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};

use super::clock::LoadClock;
use super::deliveries::Deliveries;
use super::echoes::Echoes;
use super::incoming::{Incoming, Replies, whole};
use super::order::Order;
use super::plan::Check;
use super::publications::Publications;
use super::ring::{Ring, put_frame};
use super::schedule::Schedule;
use super::stream::LoadStream;
use super::tally::{Counts, Tally};
use crate::protocol::{AssemblyPool, CloseFrame, Message, OpCode, ProtocolError, Receiver};

#[derive(Debug)]
pub(super) struct LoadConnection {
    pub(super) stream: LoadStream,
    pub(super) incoming: Incoming,
    /// Decompresses the replies if each message is compressed when it is sent.
    pub(super) inflating: Option<Box<Receiver>>,
    pub(super) sending: Sending,
    /// The order of the replies to the connection's own messages.
    pub(super) order: Order,
    /// In a broadcast, the order of each publisher's messages.
    pub(super) orders: Vec<Order>,
    /// Messages that await their replies, the oldest first.
    pub(super) flights: VecDeque<Flight>,
    /// Pong and Close frames that have not been written.
    control: Vec<u8>,
    pub(super) is_closing: bool,
}

/// The progress of sending a connection's messages.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sending {
    /// The connection's number: the high bits of its message numbers.
    pub(super) id: u64,
    /// The number and the slot of the first message that is not completely written.
    next: u64,
    slot: usize,
    /// Number of messages, from `next` on, that are not completely written.
    pub(super) unsent: u64,
    /// Bytes of the unsent messages that are already written.
    offset: usize,
    /// Number of messages written at least in part.
    pub(super) flown: u64,
}

/// Messages written together.
#[derive(Clone, Copy, Debug)]
pub(super) struct Flight {
    pub(super) first: u64,
    pub(super) count: u64,
    /// Number of messages without a reply.
    pub(super) left: u64,
    /// Time of the write in nanoseconds.
    pub(super) at: u64,
}

/// The reason why a connection ended.
#[derive(Clone, Copy, Debug)]
pub(super) enum Ending {
    /// The server sent a Close frame with this code; 1005 if the frame had no code.
    Closed(u16),
    /// The stream ended or was reset without a Close frame.
    Gone,
    /// The server violated the protocol.
    Broken(ProtocolError),
    /// The server sent data after its Close frame (RFC 6455 §5.5.1).
    AfterClose,
}

impl From<io::Error> for Ending {
    fn from(_: io::Error) -> Ending {
        Ending::Gone
    }
}

/// The resources of a thread that a connection uses during its turn.
#[derive(Debug)]
pub(super) struct ConnectionTurn<'a> {
    pub(super) ring: &'a mut Ring,
    pub(super) pool: &'a mut AssemblyPool,
    pub(super) buffer: &'a mut [u8],
    pub(super) tally: &'a mut Tally,
    pub(super) clock: LoadClock,
    pub(super) check: Check,
    /// In an open loop: the schedule, and this connection's place in it.
    pub(super) schedule: Option<(Schedule, usize)>,
    /// In a broadcast: the publications, and whether the loop is open.
    pub(super) publications: Option<(&'a Publications, bool)>,
}

impl Sending {
    /// Number of messages that are written or queued.
    pub(super) fn begun(&self) -> u64 {
        self.next + self.unsent
    }
}

impl LoadConnection {
    pub(super) fn new(stream: LoadStream, id: u64) -> LoadConnection {
        LoadConnection {
            stream,
            incoming: Incoming::default(),
            inflating: None,
            sending: Sending {
                id,
                ..Sending::default()
            },
            order: Order::default(),
            orders: Vec::new(),
            flights: VecDeque::new(),
            control: Vec::new(),
            is_closing: false,
        }
    }

    /// Whether every message has been written and has been answered or has expired.
    #[inline]
    pub(super) fn is_quiet(&self) -> bool {
        self.flights.is_empty() && self.sending.unsent == 0
    }

    #[inline]
    pub(super) fn has_to_write(&self) -> bool {
        self.sending.unsent > 0 || !self.control.is_empty() || self.stream.is_blocked()
    }

    /// Writes the queued control frames, unless a message is partly written.
    pub(super) fn write_control(&mut self) -> io::Result<()> {
        while self.sending.offset == 0 && !self.control.is_empty() {
            match self.stream.write(&self.control) {
                Ok(written) => drop(self.control.drain(..written)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Writes queued frames until the queue is empty or the socket is full.
    #[inline]
    pub(super) fn write(&mut self, ring: &mut Ring, now: u64) -> io::Result<()> {
        if self.stream.is_blocked() {
            self.stream.flush()?;
        }
        loop {
            if !self.control.is_empty() {
                self.write_control()?;
            }
            let sending = &mut self.sending;
            let waits_for_control = sending.offset == 0 && !self.control.is_empty();
            if sending.unsent == 0 || waits_for_control {
                return Ok(());
            }
            let number = sending.id << 40 | sending.next;
            let wanted = usize::try_from(sending.unsent).unwrap_or(usize::MAX);
            let (frames, count) = ring.frames(sending.slot, wanted, number);
            let rest = &frames[sending.offset..];
            let written = match self.stream.write(rest) {
                Ok(written) => written,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            };
            let is_whole = written == rest.len();
            let count = count as u64;
            if sending.flown < sending.next + count {
                let (first, count) = (sending.flown, sending.next + count - sending.flown);
                let left = count;
                self.flights.push_back(Flight {
                    first,
                    count,
                    left,
                    at: now,
                });
                sending.flown += count;
            }
            if !is_whole {
                sending.offset += written;
                continue;
            }
            sending.offset = 0;
            sending.next += count;
            sending.unsent -= count;
            sending.slot = match sending.slot + count as usize {
                slot if slot == ring.slots() => 0,
                slot => slot,
            };
        }
    }

    /// Reads until the socket is empty.
    ///
    /// A read that does not fill the buffer has emptied the socket; later bytes cause a new event.
    /// The end of the stream may cause no further event. If `may_end` is true, reads on until the
    /// end of the stream or until the socket is empty.
    #[inline]
    pub(super) fn read(
        &mut self,
        turn: &mut ConnectionTurn<'_>,
        may_end: bool,
    ) -> Result<(), Ending> {
        loop {
            let length = match self.stream.read(turn.buffer) {
                Ok(0) => return Err(Ending::Gone),
                Ok(length) => length,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error.into()),
            };
            self.take(turn, length, turn.clock.now())?;
            let is_short = length < turn.buffer.len();
            if is_short && !may_end && !self.stream.is_tls() {
                return Ok(());
            }
        }
    }

    /// Handles the first `length` bytes of the buffer.
    #[inline]
    pub(super) fn take(
        &mut self,
        turn: &mut ConnectionTurn<'_>,
        length: usize,
        now: u64,
    ) -> Result<(), Ending> {
        let mut closed = None;
        let controls = Controls {
            control: &mut self.control,
            closed: &mut closed,
        };
        let input = &mut turn.buffer[..length];
        let (ring, pool) = (&mut *turn.ring, &mut *turn.pool);
        let (incoming, inflating) = (&mut self.incoming, self.inflating.as_deref_mut());
        let fed = match turn.publications {
            None => {
                let mut echoes = Echoes {
                    sending: self.sending,
                    order: &mut self.order,
                    flights: &mut self.flights,
                    tally: turn.tally,
                    now,
                    schedule: turn.schedule,
                    check: turn.check,
                    controls,
                };
                feed(incoming, inflating, input, ring, pool, &mut echoes)
            }
            Some((publications, is_open_loop)) => {
                let mut deliveries = Deliveries {
                    publications,
                    orders: &mut self.orders,
                    tally: turn.tally,
                    now,
                    check: turn.check,
                    is_open_loop,
                    controls,
                };
                feed(incoming, inflating, input, ring, pool, &mut deliveries)
            }
        };
        turn.tally.settle();
        match (fed, closed) {
            (Err(error), None) => Err(Ending::Broken(error)),
            (Ok(()), None) => Ok(()),
            (_, Some(Closed { is_last: false, .. })) | (Err(_), Some(_)) => Err(Ending::AfterClose),
            (
                Ok(()),
                Some(Closed {
                    code: Err(error), ..
                }),
            ) => Err(Ending::Broken(error)),
            (Ok(()), Some(Closed { code: Ok(code), .. })) => Err(Ending::Closed(code)),
        }
    }

    /// Starts the closing handshake with code 1000.
    pub(super) fn close(&mut self) {
        if !self.is_closing {
            self.is_closing = true;
            put_control(&mut self.control, OpCode::Close, &1000_u16.to_be_bytes());
        }
    }

    /// Expires the messages written before `since`. Returns how many replies were missing.
    pub(super) fn expire(&mut self, since: u64) -> u64 {
        let mut expired = 0;
        while let Some(flight) = self.flights.front()
            && flight.at < since
        {
            expired += flight.left;
            self.flights.pop_front();
        }
        expired
    }
}

/// Handles received bytes. `inflating` decompresses them if messages are compressed at each send.
#[inline]
fn feed(
    incoming: &mut Incoming,
    inflating: Option<&mut Receiver>,
    input: &mut [u8],
    ring: &mut Ring,
    pool: &mut AssemblyPool,
    replies: &mut impl Replies,
) -> Result<(), ProtocolError> {
    match inflating {
        None => incoming.feed(input, ring, replies),
        Some(receiver) => inflate(receiver, input, ring, pool, replies),
    }
}

fn inflate(
    receiver: &mut Receiver,
    mut input: &mut [u8],
    ring: &Ring,
    pool: &mut AssemblyPool,
    replies: &mut impl Replies,
) -> Result<(), ProtocolError> {
    while let Some(message) = receiver.receive(&mut input, pool)? {
        let (opcode, payload) = match message {
            Message::Text(text) => (OpCode::Text, text.as_bytes()),
            Message::Binary(payload) => (OpCode::Binary, payload),
            Message::Ping(payload) => (OpCode::Ping, payload),
            Message::Pong(payload) => (OpCode::Pong, payload),
            Message::Close(frame) => {
                let payload = frame.map(|frame| frame.encode()).unwrap_or_default();
                replies.control(OpCode::Close, &payload);
                continue;
            }
        };
        if opcode.is_control() {
            replies.control(opcode, payload);
            continue;
        }
        let mut reply = whole(payload, None, ring, replies);
        reply.is_intact &= opcode as u8 == ring.first_byte & 0x0F;
        replies.reply(reply);
    }
    Ok(())
}

/// A received Close frame, and whether no data followed it.
#[derive(Clone, Copy, Debug)]
struct Closed {
    code: Result<u16, ProtocolError>,
    is_last: bool,
}

/// Handles control frames and queues the answers.
pub(super) struct Controls<'a> {
    control: &'a mut Vec<u8>,
    closed: &'a mut Option<Closed>,
}

impl Controls<'_> {
    /// Whether the server has sent a Close frame before the current frame.
    #[inline]
    pub(super) fn is_after_close(&mut self) -> bool {
        match self.closed {
            None => false,
            Some(closed) => {
                closed.is_last = false;
                true
            }
        }
    }

    pub(super) fn control(&mut self, opcode: OpCode, payload: &[u8], counts: &mut Counts) {
        if self.is_after_close() {
            return;
        }
        match opcode {
            OpCode::Ping => {
                counts.pings += 1;
                put_control(self.control, OpCode::Pong, payload);
            }
            OpCode::Close => {
                let frame = CloseFrame::decode(payload);
                let code = frame.map(|frame| frame.map_or(1005, |frame| frame.code.into()));
                *self.closed = Some(Closed {
                    code,
                    is_last: true,
                });
                let code = payload.get(..2).unwrap_or_default();
                put_control(self.control, OpCode::Close, code);
            }
            _ => {}
        }
    }
}

/// Appends a masked control frame.
pub(super) fn put_control(to: &mut Vec<u8>, opcode: OpCode, payload: &[u8]) {
    let key = fastrand::u32(..).to_ne_bytes();
    put_frame(to, (true, false, opcode), key, payload);
}
