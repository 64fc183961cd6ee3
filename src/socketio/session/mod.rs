//! One session of Engine.IO: its transport, its queue of packets, and its end.
//!
//! All workers share a session. A request or a message changes the session under its lock, before
//! the answer is sent. Handlers run without the lock.

mod polling;
mod service;
mod times;

use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::sync::Notify;

use self::polling::{Polling, Upgrade};
pub(super) use self::polling::{PollingMethod, RunningRequest};
pub(super) use self::service::Protocol;
pub use self::service::Service;
use self::service::{Moment, reserve};
use self::times::Deadline;
use super::errors::{DisconnectReason, EngineResult, EngineViolation};
use super::packet::EncodedPacket;
use super::sid::Sid;
use crate::engine::{Peer, PeerAddress, PeerId, Publication};
use crate::http::{Admission, BoxFuture, IpSlot};
use crate::lock::lock;
use crate::protocol::Message;

/// A session of Engine.IO, with one client.
pub struct Session {
    /// Secret of the client: a request with this id counts as a request of the client.
    sid: Sid,
    pub(super) service: Arc<Service>,
    protocol: Arc<dyn Protocol>,
    address: PeerAddress,
    state: Mutex<SessionState>,
    /// A time at or before the earliest deadline.
    next_check: AtomicU64,
    /// Wakes the requests that wait for a change of the session.
    changed: Notify,
    /// The number of running handlers that did not end at their first poll.
    in_flight: AtomicU32,
}

#[derive(Debug)]
struct SessionState {
    transport: Transport,
    /// The number of namespaces that the client has joined.
    memberships: usize,
    /// A newcomer's place among the newcomers of its address. After the first namespace, a polling
    /// session has a place among the connections of its address instead.
    place: Option<IpSlot>,
    /// The time of each kind of deadline; `MAX` means no deadline.
    deadlines: [Moment; Deadline::ALL.len()],
}

/// How packets reach the client.
#[derive(Debug)]
enum Transport {
    /// The responses to the client's GETs. Bound: `max_queue_size` of
    /// [`SocketIoSettings`](super::SocketIoSettings), for the bytes and entries of the queue.
    Polling(Box<Polling>),
    /// A WebSocket. The frame loop bounds its backlog.
    WebSocket(Peer),
    /// The session has ended. The string is the last body, for a GET that is waiting.
    Closed(Option<String>),
}

/// Maximum running handlers of one session. At the maximum, the next packet waits.
const MAX_IN_FLIGHT: u32 = 16;

impl Session {
    /// `None` if too many newcomers have this address, or the system has no random bytes.
    fn new(
        service: Arc<Service>,
        address: PeerAddress,
        admission: Option<&Admission>,
    ) -> Option<Session> {
        let (settings, now) = (&service.settings, service.now());
        let mut deadlines = [Moment::MAX; _];
        deadlines[Deadline::Ping as usize] = now + millis(settings.ping_interval);
        deadlines[Deadline::Join as usize] = now + millis(settings.connect_timeout);
        let polling = Box::new(Polling::new(settings, admission));
        Some(Session {
            sid: Sid::random()?,
            protocol: (service.protocol)(),
            address,
            state: Mutex::new(SessionState {
                transport: Transport::Polling(polling),
                memberships: 0,
                place: reserve(Some(&service.newcomers), address)?,
                deadlines,
            }),
            next_check: AtomicU64::new(now),
            changed: Notify::new(),
            in_flight: AtomicU32::new(0),
            service,
        })
    }

    /// Returns the Open packet, with the id and the settings of a session and the transports to which
    /// the client may upgrade.
    pub(super) fn open_packet(&self, upgrades: &str) -> String {
        let settings = &self.service.settings;
        format!(
            r#"0{{"sid":"{}","upgrades":[{upgrades}],"pingInterval":{},"pingTimeout":{},"maxPayload":{}}}"#,
            self.sid,
            settings.ping_interval.as_millis(),
            settings.ping_timeout.as_millis(),
            settings.max_payload,
        )
    }

    /// The peer address of the connection that opened the session.
    pub fn peer_address(&self) -> PeerAddress {
        self.address
    }

