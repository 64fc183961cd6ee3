//! Handles the messages that a member of a broadcast receives.

use super::controls::Controls;
use super::incoming::{Replies, Reply};
use super::numbering::SEQUENCE;
use super::order::{Arrived, Order};
use super::plan::Check;
use super::publications::{Publications, Publisher};
use super::tally::Tally;
use crate::protocol::OpCode;

/// Deliveries to one connection.
pub(super) struct Deliveries<'a> {
    pub(super) publications: &'a Publications,
    /// One order for each publisher.
    pub(super) orders: &'a mut [Order],
    pub(super) tally: &'a mut Tally,
    pub(super) now: u64,
    pub(super) check: Check,
    pub(super) is_open_loop: bool,
    pub(super) controls: &'a mut Controls,
}

impl Replies for Deliveries<'_> {
    #[inline]
    fn expected(&self) -> u64 {
        self.orders.first().map_or(0, Order::next)
    }

    #[inline]
    fn compares(&self) -> bool {
        match self.check {
            Check::All => true,
            Check::First => self.orders.iter().all(|order| order.next() == 0),
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
        let found = reply
            .number
            .and_then(|number| self.publications.find(number));
        if !reply.is_intact || found.is_none() {
            counts.corrupt += 1;
        }
        let Some((place, publisher, number)) = found.or_else(|| self.next()) else {
            return;
        };
        match self.orders[place].note(number) {
            Arrived::Repeated => {
                self.tally.counts.repeated += 1;
                return;
            }
            Arrived::Overtaken => self.tally.counts.reordered += 1,
            Arrived::New => {}
        }
        self.delivered(publisher, number);
    }

    #[inline]
    fn run(&self) -> Option<(u64, u64)> {
        let ([order], Check::All, false) = (&self.orders, self.check, self.is_open_loop) else {
            return None;
        };
        let sent = self.publications.publisher(0)?.sent();
        Some((order.next(), sent.saturating_sub(order.next())))
    }

    #[inline]
    fn in_order(&mut self, count: u64, length: usize) {
        self.tally.counts.received += count;
        self.tally.counts.received_bytes += count * length as u64;
        let first = self.orders[0].next();
        self.orders[0].advance(count);
        if let Some(publisher) = self.publications.publisher(0) {
            (first..first + count).for_each(|number| self.delivered(publisher, number));
        }
    }

    #[cold]
    fn control(&mut self, opcode: OpCode, payload: &[u8]) {
        self.controls
            .handle(opcode, payload, &mut self.tally.counts);
    }
}

impl<'a> Deliveries<'a> {
    /// Records that this member has received a publication.
    #[inline]
    fn delivered(&mut self, publisher: &Publisher, number: u64) {
        let Some(delivered) = publisher.deliver(number) else {
            self.tally.counts.late += 1;
            return;
        };
        self.tally.served(self.now.saturating_sub(delivered.at), 1);
        if !self.tally.is_measured {
            return;
        }
        let due = if self.is_open_loop {
            delivered.due
        } else {
            delivered.at
        };
        let took = self.now.saturating_sub(due);
        if self.is_open_loop {
            self.tally.response.record(took, 1);
        }
        if delivered.is_last {
            self.tally.reach.record(took, 1);
        }
    }

    /// Treats a message without a readable number as the next message of the publisher, if there is
    /// exactly one publisher.
    fn next(&self) -> Option<(usize, &'a Publisher, u64)> {
        let [order] = &self.orders else { return None };
        self.publications.find(order.next() & SEQUENCE)
    }
}
