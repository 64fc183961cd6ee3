//! What a worker serves.

use std::sync::Arc;
use std::time::Duration;

use super::limited::IpSlot;
use super::linger::Linger;
use super::waiting::HeadDeadlines;
use super::{HttpSettings, IpConnectionLimit, Router, Shutdown};
use crate::engine::{FrameLoopHandle, Observer, PeerAddress, Settings, UnsentBudget};
use crate::handshake::{HandshakeError, Policy};
use crate::protocol::AssemblyBudget;
use crate::tls::ServerConfig;

/// What a worker serves, and how.
pub(crate) struct HttpContext {
    pub(crate) router: Arc<Router>,
    pub(crate) policy: Arc<Policy>,
    pub(crate) settings: Settings,
    pub(crate) http: HttpSettings,
    pub(crate) frame_loop: FrameLoopHandle,
    /// The WebSockets of each address, if they are limited.
    pub(crate) addresses: Option<IpConnectionLimit>,
    /// What all unfinished messages and bodies may hold together.
    pub(crate) unfinished: AssemblyBudget,
    /// What may wait to be sent to all clients together.
    pub(crate) unsent: UnsentBudget,
    /// Whether one more WebSocket may be opened.
    pub(crate) admission: Box<dyn Fn() -> Result<(), HandshakeError>>,
    /// Told of every answer to a handshake, and of streams that are not the frame loop's.
    pub(crate) observer: Arc<dyn Observer>,
    /// How far the server is on its way to its end.
    pub(crate) shutdown: Shutdown,
    /// Load balancers that send the PROXY protocol.
    pub(crate) proxies: Arc<[ipnet::IpNet]>,
    /// How TCP connections are secured, if they are.
    pub(crate) tls: Option<Arc<ServerConfig>>,
}

impl HttpContext {
    /// A place among the connections of the client's address, if those are limited.
    pub(super) fn address_place(
        &self,
        peer: PeerAddress,
    ) -> Result<Option<IpSlot>, HandshakeError> {
        let (Some(addresses), Some(address)) = (&self.addresses, peer.ip()) else {
            return Ok(None);
        };
        match addresses.reserve_slot(address) {
            Some(place) => Ok(Some(place)),
            None => Err(HandshakeError::AddressAtCapacity),
        }
    }

    /// How long a request's head may take.
    pub(super) fn head_timeout(&self) -> Option<Duration> {
        unless_zero(self.http.head_timeout)
    }

    pub(super) fn deadlines(&self, first: Option<Duration>) -> HeadDeadlines {
        HeadDeadlines {
            first,
            head: self.head_timeout(),
            keep_alive: unless_zero(self.http.keep_alive_timeout),
        }
    }

    pub(super) fn linger(&self) -> Linger {
        Linger {
            size: self.settings.linger_size,
            timeout: self.settings.deadlines.linger,
        }
    }
}

fn unless_zero(timeout: Duration) -> Option<Duration> {
    Some(timeout).filter(|timeout| !timeout.is_zero())
}