    /// Sends a data message.
    pub fn send(self: &Arc<Self>, message: Message<'_>) {
        self.send_packet(&match message {
            Message::Text(text) => EncodedPacket::text(["4", text].concat()),
            Message::Binary(bytes) => EncodedPacket::binary(Bytes::copy_from_slice(bytes)),
            _ => return,
        });
    }

    /// Ends the session.
    pub fn close(self: &Arc<Self>) {
        self.end(DisconnectReason::ServerNamespaceDisconnect);
    }

    /// Sends a packet to this session alone.
    pub(super) fn send_packet(self: &Arc<Self>, packet: &Arc<EncodedPacket>) {
        // Answers may exceed the queue size by a bounded amount, because the client's next packet
        // waits while the queue is full.
        let answers = 2 * self.service.settings.max_payload;
        self.enqueue(packet, self.service.settings.max_queue_size + answers);
    }

    /// Sends a packet of a broadcast.
    pub(super) fn deliver(self: &Arc<Self>, packet: &Arc<EncodedPacket>) {
        self.enqueue(packet, self.service.settings.max_queue_size);
    }

    fn enqueue(self: &Arc<Self>, packet: &Arc<EncodedPacket>, max_queue_size: usize) {
        let mut state = self.state();
        match &mut state.transport {
            Transport::Polling(polling) if polling.size > max_queue_size => {
                // The session ends, because a client must not lose single packets. The timer ends
                // it, because the sender may hold the lock of a namespace.
                polling.is_overrun = true;
                self.due_in(&mut state, Deadline::Overrun, Duration::ZERO);
            }
            Transport::Polling(polling) => {
                if polling.push(Arc::clone(packet)) {
                    self.service.needs_relief.store(true, Ordering::Relaxed);
                }
                self.changed.notify_waiters();
            }
            Transport::WebSocket(peer) => peer.publish(&packet.publication()),
            Transport::Closed(_) => {}
        }
    }

    /// Handles an Engine.IO packet in text form.
    pub(super) fn receive(self: &Arc<Self>, packet: &str, by_polling: bool) -> EngineResult {
        let (kind, rest) = packet.split_at_checked(1).unwrap_or_default();
        match kind {
            "1" => self.end(DisconnectReason::TransportClose),
            "3" => self.ponged(),
            "4" => self.message(Message::Text(rest))?,
            "6" => {}
            "b" if by_polling => {
                let bytes = BASE64.decode(rest);
                let bytes = bytes.or(Err(EngineViolation("not base64")))?;
                self.message(Message::Binary(&bytes))?;
            }
            _ => return Err(EngineViolation("not a packet of Engine.IO")),
        }
        Ok(())
    }

    /// Handles a data message.
    pub(super) fn message(self: &Arc<Self>, message: Message<'_>) -> EngineResult {
        Arc::clone(&self.protocol).message(self, message)
    }

    fn ponged(&self) {
        let mut state = self.state();
        // A Pong without a Ping has no effect.
        if state.deadlines[Deadline::Pong as usize] < Moment::MAX {
            state.deadlines[Deadline::Pong as usize] = Moment::MAX;
            let interval = self.service.settings.ping_interval;
            self.due_in(&mut state, Deadline::Ping, interval);
        }
    }

    /// Sets the WebSocket of a session that begins with a WebSocket.
    pub(super) fn attach(&self, peer: Peer) {
        let mut state = self.state();
        if let Transport::Polling(_) = state.transport {
            state.transport = Transport::WebSocket(peer);
        }
    }

    /// Starts the upgrade of the session to this WebSocket. `None` if the session does not poll or
    /// another upgrade is running.
    pub(super) fn begin_upgrade(self: &Arc<Self>, peer: Peer) -> Option<()> {
        let mut state = self.state();
        let upgrade = &mut state.transport.polling()?.upgrade;
        upgrade.is_none().then_some(())?;
        let is_probed = false;
        *upgrade = Some(Upgrade { peer, is_probed });
        let timeout = self.service.settings.upgrade_timeout;
        self.due_in(&mut state, Deadline::Upgrade, timeout);
        Some(())
    }

