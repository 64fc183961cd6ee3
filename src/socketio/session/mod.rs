//! One session of Engine.IO: its transport, its queue of packets, and its end.
//!
//! All workers share a session. A request or a message changes the session under its lock, before
//! the answer is sent. Handlers run without the lock.

mod polling;
mod times;

use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
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
use self::times::{Deadline, Deadlines};
use super::clock::Moment;
use super::engine::Engine;
use super::errors::EngineViolation;
use super::namespace::Outcome;
use super::packet::EncodedPacket;
use super::sid::Sid;
use super::socket::Client;
use crate::engine::{Disconnect, Peer, PeerAddress, PeerId, Publication, Timeout};
use crate::http::{Admission, IpSlot};
use crate::lock::lock;
use crate::protocol::{CloseCode, CloseFrame, Message};

/// A session of Engine.IO, with one client.
pub struct Session {
    /// Secret of the client: a request with this id counts as a request of the client.
    sid: Sid,
    pub(super) engine: Arc<Engine>,
    address: PeerAddress,
    state: Mutex<SessionState>,
    /// Wakes the requests that wait for a change of the session.
    changed: Notify,
    /// The number of running handlers that did not end at their first poll.
    in_flight: AtomicUsize,
    /// The Socket.IO state of the client.
    pub(super) client: Mutex<Client>,
}

#[derive(Debug)]
struct SessionState {
    transport: Transport,
    has_joined: bool,
    /// A newcomer's place among the newcomers of its address. After the first namespace, a polling
    /// session has a place among the connections of its address instead.
    place: Option<IpSlot>,
    deadlines: Deadlines,
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

/// Why a session, or the membership of a client in a namespace, has ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum DisconnectReason {
    /// The client has left the namespace.
    ClientNamespaceDisconnect,
    /// The server has ended the session or the membership.
    ServerNamespaceDisconnect,
    /// The server is shutting down.
    ServerShuttingDown,
    /// The client has closed the transport, or the connection is lost.
    TransportClose,
    /// The client has violated the protocol.
    ParseError,
    /// The client did not answer a Ping in time.
    PingTimeout,
    /// The client did not join a namespace, or did not complete a binary packet, in time.
    Timeout,
    /// The backlog of the client was too large.
    SlowConsumer,
}

/// Maximum running handlers of one session. At the maximum, the next packet waits.
const MAX_IN_FLIGHT: usize = 16;

impl Session {
    pub(super) fn new(
        engine: Arc<Engine>,
        sid: Sid,
        (address, admission): (PeerAddress, Option<&Admission>),
        newcomer: Option<IpSlot>,
    ) -> Session {
        let polling = Polling::new(&engine.settings, admission);
        Session {
            sid,
            engine,
            address,
            state: Mutex::new(SessionState {
                transport: Transport::Polling(Box::new(polling)),
                has_joined: false,
                place: newcomer,
                deadlines: Deadlines::default(),
            }),
            changed: Notify::new(),
            in_flight: AtomicUsize::new(0),
            client: Mutex::default(),
        }
    }

    /// Starts the deadlines.
    pub(super) fn begin(self: &Arc<Self>) {
        let settings = &self.engine.settings;
        let mut state = self.state();
        self.due_in(&mut state, Deadline::Ping, settings.ping_interval);
        self.due_in(&mut state, Deadline::Join, settings.connect_timeout);
    }

    /// Returns the Open packet, with the id and the settings of a session and the transports to which
    /// the client may upgrade.
    pub(super) fn open_packet(&self, upgrades: &str) -> String {
        let settings = &self.engine.settings;
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
        self.send_packet(&Arc::new(match message {
            Message::Text(text) => EncodedPacket::text(["4", text].concat()),
            Message::Binary(bytes) => EncodedPacket::binary(Bytes::copy_from_slice(bytes)),
            _ => return,
        }));
    }

