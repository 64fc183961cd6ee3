//! One thread of the generator. It owns its connections and polls them with one poller.

mod ending;
mod opening;
mod pace;

use std::io;
use std::sync::atomic::Ordering::{AcqRel, Acquire};
use std::time::Duration;

use fastrand::Rng;
use mio::event::Event;
use mio::{Events, Poll, Token, Waker};

use crate::lab::load::arrival::Arrival;
use crate::lab::load::clock::thread_cpu;
use crate::lab::load::connection::{LoadConnection, ThreadContext};
use crate::lab::load::opening::Opening;
use crate::lab::load::plan::{End, Mode, Plan};
use crate::lab::load::ring::Ring;
use crate::lab::load::schedule::Schedule;
use crate::lab::load::shared::{LoadShared, part};
use crate::lab::load::stream::Connector;
use crate::lab::load::tally::Tally;
use crate::lab::load::timer::PaceTimer;
use crate::protocol::AssemblyPool;

/// A place for a connection.
#[derive(Debug)]
#[allow(
    clippy::large_enum_variant,
    reason = "nearly all are open, and inline storage keeps their data together"
)]
enum ConnectionSlot {
    Vacant,
    Opening(Box<Arrival>),
    Open(LoadConnection),
    Ended,
}

pub(crate) struct LoadWorker<'a> {
    plan: &'a Plan,
    shared: &'a LoadShared,
    index: usize,
    /// The index of the thread's first connection among all connections.
    first: usize,
    connector: Option<Connector>,
    context: ThreadContext<'a>,
    poll: Poll,
    timer: PaceTimer,
    places: Vec<ConnectionSlot>,
    opening: Opening,
    schedule: Option<Schedule>,
    /// Number of scheduled events that have been started.
    events: u64,
    /// Number of connections that are being opened.
    arriving: usize,
    /// Number of open connections.
    open: usize,
    /// Number of connections started. Bound: [`End::Messages`].
    begun: u64,
    is_sending: bool,
    /// The thread's connections are counted as members of the broadcast.
    is_counted: bool,
    /// The schedule is paused: all places are in use, or no events are left.
    is_held: bool,
    last_sweep: u64,
    window: Window,
}

/// The measurement: its times, and the counts at its start and at its end.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Window {
    pub(crate) begin: Mark,
    pub(crate) end: Mark,
    from: u64,
    to: u64,
}

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Mark {
    pub(crate) at: u64,
    pub(crate) cpu: Duration,
    pub(crate) received: u64,
    pub(crate) received_bytes: u64,
    pub(crate) opened: u64,
}

/// The result of a thread.
#[derive(Debug)]
pub(crate) struct WorkerReport {
    pub(crate) tally: Tally,
    pub(crate) window: Window,
}

const BUFFER: usize = 256 << 10;
const TIMER: Token = Token(usize::MAX);
const WAKER: Token = Token(usize::MAX - 1);
/// Interval between two sweeps, in nanoseconds.
const SWEEP: u64 = 20_000_000;

