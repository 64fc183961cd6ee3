//! One thread of the generator: it owns its connections and waits for them in one poller.

use std::io;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed};
use std::time::Duration;

use fastrand::Rng;
use mio::event::Event;
use mio::{Events, Poll, Token};

use super::arrival::{Arrival, Step};
use super::clock::{Clock, thread_cpu};
use super::connection::{Connection, Ending, Turn};
use super::opening::Opening;
use super::plan::{End, Mode, Plan};
use super::ring::Ring;
use super::schedule::Schedule;
use super::shared::Shared;
use super::tally::Tally;
use super::timer::Timer;

/// Where a connection is, or may be.
#[derive(Debug)]
#[allow(
    clippy::large_enum_variant,
    reason = "nearly all are open, and what they hold lies together"
)]
enum Place {
    Vacant,
    Opening(Box<Arrival>),
    Open(Connection),
    Ended,
}

pub(super) struct Worker<'a> {
    plan: &'a Plan,
    shared: &'a Shared,
    index: usize,
    clock: Clock,
    poll: Poll,
    timer: Timer,
    ring: Ring,
    buffer: Vec<u8>,
    places: Vec<Place>,
    opening: Opening,
    tally: Tally,
    schedule: Option<Schedule>,
    /// Events of the schedule that have begun.
    events: u64,
    /// Connections being opened, those that are open, and those that are open and have something
    /// to do still.
    arriving: usize,
    open: usize,
    /// Connections begun, of those that [`End::Messages`] bounds.
    begun: u64,
    is_sending: bool,
    last_sweep: u64,
    window: Window,
}

/// The measurement: what was counted when it began and when it ended.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Window {
    pub(super) begin: Mark,
    pub(super) end: Mark,
    from: u64,
    to: u64,
}

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Mark {
    pub(super) at: u64,
    pub(super) cpu: Duration,
    pub(super) received: u64,
    pub(super) received_bytes: u64,
    pub(super) opened: u64,
}

/// What a thread has to tell at the end.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) tally: Tally,
    pub(super) window: Window,
}

const BUFFER: usize = 256 << 10;
const TIMER: Token = Token(usize::MAX);
/// Between two looks at deadlines and at whether to stop.
const SWEEP: u64 = 20_000_000;
/// How long a connection may take to be opened.
const OPENING: u64 = 10_000_000_000;
/// Connections that a thread opens at a time: as many as any server's backlog takes.
const MOST_ARRIVING: usize = 64;

