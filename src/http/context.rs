//! The settings and budgets of a worker's connections.

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

/// What a worker serves, with its settings and budgets.
pub(crate) struct HttpContext {
    pub(crate) router: Arc<Router>,
    pub(crate) policy: Arc<Policy>,
    pub(crate) settings: Settings,
    pub(crate) http: HttpSettings,
    pub(crate) frame_loop: FrameLoopHandle,
    /// The limit of WebSockets per address, if there is one.
    pub(crate) addresses: Option<IpConnectionLimit>,
    /// The budget of all unfinished messages and bodies together.
    pub(crate) unfinished: AssemblyBudget,
    /// The unsent budget of all clients together.
    pub(crate) unsent: UnsentBudget,
    /// Checks whether one more WebSocket may open.
    pub(crate) admission: Box<dyn Fn() -> Result<(), HandshakeError>>,
    /// Observes every answer to a handshake, and streams outside the frame loop.
    pub(crate) observer: Arc<dyn Observer>,
    /// The stage of the server's shutdown.
    pub(crate) shutdown: Shutdown,
    /// Load balancers that send the PROXY protocol.
    pub(crate) proxies: Arc<[ipnet::IpNet]>,
    /// The TLS configuration of TCP connections. `None` without TLS.
    pub(crate) tls: Option<Arc<ServerConfig>>,
}

impl HttpContext {
    /// Reserves a place in the limit of the client's address. `None` without a limit or an IP
    /// address.
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

    /// The deadline of a request head. `None` if it is off.
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
