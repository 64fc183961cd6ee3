//! Decides which messages are sent, and when.

use std::io;
use std::ops::Range;
use std::sync::atomic::Ordering::Acquire;
use std::time::Duration;

use super::{ConnectionSlot, LoadWorker, SWEEP};

use crate::lab::load::plan::{End, Mode};
use crate::lab::load::shared::part;

impl LoadWorker<'_> {
    /// Whether the load is complete before its time is over.
    pub(super) fn is_done(&self) -> bool {
        match self.plan.mode {
            Mode::Connect | Mode::Churn => self
                .bound()
                .is_some_and(|bound| self.begun >= bound && self.arriving == 0 && self.open == 0),
            _ if self.open == 0 => true,
            Mode::Idle => false,
            Mode::Broadcast { publishers } => match self.plan.end {
                End::Time(_) => false,
                End::Messages(messages) => {
                    let mut all = self.shared.publications.all().iter().enumerate();
                    all.all(|(id, it)| {
                        it.sent() >= size(part(messages, publishers, id)) && it.is_quiet()
                    })
                }
            },
            _ => self.bound().is_some() && self.is_spent(),
        }
    }

    /// This thread's share of [`End::Messages`].
    pub(super) fn bound(&self) -> Option<u64> {
        match self.plan.end {
            End::Time(_) => None,
            End::Messages(messages) => Some(size(part(messages, self.plan.threads, self.index))),
        }
    }

    fn is_spent(&self) -> bool {
        self.places.iter().all(|place| match place {
            ConnectionSlot::Open(connection) => {
                connection.is_quiet() && connection.sending.left() == 0
            }
            _ => true,
        })
    }

    /// Number of messages that a connection sends in all.
    pub(super) fn allowance(&self, place: usize) -> u64 {
        match (self.plan.mode, self.plan.end) {
            (Mode::Idle, _) => 1,
            (Mode::Churn, _) => self.plan.depth as u64,
            (_, End::Time(_)) => u64::MAX,
            (Mode::Broadcast { publishers }, End::Messages(all)) => {
                size(part(all, publishers, self.first + place))
            }
            (_, End::Messages(_)) => {
                let own = self.bound().unwrap_or_default();
                size(part(own, self.places.len(), place))
            }
        }
    }

    /// Starts all scheduled events that are due.
    pub(super) fn pace(&mut self, now: u64) {
        let Some(schedule) = self.schedule else {
            return;
        };
        let connects = self.connects_while_it_runs();
        let bound = self.bound().filter(|_| connects).unwrap_or(u64::MAX);
        let due = schedule.due(now.min(self.window.to)).min(bound);
        while self.events < due {
            let lane = schedule.lane(self.events);
            if connects {
                let vacant = self
                    .places
                    .iter()
                    .position(|place| matches!(place, ConnectionSlot::Vacant));
                self.is_held = vacant.is_none();
                let Some(vacant) = vacant else { return };
                self.arrive(vacant);
            } else {
                self.send(lane, schedule.at(self.events), now);
            }
            self.events += 1;
        }
        self.is_held = self.events >= bound;
    }

    /// Sends a burst: in a broadcast to all members. If the place has no open connection, the burst
    /// counts as unsent.
    fn send(&mut self, place: usize, due: u64, now: u64) {
        let burst = self.plan.depth as u64;
        let ConnectionSlot::Open(connection) = &mut self.places[place] else {
            self.context.tally.counts.unsent += burst;
            return;
        };
        let sending = &mut connection.sending;
        let count = sending.left().min(burst);
        sending.unsent += count;
        let publications = self.context.publications;
        let publisher = publications.and_then(|(all, _)| all.publisher(sending.id as usize));
        if let Some(publisher) = publisher.filter(|_| count > 0) {
            publisher.publish(count, self.shared.members.load(Acquire), due, now);
        }
        let written = connection.write(&mut self.context.ring, now);
        if publisher.is_some() {
            // The publisher receives its own copy as a delivery, not as a reply.
            connection.flights.clear();
        }
        if let Err(error) = written {
            self.end(place, error.into());
        }
    }

    /// In a closed-loop broadcast, sends a publisher's next burst when all members have received
    /// the previous burst.
    #[inline]
    pub(super) fn publish_more(&mut self) {
        if !self.is_broadcast() || !self.is_sending || self.plan.rate.is_some() {
            return;
        }
        let own = self.first..self.first + self.own_publishers();
        for (id, publisher) in self.shared.publications.all().iter().enumerate() {
            if !publisher.is_quiet() {
                continue;
            }
            if own.contains(&id) {
                let now = self.context.clock.now();
                self.send(id - self.first, now, now);
            } else {
                self.shared.wake_publisher(id);
            }
        }
    }

    pub(super) fn is_broadcast(&self) -> bool {
        matches!(self.plan.mode, Mode::Broadcast { .. })
    }

    /// Number of this thread's connections that publish. They are the thread's first connections.
    pub(super) fn own_publishers(&self) -> usize {
        match self.plan.mode {
            Mode::Broadcast { publishers } => {
                publishers.saturating_sub(self.first).min(self.places.len())
            }
            _ => 0,
        }
    }

    /// How long this thread may wait for events.
    pub(super) fn wait(&self) -> io::Result<Duration> {
        let sweep = Duration::from_nanos(SWEEP);
        let Some(schedule) = self.schedule.filter(|_| !self.is_held) else {
            return Ok(sweep);
        };
        let due = schedule.at(self.events);
        let wait = Duration::from_nanos(due.saturating_sub(self.context.clock.now()));
        if wait > sweep {
            return Ok(sweep);
        }
        self.timer.set(wait)
    }
}

fn size(part: Range<u64>) -> u64 {
    part.end - part.start
}
