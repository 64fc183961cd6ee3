//! Opens connections.

use std::io;
use std::time::Duration;

use mio::{Events, Token};

use super::{ConnectionSlot, LoadWorker, SWEEP};
use crate::lab::load::arrival::{Arrival, Step};
use crate::lab::load::connection::LoadConnection;
use crate::lab::load::order::Order;
use crate::lab::load::plan::{Compression, Mode};
use crate::protocol::{DeflateParameters, Receiver, Role, SizeLimits};

/// Bound: connections that a thread opens at a time. Every server's listen backlog holds this
/// many.
const MOST_ARRIVING: usize = 64;

impl LoadWorker<'_> {
    pub(super) fn open_all(&mut self, events: &mut Events) -> io::Result<()> {
        let begin = self.context.clock.now();
        let all = self.places.len();
        let each = self.plan.ramp.as_nanos() as u64 / all.max(1) as u64;
        let mut next = 0;
        while (next < all || self.arriving > 0) && !self.shared.is_stopped() {
            let due = begin + next as u64 * each;
            while next < all
                && self.arriving < MOST_ARRIVING
                && begin + next as u64 * each <= self.context.clock.now()
            {
                self.arrive(next);
                next += 1;
            }
            let wait = Duration::from_nanos(due.saturating_sub(self.context.clock.now()));
            self.step(
                wait.clamp(Duration::from_millis(1), Duration::from_nanos(SWEEP)),
                events,
            )?;
        }
        Ok(())
    }

    pub(super) fn arrive(&mut self, place: usize) {
        self.begun += 1;
        let sources = &self.plan.sources;
        let number = self.begun as usize * self.plan.threads + self.index;
        let source = (!sources.is_empty()).then(|| sources[number % sources.len()]);
        let now = self.context.clock.now();
        let connector = self.connector.as_ref();
        let is_raw = self.plan.is_raw;
        let remotes = &self.plan.target.remotes;
        let remote = &remotes[(self.first + place) % remotes.len()];
        let arrival = Arrival::begin(remote, connector, is_raw, source, now);
        match arrival.and_then(|mut arrival| {
            arrival.register(self.poll.registry(), Token(place))?;
            Ok(arrival)
        }) {
            Ok(arrival) => {
                self.places[place] = ConnectionSlot::Opening(Box::new(arrival));
                self.arriving += 1;
            }
            Err(error) => self.refused(place, error.kind().to_string()),
        }
    }

    #[cold]
    pub(super) fn refused(&mut self, place: usize, why: String) {
        let counts = &mut self.context.tally.counts;
        *counts.refused.entry(why).or_default() += 1;
        if let ConnectionSlot::Opening(arrival) = &self.places[place] {
            counts.reached += u64::from(arrival.is_connected());
        }
        self.places[place] = ConnectionSlot::Ended;
        if self.connects_while_it_runs() {
            self.places[place] = ConnectionSlot::Vacant; // the next event or sweep opens a new one
        }
    }

    /// Advances the opening of a connection.
    pub(super) fn arriving(&mut self, place: usize) {
        let Some(ConnectionSlot::Opening(arrival)) = self.places.get_mut(place) else {
            return;
        };
        match arrival.advance(&self.opening, &mut self.context.buffer, self.context.clock) {
            Ok(Step::Waits) => {}
            Ok(Step::Open { early }) => self.opened(place, early),
            Err(why) => {
                self.arriving -= 1;
                self.refused(place, why);
            }
        }
    }

    /// Handles a completed opening handshake. The buffer holds `early` bytes received after the
    /// answer.
    pub(super) fn opened(&mut self, place: usize, early: usize) {
        let ConnectionSlot::Opening(arrival) =
            std::mem::replace(&mut self.places[place], ConnectionSlot::Vacant)
        else {
            return;
        };
        self.arriving -= 1;
        self.context.tally.counts.opened += 1;
        let (stream, times) = arrival.done();
        if !self.connects_while_it_runs() || self.context.tally.is_measured {
            times.record(&mut self.context.tally.opening);
        }
        if let (Some(schedule), true) = (self.schedule, self.context.tally.is_measured)
            && self.connects_while_it_runs()
        {
            let due = schedule.at(self.context.tally.counts.opened - 1);
            self.context
                .tally
                .response
                .record(self.context.clock.now().saturating_sub(due), 1);
        }
        if self.plan.mode == Mode::Connect {
            drop(stream);
            return self.begin_anew(place);
        }
        let id = self.first + place;
        self.open += 1;
        let mut connection = LoadConnection::new(stream, id as u64, self.allowance(place));
        if self.plan.messages.compression == Some(Compression::Fresh) {
            connection.inflating = Some(Box::new(inflating()));
        }
        if let Mode::Broadcast { publishers } = self.plan.mode {
            connection.orders = (0..publishers).map(|_| Order::default()).collect();
        }
        let now = self.context.clock.now();
        let taken = connection.take(&mut self.context, None, early, now);
        self.places[place] = ConnectionSlot::Open(connection);
        match taken {
            Ok(()) => self.continue_with(place),
            Err(ending) => self.end(place, ending),
        }
    }

    /// In a closed loop that opens connections while it runs: opens one in a vacant place.
    pub(super) fn begin_anew(&mut self, place: usize) {
        let is_vacant = matches!(self.places[place], ConnectionSlot::Vacant);
        let is_over = self.bound().is_some_and(|bound| self.begun >= bound);
        let begins = self.is_sending && self.connects_while_it_runs() && self.schedule.is_none();
        if begins && is_vacant && !is_over {
            self.arrive(place);
        }
    }
}

/// Makes a decompressor for replies. It keeps the context between messages, even if the server has
/// agreed not to use it.
fn inflating() -> Receiver {
    let parameters = DeflateParameters {
        server_no_context_takeover: false,
        client_no_context_takeover: true,
        server_max_window_bits: DeflateParameters::MAX_WINDOW_BITS,
        client_max_window_bits: DeflateParameters::MAX_WINDOW_BITS,
    };
    let limits = SizeLimits {
        max_message_size: usize::MAX,
        max_frame_size: usize::MAX,
    };
    Receiver::new(Role::Client, limits).with_deflate(&parameters)
}
