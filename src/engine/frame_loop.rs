//! The loop that polls a worker's sockets and drives whoever is ready.

use std::cell::RefCell;
use std::io;
use std::mem;
use std::os::fd::{AsRawFd, RawFd};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use mio::{Events, Interest, Poll, Token, Waker};
use tokio::io::unix::AsyncFd;
use tokio::time::MissedTickBehavior;

use super::Settings;
use super::connection::{Context, Delivery, Drive, Encoded, Progress};
use super::deadlines::{Clock, Tick};
use super::disconnect::Disconnect;
use super::mailbox::{Command, Congestion, Group, Letters, Mailbox};
use super::output::Output;
use super::slots::{Key, Slots};
use super::socket::{Socket, Stream};
use crate::log;
use crate::protocol::{AssemblyBudget, AssemblyPool, CloseCode, CloseFrame};

/// A worker's connections and the poller that watches their sockets.
///
/// The worker's tokio runtime watches the poller's own descriptor, so HTTP, timers and signals
/// live beside the frame loop on the same thread.
pub(crate) struct FrameLoop {
    poll: Poll,
    events: Events,
    entries: Slots<Entry>,
    /// Connections that may have more to read than they were given a turn for.
    ready: Vec<Key>,
    /// Emptied, the buffer that `ready` had in the turn before.
    spare: Vec<Key>,
    clock: Clock,
    context: Context,
    /// The mailbox's buffers while they are being worked through.
    letters: Letters,
    count: Box<dyn Fn(isize)>,
}

struct Entry {
    socket: Socket,
    connection: Box<dyn Drive>,
    /// When the socket last had something for us.
    heard: Tick,
    /// When the deadlines are to be looked at next.
    due: Tick,
    /// The peer sent FIN, or the connection broke: the poller does not tell a second time.
    hung_up: bool,
    /// It is among the `ready`.
    is_ready: bool,
}

/// A frame loop, shared between the tasks of its thread.
#[derive(Clone)]
pub(crate) struct FrameLoopHandle(Rc<RefCell<FrameLoop>>);

impl FrameLoopHandle {
    /// A frame loop without connections; `count` is told of each that comes (1) and goes (-1).
    pub(crate) fn new(
        settings: &Settings,
        congestion: Congestion,
        budget: AssemblyBudget,
        count: Box<dyn Fn(isize)>,
    ) -> io::Result<FrameLoopHandle> {
        FrameLoop::new(settings, congestion, budget, count)
            .map(|frame_loop| FrameLoopHandle(Rc::new(RefCell::new(frame_loop))))
    }

    /// Takes a socket over: `head` is to be written to it before anything else, once the
    /// connection is open; `early` has been read of it already.
    pub(crate) fn adopt(
        &self,
        socket: Socket,
        connection: Box<dyn Drive>,
        head: Vec<u8>,
        early: Vec<u8>,
    ) {
        self.0.borrow_mut().adopt(socket, connection, head, early);
    }

    pub(crate) fn mailbox(&self) -> Arc<Mailbox> {
        Arc::clone(&self.0.borrow().context.mailbox)
    }

    /// Ends all connections now.
    pub(crate) fn cut(&self) {
        self.0.borrow_mut().cut();
    }

    /// Runs the loop. It ends only with an error of the poller.
    pub(crate) async fn run(self) -> io::Result<()> {
        tokio::try_join!(self.serve(), self.keep_time()).map(|((), ())| ())
    }

