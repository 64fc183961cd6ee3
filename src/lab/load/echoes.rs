//! Handles the replies that a connection receives to its own messages.

use std::collections::VecDeque;

use super::controls::Controls;
use super::incoming::{Replies, Reply};
use super::numbering::SEQUENCE;
use super::order::{Arrived, Order};
use super::plan::Check;
use super::schedule::Schedule;
use super::sending::{Flight, Sending};
use super::tally::Tally;
use crate::protocol::OpCode;

/// The replies to one connection's own messages.
pub(super) struct Echoes<'a> {
    pub(super) sending: Sending,
    pub(super) order: &'a mut Order,
    pub(super) flights: &'a mut VecDeque<Flight>,
    pub(super) tally: &'a mut Tally,
    pub(super) now: u64,
    pub(super) schedule: Option<(Schedule, usize)>,
    pub(super) check: Check,
    pub(super) controls: &'a mut Controls,
}

impl Replies for Echoes<'_> {
    #[inline]
    fn expected(&self) -> u64 {
        self.sending.id << 40 | self.order.next()
    }

    #[inline]
    fn compares(&self) -> bool {
        match self.check {
            Check::All => true,
            Check::First => self.order.next() == 0,
            Check::None => false,
        }
    }

    #[inline]
    fn reply(&mut self, reply: Reply) {
        if self.controls.is_after_close() {
            return;
        }
        let counts = &mut self.tally.counts;
        counts.received += 1;
        counts.received_bytes += reply.length as u64;
        let own = |number: &u64| {
            number >> 40 == self.sending.id && number & SEQUENCE < self.sending.flown
        };
        let (number, is_intact) = match reply.number.filter(own) {
            Some(number) => (number & SEQUENCE, reply.is_intact),
            // A reply without a number of this connection counts as the next reply.
            None => (self.order.next(), false),
        };
        if !is_intact {
            counts.corrupt += 1;
        }
        if number >= self.sending.flown {
            return; // no message awaits a reply
        }
        match self.order.note(number) {
            Arrived::Repeated => {
                counts.repeated += 1;
                return;
            }
            Arrived::Overtaken => counts.reordered += 1,
            Arrived::New => {}
        }
        self.arrived(number);
    }

    #[inline]
    fn run(&self) -> Option<(u64, u64)> {
        let number = self.order.next();
        let flight = self.flights.front()?;
        let is_next = number.wrapping_sub(flight.first) < flight.count;
        (is_next && self.check == Check::All && self.schedule.is_none()).then(|| {
            let left = flight.first + flight.count - number;
            (self.sending.id << 40 | number, left)
        })
    }

    #[inline]
    fn in_order(&mut self, count: u64, length: usize) {
        self.tally.counts.received += count;
        self.tally.counts.received_bytes += count * length as u64;
        self.order.advance(count);
        let Some(flight) = self.flights.front_mut() else {
            return;
        };
        flight.left -= count;
        let took = self.now.saturating_sub(flight.at);
        if flight.left == 0 {
            self.flights.pop_front();
        }
        self.tally.served(took, count);
    }

    #[cold]
    fn control(&mut self, opcode: OpCode, payload: &[u8]) {
        self.controls
            .handle(opcode, payload, &mut self.tally.counts);
    }
}

impl Echoes<'_> {
    /// Records the latency of a message.
    #[inline]
    fn arrived(&mut self, number: u64) {
        if let Some((schedule, lane)) = self.schedule
            && self.tally.is_measured
        {
            let due = schedule.intended(lane, number);
            self.tally.response.record(self.now.saturating_sub(due), 1);
        }
        let holds = |flight: &Flight| number.wrapping_sub(flight.first) < flight.count;
        let place = match self.flights.front() {
            Some(flight) if holds(flight) => 0,
            _ => match self.flights.iter().position(holds) {
                Some(place) => place,
                None => {
                    self.tally.counts.late += 1;
                    return;
                }
            },
        };
        let flight = &mut self.flights[place];
        let took = self.now.saturating_sub(flight.at);
        flight.left -= 1;
        match (flight.left, place) {
            (0, 0) => drop(self.flights.pop_front()),
            (0, _) => drop(self.flights.remove(place)),
            _ => {}
        }
        self.tally.served(took, 1);
    }
}
