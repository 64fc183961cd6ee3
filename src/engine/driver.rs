//! What the frame loop sees of a connection, and what the connections of a worker share.

use std::sync::Arc;
use std::time::Duration;

use super::deadlines::{DeadlineTicks, Tick};
use super::delivery::Delivery;
use super::disconnect::Disconnect;
use super::hoarders::Hoarders;
use super::mailbox::Mailbox;
use super::slab::ConnectionKey;
use super::stats::{Observer, Traffic, WorkerStats};
use super::turn::Turn;
use super::unsent::UnsentBudget;
use super::write_batch::Buffer;
use super::{Bounds, Settings, SlowConsumer};
use crate::protocol::{AssemblyPool, CloseCode, CloseFrame};

/// What a worker's connections share while one of them is driven.
pub(crate) struct Context {
    /// What a read goes into. Initialised once, never zeroed again. Bound: 128 KiB, shared with all
    /// connections of the worker.
    pub(super) input: Vec<u8>,
    /// What a turn's frames are gathered in.
    pub(super) write_buffer: Buffer,
    /// Bound: 64 MiB, shared with all connections of the worker, and `max_unfinished_size`, shared
    /// with all clients of the server.
    pub(super) pool: AssemblyPool,
    pub(super) hoarders: Hoarders,
    /// What is left of the turn of the connection that is driven.
    pub(super) turn: Turn,
    pub(super) now: Tick,
    /// How long a tick is.
    pub(super) tick: Duration,
    pub(super) deadlines: DeadlineTicks,
    pub(super) slow_consumer: SlowConsumer,
    pub(super) high_water_mark: usize,
    pub(super) linger_size: usize,
    pub(super) mailbox: Arc<Mailbox>,
    pub(super) observer: Arc<dyn Observer>,
    /// What was done since the observer was last told.
    pub(super) stats: WorkerStats,
}

impl Context {
    /// Bytes of the buffer that every read goes into.
    const INPUT: usize = 128 << 10;

    /// At the beginning of time.
    pub(super) fn new(
        settings: &Settings,
        tick: Duration,
        deadlines: DeadlineTicks,
        bounds: &Bounds,
        mailbox: Mailbox,
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
            deadlines,
            slow_consumer: settings.slow_consumer,
            high_water_mark: settings.high_water_mark,
            linger_size: settings.linger_size,
            mailbox: Arc::new(mailbox),
            observer,
            stats: WorkerStats::default(),
        }
    }

    /// Begins the turn of a connection.
    pub(super) fn begin_turn(&mut self) {
        self.turn = Turn::new();
        self.pool.allow(Turn::CODEC_SHARE);
    }

    /// What may wait to be sent to all clients of the server together.
    pub(super) fn unsent(&self) -> &UnsentBudget {
        &self.write_buffer.unsent
    }
}

/// What the frame loop sees of a connection, whatever its handler. One call for each event.
pub(crate) trait ConnectionDriver<S> {
    /// The connection is the frame loop's from now on. `head` is written before what the handler
    /// sends, but not before it has seen the connection; `early` has been read already.
    fn open(
        &mut self,
        key: ConnectionKey,
        head: &[u8],
        early: &mut [u8],
        stream: &mut S,
        context: &mut Context,
    ) -> Progress;

    /// Writes what waits, reads what is there, handles it and writes the answers.
    fn drive(&mut self, key: ConnectionKey, stream: &mut S, context: &mut Context) -> Progress;

    /// Wakes a handler that has a timer.
    fn wake(&mut self, key: ConnectionKey, stream: &mut S, context: &mut Context) -> Progress;

    /// The peer has sent FIN, or the connection broke, and `drive` has read what it reads.
    fn hang_up(&mut self, key: ConnectionKey, context: &mut Context) -> Progress;

    /// Whether something waits for the socket to take it, or is kept for the peer.
    fn is_blocked(&mut self) -> bool;

    /// Sends encoded fan-out.
    fn deliver(
        &mut self,
        delivery: &Delivery<'_>,
        stream: &mut S,
        context: &mut Context,
    ) -> Progress;

    /// Ends a connection for a reason that the peer has no say in, with this Close.
    fn end(
        &mut self,
        why: Disconnect,
        frame: (CloseCode, &'static str),
        stream: &mut S,
        context: &mut Context,
    ) -> Progress;

    /// Begins the closing handshake.
    fn close(
        &mut self,
        frame: Option<CloseFrame<'_>>,
        stream: &mut S,
        context: &mut Context,
    ) -> Progress;

    /// Looks at the deadlines; the peer was last heard `silence` ago.
    fn tick(
        &mut self,
        key: ConnectionKey,
        silence: Tick,
        stream: &mut S,
        context: &mut Context,
    ) -> Progress;

    /// Bytes that wait for the peer, in the backlog and with the handler.
    fn backlog_bytes(&mut self) -> usize;

    /// What waits for the peer, against all that waits for others.
    fn waiting(&mut self, now: Tick) -> Waiting;

    /// Ends a connection that the most waits for, so that there is room for the others.
    fn relieve(&mut self, stream: &mut S, context: &mut Context) -> Progress;

    /// How it ends if it is cut now, because the server ends.
    fn when_cut(&self) -> Disconnect;

    /// What the peer has sent, and what was sent to it.
    fn traffic(&self) -> (Traffic, Traffic);

    /// The connection is over, and its handler goes with it.
    fn closed(self: Box<Self>, why: &Disconnect);
}

/// What waits for a peer, as it counts when there is no more room. Those that are larger go first.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct Waiting {
    /// It has taken nothing for a while.
    pub(super) is_stalled: bool,
    /// Bytes of memory that are held for it alone.
    pub(super) share: usize,
    /// Bytes that have not gone.
    pub(super) rest: usize,
}

/// What is to be done with a connection next.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Progress {
    /// Wait for the socket; no deadline is running but the keepalive's.
    Idle,
    /// Wait for the socket, for so long.
    Waiting,
    /// More may be there to read: come back when others have had their turn.
    MoreToRead,
    /// It is over: drop it.
    Over(Disconnect),
}