    async fn serve(&self) -> io::Result<()> {
        /// Turns after which the others of this thread have theirs.
        const TURNS: u32 = 16;
        const WHILE_CONGESTED: Duration = Duration::from_millis(1);
        let descriptor = PollDescriptor(self.0.borrow().poll.as_raw_fd());
        #[expect(
            deprecated,
            reason = "its successor is an unsafe fn; the poller outlives this future, which holds it"
        )]
        let poller = AsyncFd::new(descriptor)?;
        loop {
            // Cleared first: what comes during a turn makes it readable again.
            poller.readable().await?.clear_ready();
            let mut turns = 0;
            while self.0.borrow_mut().turn()? {
                turns += 1;
                if self.0.borrow().context.mailbox.is_congested() {
                    tokio::time::sleep(WHILE_CONGESTED).await;
                } else if turns % TURNS == 0 {
                    tokio::task::yield_now().await;
                }
            }
        }
    }

    async fn keep_time(&self) -> io::Result<()> {
        let mut ticks = tokio::time::interval(self.0.borrow().clock.tick());
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let mut frame_loop = self.0.borrow_mut();
            // What has come is read before anybody is found silent.
            if frame_loop.turn()? {
                frame_loop.context.mailbox.wake();
            }
            frame_loop.sweep();
        }
    }
}

/// The poller's descriptor, which stays the poller's to close.
struct PollDescriptor(RawFd);

impl AsRawFd for PollDescriptor {
    fn as_raw_fd(&self) -> RawFd {
        self.0
    }
}

impl FrameLoop {
    const MAILBOX: Token = Token(usize::MAX);
    const EVENTS: usize = 1_024;
    /// Octets of the buffer that every read goes into.
    const INPUT: usize = 128 << 10;

    fn new(
        settings: &Settings,
        congestion: Congestion,
        budget: AssemblyBudget,
        count: Box<dyn Fn(isize)>,
    ) -> io::Result<FrameLoop> {
        let poll = Poll::new()?;
        let waker = Waker::new(poll.registry(), Self::MAILBOX)?;
        let (clock, deadlines) = Clock::new(&settings.deadlines);
        Ok(FrameLoop {
            poll,
            events: Events::with_capacity(Self::EVENTS),
            entries: Slots::new(),
            ready: Vec::new(),
            spare: Vec::new(),
            context: Context {
                input: vec![0; Self::INPUT],
                output: Vec::with_capacity(Output::CAPACITY),
                pool: AssemblyPool::new(budget),
                now: clock.now(),
                deadlines,
                slow_consumer: settings.slow_consumer,
                high_water_mark: settings.high_water_mark,
                linger_size: settings.linger_size,
                mailbox: Arc::new(Mailbox::new(waker, congestion, settings.deflate)),
            },
            clock,
            letters: Letters::default(),
            count,
        })
    }

    fn adopt(
        &mut self,
        mut socket: Socket,
        connection: Box<dyn Drive>,
        head: Vec<u8>,
        mut early: Vec<u8>,
    ) {
        let registry = self.poll.registry();
        let now = self.context.now;
        let inserted = self.entries.insert_with(|key| {
            let interest = Interest::READABLE | Interest::WRITABLE;
            registry.register(&mut socket, Token(key.index as usize), interest)?;
            Ok::<Entry, io::Error>(Entry {
                socket,
                connection,
                heard: now,
                due: now,
                hung_up: false,
                is_ready: false,
            })
        });
        match inserted {
            Ok(key) => {
                (self.count)(1);
                self.drive(key, |entry, context| {
                    let Entry {
                        socket, connection, ..
                    } = entry;
                    connection.open(key, &head, &mut early, socket, context)
                });
            }
            Err(error) => log::not_adopted(&error),
        }
        self.deliver_and_wake();
    }

    /// Drives whoever is ready, once. Says whether there may be more to do at once.
    fn turn(&mut self) -> io::Result<bool> {
        self.context.mailbox.attend();
        if self.context.mailbox.is_congested() {
            self.deliver();
            self.context.mailbox.rest();
            // The sockets have not been looked at.
            return Ok(true);
        }
        match self.poll.poll(&mut self.events, Some(Duration::ZERO)) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        let mut ready = mem::replace(&mut self.ready, mem::take(&mut self.spare));
        for key in ready.drain(..) {
            self.drive_socket(key);
            if self.context.mailbox.is_full() {
                self.deliver();
            }
        }
        self.spare = ready;
        let mut count = 0;
        let events = mem::replace(&mut self.events, Events::with_capacity(0));
        for event in &events {
            count += 1;
            let index = event.token().0 as u32;
            let Some((key, entry)) = self.entries.at_mut(index) else {
                continue;
            };
            entry.hung_up |= event.is_read_closed() || event.is_error();
            if !event.is_readable() && !entry.hung_up && !entry.connection.is_blocked() {
                continue; // it may be written to, and nobody wants to
            }
            entry.heard = self.context.now;
            self.drive_socket(key);
            if self.context.mailbox.is_full() {
                self.deliver();
            }
        }
        self.events = events;
        self.deliver();
        // Where several were ready at once, more have come in the meantime.
        let rests = self.context.mailbox.rest();
        Ok(count > 1 || !self.ready.is_empty() || !self.letters.commands.is_empty() || !rests)
    }

