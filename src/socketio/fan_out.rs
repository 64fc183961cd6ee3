//! Broadcasts to many sessions at once, past the engine.
//!
//! The engine has a queue and a task for each session, which cost more than the write that a packet
//! comes to. So a broadcast is encoded once, handed to each worker once, and written there to the
//! streams of those sessions that have nothing else to write; to all others it goes by the engine.
//!
//! **Order.** Who emits, waits for that and emits again sees both arrive in that order, whatever
//! way they take: a broadcast is handed over by a task, which the runtime runs behind what earlier
//! emits of the same thread woke, and is over when it is written. Broadcasts are written in the
//! order in which they were handed over, what several of them have for one session by one write.
//!
//! **Bounds.** Of each worker's clients so many broadcasts are under way; further ones wait for
//! them, and meanwhile nothing more is read from those clients.

mod batch;

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::future::poll_fn;
use std::mem;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::task::Poll;
use std::thread::{self, ThreadId};

use bytes::Bytes;
use socketioxide::SocketError;
use socketioxide::socket::Sid;
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::task::{self, unconstrained};

use super::session_stream::Session;

/// The sessions that broadcasts reach past the engine. Clones are the same.
#[derive(Clone, Default)]
pub(super) struct FanOut(Arc<Shared>);

#[derive(Default)]
struct Shared {
    sessions: RwLock<HashMap<Sid, Enrolled>>,
    workers: Mutex<HashMap<ThreadId, Arc<Worker>>>,
    broadcasts: AtomicU64,
}

struct Enrolled {
    worker: Arc<Worker>,
    session: Arc<Session>,
}

/// A session that a broadcast goes to.
type Member = (Sid, Arc<Session>);

/// The sessions that are one worker's.
type Share = (Arc<Worker>, Vec<Member>);

/// When a broadcast began, among all.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct Epoch(u64);

/// A broadcast's place among those of its worker that are under way, until it is over.
pub(super) struct Place(
    #[expect(dead_code, reason = "to be dropped")] Option<OwnedSemaphorePermit>,
);

/// The thread that a session's tasks are run by.
pub(super) struct Worker {
    runtime: Handle,
    queue: Mutex<Queue>,
    /// For broadcasts by this thread: given and given back by it alone, so that those who wait go on
    /// in their order.
    places: Arc<Semaphore>,
}

#[derive(Default)]
struct Queue {
    broadcasts: VecDeque<Broadcast>,
    /// There is a task that writes them.
    is_written: bool,
}

/// A worker's share of a broadcast.
struct Broadcast {
    epoch: Epoch,
    frames: Bytes,
    members: Vec<Member>,
    by_engine: ByEngine,
    errors: Vec<SocketError>,
    report: oneshot::Sender<Vec<SocketError>>,
}

/// Sends the same to these sessions by the engine.
pub(super) type ByEngine = Arc<dyn Fn(&[Sid]) -> Result<(), Vec<SocketError>> + Send + Sync>;

impl Epoch {
    #[cfg(test)]
    pub(super) fn at(broadcasts: u64) -> Epoch {
        Epoch(broadcasts)
    }
}

impl FanOut {
    /// How many sessions there are.
    pub(super) fn len(&self) -> usize {
        for_reading(&self.0.sessions).len()
    }

    /// A place for one more broadcast of this thread, once there is one. Whoever has waited longest
    /// is next.
    pub(super) async fn place(&self) -> Place {
        match Worker::current(self) {
            Some(worker) => worker.place().await,
            // No client is read from here.
            None => Place(None),
        }
    }

    /// Sends the frames to these sessions, and waits until they are written, or in the engine's
    /// queues. Gives the errors of the latter.
    pub(super) async fn send(
        &self,
        sids: Vec<Sid>,
        frames: Bytes,
        by_engine: ByEngine,
    ) -> Vec<SocketError> {
        let epoch = Epoch(self.0.broadcasts.fetch_add(1, Ordering::SeqCst) + 1);
        let (shares, others) = self.shares(sids);
        let mut reports = Vec::new();
        for (worker, members) in shares {
            let (report, reported) = oneshot::channel();
            reports.push(reported);
            worker.hand_over(
                self,
                Broadcast {
                    epoch,
                    frames: frames.clone(),
                    members,
                    by_engine: Arc::clone(&by_engine),
                    errors: Vec::new(),
                    report,
                },
            );
        }
        let mut errors = by_engine(&others).err().unwrap_or_default();
        for reported in reports {
            // Of a worker that has ended there is nothing to be said.
            errors.extend(reported.await.unwrap_or_default());
        }
        errors
    }

    /// These sessions by their workers, and those that only the engine reaches.
    fn shares(&self, sids: Vec<Sid>) -> (Vec<Share>, Vec<Sid>) {
        let mut shares: Vec<Share> = Vec::new();
        let mut others = Vec::new();
        let sessions = for_reading(&self.0.sessions);
        for sid in sids {
            let Some(Enrolled { worker, session }) = sessions.get(&sid) else {
                others.push(sid);
                continue;
            };
            let member = (sid, Arc::clone(session));
            match shares
                .iter_mut()
                .find(|share| Arc::ptr_eq(&share.0, worker))
            {
                Some((_, members)) => members.push(member),
                None => shares.push((Arc::clone(worker), vec![member])),
            }
        }
        (shares, others)
    }

