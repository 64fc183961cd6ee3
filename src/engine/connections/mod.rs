//! A worker's connections, over streams of any type: which connection is driven, delivered to or
//! checked, and when. The [frame loop](super::frame_loop) waits for the sockets.

mod delivering;
mod holding;
mod relief;

use std::collections::VecDeque;
use std::mem;
use std::time::Duration;

use super::act::Act;
use super::commands::CommandQueue;
use super::deadlines::Tick;
use super::disconnect::Disconnect;
use super::driver::{ConnectionDriver, Context, Progress};
use super::slab::{ConnectionKey, Slab};
use super::socket::Stream;
use super::stats::{ConnectionRecord, EndpointIndex};
use super::turn::Turn;
use holding::HeldGroup;
use relief::Candidates;

/// The connections of one worker.
pub(super) struct Connections<S> {
    entries: Slab<Entry<S>>,
    /// Connections that may have more input than fitted into their turn, the next one first.
    ready: VecDeque<ConnectionKey>,
    /// Light connections with an event whose turn the work of others has delayed. They are driven
    /// before `ready`, for a short turn each.
    fresh: VecDeque<ConnectionKey>,
    /// Units of work since the sockets were last polled.
    work: usize,
    pub(super) context: Context,
    /// Commands that are taken from the mailbox and not all carried out yet.
    queue: CommandQueue,
    /// Bound: the groups of the worker.
    held: Vec<HeldGroup>,
    candidates: Candidates,
    /// Number of connections opened so far.
    count: u64,
}

struct Entry<S> {
    stream: S,
    connection: Box<dyn ConnectionDriver<S>>,
    number: u64,
    endpoint: EndpointIndex,
    opened: Tick,
    /// When the stream last had an event for the connection.
    last_heard: Tick,
    /// When the deadlines are checked next.
    next_check: Tick,
    /// The peer sent FIN, or the connection broke: the poller reports this only once.
    hung_up: bool,
    standing: Standing,
}

/// When a connection with an event gets its turn.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Standing {
    /// At once: its last turn was a short one.
    Light,
    /// After all light connections: its last turn was long, and the next may be as long.
    Heavy,
    /// The connection is in `ready` or `fresh`.
    Queued,
}

/// What the poller reports about a stream.
#[derive(Clone, Copy, Debug)]
pub(super) struct Readiness {
    pub(super) is_readable: bool,
    /// No input follows after the bytes that can be read now.
    pub(super) has_hung_up: bool,
}

impl<S: Stream> Entry<S> {
    /// Gives the connection a turn of `share` units. Returns the progress, and whether the peer has
    /// gone.
    #[inline]
    fn drive(
        &mut self,
        key: ConnectionKey,
        share: usize,
        context: &mut Context,
    ) -> (Progress, bool) {
        context.begin_turn(share);
        let progress = self.connection.drive(key, &mut self.stream, context);
        self.standing = match context.turn.used() < Turn::SHORT {
            true => Standing::Light,
            false => Standing::Heavy,
        };
        (progress, self.hung_up)
    }
}

impl<S: Stream> Connections<S> {
    /// Creates an empty set of connections.
    pub(super) fn new(context: Context) -> Connections<S> {
        Connections {
            entries: Slab::default(),
            ready: VecDeque::new(),
            fresh: VecDeque::new(),
            work: 0,
            context,
            queue: CommandQueue::default(),
            held: Vec::new(),
            candidates: Candidates::default(),
            count: 0,
        }
    }

    /// The key of the connection that is opened next.
    pub(super) fn next_key(&self) -> ConnectionKey {
        self.entries.next_key()
    }

    /// Opens a connection. `head` is written before anything else; `early` is input that has been
    /// read already.
    pub(super) fn adopt(
        &mut self,
        stream: S,
        connection: Box<dyn ConnectionDriver<S>>,
        endpoint: EndpointIndex,
        head: &[u8],
        early: &mut [u8],
    ) -> ConnectionKey {
        let now = self.context.now;
        self.count += 1;
        let key = self.entries.insert(Entry {
            stream,
            connection,
            number: self.count,
            endpoint,
            opened: now,
            last_heard: now,
            next_check: now,
            hung_up: false,
            standing: Standing::Light,
        });
        self.context.observer.opened(endpoint);
        self.context.begin_turn(Turn::SHORT);
        self.drive(key, |connection, stream, context| {
            connection.open(key, head, early, stream, context)
        });
        self.deliver_and_wake();
        key
    }

    /// Returns the stream of a connection, `None` if the connection is over.
    pub(super) fn stream(&mut self, key: ConnectionKey) -> Option<&mut S> {
        self.entries.get_mut(key).map(|entry| &mut entry.stream)
    }