    /// Records that the client has probed its new WebSocket. From now on, GETs are answered at
    /// once. `None` if the client has already probed it, or the session is not upgrading to it.
    pub(super) fn probe(&self, peer: PeerId) -> Option<()> {
        let mut state = self.state();
        let upgrade = state.transport.polling()?.upgrade.as_mut()?;
        let is_first = upgrade.peer.id() == peer && !upgrade.is_probed;
        upgrade.is_probed |= is_first;
        self.changed.notify_waiters();
        is_first.then_some(())
    }

    /// Completes the upgrade: the queue and all later packets are sent on the new WebSocket. `None`
    /// if the client has not probed the WebSocket.
    pub(super) fn complete_upgrade(self: &Arc<Self>, peer: PeerId) -> Option<()> {
        let mut state = self.state();
        let polling = state.transport.polling().filter(|it| !it.is_overrun)?;
        let is_complete = |it: &mut Upgrade| it.is_probed && it.peer.id() == peer;
        let Upgrade { peer, .. } = polling.upgrade.take_if(is_complete)?;
        let waiting = polling.take();
        if !waiting.is_empty() {
            let messages = waiting.iter().flat_map(|packet| packet.messages());
            peer.publish(&Publication::of_several(messages));
        }
        state.transport = Transport::WebSocket(peer);
        if state.memberships > 0 {
            state.place = None; // the WebSocket has its own place
        }
        drop(state);
        self.changed.notify_waiters();
        self.protocol.upgraded();
        Some(())
    }

    /// Ends the upgrade because the new WebSocket has failed. The session continues to poll.
    pub(super) fn abandon_upgrade(&self, peer: PeerId) {
        if let Some(polling) = self.state().transport.polling() {
            polling.upgrade.take_if(|it| it.peer.id() == peer);
        }
    }