    /// Ends the session.
    pub fn close(self: &Arc<Self>) {
        self.end(DisconnectReason::ServerNamespaceDisconnect);
    }

    /// Sends a packet to this session alone.
    pub(super) fn send_packet(self: &Arc<Self>, packet: &Arc<EncodedPacket>) {
        // Answers may exceed the queue size by a bounded amount, because the client's next packet
        // waits while the queue is full.
        let answers = 2 * self.engine.settings.max_payload;
        self.enqueue(packet, self.engine.settings.max_queue_size + answers);
    }

    /// Sends a packet of a broadcast.
    pub(super) fn deliver(self: &Arc<Self>, packet: &Arc<EncodedPacket>) {
        self.enqueue(packet, self.engine.settings.max_queue_size);
    }

    fn enqueue(self: &Arc<Self>, packet: &Arc<EncodedPacket>, max_queue_size: usize) {
        let mut state = self.state();
        match &mut state.transport {
            Transport::Polling(polling) if polling.size() > max_queue_size => {
                // The session ends, because a client must not lose single packets. The timer ends
                // it, because the sender may hold the lock of a namespace.
                polling.is_overrun = true;
                self.due_in(&mut state, Deadline::Overrun, Duration::ZERO);
            }
            Transport::Polling(polling) => {
                polling.push(Arc::clone(packet));
                self.changed.notify_waiters();
                if polling.is_budget_spent() {
                    self.engine.needs_relief.store(true, Ordering::Relaxed);
                }
            }
            Transport::WebSocket(peer) => peer.publish(&packet.publication()),
            Transport::Closed(_) => {}
        }
    }

    /// The result of [`Polling::excess`]; `None` without the polling transport.
    pub(super) fn excess(&self) -> Option<usize> {
        match &self.state().transport {
            Transport::Polling(polling) => polling.excess(),
            _ => None,
        }
    }

    /// Handles an Engine.IO packet in text form.
    pub(super) fn receive(
        self: &Arc<Self>,
        packet: &str,
        by_polling: bool,
    ) -> Result<(), EngineViolation> {
        let (kind, rest) = packet.split_at_checked(1).unwrap_or_default();
        match kind {
            "4" => self.engine.protocol.message(self, Message::Text(rest)),
            "3" => {
                self.ponged();
                Ok(())
            }
            "1" => {
                self.end(DisconnectReason::TransportClose);
                Ok(())
            }
            "6" => Ok(()),
            "b" if by_polling => {
                let bytes = BASE64
                    .decode(rest)
                    .map_err(|_| EngineViolation("not base64"))?;
                self.engine.protocol.message(self, Message::Binary(&bytes))
            }
            _ => Err(EngineViolation("not a packet of Engine.IO")),
        }
    }

