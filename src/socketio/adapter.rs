//! Whom an emit reaches: the clients of this process and, over a bus, those of others.

use std::convert::Infallible;
use std::fmt;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use bytes::Bytes;
use socketioxide::SocketError;
use socketioxide::adapter::Emitter;
use socketioxide::socket::Sid;
use socketioxide_core::Value;
use socketioxide_core::adapter::errors::BroadcastError;
use socketioxide_core::adapter::{
    BroadcastFlags, BroadcastOptions, CoreAdapter, CoreLocalAdapter, DefinedAdapter, Room,
    SocketEmitter,
};
use socketioxide_core::packet::Packet;
use socketioxide_core::parser::Parse;
use socketioxide_parser_common::CommonParser;

#[cfg(feature = "redis")]
use super::bus::Bus;
use super::fan_out::FanOut;
use crate::protocol::Message;
use crate::protocol::sender::encode_message;

/// The clients and rooms of a namespace, as [`SocketIo`](super::SocketIo)'s handlers know it.
pub struct Adapter {
    local: CoreLocalAdapter<Emitter>,
    fan_out: FanOut,
    own: OnceLock<Weak<Adapter>>,
    #[cfg(feature = "redis")]
    bus: Option<Bus>,
}

/// What all namespaces share.
#[derive(Clone, Debug, Default)]
pub struct AdapterState {
    #[cfg(feature = "redis")]
    pub(super) bus: Option<Bus>,
    pub(super) fan_out: FanOut,
}

impl CoreAdapter<Emitter> for Adapter {
    type Error = Infallible;
    type State = AdapterState;
    type AckStream = <Emitter as SocketEmitter>::AckStream;
    type InitRes = ();

    fn new(state: &AdapterState, local: CoreLocalAdapter<Emitter>) -> Adapter {
        Adapter {
            local,
            fan_out: state.fan_out.clone(),
            own: OnceLock::new(),
            #[cfg(feature = "redis")]
            bus: state.bus.clone(),
        }
    }

    fn init(self: Arc<Self>, on_success: impl FnOnce() + Send + 'static) {
        self.own.get_or_init(|| Arc::downgrade(&self));
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
        if let Some(own) = self.own.get()
            && self.fan_out.len() >= MANY
            && !options.has_flag(BroadcastFlags::Volatile)
        {
            let _place = self.fan_out.place().await;
            let sids = self.local.sockets(options.clone());
            if sids.len() >= MANY {
                let own = own.clone();
                return broadcast_to_many(&self.fan_out, own, packet, sids).await;
            }
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

/// Clients from which on it pays to go past the engine.
const MANY: usize = 16;

async fn broadcast_to_many(
    fan_out: &FanOut,
    adapter: Weak<Adapter>,
    packet: Packet,
    sids: Vec<Sid>,
) -> Result<(), BroadcastError> {
    let frames = encode(packet.clone());
    let by_engine = move |sids: &[Sid]| match adapter.upgrade() {
        Some(adapter) if !sids.is_empty() => adapter.broadcast_by_engine(&packet, sids),
        _ => Ok(()),
    };
    match fan_out.send(sids, frames, Arc::new(by_engine)).await {
        errors if errors.is_empty() => Ok(()),
        errors => Err(errors.into()),
    }
}

impl Adapter {
    /// Puts a packet in these sockets' queues. It is encoded once, and the queues share it, so they
    /// are in one room for that moment: one by one, each would have a copy.
    fn broadcast_by_engine(&self, packet: &Packet, sids: &[Sid]) -> Result<(), Vec<SocketError>> {
        let room: Room = Sid::new().to_string().into();
        for sid in sids {
            self.local.add_all(*sid, room.clone());
        }
        let mut members = BroadcastOptions::default();
        members.rooms.push(room.clone());
        let sent = self.local.broadcast(packet.clone(), members);
        for sid in sids {
            self.local.del(*sid, room.clone());
            // Nothing is kept of one that has left the namespace in the meantime.
            let own = BroadcastOptions::new(*sid);
            if self.local.fetch_sockets(own).is_empty() {
                self.local.del_all(*sid);
            }
        }
        sent
    }
}

/// The frames of a packet and its attachments, as the engine would write them.
fn encode(packet: Packet) -> Bytes {
    let mut frames = Vec::new();
    let attachments = match CommonParser.encode(packet) {
        Value::Str(text, attachments) => {
            let text = format!("4{text}"); // Engine.IO's message
            encode_message(Message::Text(&text), &mut frames);
            attachments.unwrap_or_default()
        }
        Value::Bytes(octets) => [octets].into(),
    };
    for octets in attachments {
        encode_message(Message::Binary(&octets), &mut frames);
    }
    frames.into()
}

impl fmt::Debug for Adapter {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Adapter")
            .field("namespace", self.local.path())
            .finish_non_exhaustive()
    }
}