    /// The WebSocket of the session; `None` if the session polls or has ended.
    pub(super) fn peer(&self) -> Option<Peer> {
        match &self.state().transport {
            Transport::WebSocket(peer) => Some(peer.clone()),
            _ => None,
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        matches!(self.state().transport, Transport::Closed(_))
    }

    /// Records that the client joins a namespace. Returns `false` if its address has too many
    /// connections.
    pub(super) fn settle(&self) -> bool {
        let mut state = self.state();
        if state.memberships == 0 {
            let polling = state.transport.polling();
            let admission = polling.and_then(|it| it.admission.as_ref());
            let limit = admission.and_then(|it| it.addresses.as_ref());
            let Some(place) = reserve(limit, self.address) else {
                return false;
            };
            state.place = place;
        }
        state.memberships += 1;
        state.deadlines[Deadline::Join as usize] = Moment::MAX;
        true
    }

    /// Records that the client has left a namespace. After the last one, the session is a newcomer
    /// again.
    pub(super) fn unsettle(self: &Arc<Self>) {
        let mut state = self.state();
        state.memberships -= 1;
        if state.memberships > 0 || matches!(state.transport, Transport::Closed(_)) {
            return;
        }
        let Some(newcomer) = reserve(Some(&self.service.newcomers), self.address) else {
            drop(state);
            return self.end(DisconnectReason::ServerNamespaceDisconnect);
        };
        state.place = newcomer;
        let timeout = self.service.settings.connect_timeout;
        self.due_in(&mut state, Deadline::Join, timeout);
    }

    /// Starts or ends the deadline of attachments.
    pub(super) fn await_attachments(self: &Arc<Self>, are_due: bool) {
        let mut state = self.state();
        let timeout = self.service.settings.attachment_timeout;
        match are_due && !timeout.is_zero() {
            true => self.due_in(&mut state, Deadline::Attachments, timeout),
            false => state.deadlines[Deadline::Attachments as usize] = Moment::MAX,
        }
    }

    /// Handles a deadline that has passed.
    fn check(self: &Arc<Self>, now: Moment) {
        /// The time for a Pong starts when its Ping was due, or this long ago if the Ping was due
        /// earlier.
        const LATE: Duration = Duration::from_millis(50);
        let mut state = self.state();
        let has_passed = |deadline: &Deadline| state.deadlines[*deadline as usize] <= now;
        let passed = Deadline::ALL.into_iter().find(has_passed);
        let time = passed.map_or(now, |deadline| {
            mem::replace(&mut state.deadlines[deadline as usize], Moment::MAX)
        });
        let next = state.deadlines.into_iter().fold(Moment::MAX, Moment::min);
        self.next_check.store(next, Ordering::Relaxed);
        let why = match passed {
            None => return,
            Some(Deadline::Ping) => {
                let late = Duration::from_millis(now - time).min(LATE);
                let timeout = self.service.settings.ping_timeout.saturating_sub(late);
                self.due_in(&mut state, Deadline::Pong, timeout);
                drop(state);
                return self.send_packet(&self.service.ping);
            }
            Some(Deadline::Upgrade) => {
                let upgrade = state.transport.polling().and_then(|it| it.upgrade.take());
                if let Some(Upgrade { peer, .. }) = upgrade {
                    DisconnectReason::Timeout.hang_up(&peer);
                }
                return;
            }
            Some(Deadline::Overrun) => DisconnectReason::SlowConsumer,
            Some(Deadline::Pong) => DisconnectReason::PingTimeout,
            Some(Deadline::Join | Deadline::Attachments) => DisconnectReason::Timeout,
        };
        drop(state);
        self.end(why);
    }

    /// Sets a deadline.
    fn due_in(&self, state: &mut SessionState, deadline: Deadline, timeout: Duration) {
        let time = self.service.now() + millis(timeout);
        state.deadlines[deadline as usize] = time;
        self.next_check.fetch_min(time, Ordering::Relaxed);
    }

    /// Ends the session, if it has not ended. The client receives no more packets, and requests
    /// with the session's id are refused.
    pub(super) fn end(self: &Arc<Self>, why: DisconnectReason) {
        let mut state = self.state();
        if let Transport::Closed(_) = state.transport {
            return;
        }
        let farewell = state.transport.polling().and_then(|it| it.farewell(why));
        let transport = mem::replace(&mut state.transport, Transport::Closed(farewell));
        drop(state);
        self.service.remove(&self.sid);
        self.changed.notify_waiters();
        let peer = match transport {
            Transport::Polling(polling) => polling.upgrade.map(|upgrade| upgrade.peer),
            Transport::WebSocket(peer) => Some(peer),
            Transport::Closed(_) => None,
        };
        if let Some(peer) = peer {
            why.hang_up(&peer);
        }
        self.protocol.closed(why);
    }

    /// Polls a handler once, so that handlers begin in the order of their packets, and spawns the
    /// unfinished future as a task. A panic ends only this handler.
    pub(super) fn run(self: &Arc<Self>, mut handler: BoxFuture<()>) {
        let mut context = Context::from_waker(Waker::noop());
        let poll = AssertUnwindSafe(|| handler.as_mut().poll(&mut context));
        // Without a runtime the server has stopped, and the handler could not continue.
        if let (Ok(Poll::Pending), Ok(runtime)) = (catch_unwind(poll), Handle::try_current()) {
            self.in_flight.fetch_add(1, Ordering::SeqCst);
            let flight = InFlight(Arc::clone(self));
            runtime.spawn(async move {
                let _flight = flight;
                handler.await;
            });
        }
    }

    /// Whether the session's next packet must wait until a handler ends.
    pub(super) fn is_busy(&self) -> bool {
        self.in_flight.load(Ordering::SeqCst) >= MAX_IN_FLIGHT
    }

    fn state(&self) -> MutexGuard<'_, SessionState> {
        lock(&self.state)
    }
}

impl Transport {
    fn polling(&mut self) -> Option<&mut Polling> {
        match self {
            Transport::Polling(polling) => Some(polling),
            _ => None,
        }
    }
}

/// Counts a running handler until dropped.
struct InFlight(Arc<Session>);

impl Drop for InFlight {
    fn drop(&mut self) {
        let session = &self.0;
        if session.in_flight.fetch_sub(1, Ordering::SeqCst) == MAX_IN_FLIGHT {
            session.changed.notify_waiters();
            if let Some(peer) = session.peer() {
                peer.resume();
            }
        }
    }
}

fn millis(duration: Duration) -> Moment {
    Moment::try_from(duration.as_millis()).unwrap_or(Moment::MAX / 4)
}
