//! Broadcasts to many sessions at once, past the engine.
//!
//! The engine has a queue and a task for each session, which cost more than the write that a packet
//! comes to. So a broadcast is encoded once, handed to each worker once, and written there to the
//! streams of those sessions that have nothing else to write; to all others it goes by the engine.
//!
//! **Order.** Who emits, waits for that and emits again sees both arrive in that order, whatever
//! way they take: a broadcast is handed over by a task, which the runtime runs behind those that
//! earlier emits woke, and is over when it is written. Broadcasts are written in the order in which
//! they were handed over, neighbouring ones to the same sessions by one write.

use std::collections::HashMap;
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
use tokio::sync::oneshot;
use tokio::task::{self, unconstrained};

use super::session_stream::{Sent, Session};

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

/// When a broadcast began, among all.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct Epoch(u64);

/// The thread that a session's tasks are run by.
pub(super) struct Worker {
    runtime: Handle,
    queue: Mutex<Queue>,
}

#[derive(Default)]
struct Queue {
    broadcasts: Vec<Broadcast>,
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

/// Sends the same to one session by the engine.
pub(super) type ByEngine = Arc<dyn Fn(Sid) -> Result<(), Vec<SocketError>> + Send + Sync>;

impl Epoch {
    #[cfg(test)]
    pub(super) fn at(broadcasts: u64) -> Epoch {
        Epoch(broadcasts)
    }
}

impl FanOut {
    /// How many sessions there are.
    pub(super) fn len(&self) -> usize {
        read(&self.0.sessions).len()
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
        let mut shares: Vec<(Arc<Worker>, Vec<Member>)> = Vec::new();
        let mut others = Vec::new();
        {
            let sessions = read(&self.0.sessions);
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
        }
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
        let mut errors: Vec<SocketError> = others
            .into_iter()
            .filter_map(|sid| by_engine(sid).err())
            .flatten()
            .collect();
        for reported in reports {
            // Of a worker that has ended there is nothing to be said.
            errors.extend(reported.await.unwrap_or_default());
        }
        errors
    }

    /// Now: whatever begins from here on is later.
    pub(super) fn epoch(&self) -> Epoch {
        Epoch(self.0.broadcasts.load(Ordering::SeqCst))
    }

    pub(super) fn add(&self, sid: Sid, worker: Arc<Worker>, session: Arc<Session>) {
        write(&self.0.sessions).insert(sid, Enrolled { worker, session });
    }

    pub(super) fn remove(&self, sid: Sid, session: &Arc<Session>) {
        let mut sessions = write(&self.0.sessions);
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
            Arc::new(Worker {
                runtime,
                queue: Mutex::default(),
            })
        });
        Some(Arc::clone(worker))
    }

    /// Has the broadcast written behind all that earlier emits of this thread have woken.
    fn hand_over(self: &Arc<Worker>, fan_out: &FanOut, broadcast: Broadcast) {
        let (worker, fan_out) = (Arc::clone(self), fan_out.clone());
        self.runtime.spawn(async move {
            let mut queue = lock(&worker.queue);
            queue.broadcasts.push(broadcast);
            if !mem::replace(&mut queue.is_written, true) {
                drop(queue);
                // Its writes are many, and none of them is to wait for another turn.
                task::spawn(unconstrained(worker.write(fan_out)));
            }
        });
    }

    /// Writes broadcasts until none is left.
    async fn write(self: Arc<Worker>, fan_out: FanOut) {
        let _until_none_is_left = IsWritten(&self);
        loop {
            let mut broadcasts = mem::take(&mut lock(&self.queue).broadcasts);
            if broadcasts.is_empty() {
                return;
            }
            // What an earlier emit woke may have yielded, and be run once more.
            task::yield_now().await;
            requeue().await;
            let mut rest = &mut *broadcasts;
            while !rest.is_empty() {
                let (together, after) = rest.split_at_mut(neighbours(rest));
                write_together(together, &fan_out).await;
                rest = after;
            }
            for broadcast in broadcasts {
                // Who has sent it may not wait for that.
                let _ = broadcast.report.send(broadcast.errors);
            }
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

/// There is no task that writes a worker's broadcasts once this is dropped.
struct IsWritten<'w>(&'w Worker);

impl Drop for IsWritten<'_> {
    fn drop(&mut self) {
        lock(&self.0.queue).is_written = false;
    }
}

/// How many broadcasts from the first on go to the same sessions and are not too large for one
/// write.
fn neighbours(broadcasts: &[Broadcast]) -> usize {
    const OCTETS: usize = 64 << 10;
    let Some((first, others)) = broadcasts.split_first() else {
        return 0;
    };
    let mut octets = first.frames.len();
    let same = others.iter().take_while(|other| {
        octets += other.frames.len();
        octets <= OCTETS
            && other.members.len() == first.members.len()
            && other
                .members
                .iter()
                .zip(&first.members)
                .all(|(other, first)| Arc::ptr_eq(&other.1, &first.1))
    });
    1 + same.count()
}

/// Writes broadcasts to the same sessions.
async fn write_together(broadcasts: &mut [Broadcast], fan_out: &FanOut) {
    /// Sessions after which other tasks have their turn.
    const SESSIONS: usize = 256;
    let Some(first) = broadcasts.first_mut() else {
        return;
    };
    let members = mem::take(&mut first.members);
    let epoch = first.epoch;
    let frames = match broadcasts {
        [only] => only.frames.clone(),
        _ => {
            let frames: Vec<&[u8]> = broadcasts
                .iter()
                .map(|broadcast| &*broadcast.frames)
                .collect();
            Bytes::from(frames.concat())
        }
    };
    for sessions in members.chunks(SESSIONS) {
        for (sid, session) in sessions {
            match session.send(&frames, epoch) {
                Sent::Written => {}
                Sent::Begun => {
                    let session = Arc::clone(session);
                    task::spawn(poll_fn(move |context| session.poll_drain(context)));
                }
                Sent::Refused => {
                    for broadcast in &mut *broadcasts {
                        let sent = (broadcast.by_engine)(*sid);
                        broadcast.errors.extend(sent.err().into_iter().flatten());
                    }
                    session.settle(fan_out.epoch());
                }
            }
        }
        if sessions.len() == SESSIONS {
            requeue().await;
        }
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

fn read<T>(shared: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    shared.read().unwrap_or_else(PoisonError::into_inner)
}

fn write<T>(shared: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    shared.write().unwrap_or_else(PoisonError::into_inner)
}
