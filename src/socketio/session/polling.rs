//! The polling transport: the queue of packets for the next GET, and the running requests.

use std::collections::VecDeque;
use std::mem;
use std::sync::Arc;
use std::time::Duration;

use super::times::Deadline;
use super::{Session, Transport};
use crate::engine::{Held, Peer};
use crate::http::{Admission, RateLimits};
use crate::socketio::SocketIoSettings;
use crate::socketio::errors::{DisconnectReason, RequestError};
use crate::socketio::packet::EncodedPacket;

#[derive(Debug, Default)]
pub(super) struct Polling {
    queue: VecDeque<Arc<EncodedPacket>>,
    /// Bytes of the queue: its packets as encoded in a body, plus [`ENTRY`] for each packet.
    pub(super) size: usize,
    pub(super) upgrade: Option<Upgrade>,
    /// The queue was too large. No packet is added, and the session is about to end.
    pub(super) is_overrun: bool,
    /// Whether a request of each [method](PollingMethod) is running.
    is_running: [bool; 2],
    /// The client has sent its first GET.
    has_polled: bool,
    /// The rate limits of packets in POSTs.
    rates: RateLimits,
    /// The connection limit of addresses, and the unsent budget.
    pub(super) admission: Option<Admission>,
    /// The queue's entries in the unsent budget. A packet itself is counted once for all
    /// queues.
    held: Option<Held>,
}

/// A method of polling requests.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::socketio) enum PollingMethod {
    Get,
    Post,
}

/// A WebSocket that is taking over the session.
#[derive(Debug)]
pub(super) struct Upgrade {
    pub(super) peer: Peer,
    pub(super) is_probed: bool,
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

    /// Adds a packet. Returns whether the unsent data for all clients exceeds the unsent budget.
    pub(super) fn push(&mut self, packet: Arc<EncodedPacket>) -> bool {
        if self.is_overrun {
            return false;
        }
        self.size += ENTRY + packet.size();
        if let Some(Admission { unsent, .. }) = &self.admission {
            packet.count_in(unsent);
            let held = self.held.get_or_insert_with(|| Held::new(0, unsent));
            held.set(held.bytes() + ENTRY);
        }
        self.queue.push_back(packet);
        let admission = self.admission.as_ref();
        admission.is_some_and(Admission::is_unsent_spent)
    }

    /// This session's share of the unsent budget, in bytes. `None` if the budget is not spent or
    /// the share is below the average of all clients. The size of a packet is divided among its
    /// holders.
    pub(super) fn excess(&self) -> Option<usize> {
        let unsent = &self.admission.as_ref()?.unsent;
        let share = |packet: &Arc<EncodedPacket>| ENTRY + packet.size() / Arc::strong_count(packet);
        let is_spent = unsent.is_spent();
        let share = is_spent.then(|| self.queue.iter().map(share).sum())?;
        Some(share).filter(|share| *share >= unsent.average().max(1))
    }

    /// Empties the queue and returns its packets.
    pub(super) fn take(&mut self) -> VecDeque<Arc<EncodedPacket>> {
        (self.size, self.held) = (0, None);
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
        self.push(EncodedPacket::text(last));
        self.is_running[PollingMethod::Get as usize].then(|| self.take_body())
    }
}

/// A running request of a session, until dropped.
pub(in crate::socketio) struct RunningRequest {
    session: Arc<Session>,
    method: PollingMethod,
}

impl RunningRequest {
    /// Begins a request. A second concurrent request of the same method ends the session.
    pub(in crate::socketio) fn begin(
        session: &Arc<Session>,
        method: PollingMethod,
    ) -> Result<RunningRequest, RequestError> {
        let mut state = session.state();
        let is_overdue = state.deadlines[Deadline::Pong as usize] <= session.service.now();
        let (why, refused) = match &mut state.transport {
            Transport::Polling(polling) if polling.is_overrun => (
                DisconnectReason::SlowConsumer,
                RequestError::UNKNOWN_SESSION,
            ),
            Transport::Polling(_) if is_overdue => {
                (DisconnectReason::PingTimeout, RequestError::UNKNOWN_SESSION)
            }
            Transport::Polling(polling) if polling.is_running[method as usize] => {
                (DisconnectReason::ParseError, RequestError::BAD_REQUEST)
            }
            Transport::Polling(polling) => {
                polling.is_running[method as usize] = true;
                polling.has_polled |= method == PollingMethod::Get;
                session.changed.notify_waiters();
                let session = Arc::clone(session);
                return Ok(RunningRequest { session, method });
            }
            Transport::WebSocket(_) => return Err(RequestError::BAD_REQUEST),
            Transport::Closed(_) => return Err(RequestError::UNKNOWN_SESSION),
        };
        drop(state);
        session.end(why);
        Err(refused)
    }

    /// Waits for a packet, and returns the body of the response to a GET.
    pub(in crate::socketio) async fn body(&self) -> String {
        const NOTHING: &str = "6";
        self.until(|transport| match transport {
            Transport::Polling(polling) if !polling.queue.is_empty() => {
                self.session.changed.notify_waiters();
                Some(polling.take_body())
            }
            Transport::Polling(it) if it.upgrade.as_ref().is_none_or(|it| !it.is_probed) => None,
            Transport::Closed(Some(farewell)) => Some(mem::take(farewell)),
            _ => Some(NOTHING.into()),
        })
        .await
    }

    /// Waits until the next packet of a POST may be handled.
    pub(in crate::socketio) async fn ready(&self) -> Result<(), RequestError> {
        let max_queue_size = self.session.service.settings.max_queue_size;
        let is_full = |polling: &Polling| polling.size > max_queue_size;
        self.until(|transport| match transport {
            Transport::Polling(it) if is_full(it) || self.session.is_busy() => None,
            Transport::Closed(_) => Some(Err(RequestError::UNKNOWN_SESSION)),
            _ => Some(Ok(())),
        })
        .await
    }

    /// Waits until the client has sent its first GET.
    pub(in crate::socketio) async fn polled(&self) {
        self.until(|transport| match transport {
            Transport::Polling(polling) if !polling.has_polled => None,
            _ => Some(()),
        })
        .await;
    }

    /// Calls `look` after each change of the session, until it returns a result.
    async fn until<T>(&self, mut look: impl FnMut(&mut Transport) -> Option<T>) -> T {
        loop {
            let changed = self.session.changed.notified();
            if let Some(result) = look(&mut self.session.state().transport) {
                return result;
            }
            changed.await;
        }
    }

    /// Counts one packet of this size against the rate limits, in the same way as a message of a
    /// WebSocket. Returns how long the packet must wait; `None` if the session ends because of it.
    pub(in crate::socketio) fn spend(&self, bytes: usize) -> Option<Duration> {
        if let Some(Polling { rates, .. }) = self.session.state().transport.polling() {
            if rates.admits(bytes) {
                return Some(rates.throttle().unwrap_or_default());
            }
        } else {
            return Some(Duration::ZERO);
        }
        self.session.end(DisconnectReason::SlowConsumer);
        None
    }
}

impl Drop for RunningRequest {
    fn drop(&mut self) {
        if let Some(polling) = self.session.state().transport.polling() {
            polling.is_running[self.method as usize] = false;
        }
    }
}
