//! The polling transport: the queue of packets for the next GET, and the running requests.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::mem;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::{DisconnectReason, Session, Transport};
use crate::engine::{Held, Peer, PeerAddress};
use crate::http::{Admission, IpSlot, RateLimits};
use crate::socketio::SocketIoSettings;
use crate::socketio::errors::RequestError;
use crate::socketio::packet::EncodedPacket;

#[derive(Debug, Default)]
pub(super) struct Polling {
    queue: VecDeque<Arc<EncodedPacket>>,
    /// Bytes of the queue: its packets as encoded in a body, plus [`ENTRY`] for each packet.
    size: usize,
    pub(super) upgrade: Option<Upgrade>,
    /// The queue was too large. No packet is added, and the session is about to end.
    pub(super) is_overrun: bool,
    /// A GET is running.
    is_polled: bool,
    /// The client has sent its first GET.
    has_polled: bool,
    /// A POST is running.
    is_posted: bool,
    /// The GET that waits for packets.
    poll: Option<Waker>,
    /// The POST that waits for space in the queue, the end of a handler, or the first GET.
    post: Option<Waker>,
    /// The rate limits of packets in POSTs.
    rates: RateLimits,
    /// The connection limit of addresses, and the unsent budget.
    admission: Option<Admission>,
    /// The queue's entries in the unsent budget. A packet itself is counted once for all
    /// queues.
    held: Option<Held>,
}

/// A WebSocket that is taking over the session.
#[derive(Debug)]
pub(super) struct Upgrade {
    pub(super) peer: Peer,
    is_probed: bool,
}

impl Upgrade {
    pub(super) fn to(peer: Peer) -> Upgrade {
        Upgrade {
            peer,
            is_probed: false,
        }
    }
}

/// Bytes of a queue entry without its packet.
const ENTRY: usize = 64;

impl Polling {
    pub(super) fn new(settings: &SocketIoSettings, admission: Option<&Admission>) -> Polling {
        Polling {
            rates: RateLimits::new(settings.max_message_rate, settings.max_publish_rate),
            admission: admission.cloned(),
            ..Polling::default()
        }
    }

    pub(super) fn size(&self) -> usize {
        self.size
    }

    pub(super) fn push(&mut self, packet: Arc<EncodedPacket>) {
        if self.is_overrun {
            return;
        }
        self.size += ENTRY + packet.size();
        if let Some(Admission { unsent, .. }) = &self.admission {
            packet.count_in(unsent);
            let held = self.held.get_or_insert_with(|| Held::new(0, unsent));
            held.set(held.bytes() + ENTRY);
        }
        self.queue.push_back(packet);
        if let Some(poll) = self.poll.take() {
            poll.wake();
        }
    }

    /// Whether the unsent data for all clients exceeds the unsent budget.
    pub(super) fn is_budget_spent(&self) -> bool {
        let admission = self.admission.as_ref();
        admission.is_some_and(Admission::is_unsent_spent)
    }

    /// This session's share of the unsent budget, in bytes. `None` if the budget is not spent or
    /// the share is below the average of all clients. The size of a packet is divided among its
    /// holders.
    pub(super) fn excess(&self) -> Option<usize> {
        let unsent = &self.admission.as_ref()?.unsent;
        let share = |packet: &Arc<EncodedPacket>| ENTRY + packet.size() / Arc::strong_count(packet);
        let share = unsent
            .is_spent()
            .then(|| self.queue.iter().map(share).sum())?;
        Some(share).filter(|share| *share >= unsent.average().max(1))
    }

    /// Empties the queue and returns its packets.
    pub(super) fn take(&mut self) -> VecDeque<Arc<EncodedPacket>> {
        (self.size, self.held) = (0, None);
        self.wake_post();
        mem::take(&mut self.queue)
    }

    fn take_body(&mut self) -> String {
        let mut body = String::with_capacity(self.size);
        for packet in self.take() {
            packet.append_to(&mut body);
        }
        body
    }

    /// Returns the last body for a GET that is running when the session ends.
    pub(super) fn farewell(&mut self, why: DisconnectReason) -> Option<String> {
        let last = match why {
            DisconnectReason::TransportClose => "6", // Noop: the client has sent the Close
            _ => "1",
        };
        self.push(Arc::new(EncodedPacket::text(last)));
        self.is_polled.then(|| self.take_body())
    }

    /// Returns `true` for the first probe of the new WebSocket.
    pub(super) fn probe(&mut self) -> bool {
        self.wake();
        let upgrade = self.upgrade.as_mut();
        upgrade.is_some_and(|upgrade| !mem::replace(&mut upgrade.is_probed, true))
    }

    fn is_probed(&self) -> bool {
        let upgrade = self.upgrade.as_ref();
        upgrade.is_some_and(|upgrade| upgrade.is_probed)
    }

    /// Returns the new WebSocket and the packets of the queue; `None` if the WebSocket has not been
    /// probed or the queue was too large.
    pub(super) fn complete_upgrade(&mut self) -> Option<(Peer, VecDeque<Arc<EncodedPacket>>)> {
        let is_complete = self.is_probed() && !self.is_overrun;
        let upgrade = self.upgrade.take_if(|_| is_complete)?;
        self.wake();
        Some((upgrade.peer, self.take()))
    }

    pub(super) fn wake(&mut self) {
        let wakers = [self.poll.take(), self.post.take()];
        wakers.into_iter().flatten().for_each(Waker::wake);
    }

    pub(super) fn wake_post(&mut self) {
        if let Some(post) = self.post.take() {
            post.wake();
        }
    }

