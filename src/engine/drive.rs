//! What the frame loop sees of a connection, and what the connections of a worker share.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::deadlines::{DeadlineTicks, Tick};
use super::disconnect::Disconnect;
use super::mailbox::Mailbox;
use super::output::Output;
use super::slots::Key;
use super::socket::Stream;
use super::tally::{Flow, Tally};
use super::{Settings, SlowConsumer, SlowConsumerPolicy};
use crate::protocol::{AssemblyBudget, AssemblyPool, CloseCode, CloseFrame};

/// What a worker's connections share while one of them is driven.
pub(crate) struct Context {
    /// What a read goes into. Initialised once, never zeroed again.
    pub(super) input: Vec<u8>,
    /// What a turn's frames are gathered in. Empty between turns.
    pub(super) output: Vec<u8>,
    pub(super) pool: AssemblyPool,
    pub(super) now: Tick,
    /// How long a tick is.
    pub(super) tick: Duration,
    pub(super) deadlines: DeadlineTicks,
    pub(super) slow_consumer: SlowConsumer,
    pub(super) high_water_mark: usize,
    pub(super) linger_size: usize,
    pub(super) mailbox: Arc<Mailbox>,
    /// What was done since the observer was last told.
    pub(super) tally: Tally,
}

impl Context {
    /// Octets of the buffer that every read goes into.
    const INPUT: usize = 128 << 10;

    /// At the beginning of time.
    pub(super) fn new(
        settings: &Settings,
        tick: Duration,
        deadlines: DeadlineTicks,
        budget: AssemblyBudget,
        mailbox: Mailbox,
    ) -> Context {
        Context {
            input: vec![0; Self::INPUT],
            output: Vec::with_capacity(Output::CAPACITY),
            pool: AssemblyPool::new(budget),
            now: 0,
            tick,
            deadlines,
            slow_consumer: settings.slow_consumer,
            high_water_mark: settings.high_water_mark,
            linger_size: settings.linger_size,
            mailbox: Arc::new(mailbox),
            tally: Tally::default(),
        }
    }
}

/// What the frame loop sees of a connection, whatever its handler. One call for each event.
pub(crate) trait Drive {
    /// The connection is the frame loop's from now on. `head` is written before what the handler
    /// sends, but not before it has seen the connection; `early` has been read already.
    fn open(
        &mut self,
        key: Key,
        head: &[u8],
        early: &mut [u8],
        stream: &mut dyn Stream,
        context: &mut Context,
    ) -> Progress;

    /// Writes what waits, reads what is there, handles it and writes the answers.
    fn drive(&mut self, key: Key, stream: &mut dyn Stream, context: &mut Context) -> Progress;

    /// Whether something waits for the socket to take it.
    fn is_blocked(&self) -> bool;

    /// Sends encoded fan-out.
    fn deliver(
        &mut self,
        delivery: &Delivery<'_>,
        stream: &mut dyn Stream,
        context: &mut Context,
    ) -> Progress;

    /// Ends a connection for a reason that the peer has no say in, with this Close.
    fn end(
        &mut self,
        why: Disconnect,
        frame: (CloseCode, &'static str),
        stream: &mut dyn Stream,
        context: &mut Context,
    ) -> Progress;

    /// Begins the closing handshake.
    fn close(
        &mut self,
        frame: Option<CloseFrame<'_>>,
        stream: &mut dyn Stream,
        context: &mut Context,
    ) -> Progress;

    /// Looks at the deadlines; the peer was last heard `silence` ago.
    fn tick(&mut self, silence: Tick, stream: &mut dyn Stream, context: &mut Context) -> Progress;

    /// Octets that wait for the peer to take them.
    fn backlog_octets(&self) -> usize;

    /// What the peer has sent, and what was sent to it.
    fn traffic(&self) -> (Flow, Flow);

    /// The connection is over, and its handler goes with it.
    fn closed(self: Box<Self>, why: &Disconnect);
}

/// Fan-out in the forms that a connection chooses from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Delivery<'a> {
    pub(super) plain: Encoded<'a>,
    /// Compressed without context, in a window as the server's settings say.
    pub(super) compressed: Option<Encoded<'a>>,
    /// How many there are.
    pub(super) messages: usize,
    /// What to do where they find no room.
    pub(super) policy: SlowConsumerPolicy,
    /// They find room where less waits than the bound, however large they are.
    pub(super) is_lenient: bool,
}

/// Encoded frames.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Encoded<'a> {
    /// To be copied if they are to be kept.
    Lent(&'a [u8]),
    /// To be kept without a copy.
    Shared(&'a Bytes),
}

impl<'a> Encoded<'a> {
    pub(super) fn octets(self) -> &'a [u8] {
        match self {
            Encoded::Lent(octets) => octets,
            Encoded::Shared(octets) => octets,
        }
    }

    /// What is left once `written` octets have gone.
    pub(super) fn rest(self, written: usize) -> Bytes {
        match self {
            Encoded::Lent(octets) => {
                Bytes::copy_from_slice(octets.get(written..).unwrap_or_default())
            }
            Encoded::Shared(octets) => octets.slice(written..),
        }
    }
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
