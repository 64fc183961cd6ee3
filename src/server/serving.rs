//! The connections of a worker without a WebSocket: each is served in a task of its own, and the
//! number of those that wait for a request is limited.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout};

use super::ServerShared;
use crate::engine::ClientSocket;
use crate::http::{HttpContext, HttpPhase, HttpStream, Witness, serve_connection};

/// The state with which a worker serves its connections.
#[derive(Clone)]
pub(super) struct Serving {
    pub(super) index: usize,
    pub(super) shared: Arc<ServerShared>,
    context: Rc<HttpContext>,
    handshakes: Rc<RefCell<Handshakes>>,
}

impl Serving {
    /// A worker without connections.
    pub(super) fn new(index: usize, shared: Arc<ServerShared>, context: HttpContext) -> Serving {
        Serving {
            index,
            context: Rc::new(context),
            handshakes: Handshakes::new(shared.max_handshakes()),
            shared,
        }
    }

    /// Waits until there is room for one more connection, or until the first may be dropped: at
    /// once if it is idle, silent or older than [`Handshakes::GRACE`], otherwise after
    /// [`Handshakes::PATIENCE`]. Without this wait, many clients that reconnect together would push
    /// each other out for ever.
    pub(super) async fn room(&self) {
        let wait = || self.handshakes.borrow().wait();
        while let Some((ended, wait)) = wait() {
            if timeout(wait, ended.notified()).await.is_err() {
                break;
            }
        }
    }

    /// Serves a connection in a task of its own.
    pub(super) fn serve(&self, accepted: ClientSocket) {
        let stream = HttpStream::new(accepted);
        let number = self.handshakes.borrow_mut().next();
        let slot = HandshakeSlot {
            shared: Arc::clone(&self.shared),
            index: self.index,
            number,
            phase: Cell::new(HttpPhase::Head),
            handshakes: Rc::clone(&self.handshakes),
        };
        // Boxed, because a task is moved several times and this one is large.
        let serving = Box::pin(serve_connection(stream, Rc::clone(&self.context), slot));
        let task = tokio::task::spawn_local(serving).abort_handle();
        let mut handshakes = self.handshakes.borrow_mut();
        handshakes.insert((HttpPhase::Head, number), (task, Instant::now()));
    }
}

/// This worker's connections without a WebSocket, in the order in which they are closed when too
/// many wait for a request: idle ones first, then silent ones, and the oldest first within a phase.
struct Handshakes {
    /// Maximum number of connections that wait.
    max: usize,
    next: u64,
    tasks: BTreeMap<(HttpPhase, u64), Task>,
    /// Number of connections whose request is being answered. They are the last ones of the map,
    /// and are not closed.
    answering: usize,
    /// Notified when a connection no longer waits.
    ended: Rc<Notify>,
}

/// A connection's task, and when the connection was added.
type Task = (AbortHandle, Instant);

impl Handshakes {
    /// The age up to which new connections wait for one that has begun its request: a client that
    /// opens thousands of connections at once needs this long until its last request.
    const GRACE: Duration = Duration::from_secs(1);

    /// How long a new connection waits for a slot at most.
    const PATIENCE: Duration = Duration::from_millis(10);

    fn new(max: usize) -> Rc<RefCell<Handshakes>> {
        Rc::new(RefCell::new(Handshakes {
            max,
            next: 0,
            tasks: BTreeMap::new(),
            answering: 0,
            ended: Rc::default(),
        }))
    }

    fn next(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// How long a new connection must wait for room, and what ends the wait. `None` if it need not
    /// wait.
    fn wait(&self) -> Option<(Rc<Notify>, Duration)> {
        let ((phase, _), (_, since)) = self.tasks.first_key_value()?;
        if self.waiting() < self.max || *phase < HttpPhase::Head {
            return None;
        }
        let grace = Self::GRACE.checked_sub(since.elapsed())?;
        Some((Rc::clone(&self.ended), grace.min(Self::PATIENCE)))
    }

    fn waiting(&self) -> usize {
        self.tasks.len() - self.answering
    }

    /// Adds a connection, and drops the first one if too many wait: it has had the most time to
    /// send its request.
    fn insert(&mut self, key: (HttpPhase, u64), task: Task) {
        self.tasks.insert(key, task);
        self.answering += usize::from(key.0 == HttpPhase::Answering);
        if self.waiting() > self.max
            && let Some((_, (first, _))) = self.tasks.pop_first()
        {
            first.abort();
        }
    }

    /// Returns the task of a connection. `None` if the connection is being closed.
    fn remove(&mut self, key: (HttpPhase, u64)) -> Option<Task> {
        let task = self.tasks.remove(&key)?;
        self.answering -= usize::from(key.0 == HttpPhase::Answering);
        self.ended.notify_one();
        Some(task)
    }
}

/// A connection's slot in the load and in the handshakes of its worker, while hyper serves it. The
/// slot is given back on drop, also after a panic.
struct HandshakeSlot {
    shared: Arc<ServerShared>,
    index: usize,
    number: u64,
    phase: Cell<HttpPhase>,
    handshakes: Rc<RefCell<Handshakes>>,
}

impl Witness for HandshakeSlot {
    fn moved(&self, phase: HttpPhase) {
        let before = self.phase.replace(phase);
        if before != phase {
            let mut handshakes = self.handshakes.borrow_mut();
            if let Some(task) = handshakes.remove((before, self.number)) {
                handshakes.insert((phase, self.number), task);
            }
        }
    }
}

impl Drop for HandshakeSlot {
    fn drop(&mut self) {
        let key = (self.phase.get(), self.number);
        self.handshakes.borrow_mut().remove(key);
        self.shared.http.loads[self.index].fetch_sub(1, Ordering::Relaxed);
    }
}
