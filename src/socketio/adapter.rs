//! Whom an emit reaches: the clients of this process and, over a bus, those of others.

use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use socketioxide::adapter::Emitter;
use socketioxide_core::adapter::errors::BroadcastError;
use socketioxide_core::adapter::{
    BroadcastOptions, CoreAdapter, CoreLocalAdapter, DefinedAdapter, SocketEmitter,
};
use socketioxide_core::packet::Packet;

#[cfg(feature = "redis")]
use super::bus::Bus;

/// The clients and rooms of a namespace, as [`SocketIo`](super::SocketIo)'s handlers know it.
pub struct Adapter {
    local: CoreLocalAdapter<Emitter>,
    #[cfg(feature = "redis")]
    bus: Option<Bus>,
}

/// What all namespaces share.
#[derive(Clone, Debug, Default)]
pub struct AdapterState {
    #[cfg(feature = "redis")]
    pub(super) bus: Option<Bus>,
}

impl CoreAdapter<Emitter> for Adapter {
    type Error = Infallible;
    type State = AdapterState;
    type AckStream = <Emitter as SocketEmitter>::AckStream;
    type InitRes = ();

    fn new(state: &AdapterState, local: CoreLocalAdapter<Emitter>) -> Adapter {
        let _ = state;
        Adapter {
            local,
            #[cfg(feature = "redis")]
            bus: state.bus.clone(),
        }
    }

    fn init(self: Arc<Self>, on_success: impl FnOnce() + Send + 'static) {
        #[cfg(feature = "redis")]
        if let Some(bus) = &self.bus {
            bus.register(&self);
        }
        on_success();
    }

    async fn broadcast(
        &self,
        packet: Packet,
        options: BroadcastOptions,
    ) -> Result<(), BroadcastError> {
        #[cfg(feature = "redis")]
        if let Some(bus) = &self.bus {
            bus.publish_emit(&packet, &options);
        }
        let sent = self.local.broadcast(packet, options);
        sent.map_err(BroadcastError::from)
    }

    /// Asks the clients of this process only.
    async fn broadcast_with_ack(
        &self,
        packet: Packet,
        options: BroadcastOptions,
        timeout: Option<Duration>,
    ) -> Result<Self::AckStream, Infallible> {
        Ok(self.local.broadcast_with_ack(packet, options, timeout).0)
    }

    fn get_local(&self) -> &CoreLocalAdapter<Emitter> {
        &self.local
    }
}

impl DefinedAdapter for Adapter {}

impl fmt::Debug for Adapter {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Adapter")
            .field("namespace", self.local.path())
            .finish_non_exhaustive()
    }
}
