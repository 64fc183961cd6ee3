//! Ends connections and the run.

use std::io;
use std::sync::atomic::Ordering::AcqRel;
use std::time::Duration;

use mio::Events;

use super::{ConnectionSlot, LoadWorker, SWEEP};
use crate::lab::load::connection::{Ending, LoadConnection};

/// Timeout for opening a connection, in nanoseconds.
const OPENING: u64 = 10_000_000_000;

impl LoadWorker<'_> {
    /// Handles the end of a connection.
    #[cold]
    pub(super) fn end(&mut self, place: usize, ending: Ending) {
        let ConnectionSlot::Open(connection) =
            std::mem::replace(&mut self.places[place], ConnectionSlot::Ended)
        else {
            return;
        };
        self.open -= 1;
        if self.is_counted {
            self.shared.members.fetch_sub(1, AcqRel);
        }
        self.count(&connection);
        let counts = &mut self.context.tally.counts;
        match ending {
            Ending::Closed(_) | Ending::Gone if connection.is_closing => {}
            Ending::Closed(code) => *counts.closed.entry(code).or_default() += 1,
            Ending::Gone => *counts.closed.entry(1006).or_default() += 1,
            Ending::Broken(error) => {
                *counts.violations.entry(error.to_string()).or_default() += 1;
            }
            Ending::AfterClose => {
                let rule = String::from("data after a Close");
                *counts.violations.entry(rule).or_default() += 1;
            }
        }
        if let Ending::Closed(_) = ending
            && !connection.is_closing
        {
            let mut connection = connection;
            // Answers the Close frame. The socket is dropped even if the write fails.
            let _ = connection.write_control();
        }
        if self.connects_while_it_runs() {
            self.places[place] = ConnectionSlot::Vacant;
            self.begin_anew(place);
        }
    }

    /// Adds a connection's sent, lost and unsent messages to the counts.
    pub(super) fn count(&mut self, connection: &LoadConnection) {
        let sending = &connection.sending;
        self.context.tally.counts.sent += sending.flown;
        let publishers = self.shared.publications.all();
        self.context.tally.counts.lost += match self.is_broadcast() {
            false => connection.order.lost(sending.flown),
            true => {
                let orders = connection.orders.iter().zip(publishers);
                orders
                    .map(|(order, publisher)| order.lost(publisher.sent()))
                    .sum()
            }
        };
        self.context.tally.counts.unsent += sending.begun().saturating_sub(sending.flown);
    }

    /// Expires messages and openings that exceed their timeout, reports this thread's progress, and
    /// stops the run if it has too many errors.
    pub(super) fn sweep(&mut self, now: u64) {
        let patience = self.plan.timeout.as_nanos() as u64;
        let since = now.saturating_sub(patience);
        let mut expired = 0;
        let connects = self.connects_while_it_runs();
        for place in 0..self.places.len() {
            match &mut self.places[place] {
                ConnectionSlot::Opening(arrival) if arrival.began() + OPENING < now => {
                    self.arriving -= 1;
                    self.refused(place, String::from("timed out"));
                }
                ConnectionSlot::Open(connection) => {
                    let given_up = connection.expire(since);
                    expired += given_up;
                    if given_up > 0 {
                        self.continue_with(place);
                    }
                }
                ConnectionSlot::Vacant if connects => self.begin_anew(place),
                _ => {}
            }
        }
        let own = self.first..self.first + self.own_publishers();
        for publisher in self.shared.publications.all().get(own).unwrap_or_default() {
            expired += publisher.expire(since);
        }
        self.context.tally.counts.timed_out += expired;
        let errors = self.context.tally.counts.errors();
        self.shared.tell(self.index, &self.context.tally.counts);
        if self.plan.max_errors.is_some_and(|most| errors > most) {
            self.shared.stop(1);
        }
    }

    /// Waits for outstanding replies.
    pub(super) fn drain(&mut self, events: &mut Events) -> io::Result<()> {
        // Long enough for the last sweeps to expire all missing replies.
        let end = self.context.clock.now() + self.plan.timeout.as_nanos() as u64 + 3 * SWEEP;
        while self.context.clock.now() < end && !self.shared.is_hurried() && !self.is_quiet() {
            self.step(Duration::from_millis(5), events)?;
        }
        Ok(())
    }

    pub(super) fn is_quiet(&self) -> bool {
        if !self.shared.publications.is_quiet() {
            return false;
        }
        self.places.iter().all(|place| match place {
            ConnectionSlot::Open(connection) => connection.is_quiet(),
            ConnectionSlot::Opening(_) => false,
            _ => true,
        })
    }

    /// Closes the open connections by the closing handshake; does nothing in raw mode.
    pub(super) fn close(&mut self, events: &mut Events) -> io::Result<()> {
        const PATIENCE: u64 = 1_000_000_000;
        if self.plan.is_raw {
            return Ok(());
        }
        for place in 0..self.places.len() {
            if let ConnectionSlot::Open(connection) = &mut self.places[place] {
                connection.close();
                // If the write fails, the socket's next event reports the error again.
                let _ = connection.write_control();
            }
        }
        let end = self.context.clock.now() + PATIENCE;
        while self.open > 0 && self.context.clock.now() < end && !self.shared.is_hurried() {
            self.step(Duration::from_millis(5), events)?;
        }
        Ok(())
    }

    pub(super) fn finish(&mut self) {
        for place in std::mem::take(&mut self.places) {
            if let ConnectionSlot::Open(connection) = place {
                self.count(&connection);
            }
        }
        self.shared.tell(self.index, &self.context.tally.counts);
    }
}
