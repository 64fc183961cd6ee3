//! Engine.IO 4: the sessions of a service, and their clock.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::mem;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::Session;
use crate::engine::PeerAddress;
use crate::http::{Admission, IpConnectionLimit, IpSlot};
use crate::lock::lock;
use crate::protocol::Message;
use crate::socketio::SocketIoSettings;
use crate::socketio::errors::{DisconnectReason, EngineResult};
use crate::socketio::packet::EncodedPacket;
use crate::socketio::sid::Sid;

/// Socket.IO, or another protocol over Engine.IO 4, as a service for
/// [`Router::mount`](crate::Router::mount).
pub struct Service {
    pub(in crate::socketio) settings: SocketIoSettings,
    /// Creates the protocol of a new session.
    pub(super) protocol: Box<dyn Fn() -> Arc<dyn Protocol> + Send + Sync>,
    pub(super) ping: Arc<EncodedPacket>,
    /// The sessions of all transports and workers. A session is in the map before its client knows
    /// the id, and until the session has ended.
    sessions: Mutex<HashMap<Sid, Arc<Session>>>,
    /// Counts, by address, the newcomers: sessions that have joined no namespace.
    pub(super) newcomers: IpConnectionLimit,
    is_closed: AtomicBool,
    /// Whether a packet was queued while the unsent budget was spent.
    pub(super) needs_relief: AtomicBool,
    clock: Mutex<Clock>,
}

/// A time in milliseconds since the start of the service, excluding periods in which this process
/// did not run.
pub(super) type Moment = u64;

struct Clock {
    now: Duration,
    last: Instant,
    /// The task that [checks the deadlines](keep_time) of the sessions. It ends with its runtime.
    timer: Option<JoinHandle<()>>,
}

/// The protocol that runs over a session.
pub(in crate::socketio) trait Protocol: Send + Sync {
    /// Called when the session has been opened.
    fn opened(&self, _: &Session) {}

    /// Called for each message.
    fn message(self: Arc<Self>, session: &Arc<Session>, message: Message<'_>) -> EngineResult;

    /// Called when the polling session has been upgraded to a WebSocket.
    fn upgraded(&self) {}

    /// Called once, when the session has ended and after all other calls.
    fn closed(&self, _: DisconnectReason) {}
}

impl Service {
    pub(in crate::socketio) fn new(
        settings: SocketIoSettings,
        protocol: impl Fn() -> Arc<dyn Protocol> + Send + Sync + 'static,
    ) -> Arc<Service> {
        /// Newcomers of one address may be 1/16 of the maximum number of sessions.
        const NEWCOMERS: usize = 16;
        Arc::new(Service {
            protocol: Box::new(protocol),
            ping: EncodedPacket::text("2"),
            sessions: Mutex::default(),
            newcomers: IpConnectionLimit::new((settings.max_sessions / NEWCOMERS).max(1)),
            is_closed: AtomicBool::new(false),
            needs_relief: AtomicBool::new(false),
            clock: Mutex::new(Clock {
                now: Duration::ZERO,
                last: Instant::now(),
                timer: None,
            }),
            settings,
        })
    }

    /// The number of sessions, of both transports.
    pub fn sessions(&self) -> usize {
        lock(&self.sessions).len()
    }

    /// Opens a session for a client at this address. `None` if the maximum number of sessions is
    /// reached, in total or for newcomers of the address, or if the service is closed. `admission`
    /// has the limits of a polling session.
    pub(in crate::socketio) fn open(
        self: &Arc<Self>,
        address: PeerAddress,
        admission: Option<&Admission>,
    ) -> Option<Arc<Session>> {
        if self.is_closed.load(Ordering::SeqCst) {
            return None;
        }
        let session = Arc::new(Session::new(Arc::clone(self), address, admission)?);
        let mut sessions = lock(&self.sessions);
        if sessions.len() >= self.settings.max_sessions {
            return None;
        }
        sessions.insert(session.sid, Arc::clone(&session));
        drop(sessions);
        session.protocol.opened(&session);
        Some(session)
    }

    /// Returns the session whose id is this text.
    pub(in crate::socketio) fn session_named(&self, sid: &str) -> Option<Arc<Session>> {
        lock(&self.sessions).get(&Sid::parse(sid)?).cloned()
    }

    pub(super) fn remove(&self, sid: &Sid) {
        /// The map does not shrink below this number of sessions.
        const KEPT: usize = 1_024;
        let mut sessions = lock(&self.sessions);
        sessions.remove(sid);
        if sessions.capacity() > KEPT && sessions.len() < sessions.capacity() / 4 {
            let kept = (sessions.len() * 2).max(KEPT / 2);
            sessions.shrink_to(kept);
        }
    }

    /// The time. Starts the timer if none is running.
    pub(super) fn now(self: &Arc<Self>) -> Moment {
        /// The maximum time that one step advances the clock. The rest of a longer step counts as a
        /// period in which the process was frozen.
        const LONGEST_STEP: Duration = Duration::from_millis(500);
        let mut clock = lock(&self.clock);
        if clock.timer.as_ref().is_none_or(JoinHandle::is_finished) {
            // Without a runtime no timer can run, and no session needs a check.
            let runtime = Handle::try_current().ok();
            clock.timer = runtime.map(|runtime| runtime.spawn(keep_time(Arc::downgrade(self))));
        }
        let passed = mem::replace(&mut clock.last, Instant::now()).elapsed();
        clock.now += passed.min(LONGEST_STEP);
        clock.now.as_millis() as Moment
    }

    /// The sessions that pass the filter.
    fn some(&self, filter: impl Fn(&Arc<Session>) -> bool) -> Vec<Arc<Session>> {
        let sessions = lock(&self.sessions);
        let some = sessions.values().filter(|session| filter(session));
        some.cloned().collect()
    }

    /// Ends polling sessions, starting with the largest share of the unsent budget, until the
    /// budget suffices. Sessions below the average share stay.
    fn relieve(&self) {
        if !self.needs_relief.swap(false, Ordering::Relaxed) {
            return;
        }
        let excess = |session: &Arc<Session>| session.state().transport.polling()?.excess();
        let mut sessions = self.some(|_| true);
        sessions.sort_by_cached_key(|session| Reverse(excess(session)));
        for session in sessions {
            if excess(&session).is_some() {
                session.end(DisconnectReason::SlowConsumer);
            }
        }
    }

    /// Ends all sessions. Later calls of `open` fail.
    pub(in crate::socketio) fn end(&self) {
        self.is_closed.store(true, Ordering::SeqCst);
        for session in self.some(|_| true) {
            session.end(DisconnectReason::ServerShuttingDown);
        }
    }
}

/// Reserves a place for an address; `None` if all places are taken. The inner value is `None` if no
/// place is needed: without a limit, and for a Unix domain socket.
pub(super) fn reserve(
    limit: Option<&IpConnectionLimit>,
    address: PeerAddress,
) -> Option<Option<IpSlot>> {
    match limit.zip(address.ip()) {
        Some((limit, address)) => limit.reserve_slot(address).map(Some),
        None => Some(None),
    }
}

/// Handles the deadlines of all sessions.
async fn keep_time(service: Weak<Service>) {
    /// The precision of deadlines.
    const TICK: Duration = Duration::from_millis(50);
    while let Some(service) = service.upgrade() {
        let now = service.now();
        for session in service.some(|session| session.next_check.load(Ordering::Relaxed) <= now) {
            session.check(now);
        }
        service.relieve();
        drop(service);
        sleep(TICK).await;
    }
}