    /// Reads what is there and writes what waits.
    fn drive_socket(&mut self, key: Key) {
        let drive = |entry: &mut Entry, context: &mut Context| {
            entry.is_ready = false;
            entry.connection.drive(key, &mut entry.socket, context)
        };
        self.drive(key, drive);
        let entry = self.entries.get_mut(key);
        if entry.is_some_and(|entry| entry.hung_up && !entry.is_ready) {
            self.drive(key, drive);
        }
    }

    /// Does something with a connection, and then what its progress asks for.
    fn drive(&mut self, key: Key, act: impl FnOnce(&mut Entry, &mut Context) -> Progress) {
        let Some(entry) = self.entries.get_mut(key) else {
            return;
        };
        match act(entry, &mut self.context) {
            Progress::Over(why) => self.end(key, &why),
            Progress::MoreToRead if entry.is_ready => {}
            Progress::MoreToRead => {
                entry.is_ready = true;
                self.ready.push(key);
            }
            Progress::Waiting => entry.due = self.context.now.wrapping_add(1),
            Progress::Idle => {}
        }
    }

    /// Carries out the mailbox's commands, and those that follow from them, up to a number of
    /// octets: what is left waits for the next turn. In between the sockets are looked at, or a
    /// member that takes all it is given would seem slow because this worker is.
    fn deliver(&mut self) {
        const OCTETS: usize = 256 << 10;
        if self.letters.commands.is_empty() && !self.context.mailbox.is_filled() {
            return;
        }
        let mut letters = mem::take(&mut self.letters);
        let mut delivered = 0;
        while delivered < OCTETS {
            let Some(command) = letters.commands.pop_front() else {
                if !self.context.mailbox.is_filled() {
                    break;
                }
                self.context.mailbox.take(&mut letters);
                continue;
            };
            match command {
                Command::Deliver {
                    group,
                    length,
                    compressed_length,
                    messages,
                } => {
                    delivered += length;
                    let compressed = letters.compressed.take(compressed_length);
                    let delivery = Delivery {
                        plain: Encoded::Lent(letters.plain.take(length)),
                        compressed: (compressed_length > 0).then_some(Encoded::Lent(compressed)),
                        messages,
                    };
                    self.deliver_to(&group, &delivery);
                }
                Command::DeliverShared {
                    group,
                    frame,
                    compressed,
                } => {
                    delivered += frame.len();
                    let delivery = Delivery {
                        plain: Encoded::Shared(&frame),
                        compressed: compressed.as_ref().map(Encoded::Shared),
                        messages: 1,
                    };
                    self.deliver_to(&group, &delivery);
                }
                Command::Send {
                    to,
                    length,
                    is_compressed,
                } => {
                    delivered += length;
                    let frame = Encoded::Lent(match is_compressed {
                        true => letters.compressed.take(length),
                        false => letters.plain.take(length),
                    });
                    let delivery = Delivery {
                        plain: frame,
                        compressed: is_compressed.then_some(frame),
                        messages: 1,
                    };
                    self.drive(to, |entry, context| {
                        let Entry {
                            socket, connection, ..
                        } = entry;
                        connection.deliver(&delivery, socket, context)
                    });
                }
                Command::Overrun { to } => self.drive(to, |entry, context| {
                    let Entry {
                        socket, connection, ..
                    } = entry;
                    connection.overrun(socket, context)
                }),
                Command::Close { to, frame } => {
                    let frame = frame.as_ref().map(|(code, reason)| CloseFrame {
                        code: *code,
                        reason,
                    });
                    self.close(to, frame);
                }
                Command::CloseAll { code } => self.close_all(code),
            }
        }
        self.letters = letters;
    }