    /// Now: whatever begins from here on is later.
    pub(super) fn epoch(&self) -> Epoch {
        Epoch(self.0.broadcasts.load(Ordering::SeqCst))
    }

    pub(super) fn add(&self, sid: Sid, worker: Arc<Worker>, session: Arc<Session>) {
        for_writing(&self.0.sessions).insert(sid, Enrolled { worker, session });
    }

    pub(super) fn remove(&self, sid: Sid, session: &Arc<Session>) {
        let mut sessions = for_writing(&self.0.sessions);
        if sessions
            .get(&sid)
            .is_some_and(|enrolled| Arc::ptr_eq(&enrolled.session, session))
        {
            sessions.remove(&sid);
        }
    }
}

impl Worker {
    /// The worker of this thread, if its runtime is of this thread only: elsewhere the tasks of a
    /// session run at the same time, and in no order.
    pub(super) fn current(fan_out: &FanOut) -> Option<Arc<Worker>> {
        let runtime = Handle::try_current().ok()?;
        if runtime.runtime_flavor() != RuntimeFlavor::CurrentThread {
            return None;
        }
        let mut workers = lock(&fan_out.0.workers);
        let worker = workers.entry(thread::current().id()).or_insert_with(|| {
            /// Each keeps a list of those whom it goes to.
            const PLACES: usize = 128;
            Arc::new(Worker {
                runtime,
                queue: Mutex::default(),
                places: Arc::new(Semaphore::new(PLACES)),
            })
        });
        Some(Arc::clone(worker))
    }

    /// Whether broadcasts wait for their place: then nothing more is to be read from clients before
    /// a [place](Worker::place) has been had.
    pub(super) fn is_congested(&self) -> bool {
        self.places.available_permits() == 0
    }

    pub(super) async fn place(&self) -> Place {
        // Nobody closes it.
        Place(Arc::clone(&self.places).acquire_owned().await.ok())
    }

    /// Has the broadcast written behind all that earlier emits of this thread have woken.
    fn hand_over(self: &Arc<Worker>, fan_out: &FanOut, broadcast: Broadcast) {
        let (worker, fan_out) = (Arc::clone(self), fan_out.clone());
        self.runtime.spawn(async move {
            let mut queue = lock(&worker.queue);
            queue.broadcasts.push_back(broadcast);
            if !mem::replace(&mut queue.is_written, true) {
                drop(queue);
                let writing = Writing(worker);
                // Were a budget of the runtime's used up by so many writes, the next one would look
                // like one that the client does not take.
                task::spawn(unconstrained(writing.write(fan_out)));
            }
        });
    }

    /// The broadcasts that are to be written next, together.
    fn next_batch(&self) -> Option<Vec<Broadcast>> {
        const DELIVERIES: usize = 1 << 16;
        let mut queue = lock(&self.queue);
        let mut deliveries = 0;
        let within = queue.broadcasts.iter().take_while(|broadcast| {
            let is_within = deliveries < DELIVERIES;
            deliveries += broadcast.members.len();
            is_within
        });
        let count = within.count();
        if count == 0 {
            queue.is_written = false;
            return None;
        }
        Some(queue.broadcasts.drain(..count).collect())
    }
}

/// The task that writes a worker's broadcasts.
struct Writing(Arc<Worker>);

impl Writing {
    /// Writes broadcasts until none is left.
    async fn write(self, fan_out: FanOut) {
        while let Some(mut broadcasts) = self.0.next_batch() {
            // What an earlier emit woke may have yielded, or wait among what other threads woke.
            task::yield_now().await;
            requeue().await;
            batch::write(&mut broadcasts, &fan_out).await;
            for broadcast in broadcasts {
                // Who has sent it may not wait for that.
                let _ = broadcast.report.send(broadcast.errors);
            }
        }
    }
}

impl Drop for Writing {
    /// The runtime ends, or there was a panic: nobody else writes what is left, and whoever has
    /// sent it is not to wait for that.
    fn drop(&mut self) {
        let mut queue = lock(&self.0.queue);
        if mem::take(&mut queue.is_written) {
            let left = mem::take(&mut queue.broadcasts);
            drop(queue);
            drop(left);
        }
    }
}

impl fmt::Debug for FanOut {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("FanOut")
            .field("sessions", &self.len())
            .finish_non_exhaustive()
    }
}

/// Goes behind all tasks that are to be run.
async fn requeue() {
    let mut is_queued = false;
    poll_fn(|context| {
        if mem::replace(&mut is_queued, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// A poisoned lock is taken all the same: what it guards is whole between any two statements.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn for_reading<T>(shared: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    shared.read().unwrap_or_else(PoisonError::into_inner)
}

fn for_writing<T>(shared: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    shared.write().unwrap_or_else(PoisonError::into_inner)
}