    fn ponged(self: &Arc<Self>) {
        let mut state = self.state();
        // A Pong without a Ping has no effect.
        if state.deadlines.get(Deadline::Pong) < Moment::MAX {
            state.deadlines.clear(Deadline::Pong);
            let interval = self.engine.settings.ping_interval;
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

    /// Starts the upgrade of the session to this WebSocket. Returns `false` if the session does not
    /// poll or another upgrade is running.
    pub(super) fn begin_upgrade(self: &Arc<Self>, peer: &Peer) -> bool {
        let mut state = self.state();
        match &mut state.transport {
            Transport::Polling(polling) if polling.upgrade.is_none() => {
                polling.upgrade = Some(Upgrade::to(peer.clone()));
            }
            _ => return false,
        }
        let timeout = self.engine.settings.upgrade_timeout;
        self.due_in(&mut state, Deadline::Upgrade, timeout);
        true
    }

    /// Records that the client has probed its new WebSocket. From now on, GETs are answered at
    /// once. Returns `true` for the first probe.
    pub(super) fn probe(&self, peer: PeerId) -> bool {
        let is_first = self.state().upgrade(peer).is_some_and(Polling::probe);
        self.changed.notify_waiters();
        is_first
    }

    /// Completes the upgrade: the queue and all later packets are sent on the new WebSocket.
    /// Returns `false` if the client has not probed the WebSocket.
    pub(super) fn complete_upgrade(self: &Arc<Self>, peer: PeerId) -> bool {
        let mut state = self.state();
        let polling = state.upgrade(peer);
        let Some((peer, waiting)) = polling.and_then(Polling::complete_upgrade) else {
            return false;
        };
        if !waiting.is_empty() {
            let messages = waiting.iter().flat_map(|packet| packet.messages());
            peer.publish(&Publication::of_several(messages));
        }
        state.transport = Transport::WebSocket(peer);
        state.deadlines.clear(Deadline::Upgrade);
        if state.has_joined {
            state.place = None; // the WebSocket has its own place
        }
        drop(state);
        self.changed.notify_waiters();
        self.engine.protocol.upgraded(self);
        true
    }

    /// Ends the upgrade because the new WebSocket has failed. The session continues to poll.
    pub(super) fn abandon_upgrade(&self, peer: PeerId) {
        let mut state = self.state();
        if let Some(polling) = state.upgrade(peer) {
            polling.upgrade = None;
            state.deadlines.clear(Deadline::Upgrade);
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

    /// Records that the session joins its first namespace. Returns `false` if its address has too
    /// many connections.
    pub(super) fn settle(&self) -> bool {
        let mut state = self.state();
        if !state.has_joined {
            let place = match &state.transport {
                Transport::Polling(polling) => polling.reserve_slot(self.address),
                _ => Ok(None),
            };
            let Ok(place) = place else { return false };
            (state.place, state.has_joined) = (place, true);
        }
        state.deadlines.clear(Deadline::Join);
        true
    }

    /// Makes the session a newcomer again, because it has left its last namespace.
    pub(super) fn unsettle(self: &Arc<Self>) {
        let Some(newcomer) = self.engine.newcomer(self.address) else {
            return self.end(DisconnectReason::ServerNamespaceDisconnect);
        };
        let mut state = self.state();
        (state.place, state.has_joined) = (newcomer, false);
        let timeout = self.engine.settings.connect_timeout;
        self.due_in(&mut state, Deadline::Join, timeout);
    }

    /// Starts or ends the deadline of attachments.
    pub(super) fn await_attachments(self: &Arc<Self>, are_due: bool) {
        let mut state = self.state();
        let timeout = self.engine.settings.attachment_timeout;
        match are_due && !timeout.is_zero() {
            true => self.due_in(&mut state, Deadline::Attachments, timeout),
            false => state.deadlines.clear(Deadline::Attachments),
        }
    }

    /// Handles a deadline that has passed. `due` is the scheduled time of this call.
    pub(super) fn look(self: &Arc<Self>, due: Moment) {
        /// The time for a Pong starts when its Ping was due, or this long ago if the Ping was due
        /// earlier.
        const LATE: Moment = 50;
        let mut state = self.state();
        if due != state.deadlines.scheduled || matches!(state.transport, Transport::Closed(_)) {
            return;
        }
        state.deadlines.scheduled = Moment::MAX;
        let now = self.engine.clock.now();
        let passed = state.deadlines.take_passed(now);
        if let Some((Deadline::Ping, at)) = passed {
            let start = at.max(now.saturating_sub(LATE));
            let pong = start + millis(self.engine.settings.ping_timeout);
            state.deadlines.set(Deadline::Pong, pong);
        }
        self.reschedule(&mut state);
        drop(state);
        let why = match passed.map(|(deadline, _)| deadline) {
            None => return,
            Some(Deadline::Ping) => return self.send_packet(&self.engine.ping),
            Some(Deadline::Upgrade) => {
                if let Transport::Polling(polling) = &mut self.state().transport
                    && let Some(upgrade) = polling.upgrade.take()
                {
                    hang_up(&upgrade.peer, DisconnectReason::Timeout);
                }
                return;
            }
            Some(Deadline::Overrun) => DisconnectReason::SlowConsumer,
            Some(Deadline::Pong) => DisconnectReason::PingTimeout,
            Some(Deadline::Join | Deadline::Attachments) => DisconnectReason::Timeout,
        };
        self.end(why);
    }

    /// Sets a deadline.
    fn due_in(&self, state: &mut SessionState, deadline: Deadline, timeout: Duration) {
        let time = self.engine.clock.now() + millis(timeout);
        state.deadlines.set(deadline, time);
        self.reschedule(state);
    }

    fn reschedule(&self, state: &mut SessionState) {
        let next = state.deadlines.next();
        if next < state.deadlines.scheduled && !matches!(state.transport, Transport::Closed(_)) {
            state.deadlines.scheduled = next;
            self.engine.schedule(next, self.sid);
        }
    }

    /// Ends the session, if it has not ended. The client receives no more packets, and requests
    /// with the session's id are refused.
    pub(super) fn end(self: &Arc<Self>, why: DisconnectReason) {
        let mut state = self.state();
        let farewell = match &mut state.transport {
            Transport::Polling(polling) => polling.farewell(why),
            _ => None,
        };
        let transport = match &state.transport {
            Transport::Closed(_) => return,
            _ => mem::replace(&mut state.transport, Transport::Closed(farewell)),
        };
        drop(state);
        self.engine.remove(&self.sid);
        self.changed.notify_waiters();
        let peer = match transport {
            Transport::Polling(polling) => polling.upgrade.map(|upgrade| upgrade.peer),
            Transport::WebSocket(peer) => Some(peer),
            Transport::Closed(_) => None,
        };
        if let Some(peer) = peer {
            hang_up(&peer, why);
        }
        self.engine.protocol.closed(self, why);
    }

    /// Polls a handler once, so that handlers begin in the order of their packets, and spawns the
    /// unfinished future as a task. A panic ends only this handler.
    pub(super) fn run(self: &Arc<Self>, mut handler: Outcome) {
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

impl SessionState {
    /// Returns the polling transport, if the session is upgrading to this WebSocket.
    fn upgrade(&mut self, peer: PeerId) -> Option<&mut Polling> {
        let Transport::Polling(polling) = &mut self.transport else {
            return None;
        };
        let upgrade = polling.upgrade.as_ref();
        let is_it = upgrade.is_some_and(|upgrade| upgrade.peer.id() == peer);
        is_it.then_some(polling)
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

/// Closes the WebSocket of a session that has ended. After a timeout, does not wait for the
/// client's Close.
fn hang_up(peer: &Peer, why: DisconnectReason) {
    let (code, reason, timeout) = match why {
        DisconnectReason::PingTimeout => (CloseCode::Policy, "ping timeout", Some(Timeout::Ping)),
        DisconnectReason::Timeout => (
            CloseCode::Policy,
            "not finished in time",
            Some(Timeout::Message),
        ),
        DisconnectReason::ParseError => (CloseCode::Policy, "parse error", None),
        DisconnectReason::SlowConsumer => (Disconnect::OVERRUN.0, Disconnect::OVERRUN.1, None),
        DisconnectReason::ServerShuttingDown => (CloseCode::Away, "", None),
        DisconnectReason::ClientNamespaceDisconnect
        | DisconnectReason::ServerNamespaceDisconnect
        | DisconnectReason::TransportClose => (CloseCode::Normal, "", None),
    };
    match timeout {
        Some(timeout) => peer.end(Disconnect::TimedOut(timeout), code, reason),
        None => peer.close(CloseFrame { code, reason }),
    }
}

fn millis(duration: Duration) -> Moment {
    Moment::try_from(duration.as_millis()).unwrap_or(Moment::MAX / 4)
}