    /// Begins a turn. Returns whether streams may be read in it: while the mailboxes of all workers
    /// are congested, the worker only delivers.
    pub(super) fn begin_turn(&mut self) -> bool {
        self.work = 0;
        self.context.mailbox.mark_awake();
        if self.context.mailbox.is_congested() {
            self.deliver();
            self.context.mailbox.try_sleep();
            return false;
        }
        true
    }

    /// Gives the connections in `fresh` a short turn each, so that many of them that turn out to be
    /// heavy do not delay a light one for long.
    pub(super) fn drive_fresh(&mut self) {
        while !self.is_crowded()
            && let Some(key) = self.fresh.pop_front()
        {
            self.drive_queued(key, Turn::SHORT);
        }
    }

    /// Drives the connections that need more than one turn, and the heavy ones with an event, until
    /// the worker is crowded. At least one is driven, even if there are many events.
    pub(super) fn drive_ready(&mut self) {
        for _ in 0..self.ready.len() {
            let Some(key) = self.ready.pop_front() else {
                break;
            };
            self.drive_queued(key, Turn::SHARE);
            if self.is_crowded() {
                break;
            }
        }
    }

    fn drive_queued(&mut self, key: ConnectionKey, share: usize) {
        if let Some(entry) = self.entries.get_mut(key) {
            let (progress, hung_up) = entry.drive(key, share, &mut self.context);
            self.follow(key, progress, hung_up);
            self.deliver_if_full();
        }
    }

    /// Drives the connection at this index, if its stream is ready for something that it needs.
    pub(super) fn drive_at(&mut self, index: u32, readiness: Readiness) {
        let Some((key, entry)) = self.entries.at_mut(index) else {
            return;
        };
        entry.hung_up |= readiness.has_hung_up;
        if entry.stream.has_unsent() {
            // The next read reports a broken stream.
            let _ = entry.stream.flush();
        } else if !readiness.is_readable && !entry.hung_up && !entry.connection.is_blocked() {
            return; // it is writable, and nothing is queued
        }
        entry.last_heard = self.context.now;
        if entry.standing == Standing::Light && self.work < Turn::SHARE {
            let (progress, hung_up) = entry.drive(key, Turn::SHARE, &mut self.context);
            self.follow(key, progress, hung_up);
            return self.deliver_if_full();
        }
        let queue = match entry.standing {
            Standing::Light => &mut self.fresh,
            Standing::Heavy => &mut self.ready,
            Standing::Queued => return,
        };
        entry.standing = Standing::Queued;
        queue.push_back(key);
    }

    /// Makes [`Connections::drive_at`] drive a connection at once, even after a long turn. Returns
    /// whether the connection exists.
    pub(super) fn favour(&mut self, key: ConnectionKey) -> bool {
        let entry = self.entries.get_mut(key);
        entry.is_some_and(|entry| {
            if entry.standing == Standing::Heavy {
                entry.standing = Standing::Light;
            }
            true
        })
    }

    /// Delivers the messages that the turn has published. Returns whether the worker has nothing to
    /// do until the next event.
    pub(super) fn end_turn(&mut self) -> bool {
        self.deliver();
        let rests = self.context.mailbox.try_sleep();
        self.ready.is_empty() && self.fresh.is_empty() && self.queue.commands.is_empty() && rests
    }

    /// Whether there are commands to carry out.
    #[inline]
    pub(super) fn has_commands(&self) -> bool {
        !self.queue.commands.is_empty() || self.context.mailbox.is_filled()
    }

    /// Whether the work since the sockets were last polled makes up a turn: the other connections
    /// get theirs after the next look at the sockets.
    pub(super) fn is_crowded(&self) -> bool {
        self.work >= Turn::SHARE
    }

    /// Checks the deadlines of the connections that are due at this tick.
    pub(super) fn sweep(&mut self, now: Tick) {
        self.context.now = now;
        self.context.pool.shrink();
        self.context.mailbox.shrink(&mut self.queue);
        let deadlines = &self.context.settings.deadlines;
        let [ping_interval, idle] =
            [Some(deadlines.ping_interval), deadlines.idle].map(|deadline| {
                let deadline = deadline.filter(|deadline| !deadline.is_zero());
                self.context.ticks(deadline.unwrap_or(Duration::MAX))
            });
        for index in 0..self.entries.places() {
            let Some((key, entry)) = self.entries.at_mut(index) else {
                continue;
            };
            if (now.wrapping_sub(entry.next_check) as i32) < 0 {
                continue;
            }
            let silence = now.wrapping_sub(entry.last_heard);
            let rest = ping_interval.saturating_sub(silence).min(idle / 10);
            entry.next_check = now.wrapping_add(rest.max(1));
            self.context.stats.backlog_bytes += entry.connection.backlog_bytes();
            self.act(key, Act::Tick { silence });
        }
        self.context.hoarders.forget_others(now);
        self.context.stats.sent = mem::take(&mut self.context.write_buffer.sent);
        self.context.stats.unsent_bytes = self.context.unsent().bytes();
        let stats = mem::take(&mut self.context.stats);
        self.context.observer.statistics(&stats);
        self.relieve();
        self.deliver_and_wake();
    }

