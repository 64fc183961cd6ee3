//! The settings and budgets of connections.

use std::io;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicIsize, Ordering};
use std::time::Duration;

use ipnet::IpNet;

use super::limited::IpSlot;
use super::{HttpSettings, IpConnectionLimit, Router, Shutdown};
use crate::engine::{Bounds, FrameLoopHandle, Observer, PeerAddress, Settings};
use crate::handshake::{HandshakeError, Policy};
use crate::tls::ServerConfig;

/// What a server serves, with the settings and budgets that its workers share.
#[derive(Debug)]
pub(crate) struct HttpShared {
    pub(crate) router: Router,
    pub(crate) policy: Policy,
    pub(crate) settings: Settings,
    pub(crate) http: HttpSettings,
    /// The budgets of all clients together.
    pub(crate) bounds: Bounds,
    /// The limit of WebSockets per address, if there is one.
    pub(crate) addresses: Option<IpConnectionLimit>,
    /// The limit of connections.
    pub(crate) max_connections: usize,
    /// Number of connections of each worker.
    pub(crate) loads: Vec<AtomicIsize>,
    /// The stage of the server's shutdown.
    pub(crate) shutdown: Shutdown,
    /// Load balancers that send the PROXY protocol.
    pub(crate) proxies: Vec<IpNet>,
    /// The TLS configuration of TCP connections. `None` without TLS.
    pub(crate) tls: Option<Arc<ServerConfig>>,
}

/// No endpoints, and no limit of connections.
impl Default for HttpShared {
    fn default() -> HttpShared {
        let settings = Settings::default();
        HttpShared {
            router: Router::new(),
            policy: Policy::default(),
            http: HttpSettings::default(),
            bounds: Bounds::new(&settings),
            settings,
            addresses: None,
            max_connections: usize::MAX,
            loads: Vec::new(),
            shutdown: Shutdown::new(),
            proxies: Vec::new(),
            tls: None,
        }
    }
}

/// What one worker serves.
pub(crate) struct HttpContext {
    pub(crate) shared: Arc<HttpShared>,
    pub(crate) frame_loop: FrameLoopHandle,
    /// Observes every answer to a handshake, and streams outside the frame loop.
    pub(crate) observer: Arc<dyn Observer>,
}

impl HttpContext {
    /// Creates the context with a frame loop of its own.
    pub(crate) fn new(
        shared: Arc<HttpShared>,
        observer: Arc<dyn Observer>,
    ) -> io::Result<HttpContext> {
        let HttpShared {
            settings, bounds, ..
        } = &*shared;
        let frame_loop = FrameLoopHandle::new(settings, bounds, Arc::clone(&observer))?;
        Ok(HttpContext {
            shared,
            frame_loop,
            observer,
        })
    }
}

impl Deref for HttpContext {
    type Target = HttpShared;

    fn deref(&self) -> &HttpShared {
        &self.shared
    }
}

impl HttpShared {
    /// Reserves a place in the limit of the client's address. `None` without a limit or an IP
    /// address.
    pub(super) fn address_place(
        &self,
        client: PeerAddress,
    ) -> Result<Option<IpSlot>, HandshakeError> {
        let (Some(addresses), Some(address)) = (&self.addresses, client.ip()) else {
            return Ok(None);
        };
        let place = addresses.reserve_slot(address);
        place.map(Some).ok_or(HandshakeError::AddressAtCapacity)
    }

    /// Checks whether one more WebSocket may open.
    pub(super) fn admit(&self) -> Result<(), HandshakeError> {
        let loads = self.loads.iter();
        let connections: isize = loads.map(|load| load.load(Ordering::Relaxed)).sum();
        if self.shutdown.is_draining() {
            Err(HandshakeError::ShuttingDown)
        } else if connections.max(0) as usize > self.max_connections {
            Err(HandshakeError::AtCapacity)
        } else {
            Ok(())
        }
    }

    /// Checks both limits: [`HttpShared::address_place`] and [`HttpShared::admit`].
    pub(super) fn admit_from(&self, client: PeerAddress) -> Result<Option<IpSlot>, HandshakeError> {
        let place = self.address_place(client)?;
        self.admit().map(|()| place)
    }

    /// The deadline of a request head. `None` if it is off.
    pub(super) fn head_timeout(&self) -> Option<Duration> {
        unless_zero(self.http.head_timeout)
    }

    /// The deadline of the first byte after an answer. `None` if it is off.
    pub(super) fn keep_alive_timeout(&self) -> Option<Duration> {
        unless_zero(self.http.keep_alive_timeout)
    }
}

fn unless_zero(timeout: Duration) -> Option<Duration> {
    Some(timeout).filter(|timeout| !timeout.is_zero())
}
