//! Engine.IO 4: the sessions of a service, and the protocol that runs over them.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};

use tokio::runtime::Handle;

use super::SocketIoSettings;
use super::clock::{Clock, Moment};
use super::errors::EngineViolation;
use super::packet::EncodedPacket;
use super::session::{DisconnectReason, Session};
use super::sid::Sid;
use crate::engine::PeerAddress;
use crate::http::{Admission, IpConnectionLimit, IpSlot};
use crate::lock::lock;
use crate::protocol::Message;

/// The sessions of one service, of all transports and workers.
pub(super) struct Engine {
    pub(super) settings: SocketIoSettings,
    pub(super) clock: Clock,
    pub(super) protocol: Box<dyn Protocol>,
    pub(super) ping: Arc<EncodedPacket>,
    /// A session is in the map before its client knows the id, and until the session has ended.
    sessions: Mutex<HashMap<Sid, Arc<Session>>>,
    /// Counts, by address, the newcomers: sessions that have joined no namespace.
    newcomers: IpConnectionLimit,
    is_closed: AtomicBool,
    /// Whether a packet was queued while the unsent budget was spent.
    pub(super) needs_relief: AtomicBool,
}

/// The protocol that runs over the sessions.
pub(super) trait Protocol: Send + Sync {
    /// Called when a session has been opened.
    fn opened(&self, _: &Arc<Session>) {}

    /// Called for each message.
    fn message(&self, session: &Arc<Session>, message: Message<'_>) -> Result<(), EngineViolation>;

    /// Called when a polling session has been upgraded to a WebSocket.
    fn upgraded(&self, _: &Arc<Session>) {}

    /// Called once, when a session has ended and after all other calls.
    fn closed(&self, _: &Arc<Session>, _: DisconnectReason) {}
}

impl Engine {
    pub(super) fn new(settings: SocketIoSettings, protocol: Box<dyn Protocol>) -> Engine {
        /// Newcomers of one address may be 1/16 of the maximum number of sessions.
        const NEWCOMERS: usize = 16;
        Engine {
            clock: Clock::new(),
            protocol,
            ping: Arc::new(EncodedPacket::text("2")),
            sessions: Mutex::default(),
            newcomers: IpConnectionLimit::new((settings.max_sessions / NEWCOMERS).max(1)),
            is_closed: AtomicBool::new(false),
            needs_relief: AtomicBool::new(false),
            settings,
        }
    }

    /// Opens a session for a client at this address. `None` if the maximum number of sessions is
    /// reached, in total or for newcomers of the address, or if the service is closed. `admission`
    /// has the limits of a polling session.
    pub(super) fn open(
        self: &Arc<Self>,
        address: PeerAddress,
        admission: Option<&Admission>,
    ) -> Option<Arc<Session>> {
        if self.is_closed.load(Ordering::SeqCst) {
            return None;
        }
        let newcomer = self.newcomer(address)?;
        let sid = Sid::random()?;
        let session = Arc::new(Session::new(
            Arc::clone(self),
            sid,
            (address, admission),
            newcomer,
        ));
        let mut sessions = lock(&self.sessions);
        if sessions.len() >= self.settings.max_sessions {
            return None;
        }
        sessions.insert(sid, Arc::clone(&session));
        drop(sessions);
        session.begin();
        self.protocol.opened(&session);
        Some(session)
    }

    /// Reserves a place among the newcomers of an address; `None` if all places are taken. The
    /// inner value is `None` if the address has no IP.
    pub(super) fn newcomer(&self, address: PeerAddress) -> Option<Option<IpSlot>> {
        match address.ip() {
            Some(address) => self.newcomers.reserve_slot(address).map(Some),
            None => Some(None),
        }
    }

    /// Schedules a check of a session at this time.
    pub(super) fn schedule(self: &Arc<Self>, due: Moment, sid: Sid) {
        self.clock.schedule(due, sid, || {
            // Without a runtime no timer can run, and no session needs a check.
            let runtime = Handle::try_current().ok()?;
            let timer = keep_time(Arc::downgrade(self));
            Some(runtime.spawn(timer).abort_handle())
        });
    }

    pub(super) fn session(&self, sid: &Sid) -> Option<Arc<Session>> {
        lock(&self.sessions).get(sid).cloned()
    }

    /// Returns the session whose id is this text.
    pub(super) fn session_named(&self, sid: &str) -> Option<Arc<Session>> {
        self.session(&Sid::parse(sid)?)
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

    /// Ends polling sessions, starting with the largest share of the unsent budget, until the
    /// budget suffices. Sessions below the average share stay.
    pub(super) fn relieve(&self) {
        if !self.needs_relief.swap(false, Ordering::Relaxed) {
            return;
        }
        let sessions: Vec<_> = lock(&self.sessions).values().cloned().collect();
        let excess = |session: Arc<Session>| Some((session.excess()?, session));
        let mut sessions: Vec<_> = sessions.into_iter().filter_map(excess).collect();
        sessions.sort_unstable_by_key(|(share, _)| Reverse(*share));
        for (_, session) in sessions {
            if session.excess().is_some() {
                session.end(DisconnectReason::SlowConsumer);
            }
        }
    }

    /// The number of sessions.
    pub(super) fn count(&self) -> usize {
        lock(&self.sessions).len()
    }

    /// Ends all sessions. Later calls of `open` fail.
    pub(super) fn close(&self) {
        self.is_closed.store(true, Ordering::SeqCst);
        let sessions: Vec<_> = lock(&self.sessions).values().cloned().collect();
        for session in sessions {
            session.end(DisconnectReason::ServerShuttingDown);
        }
    }
}

/// The timer. If its runtime ends, another timer may start in another runtime.
async fn keep_time(engine: Weak<Engine>) {
    let mut sids = Vec::new();
    while let Some(engine) = engine.upgrade() {
        let rest = engine.clock.due(&mut sids);
        for (sid, due) in sids.drain(..) {
            if let Some(session) = engine.session(&sid) {
                session.look(due);
            }
        }
        engine.relieve();
        drop(engine);
        tokio::time::sleep(rest).await;
    }
}
