//! The loop that polls a worker's sockets and drives the connections that are ready.

use std::cell::RefCell;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use mio::{Events, Interest, Poll, Token, Waker};
use tokio::io::unix::AsyncFd;
use tokio::time::MissedTickBehavior;

use super::connections::{Connections, Readiness};
use super::deadlines::Clock;
use super::driver::{ConnectionDriver, Context};
use super::mailbox::Mailbox;
use super::socket::ClientSocket;
use super::stats::{EndpointIndex, Observer};
use super::{Bounds, Settings};

/// A worker's connections and the poller that watches their sockets.
///
/// The worker's tokio runtime watches the poller's own descriptor, so HTTP, timers and signals
/// run on the same thread as the frame loop.
pub(crate) struct FrameLoop {
    poll: Poll,
    events: Events,
    connections: Connections<ClientSocket>,
    clock: Clock,
}

/// A frame loop, shared between the tasks of its thread.
#[derive(Clone)]
pub(crate) struct FrameLoopHandle(Rc<RefCell<FrameLoop>>);

impl FrameLoopHandle {
    /// A frame loop without connections. It reports the events of its connections to `observer`.
    pub(crate) fn new(
        settings: &Settings,
        bounds: &Bounds,
        observer: Arc<dyn Observer>,
    ) -> io::Result<FrameLoopHandle> {
        let poll = Poll::new()?;
        let waker = Waker::new(poll.registry(), FrameLoop::MAILBOX)?;
        // The waker fails only if the poller is gone, and then there is nothing to wake.
        let wake = Box::new(move || waker.wake().unwrap_or_default());
        let clock = Clock::new(&settings.deadlines);
        let context = Context::new(settings, clock.tick(), bounds, wake, observer);
        Ok(FrameLoopHandle(Rc::new(RefCell::new(FrameLoop {
            poll,
            events: Events::with_capacity(FrameLoop::EVENTS),
            connections: Connections::new(context),
            clock,
        }))))
    }

    /// Takes over a socket. `head` is written first, once the connection is open; `early` is input
    /// that has already been read.
    ///
    /// # Errors
    /// The poller's error, if it does not register the socket.
    pub(crate) fn adopt(
        &self,
        mut socket: ClientSocket,
        connection: Box<dyn ConnectionDriver<ClientSocket>>,
        endpoint: EndpointIndex,
        head: &[u8],
        early: &mut [u8],
    ) -> io::Result<()> {
        let FrameLoop {
            poll, connections, ..
        } = &mut *self.0.borrow_mut();
        let token = Token(connections.next_key().index as usize);
        let interest = Interest::READABLE | Interest::WRITABLE;
        poll.registry().register(&mut socket, token, interest)?;
        connections.adopt(socket, connection, endpoint, head, early);
        Ok(())
    }

    pub(crate) fn mailbox(&self) -> Arc<Mailbox> {
        Arc::clone(self.0.borrow().mailbox())
    }

    /// Ends all connections now.
    pub(crate) fn cut(&self) {
        self.0.borrow_mut().connections.cut();
    }

    /// Runs the loop. Returns only if the poller fails.
    pub(crate) async fn run(self) -> io::Result<()> {
        tokio::try_join!(self.serve(), self.keep_time()).map(|((), ())| ())
    }

    async fn serve(&self) -> io::Result<()> {
        /// Turns after which the loop yields to the other tasks of the thread.
        const TURNS: u32 = 16;
        const WHILE_CONGESTED: Duration = Duration::from_millis(1);
        let descriptor = PollDescriptor(self.0.borrow().poll.as_raw_fd());
        #[expect(
            deprecated,
            reason = "its successor is an unsafe fn; the poller outlives this future, which holds it"
        )]
        let poller = AsyncFd::new(descriptor)?;
        loop {
            // Cleared before the turn: input that arrives during the turn makes it readable again.
            poller.readable().await?.clear_ready();
            let mut turns = 0;
            while self.0.borrow_mut().turn()? {
                turns += 1;
                if self.0.borrow().waits_for_others() {
                    tokio::time::sleep(WHILE_CONGESTED).await;
                } else if turns % TURNS == 0 || self.0.borrow().connections.is_crowded() {
                    let_the_others_run().await;
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
            // Pending input is read first, so that its peer does not count as silent.
            if frame_loop.turn()? {
                frame_loop.mailbox().wake();
            }
            frame_loop.sweep();
        }
    }
}

/// Waits until all tasks that are ready now have run. After a mere yield, the runtime would come back
/// to the frame loop after a few of them.
async fn let_the_others_run() {
    let last_in_the_queue = tokio::spawn(async {});
    // It fails only if the runtime ends.
    let _ = last_in_the_queue.await;
}

/// The poller's descriptor, borrowed: only the poller closes it.
struct PollDescriptor(RawFd);

impl AsRawFd for PollDescriptor {
    fn as_raw_fd(&self) -> RawFd {
        self.0
    }
}

impl FrameLoop {
    const MAILBOX: Token = Token(usize::MAX);
    const EVENTS: usize = 1_024;

    /// Drives each ready connection once. Returns whether another turn should follow at once.
    fn turn(&mut self) -> io::Result<bool> {
        if !self.connections.begin_turn() {
            return Ok(true); // the sockets have not been polled
        }
        match self.poll.poll(&mut self.events, Some(Duration::ZERO)) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        self.connections.drive_fresh();
        let mut count = 0;
        for event in &self.events {
            count += 1;
            let readiness = Readiness {
                is_readable: event.is_readable(),
                has_hung_up: event.is_read_closed() || event.is_error(),
            };
            self.connections.drive_at(event.token().0 as u32, readiness);
        }
        self.connections.drive_ready();
        let is_done = self.connections.end_turn();
        // If several sockets were ready, others have become ready in the meantime.
        Ok(count > 1 || !is_done)
    }

    /// Whether the mailboxes of all workers are congested and this worker has no commands: the
    /// worker can only wait for the others.
    fn waits_for_others(&self) -> bool {
        self.mailbox().is_congested() && !self.connections.has_commands()
    }

    fn sweep(&mut self) {
        if self.mailbox().is_congested() {
            // The sockets are not read, so the time must not count as silence of the peers.
            self.clock.stand_still();
            return;
        }
        self.clock.advance();
        self.connections.sweep(self.clock.now());
    }

    fn mailbox(&self) -> &Arc<Mailbox> {
        &self.connections.context.mailbox
    }
}