    /// Reserves a place among the connections of an address, if their number is limited.
    pub(super) fn reserve_slot(&self, address: PeerAddress) -> Result<Option<IpSlot>, ()> {
        let admission = self.admission.as_ref();
        let addresses = admission.and_then(|admission| admission.addresses.as_ref());
        match addresses.zip(address.ip()) {
            Some((addresses, address)) => addresses.reserve_slot(address).map(Some).ok_or(()),
            None => Ok(None),
        }
    }
}

/// Marks a GET as running until dropped.
pub(in crate::socketio) struct PollGuard(Arc<Session>);

/// Marks a POST as running until dropped.
pub(in crate::socketio) struct PostGuard(Arc<Session>);

impl Session {
    /// Begins a GET. A second concurrent GET ends the session.
    pub(in crate::socketio) fn begin_poll(self: &Arc<Self>) -> Result<PollGuard, RequestError> {
        self.begin_request(|polling| {
            polling.wake_post();
            polling.has_polled = true;
            mem::replace(&mut polling.is_polled, true)
        })?;
        Ok(PollGuard(Arc::clone(self)))
    }

    /// Begins a POST. A second concurrent POST ends the session.
    pub(in crate::socketio) fn begin_post(self: &Arc<Self>) -> Result<PostGuard, RequestError> {
        self.begin_request(|polling| mem::replace(&mut polling.is_posted, true))?;
        Ok(PostGuard(Arc::clone(self)))
    }

    /// `begin` returns whether another request of the same method is running.
    fn begin_request(
        self: &Arc<Self>,
        begin: impl FnOnce(&mut Polling) -> bool,
    ) -> Result<(), RequestError> {
        let mut state = self.state();
        let now = self.engine.deadlines.now();
        let is_overdue = state.times.is_overdue(now);
        let (why, refused) = match &mut state.transport {
            Transport::Polling(polling) if polling.is_overrun => {
                (DisconnectReason::SlowConsumer, RequestError::UnknownSession)
            }
            Transport::Polling(_) if is_overdue => {
                (DisconnectReason::PingTimeout, RequestError::UnknownSession)
            }
            Transport::Polling(polling) => match begin(polling) {
                true => (DisconnectReason::ParseError, RequestError::BadRequest),
                false => return Ok(()),
            },
            Transport::WebSocket(_) => return Err(RequestError::BadRequest),
            Transport::Closed(_) => return Err(RequestError::UnknownSession),
        };
        drop(state);
        self.end(why);
        Err(refused)
    }
}

impl PollGuard {
    /// Waits for a packet, and returns the body of the response.
    pub(in crate::socketio) async fn body(&self) -> String {
        poll_fn(|context| self.poll(context)).await
    }

    fn poll(&self, context: &Context<'_>) -> Poll<String> {
        const NOTHING: &str = "6";
        Poll::Ready(match &mut self.0.state().transport {
            Transport::Polling(polling) if !polling.queue.is_empty() => polling.take_body(),
            Transport::Polling(polling) if !polling.is_probed() => {
                polling.poll = Some(context.waker().clone());
                return Poll::Pending;
            }
            Transport::Closed(Some(farewell)) => mem::take(farewell),
            Transport::Polling(_) | Transport::WebSocket(_) | Transport::Closed(None) => {
                NOTHING.into()
            }
        })
    }
}

impl Drop for PollGuard {
    fn drop(&mut self) {
        if let Transport::Polling(polling) = &mut self.0.state().transport {
            polling.is_polled = false;
            polling.poll = None;
        }
    }
}

impl PostGuard {
    /// Waits until the next packet may be handled.
    pub(in crate::socketio) async fn ready(&self) -> Result<(), RequestError> {
        poll_fn(|context| self.poll_ready(context)).await
    }

    fn poll_ready(&self, context: &Context<'_>) -> Poll<Result<(), RequestError>> {
        let mut state = self.0.state();
        // Read under the lock: a handler that ends later finds the waker.
        let is_busy = self.0.is_busy();
        match &mut state.transport {
            Transport::Polling(polling)
                if is_busy || polling.size > self.0.engine.settings.max_queue_size =>
            {
                polling.post = Some(context.waker().clone());
                Poll::Pending
            }
            Transport::Polling(_) | Transport::WebSocket(_) => Poll::Ready(Ok(())),
            Transport::Closed(_) => Poll::Ready(Err(RequestError::UnknownSession)),
        }
    }

    /// Counts one packet of this size against the rate limits, in the same way as a message of a
    /// WebSocket. Returns how long the packet must wait.
    pub(in crate::socketio) fn spend(&self, bytes: usize) -> Result<Duration, RequestError> {
        let mut state = self.0.state();
        let Transport::Polling(polling) = &mut state.transport else {
            return Ok(Duration::ZERO);
        };
        if polling.rates.admits(bytes) {
            return Ok(polling.rates.throttle().unwrap_or_default());
        }
        drop(state);
        self.0.end(DisconnectReason::SlowConsumer);
        Err(RequestError::BadRequest)
    }

    /// Waits until the client has sent its first GET.
    pub(in crate::socketio) async fn polled(&self) {
        poll_fn(|context| match &mut self.0.state().transport {
            Transport::Polling(polling) if !polling.has_polled => {
                polling.post = Some(context.waker().clone());
                Poll::Pending
            }
            _ => Poll::Ready(()),
        })
        .await;
    }
}

impl Drop for PostGuard {
    fn drop(&mut self) {
        if let Transport::Polling(polling) = &mut self.0.state().transport {
            polling.is_posted = false;
            polling.post = None;
        }
    }
}