impl<'a> LoadWorker<'a> {
    pub(crate) fn new(
        plan: &'a Plan,
        shared: &'a LoadShared,
        index: usize,
    ) -> io::Result<LoadWorker<'a>> {
        let poll = Poll::new()?;
        let timer = PaceTimer::new(poll.registry(), TIMER)?;
        shared.register_waker(index, Waker::new(poll.registry(), WAKER)?);
        let own = part(plan.connections as u64, plan.threads, index);
        // In an open loop, queued messages are sent together.
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
            plan.messages.compression.is_some(),
            &mut random,
        );
        Ok(LoadWorker {
            context: ThreadContext {
                ring: Ring::new(&plan.messages, batch, plan.is_raw, plan.seed),
                pool: AssemblyPool::default(),
                buffer: vec![0; BUFFER],
                tally: Tally::default(),
                clock: shared.clock,
                check: plan.check,
                publications: shared.publications_of(plan),
            },
            plan,
            shared,
            index,
            first: own.start as usize,
            connector: match plan.target.is_tls {
                true => Some(Connector::new(&plan.target, &plan.trust)?),
                false => None,
            },
            poll,
            timer,
            places: own.map(|_| ConnectionSlot::Vacant).collect(),
            opening,
            schedule: None,
            events: 0,
            arriving: 0,
            open: 0,
            begun: 0,
            is_sending: false,
            is_counted: false,
            is_held: false,
            last_sweep: 0,
            window: Window::default(),
        })
    }

    pub(crate) fn run(mut self) -> io::Result<WorkerReport> {
        let mut events = Events::with_capacity(1_024);
        if !self.connects_while_it_runs() {
            self.open_all(&mut events)?;
        }
        self.shared.members.fetch_add(self.open as u64, AcqRel);
        self.is_counted = true;
        self.shared.ready.fetch_add(1, AcqRel);
        while self.shared.start.load(Acquire) == 0 && !self.shared.is_stopped() {
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
        Ok(WorkerReport {
            tally: self.context.tally,
            window: self.window,
        })
    }

    /// This thread's share of the open-loop schedule; `None` in a closed loop.
    fn own_schedule(&self, start: u64) -> Option<Schedule> {
        let (lanes, all) = match self.plan.mode {
            Mode::Broadcast { publishers } => (self.own_publishers(), publishers),
            _ => (self.places.len(), self.plan.connections),
        };
        let rate = self.plan.rate.filter(|_| lanes > 0)? * lanes as f64 / all as f64;
        let burst = match self.connects_while_it_runs() {
            true => 1,
            false => self.plan.depth,
        };
        // The events of different threads are evenly staggered.
        let shift = 1e9 * burst as f64 / rate * self.index as f64 / self.plan.threads as f64;
        Some(Schedule::new(start as f64 + shift, rate, lanes, burst))
    }

    fn connects_while_it_runs(&self) -> bool {
        matches!(self.plan.mode, Mode::Connect | Mode::Churn)
    }

    /// Runs the load, from the start of the warm-up to the end of the measurement.
    fn load(&mut self, events: &mut Events) -> io::Result<()> {
        let start = match self.shared.start.load(Acquire) {
            0 => self.context.clock.now(),
            start => start,
        };
        self.window.from = start + self.plan.warm_up.as_nanos() as u64;
        self.window.to = match self.plan.end {
            End::Time(time) => self.window.from.saturating_add(time.as_nanos() as u64),
            End::Messages(_) => u64::MAX,
        };
        self.schedule = self.own_schedule(start);
        self.is_sending = true;
        if self.schedule.is_none() {
            (0..self.places.len()).for_each(|place| self.continue_with(place));
        }
        loop {
            let now = self.context.clock.now();
            self.mark(now);
            if now >= self.window.to || self.shared.is_stopped() || self.is_done() {
                break;
            }
            self.pace(now);
            let wait = self.wait()?;
            self.step(wait, events)?;
        }
        self.is_sending = false;
        let now = self.context.clock.now();
        self.window.to = self.window.to.min(now);
        self.mark(now);
        Ok(())
    }

    /// Records the start and the end of the measurement when their times are reached.
    fn mark(&mut self, now: u64) {
        if !self.context.tally.is_measured && self.window.begin.at == 0 && now >= self.window.from {
            self.window.begin = self.marked(now);
            self.context.tally.is_measured = true;
        }
        if self.context.tally.is_measured && now >= self.window.to {
            self.window.end = self.marked(now);
            self.context.tally.is_measured = false;
        }
    }

    fn marked(&self, now: u64) -> Mark {
        let counts = &self.context.tally.counts;
        Mark {
            at: now,
            cpu: thread_cpu(),
            received: counts.received,
            received_bytes: counts.received_bytes,
            opened: counts.opened,
        }
    }

    /// Waits for events, gives each connection with an event a turn, and sweeps if one is due.
    fn step(&mut self, wait: Duration, events: &mut Events) -> io::Result<()> {
        match self.poll.poll(events, Some(wait)) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
            _ => {}
        }
        for event in events.iter() {
            if event.token() != TIMER && event.token() != WAKER {
                self.turn(event);
            }
        }
        self.publish_more();
        let now = self.context.clock.now();
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
            true => None, // connections are scheduled, not messages
            false => self.schedule.map(|schedule| (schedule, place)),
        };
        let Some(ConnectionSlot::Open(connection)) = self.places.get_mut(place) else {
            return self.arriving(place);
        };
        if event.is_writable() && connection.has_to_write() {
            let now = self.context.clock.now();
            if let Err(error) = connection.write(&mut self.context.ring, now) {
                return self.end(place, error.into());
            }
        }
        if !event.is_readable() {
            return;
        }
        match connection.read(&mut self.context, lane, event.is_read_closed()) {
            Ok(()) => self.continue_with(place),
            Err(ending) => self.end(place, ending),
        }
    }

    /// Sends the next messages of a connection after a read or after its opening.
    #[inline]
    fn continue_with(&mut self, place: usize) {
        let Some(ConnectionSlot::Open(connection)) = self.places.get(place) else {
            return self.begin_anew(place);
        };
        let is_closed_loop = self.plan.rate.is_none() && !self.is_broadcast();
        let is_sending = self.is_sending || self.plan.mode == Mode::Idle;
        let is_idle = is_sending && is_closed_loop && connection.is_quiet();
        let churns = self.plan.mode == Mode::Churn;
        let allowed = if is_idle || churns && connection.is_quiet() {
            connection.sending.left().min(self.plan.depth as u64)
        } else {
            0
        };
        let Some(ConnectionSlot::Open(connection)) = self.places.get_mut(place) else {
            return;
        };
        connection.sending.unsent += allowed;
        if churns && connection.is_quiet() {
            connection.close();
        }
        if connection.has_to_write() {
            let now = self.context.clock.now();
            if let Err(error) = connection.write(&mut self.context.ring, now) {
                self.end(place, error.into());
            }
        }
    }
}