    /// [`FrameLoop::deliver`], outside a turn: what is left makes for one.
    fn deliver_and_wake(&mut self) {
        self.deliver();
        if !self.letters.commands.is_empty() || !self.ready.is_empty() {
            self.context.mailbox.wake();
        }
    }

    fn deliver_to(&mut self, group: &Group, delivery: &Delivery<'_>) {
        // Whoever is over leaves the group when dropped, for which the group must not be locked.
        let mut over = Vec::new();
        for member in group.members().iter() {
            let Some(entry) = self.entries.get_mut(*member) else {
                continue;
            };
            let Entry {
                socket, connection, ..
            } = entry;
            let progress = connection.deliver(delivery, socket, &mut self.context);
            match progress {
                Progress::Over(why) => over.push((*member, why)),
                Progress::Waiting => entry.due = self.context.now.wrapping_add(1),
                Progress::MoreToRead if !entry.is_ready => {
                    entry.is_ready = true;
                    self.ready.push(*member);
                }
                Progress::MoreToRead | Progress::Idle => {}
            }
        }
        for (member, why) in over {
            self.end(member, &why);
        }
    }

    fn close(&mut self, key: Key, frame: Option<CloseFrame<'_>>) {
        self.drive(key, |entry, context| {
            let Entry {
                socket, connection, ..
            } = entry;
            connection.close(frame, socket, context)
        });
    }

    fn close_all(&mut self, code: CloseCode) {
        for index in 0..self.entries.places() {
            if let Some((key, _)) = self.entries.at_mut(index) {
                self.close(key, Some(CloseFrame { code, reason: "" }));
            }
        }
    }

    /// Looks at the deadlines of those that are due.
    fn sweep(&mut self) {
        if self.context.mailbox.is_congested() {
            // The sockets are not looked at: nobody ages for not being heard.
            self.clock.stand_still();
            return;
        }
        self.clock.advance();
        let now = self.clock.now();
        self.context.now = now;
        self.context.pool.shrink();
        self.context.mailbox.shrink(&mut self.letters);
        let ping_interval = self.context.deadlines.ping_interval;
        for index in 0..self.entries.places() {
            let Some((key, entry)) = self.entries.at_mut(index) else {
                continue;
            };
            if (now.wrapping_sub(entry.due) as i32) < 0 {
                continue;
            }
            let silence = now.wrapping_sub(entry.heard);
            let idle = self.context.deadlines.idle.unwrap_or(Tick::MAX);
            let rest = ping_interval.saturating_sub(silence).min(idle / 10);
            entry.due = now.wrapping_add(rest.clamp(1, Tick::MAX / 4));
            self.drive(key, |entry, context| {
                let Entry {
                    socket, connection, ..
                } = entry;
                connection.tick(silence, socket, context)
            });
        }
        self.deliver_and_wake();
    }

    fn cut(&mut self) {
        for index in 0..self.entries.places() {
            if let Some((key, _)) = self.entries.at_mut(index) {
                self.end(key, &Disconnect::CutAtShutdown);
            }
        }
    }

    fn end(&mut self, key: Key, why: &Disconnect) {
        // The descriptor's closing takes it out of the poller, too.
        let Some(entry) = self.entries.remove(key) else {
            return;
        };
        (self.count)(-1);
        log::disconnected(why, || entry.socket.peer_address());
        entry.connection.closed(why);
        if why.is_stalled() {
            entry.socket.reset();
        }
    }
}

impl Drop for FrameLoop {
    fn drop(&mut self) {
        self.context.mailbox.bury();
    }
}
