//! One connection: its sent messages, its received replies, and its messages in flight.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};

use super::clock::LoadClock;
use super::controls::{Closed, Controls};
use super::deliveries::Deliveries;
use super::echoes::Echoes;
use super::incoming::{Incoming, Replies, whole};
use super::order::Order;
use super::plan::Check;
use super::publications::Publications;
use super::ring::Ring;
use super::schedule::Schedule;
use super::sending::{Flight, Sending};
use super::stream::LoadStream;
use super::tally::Tally;
use crate::protocol::{AssemblyPool, Message, OpCode, ProtocolError, Receiver};

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
    controls: Controls,
    pub(super) is_closing: bool,
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

/// What the connections of a thread use in context.
#[derive(Debug)]
pub(super) struct ThreadContext<'a> {
    pub(super) ring: Ring,
    pub(super) pool: AssemblyPool,
    pub(super) buffer: Vec<u8>,
    pub(super) tally: Tally,
    pub(super) clock: LoadClock,
    pub(super) check: Check,
    /// In a broadcast: the publications, and whether the loop is open.
    pub(super) publications: Option<(&'a Publications, bool)>,
}

impl LoadConnection {
    pub(super) fn new(stream: LoadStream, id: u64, most: u64) -> LoadConnection {
        LoadConnection {
            stream,
            incoming: Incoming::default(),
            inflating: None,
            sending: Sending {
                id,
                most,
                ..Sending::default()
            },
            order: Order::default(),
            orders: Vec::new(),
            flights: VecDeque::new(),
            controls: Controls::default(),
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
        self.sending.unsent > 0 || !self.controls.is_written() || self.stream.is_blocked()
    }

    /// Writes the queued control frames, unless a message is partly written.
    pub(super) fn write_control(&mut self) -> io::Result<()> {
        match self.sending.offset {
            0 => self.controls.write(&mut self.stream),
            _ => Ok(()),
        }
    }

    /// Writes queued frames until the queue is empty or the socket is full.
    #[inline]
    pub(super) fn write(&mut self, ring: &mut Ring, now: u64) -> io::Result<()> {
        if self.stream.is_blocked() {
            self.stream.flush()?;
        }
        loop {
            if !self.controls.is_written() {
                self.write_control()?;
            }
            let sending = &mut self.sending;
            let waits_for_control = sending.offset == 0 && !self.controls.is_written();
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
    /// end of the stream or until the socket is empty. In an open loop, `schedule` is the schedule
    /// and this connection's place in it.
    #[inline]
    pub(super) fn read(
        &mut self,
        context: &mut ThreadContext<'_>,
        schedule: Option<(Schedule, usize)>,
        may_end: bool,
    ) -> Result<(), Ending> {
        loop {
            let length = match self.stream.read(&mut context.buffer) {
                Ok(0) => return Err(Ending::Gone),
                Ok(length) => length,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error.into()),
            };
            let now = context.clock.now();
            self.take(context, schedule, length, now)?;
            let is_short = length < context.buffer.len();
            if is_short && !may_end && !self.stream.is_tls() {
                return Ok(());
            }
        }
    }

    /// Handles the first `length` bytes of the buffer.
    #[inline]
    pub(super) fn take(
        &mut self,
        context: &mut ThreadContext<'_>,
        schedule: Option<(Schedule, usize)>,
        length: usize,
        now: u64,
    ) -> Result<(), Ending> {
        let controls = &mut self.controls;
        let input = &mut context.buffer[..length];
        let (ring, pool) = (&mut context.ring, &mut context.pool);
        let (incoming, inflating) = (&mut self.incoming, self.inflating.as_deref_mut());
        let fed = match context.publications {
            None => {
                let mut echoes = Echoes {
                    sending: self.sending,
                    order: &mut self.order,
                    flights: &mut self.flights,
                    tally: &mut context.tally,
                    now,
                    schedule,
                    check: context.check,
                    controls,
                };
                feed(incoming, inflating, input, ring, pool, &mut echoes)
            }
            Some((publications, is_open_loop)) => {
                let mut deliveries = Deliveries {
                    publications,
                    orders: &mut self.orders,
                    tally: &mut context.tally,
                    now,
                    check: context.check,
                    is_open_loop,
                    controls,
                };
                feed(incoming, inflating, input, ring, pool, &mut deliveries)
            }
        };
        context.tally.settle();
        let Some(Closed { code, is_last }) = self.controls.closed else {
            return fed.map_err(Ending::Broken);
        };
        if fed.is_err() || !is_last {
            return Err(Ending::AfterClose);
        }
        Err(code.map_or_else(Ending::Broken, Ending::Closed))
    }

    /// Starts the closing handshake with code 1000.
    pub(super) fn close(&mut self) {
        if !self.is_closing {
            self.is_closing = true;
            self.controls.put(OpCode::Close, &1000_u16.to_be_bytes());
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
