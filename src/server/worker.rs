//! A worker: a thread with a runtime and a frame loop of its own.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicIsize, Ordering};
use std::time::Duration;

use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::Notify;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout};

use super::accept;
use super::observer::WorkerObserver;
use super::{AcceptQueue, Listener, ServerShared};
use crate::engine::{ClientSocket, FrameLoopHandle, Observer};
use crate::http::{HttpContext, HttpPhase, HttpStream, Stage, Witness, serve_connection};
use crate::protocol::CloseCode;

pub(super) struct Worker {
    pub(super) index: usize,
    pub(super) shared: Arc<ServerShared>,
    /// Connections that another worker accepted for this one.
    pub(super) inbox: UnboundedReceiver<ClientSocket>,
    /// All listeners, if this is the worker that accepts, or none.
    pub(super) listeners: Vec<(Listener, AcceptQueue)>,
    /// The channels to all workers.
    pub(super) inboxes: Arc<[UnboundedSender<ClientSocket>]>,
}

impl Worker {
    /// HTTP tasks that run between two looks at the sockets. A task may answer 16 pipelined
    /// requests or read 16 KiB, and WebSocket clients wait meanwhile.
    const TASKS_BETWEEN_LOOKS: u32 = 4;

    /// Runs until the server is shut down.
    pub(super) fn run(self) -> io::Result<()> {
        let runtime = Builder::new_current_thread()
            .enable_all()
            .event_interval(Self::TASKS_BETWEEN_LOOKS)
            .build_local(LocalOptions::default())?;
        let result = runtime.block_on(self.serve());
        // Unfinished tasks are dropped.
        runtime.shutdown_timeout(Duration::ZERO);
        result
    }

    async fn serve(self) -> io::Result<()> {
        let Worker {
            index,
            shared,
            mut inbox,
            listeners,
            inboxes,
        } = self;
        let observer: Arc<dyn Observer> = Arc::new(WorkerObserver {
            worker: index,
            shared: Arc::clone(&shared),
        });
        let context = HttpContext::new(Arc::clone(&shared.http), observer)?;
        let frame_loop = context.frame_loop.clone();
        let serving = Serving {
            index,
            shared: Arc::clone(&shared),
            context: Rc::new(context),
            handshakes: Handshakes::new(shared.max_handshakes()),
        };
        for listener in listeners {
            let (inboxes, serving) = (Arc::clone(&inboxes), serving.clone());
            tokio::task::spawn_local(async move {
                let result = accept::accept(listener, &inboxes, &serving).await;
                serving.shared.accepting.fetch_sub(1, Ordering::SeqCst);
                result
            });
        }
        if let Some(give_back) = shared.give_back_memory {
            tokio::task::spawn_local(give_back_memory(index, Arc::clone(&shared), give_back));
        }
        // Also during a drain: a connection from another worker still gets its 503.
        tokio::task::spawn_local(async move {
            while let Some(accepted) = inbox.recv().await {
                serving.serve(accepted);
            }
        });
        let drained = tokio::task::spawn_local(drain(frame_loop.clone(), shared));
        // Not a task: it would wait in the runtime's queue behind all tasks of HTTP.
        let running = frame_loop.clone().run();
        tokio::select! {
            biased;
            result = running => return result,
            drained = drained => drained?,
        }
        frame_loop.cut();
        Ok(())
    }
}

/// The state with which a worker serves its connections.
#[derive(Clone)]
pub(super) struct Serving {
    pub(super) index: usize,
    pub(super) shared: Arc<ServerShared>,
    context: Rc<HttpContext>,
    handshakes: Rc<RefCell<Handshakes>>,
}

impl Serving {
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

/// Gives memory back after a burst: when the worker has no connections, or at most half of their
/// peak since the last time, or when all clients together hold at most half of their peak in bytes.
async fn give_back_memory(worker: usize, shared: Arc<ServerShared>, give_back: fn()) {
    const LOOK: Duration = Duration::from_secs(1);
    /// Number of looks for each decision.
    const LOOKS: usize = 10;
    /// The smallest peak in bytes that counts as a burst.
    const BURST: usize = 4 << 20;
    let mut most = (0, 0);
    loop {
        let mut now = (0, 0);
        for _ in 0..LOOKS {
            tokio::time::sleep(LOOK).await;
            let load = shared.http.loads[worker].load(Ordering::Relaxed);
            now = (load, shared.http.bounds.held());
            most = (most.0.max(now.0), most.1.max(now.1));
        }
        let has_held_less = most.1 >= BURST && now.1 <= most.1 / 2;
        if now.0 <= most.0 / 2 || has_held_less {
            give_back();
            most = now;
        }
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

/// Waits for the shutdown. Then sends this worker's clients a Close, and waits until all workers
/// have no clients, or until the drain timeout. While any worker has WebSockets, all workers answer new requests with 503. After
/// that, requests that have begun are still answered, so that every client gets an answer.
async fn drain(frame_loop: FrameLoopHandle, shared: Arc<ServerShared>) {
    shared.http.shutdown.reached(Stage::Draining).await;
    let emptied = async {
        frame_loop.mailbox().close_all(CloseCode::Away);
        shared.http.router.close().await;
        until(|| shared.websockets.load(Ordering::SeqCst) <= 0).await;
        shared.http.shutdown.reach(Stage::Ending);
        // An accepted connection has its slot before its listener stops accepting.
        until(|| shared.accepting.load(Ordering::SeqCst) == 0).await;
        let is_empty = |load: &AtomicIsize| load.load(Ordering::SeqCst) <= 0;
        until(|| shared.http.loads.iter().all(is_empty)).await;
    };
    // Clients that are left afterwards are cut.
    tokio::select! {
        biased;
        () = shared.http.shutdown.reached(Stage::Cut) => {}
        () = emptied => {}
        () = tokio::time::sleep(shared.drain_timeout) => {}
    }
}

async fn until(mut is_so: impl FnMut() -> bool) {
    const LOOK_AGAIN: Duration = Duration::from_millis(5);
    while !is_so() {
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}