impl<'a> Worker<'a> {
    pub(super) fn new(plan: &'a Plan, shared: &'a Shared, index: usize) -> io::Result<Worker<'a>> {
        let poll = Poll::new()?;
        let timer = Timer::new(poll.registry(), TIMER)?;
        let connections = share(plan.connections, plan.threads, index);
        // In an open loop messages that have waited go out together.
        let batch = if plan.rate.is_some() {
            plan.depth.max(64)
        } else {
            plan.depth
        };
        let mut random = Rng::with_seed(plan.seed.wrapping_add(index as u64));
        let opening = Opening::new(
            &plan.target,
            &plan.headers,
            &plan.subprotocols,
            false,
            &mut random,
        );
        Ok(Worker {
            ring: Ring::new(&plan.messages, batch, plan.is_raw, plan.seed),
            plan,
            shared,
            index,
            clock: shared.clock,
            poll,
            timer,
            buffer: vec![0; BUFFER],
            places: (0..connections).map(|_| Place::Vacant).collect(),
            opening,
            tally: Tally::default(),
            schedule: None,
            events: 0,
            arriving: 0,
            open: 0,
            begun: 0,
            is_sending: false,
            last_sweep: 0,
            window: Window::default(),
        })
    }

    pub(super) fn run(mut self) -> io::Result<Told> {
        let mut events = Events::with_capacity(1_024);
        if !self.connects_while_it_runs() {
            self.open_all(&mut events)?;
        }
        self.shared.ready.fetch_add(1, AcqRel);
        while self.shared.start.load(Acquire) == 0 && !self.is_stopped() {
            self.step(Duration::from_millis(1), &mut events)?;
        }
        self.load(&mut events)?;
        self.shared.loaded.fetch_add(1, AcqRel);
        self.drain(&mut events)?;
        while !self.shared.seen.load(Acquire) {
            self.step(Duration::from_millis(1), &mut events)?;
        }
        self.close(&mut events)?;
        self.finish();
        Ok(Told {
            tally: self.tally,
            window: self.window,
        })
    }

    fn connects_while_it_runs(&self) -> bool {
        matches!(self.plan.mode, Mode::Connect | Mode::Churn)
    }

    fn is_stopped(&self) -> bool {
        self.shared.stop.load(Relaxed)
    }

    fn open_all(&mut self, events: &mut Events) -> io::Result<()> {
        let begin = self.clock.now();
        let all = self.places.len();
        let each = self.plan.ramp.as_nanos() as u64 / all.max(1) as u64;
        let mut next = 0;
        while (next < all || self.arriving > 0) && !self.is_stopped() {
            let due = begin + next as u64 * each;
            while next < all
                && self.arriving < MOST_ARRIVING
                && begin + next as u64 * each <= self.clock.now()
            {
                self.arrive(next);
                next += 1;
            }
            let wait = Duration::from_nanos(due.saturating_sub(self.clock.now()));
            self.step(
                wait.clamp(Duration::from_millis(1), Duration::from_nanos(SWEEP)),
                events,
            )?;
        }
        Ok(())
    }

    /// The load itself, from the start to the end of the measurement.
    fn load(&mut self, events: &mut Events) -> io::Result<()> {
        let start = match self.shared.start.load(Acquire) {
            0 => self.clock.now(),
            start => start,
        };
        self.window.from = start + self.plan.warm_up.as_nanos() as u64;
        self.window.to = match self.plan.end {
            End::Time(time) => self.window.from.saturating_add(time.as_nanos() as u64),
            End::Messages(_) => u64::MAX,
        };
        self.schedule = self.plan.rate.map(|rate| {
            let share = self.places.len() as f64 / self.plan.connections as f64;
            let (rate, threads) = (rate * share, self.plan.threads as f64);
            let burst = if self.connects_while_it_runs() {
                1
            } else {
                self.plan.depth
            };
            let shift = 1e9 * burst as f64 / rate * self.index as f64 / threads;
            Schedule::new(start as f64 + shift, rate, self.places.len(), burst)
        });
        self.is_sending = true;
        if self.schedule.is_none() {
            (0..self.places.len()).for_each(|place| self.continue_with(place));
        }
        loop {
            let now = self.clock.now();
            self.mark(now);
            if now >= self.window.to || self.is_stopped() || self.is_done() {
                break;
            }
            self.pace(now);
            let wait = self.wait()?;
            self.step(wait, events)?;
        }
        self.is_sending = false;
        let now = self.clock.now();
        self.window.to = self.window.to.min(now);
        self.mark(now);
        Ok(())
    }

    /// Notes the begin and the end of the measurement when they are there.
    fn mark(&mut self, now: u64) {
        if !self.tally.is_measured && self.window.begin.at == 0 && now >= self.window.from {
            self.window.begin = self.marked(now);
            self.tally.is_measured = true;
        }
        if self.tally.is_measured && now >= self.window.to {
            self.window.end = self.marked(now);
            self.tally.is_measured = false;
        }
    }

    fn marked(&self, now: u64) -> Mark {
        let counts = &self.tally.counts;
        Mark {
            at: now,
            cpu: thread_cpu(),
            received: counts.received,
            received_bytes: counts.received_bytes,
            opened: counts.opened,
        }
    }

    /// Whether there is nothing left to do before the time is over.
    fn is_done(&self) -> bool {
        match self.plan.mode {
            Mode::Connect | Mode::Churn => self
                .bound()
                .is_some_and(|bound| self.begun >= bound && self.arriving == 0 && self.open == 0),
            _ if self.open == 0 => true,
            Mode::Idle => false,
            _ => self.bound().is_some() && self.is_spent(),
        }
    }

    /// This thread's part of [`End::Messages`].
    fn bound(&self) -> Option<u64> {
        match self.plan.end {
            End::Time(_) => None,
            End::Messages(messages) => {
                Some(share(messages as usize, self.plan.threads, self.index) as u64)
            }
        }
    }

    fn is_spent(&self) -> bool {
        let mut places = self.places.iter().enumerate();
        places.all(|(place, it)| match it {
            Place::Open(connection) => connection.is_quiet() && self.quota(place, connection) == 0,
            _ => true,
        })
    }

    /// Messages that a connection may still begin.
    fn quota(&self, place: usize, connection: &Connection) -> u64 {
        let begun = connection.sending.begun();
        match (self.plan.mode, self.bound()) {
            (Mode::Idle, _) => 1_u64.saturating_sub(begun),
            (Mode::Churn, _) => (self.plan.depth as u64).saturating_sub(begun),
            (_, Some(bound)) => {
                let mine = share(bound as usize, self.places.len(), place) as u64;
                mine.saturating_sub(begun)
            }
            _ => u64::MAX,
        }
    }

    /// Begins what the schedule has made due.
    fn pace(&mut self, now: u64) {
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
                    .position(|place| matches!(place, Place::Vacant));
                let Some(vacant) = vacant else { return };
                self.arrive(vacant);
            } else {
                self.send_due(lane, now);
            }
            self.events += 1;
        }
    }

    fn send_due(&mut self, place: usize, now: u64) {
        let burst = self.plan.depth as u64;
        let allowed = match &self.places[place] {
            Place::Open(connection) => self.quota(place, connection).min(burst),
            _ => {
                self.tally.counts.unsent += burst;
                return;
            }
        };
        if let Place::Open(connection) = &mut self.places[place] {
            connection.sending.unsent += allowed;
            if let Err(error) = connection.write(&mut self.ring, now) {
                self.end(place, error.into());
            }
        }
    }

    /// How long there is nothing to do unless something comes.
    fn wait(&self) -> io::Result<Duration> {
        let sweep = Duration::from_nanos(SWEEP);
        let Some(schedule) = self.schedule else {
            return Ok(sweep);
        };
        let due = schedule.at(self.events);
        let wait = Duration::from_nanos(due.saturating_sub(self.clock.now()));
        if wait > sweep {
            return Ok(sweep);
        }
        self.timer.set(wait)
    }

    /// Waits for events, and gives each its turn.
    fn step(&mut self, wait: Duration, events: &mut Events) -> io::Result<()> {
        match self.poll.poll(events, Some(wait)) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
            _ => {}
        }
        for event in events.iter() {
            if event.token() != TIMER {
                self.turn(event);
            }
        }
        let now = self.clock.now();
        if now - self.last_sweep >= SWEEP {
            self.last_sweep = now;
            self.sweep(now);
        }
        Ok(())
    }

    #[inline]
    fn turn(&mut self, event: &Event) {
        let place = event.token().0;
        let lane = match self.connects_while_it_runs() {
            true => None, // it is the connections that are due
            false => self.schedule.map(|schedule| (schedule, place)),
        };
        let Some(Place::Open(connection)) = self.places.get_mut(place) else {
            return self.arriving(place);
        };
        if event.is_writable() && connection.has_to_write() {
            let now = self.clock.now();
            if let Err(error) = connection.write(&mut self.ring, now) {
                return self.end(place, error.into());
            }
        }
        if !event.is_readable() {
            return;
        }
        let mut turn = Turn {
            ring: &mut self.ring,
            buffer: &mut self.buffer,
            tally: &mut self.tally,
            clock: self.clock,
            check: self.plan.check,
            schedule: lane,
        };
        match connection.read(&mut turn, event.is_read_closed()) {
            Ok(()) => self.continue_with(place),
            Err(ending) => self.end(place, ending),
        }
    }

    /// Goes on with a connection that has read, or has just been opened.
    #[inline]
    fn continue_with(&mut self, place: usize) {
        let Some(Place::Open(connection)) = self.places.get(place) else {
            if self.is_sending && self.connects_while_it_runs() {
                self.begin_anew(place);
            }
            return;
        };
        let is_idle = self.is_sending && self.schedule.is_none() && connection.is_quiet();
        let churns = self.plan.mode == Mode::Churn;
        let allowed = if is_idle || churns && connection.is_quiet() {
            self.quota(place, connection).min(self.plan.depth as u64)
        } else {
            0
        };
        let Some(Place::Open(connection)) = self.places.get_mut(place) else {
            return;
        };
        connection.sending.unsent += allowed;
        if churns && connection.is_quiet() {
            connection.close();
        }
        if connection.has_to_write() {
            let now = self.clock.now();
            if let Err(error) = connection.write(&mut self.ring, now) {
                self.end(place, error.into());
            }
        }
    }

    /// Begins a connection in a place whose last one is over.
    fn begin_anew(&mut self, place: usize) {
        let is_over = self.bound().is_some_and(|bound| self.begun >= bound);
        if matches!(self.places[place], Place::Vacant) && self.schedule.is_none() && !is_over {
            self.arrive(place);
        }
    }

    fn arrive(&mut self, place: usize) {
        self.begun += 1;
        let sources = &self.plan.sources;
        let number = self.begun as usize * self.plan.threads + self.index;
        let source = (!sources.is_empty()).then(|| sources[number % sources.len()]);
        let now = self.clock.now();
        let arrival = Arrival::begin(&self.plan.target, self.plan.is_raw, source, now);
        match arrival.and_then(|mut arrival| {
            arrival.register(self.poll.registry(), Token(place))?;
            Ok(arrival)
        }) {
            Ok(arrival) => {
                self.places[place] = Place::Opening(Box::new(arrival));
                self.arriving += 1;
            }
            Err(error) => self.refused(place, error.kind().to_string()),
        }
    }

    #[cold]
    fn refused(&mut self, place: usize, why: String) {
        *self.tally.counts.refused.entry(why).or_default() += 1;
        self.places[place] = Place::Ended;
        if self.connects_while_it_runs() {
            self.places[place] = Place::Vacant; // the next event or sweep begins anew
        }
    }

    /// Goes on with a connection that is being opened.
    fn arriving(&mut self, place: usize) {
        let Some(Place::Opening(arrival)) = self.places.get_mut(place) else {
            return;
        };
        match arrival.advance(&self.opening, &mut self.buffer, self.clock) {
            Ok(Step::Waits) => {}
            Ok(Step::Open { early }) => self.opened(place, early),
            Err(why) => {
                self.arriving -= 1;
                self.refused(place, why);
            }
        }
    }

    /// The handshake is done; `early` bytes that came behind it are in the buffer.
    fn opened(&mut self, place: usize, early: usize) {
        let Place::Opening(arrival) = std::mem::replace(&mut self.places[place], Place::Vacant)
        else {
            return;
        };
        self.arriving -= 1;
        self.tally.counts.opened += 1;
        let (stream, times) = arrival.done();
        if !self.connects_while_it_runs() || self.tally.is_measured {
            times.record(&mut self.tally.opening);
        }
        if let (Some(schedule), true) = (self.schedule, self.tally.is_measured)
            && self.connects_while_it_runs()
        {
            let due = schedule.at(self.tally.counts.opened - 1);
            self.tally
                .response
                .record(self.clock.now().saturating_sub(due), 1);
        }
        if self.plan.mode == Mode::Connect {
            drop(stream);
            return self.begin_anew_if_sending(place);
        }
        let id = share_begin(self.plan.connections, self.plan.threads, self.index) + place;
        self.open += 1;
        let mut connection = Connection::new(stream, id as u64);
        let mut turn = Turn {
            ring: &mut self.ring,
            buffer: &mut self.buffer,
            tally: &mut self.tally,
            clock: self.clock,
            check: self.plan.check,
            schedule: None,
        };
        let taken = connection.take(&mut turn, early, self.clock.now());
        self.places[place] = Place::Open(connection);
        match taken {
            Ok(()) => self.continue_with(place),
            Err(ending) => self.end(place, ending),
        }
    }

    fn begin_anew_if_sending(&mut self, place: usize) {
        if self.is_sending {
            self.begin_anew(place);
        }
    }

    /// A connection is over.
    #[cold]
    fn end(&mut self, place: usize, ending: Ending) {
        let Place::Open(connection) = std::mem::replace(&mut self.places[place], Place::Ended)
        else {
            return;
        };
        self.open -= 1;
        self.count(&connection);
        let counts = &mut self.tally.counts;
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
            // The Close is answered; the socket is dropped, whether it takes the answer or not.
            let _ = connection.write_control();
        }
        if self.connects_while_it_runs() {
            self.places[place] = Place::Vacant;
            self.begin_anew_if_sending(place);
        }
    }

    /// Adds up what a connection has sent and what never came back.
    fn count(&mut self, connection: &Connection) {
        let sending = &connection.sending;
        self.tally.counts.sent += sending.flown;
        self.tally.counts.lost += connection.order.lost(sending.flown);
        self.tally.counts.unsent += sending.begun().saturating_sub(sending.flown);
    }

    /// Gives up what has waited too long, and tells how far this thread is.
    fn sweep(&mut self, now: u64) {
        let patience = self.plan.timeout.as_nanos() as u64;
        let since = now.saturating_sub(patience);
        let mut expired = 0;
        let connects = self.connects_while_it_runs();
        for place in 0..self.places.len() {
            match &mut self.places[place] {
                Place::Opening(arrival) if arrival.began() + OPENING < now => {
                    self.arriving -= 1;
                    self.refused(place, String::from("timed out"));
                }
                Place::Open(connection) => {
                    let given_up = connection.expire(since);
                    expired += given_up;
                    if given_up > 0 {
                        self.continue_with(place);
                    }
                }
                Place::Vacant if connects => self.begin_anew_if_sending(place),
                _ => {}
            }
        }
        self.tally.counts.timed_out += expired;
        let errors = self.tally.counts.errors();
        self.shared.tell(self.index, &self.tally.counts);
        if self.plan.max_errors.is_some_and(|most| errors > most) {
            self.shared.stop.store(true, Relaxed);
        }
    }

    /// Waits for the replies that are still to come.
    fn drain(&mut self, events: &mut Events) -> io::Result<()> {
        let end = self.clock.now() + self.plan.timeout.as_nanos() as u64;
        while self.clock.now() < end && !self.is_hurried() && !self.is_quiet() {
            self.step(Duration::from_millis(5), events)?;
        }
        Ok(())
    }

    /// Whether even the end is to be quick.
    fn is_hurried(&self) -> bool {
        self.shared.hurry.load(Relaxed)
    }

    fn is_quiet(&self) -> bool {
        self.places.iter().all(|place| match place {
            Place::Open(connection) => connection.is_quiet(),
            Place::Opening(_) => false,
            _ => true,
        })
    }

    /// Closes what is open, by a handshake where there is one.
    fn close(&mut self, events: &mut Events) -> io::Result<()> {
        const PATIENCE: u64 = 1_000_000_000;
        if self.plan.is_raw {
            return Ok(());
        }
        for place in 0..self.places.len() {
            if let Place::Open(connection) = &mut self.places[place] {
                connection.close();
                // An error is told again by the socket's next event.
                let _ = connection.write_control();
            }
        }
        let end = self.clock.now() + PATIENCE;
        while self.open > 0 && self.clock.now() < end && !self.is_hurried() {
            self.step(Duration::from_millis(5), events)?;
        }
        Ok(())
    }

    fn finish(&mut self) {
        for place in std::mem::take(&mut self.places) {
            if let Place::Open(connection) = place {
                self.count(&connection);
            }
        }
        self.shared.tell(self.index, &self.tally.counts);
    }
}

/// Part `index` of `parts` of a whole.
pub(super) fn share(whole: usize, parts: usize, index: usize) -> usize {
    share_begin(whole, parts, index + 1) - share_begin(whole, parts, index)
}

/// What comes before part `index`.
pub(super) fn share_begin(whole: usize, parts: usize, index: usize) -> usize {
    (whole as u128 * index as u128 / parts.max(1) as u128) as usize
}