    /// Ends all connections at once.
    pub(super) fn cut(&mut self) {
        for index in 0..self.entries.places() {
            if let Some((key, entry)) = self.entries.at_mut(index) {
                let why = entry.connection.when_cut();
                self.end(key, &why);
            }
        }
    }

    fn end(&mut self, key: ConnectionKey, why: &Disconnect) {
        // Closing the descriptor removes it from the poller, too.
        let Some(mut entry) = self.entries.remove(key) else {
            return;
        };
        let (received, sent) = entry.connection.traffic();
        let age = self.context.now.wrapping_sub(entry.opened);
        self.context.observer.closed(&ConnectionRecord {
            number: entry.number,
            endpoint: entry.endpoint,
            peer: entry.stream.peer_address(),
            duration: self.context.tick * age,
            received,
            sent,
            why,
        });
        entry.connection.closed(why);
        if why.is_stalled() {
            entry.stream.reset();
        }
    }

    fn deliver_if_full(&mut self) {
        if self.context.mailbox.is_full() {
            self.deliver();
        }
    }

    /// Acts on the result of a connection's turn.
    #[inline]
    fn follow(&mut self, key: ConnectionKey, progress: Progress, hung_up: bool) {
        self.work += self.context.turn.used();
        if progress != Progress::Idle && self.proceed(key, progress) {
            self.relieve();
        }
        if hung_up {
            self.drive_to_end(key);
        }
    }

    /// Reads the rest of the input of a connection whose peer has gone, and then hangs up.
    #[cold]
    fn drive_to_end(&mut self, key: ConnectionKey) {
        let entry = self.entries.get_mut(key);
        if entry.is_some_and(|entry| entry.hung_up && entry.standing != Standing::Queued) {
            self.drive(key, |connection, stream, context| {
                connection.drive(key, stream, context)
            });
            self.act(key, Act::HangUp);
        }
    }

    /// Does something to a connection, and keeps to the unsent budget.
    fn act(&mut self, key: ConnectionKey, act: Act) {
        self.drive(key, |connection, stream, context| {
            connection.act(key, act, stream, context)
        });
    }

    /// Runs `act` on a connection, acts on its progress, and keeps to the unsent budget.
    fn drive(
        &mut self,
        key: ConnectionKey,
        act: impl FnOnce(&mut dyn ConnectionDriver<S>, &mut S, &mut Context) -> Progress,
    ) {
        if self.apply(key, act) {
            self.relieve();
        }
    }

    /// [`Connections::drive`] without the unsent budget. Returns whether the connection may have a
    /// backlog.
    fn apply(
        &mut self,
        key: ConnectionKey,
        act: impl FnOnce(&mut dyn ConnectionDriver<S>, &mut S, &mut Context) -> Progress,
    ) -> bool {
        let Some(entry) = self.entries.get_mut(key) else {
            return false;
        };
        let progress = act(&mut *entry.connection, &mut entry.stream, &mut self.context);
        self.proceed(key, progress)
    }

    /// Acts on the progress of a connection. Returns whether the connection may have a backlog.
    fn proceed(&mut self, key: ConnectionKey, progress: Progress) -> bool {
        match progress {
            Progress::Idle => false,
            Progress::Over(why) => {
                self.end(key, &why);
                false
            }
            Progress::MoreToRead => {
                self.has_more(key);
                true
            }
            Progress::Waiting => {
                if let Some(entry) = self.entries.get_mut(key) {
                    entry.next_check = self.context.now.wrapping_add(1);
                }
                true
            }
        }
    }

    /// Queues a connection for another turn, behind the others.
    fn has_more(&mut self, key: ConnectionKey) {
        if let Some(entry) = self.entries.get_mut(key)
            && entry.standing != Standing::Queued
        {
            entry.standing = Standing::Queued;
            self.ready.push_back(key);
        }
    }
}

impl<S> Drop for Connections<S> {
    fn drop(&mut self) {
        self.context.mailbox.stop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::ClientSocket;

    /// Together with the slot's generation (8 bytes), and with the 160 bytes that the allocator
    /// uses for a connection of 152, that is 248 bytes.
    #[test]
    fn a_connection_takes_few_bytes() {
        assert!(size_of::<Option<Entry<ClientSocket>>>() <= 80);
    }
}
