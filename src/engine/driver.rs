//! The interface between the frame loop and a connection, and the state that the connections of a
//! worker share.

use std::sync::Arc;
use std::time::Duration;

use super::act::Act;
use super::deadlines::Tick;
use super::delivery::Delivery;
use super::disconnect::Disconnect;
use super::hoarders::Hoarders;
use super::mailbox::{Mailbox, Wake};
use super::slab::ConnectionKey;
use super::stats::{Observer, Traffic, WorkerStats};
use super::turn::Turn;
use super::unsent::UnsentBudget;
use super::write_batch::Buffer;
use super::{Bounds, Settings};
use crate::protocol::AssemblyPool;

/// The state that a worker's connections share. A connection borrows it while it is driven.
pub(crate) struct Context {
    /// The buffer of every read. Initialised once, never zeroed again. Bound: 128 KiB, shared with
    /// all connections of the worker.
    pub(super) input: Vec<u8>,
    /// The buffer that gathers the frames of a turn.
    pub(super) write_buffer: Buffer,
    /// Bound: 64 MiB, shared with all connections of the worker, and `max_unfinished_size`, shared
    /// with all clients of the server.
    pub(super) pool: AssemblyPool,
    pub(super) hoarders: Hoarders,
    /// The current turn of the connection that is driven.
    pub(super) turn: Turn,
    pub(super) now: Tick,
    /// Length of a tick.
    pub(super) tick: Duration,
    pub(super) settings: Settings,
    pub(super) mailbox: Arc<Mailbox>,
    pub(super) observer: Arc<dyn Observer>,
    /// Counts since the last call of the observer.
    pub(super) stats: WorkerStats,
}

impl Context {
    /// Size of the input buffer in bytes.
    const INPUT: usize = 128 << 10;

    /// A context at tick 0. `wake` makes the worker check its sockets and commands.
    pub(super) fn new(
        settings: &Settings,
        tick: Duration,
        bounds: &Bounds,
        wake: Wake,
        observer: Arc<dyn Observer>,
    ) -> Context {
        Context {
            input: vec![0; Self::INPUT],
            write_buffer: Buffer::new(settings, bounds.unsent.clone()),
            pool: AssemblyPool::new(bounds.unfinished.clone()),
            hoarders: Hoarders::default(),
            turn: Turn::new(),
            now: 0,
            tick,
            settings: settings.clone(),
            mailbox: Arc::new(Mailbox::new(wake, bounds.congestion.clone(), settings)),
            observer,
            stats: WorkerStats::default(),
        }
    }

    /// Begins the turn of a connection, of `share` units.
    pub(super) fn begin_turn(&mut self, share: usize) {
        self.turn = Turn::of(share);
        self.pool.allow(Turn::codec_share(share));
    }

    /// The time since a tick.
    pub(super) fn since(&self, tick: Tick) -> Duration {
        self.tick * self.now.wrapping_sub(tick)
    }

    /// The number of whole ticks in a time, at most a quarter of all ticks.
    pub(super) fn ticks(&self, time: Duration) -> Tick {
        let ticks = time.as_nanos() / self.tick.as_nanos();
        Tick::try_from(ticks).map_or(Tick::MAX / 4, |ticks| ticks.min(Tick::MAX / 4))
    }

    /// The unsent budget of the server.
    pub(super) fn unsent(&self) -> &UnsentBudget {
        &self.write_buffer.unsent
    }
}

/// A connection as the frame loop sees it, independent of the type of its handler. The frame loop
/// makes one call for each event.
pub(crate) trait ConnectionDriver<S> {
    /// Called once, when the frame loop takes over the connection. `head` is written after
    /// [`Handler::open`](super::Handler::open) returns, before the frames that it sends; `early` is
    /// input that has already been read.
    fn open(
        &mut self,
        key: ConnectionKey,
        head: &[u8],
        early: &mut [u8],
        stream: &mut S,
        context: &mut Context,
    ) -> Progress;

    /// Writes the backlog, reads the input, handles it and writes the answers.
    fn drive(&mut self, key: ConnectionKey, stream: &mut S, context: &mut Context) -> Progress;

    /// Does something else to the connection.
    fn act(
        &mut self,
        key: ConnectionKey,
        act: Act,
        stream: &mut S,
        context: &mut Context,
    ) -> Progress;

    /// Whether the backlog holds anything, or the handler keeps anything for the peer.
    fn is_blocked(&mut self) -> bool;

    /// Sends fan-out messages, which are already encoded.
    fn deliver(
        &mut self,
        delivery: &Delivery<'_>,
        stream: &mut S,
        context: &mut Context,
    ) -> Progress;

    /// Whether publishers wait for this member, because its backlog is over the bound.
    fn is_awaited(&self, context: &Context) -> bool;

    /// Unsent bytes, in the backlog and with the handler.
    fn backlog_bytes(&mut self) -> usize;

    /// How much is kept for the peer, for a comparison with other connections.
    fn waiting(&mut self, now: Tick) -> Waiting;

    /// How the connection ends if the server shuts down now.
    fn when_cut(&self) -> Disconnect;

    /// Traffic received from the peer, and traffic sent to it.
    fn traffic(&self) -> (Traffic, Traffic);

    /// The connection is over; the handler is dropped.
    fn closed(self: Box<Self>, why: &Disconnect);
}

/// How much is kept for a peer. When the unsent budget is spent, the connections with the greatest
/// values are closed first.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct Waiting {
    /// The peer has read nothing for ten ticks: a second, or less with short deadlines.
    pub(super) is_stalled: bool,
    /// Bytes of memory held for this peer; a shared frame counts in equal parts.
    pub(super) share: usize,
    /// Unsent bytes.
    pub(super) rest: usize,
}

/// What the frame loop does with a connection next.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Progress {
    /// Wait for the socket; no deadline except the keepalive's is running.
    Idle,
    /// Wait for the socket; a deadline is running.
    Waiting,
    /// More input may exist: drive the connection again after the turns of the others.
    MoreToRead,
    /// The connection is over: drop it.
    Over(Disconnect),
}
