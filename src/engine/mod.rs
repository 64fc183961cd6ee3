//! The frame loop, which owns the sockets.
//!
//! A worker thread has one frame loop. Connections are entries in it, not tasks: for a readable
//! event the loop calls `read` once into the thread's buffer, handles every frame in it, and sends
//! all answers with one `write`. So a [`Handler`] must be synchronous and quick. For work that
//! waits, spawn a task and give it a [`Peer`].

mod act;
mod backlog;
mod bare;
mod chunk;
mod commands;
mod compression;
mod connection;
mod connections;
mod deadlines;
mod delivery;
mod disconnect;
mod driver;
mod fan_out;
#[cfg(feature = "cli")]
pub(crate) mod for_faults;
#[cfg(feature = "socketio")]
pub(crate) mod for_socketio;
mod frame_loop;
mod group;
mod handler;
mod hoarders;
mod mailbox;
mod members;
mod peer;
mod publication;
mod raw;
mod simulation;
mod slab;
mod socket;
mod stats;
#[cfg(test)]
mod tests;
#[cfg_attr(not(feature = "tls"), path = "no_tls.rs")]
mod tls;
mod turn;
mod unsent;
mod web_socket;
mod write_batch;

pub(crate) use connection::Connection;
pub use deadlines::Deadlines;
pub use disconnect::{Disconnect, Timeout, Unanswered};
pub(crate) use driver::ConnectionDriver;
pub(crate) use frame_loop::FrameLoopHandle;
pub(crate) use group::{Groups, Seat};
pub use handler::Handler;
pub use peer::Peer;
pub(crate) use peer::PeerId;
pub(crate) use publication::Publication;
pub(crate) use raw::RawHandler;
pub use simulation::{SimulatedConnection, Simulation};
pub use socket::{ClientSocket, PeerAddress, Stream};
pub(crate) use stats::{ConnectionRecord, EndpointIndex, Observer, Traffic, WorkerStats};
pub(crate) use unsent::{Held, UnsentBudget};
pub use web_socket::WebSocket;

use crate::protocol::{AssemblyBudget, Deflate, SizeLimits};
use mailbox::Congestion;

/// The settings of every connection of a server.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Maximum sizes of frames and messages.
    pub limits: SizeLimits,
    /// How messages are compressed if the client supports it. `None` turns compression off.
    /// Default: `Deflate::default()`, or `None` without the feature `deflate`.
    pub deflate: Option<Deflate>,
    /// The deadlines of a connection.
    pub deadlines: Deadlines,
    /// The bound on a receiver's backlog of fan-out.
    pub slow_consumer: SlowConsumer,
    /// Bytes of backlog above which nothing is read from the client. While the backlog holds a
    /// reply, nothing is read either. Default: 64 KiB.
    pub high_water_mark: usize,
    /// Maximum number of bytes that are read and dropped after our FIN. The maximum message size is
    /// added if the client was closed because its message is too big or it publishes too fast.
    /// Default: 1 MiB.
    pub linger_size: usize,
    /// Maximum number of bytes in all unfinished messages of a server. When they are used up,
    /// the next client that needs more is closed with 1013. Default: 1 GiB.
    pub max_unfinished_size: usize,
    /// The unsent budget: bytes of memory for all data that waits to be sent to the clients of a
    /// server. Data that several clients wait for counts once. When the budget is spent, the
    /// clients with the longest queues are closed until the budget suffices: with 1008
    /// `slow consumer` if messages of rooms or of a [`Peer`] wait for them, otherwise with 1013.
    /// Default: 1 GiB.
    pub max_unsent_size: usize,
    /// Messages and control frames per second that a client may send; also the size of a burst
    /// after a second of silence. A faster client is closed with 1008. Default: `None`, which means
    /// unlimited.
    pub max_message_rate: Option<u32>,
    /// Data messages per second that a client may send to an endpoint which publishes them (see
    /// [`Endpoint::publishing`](crate::http::Endpoint::publishing)); also the size of a burst after
    /// a second of silence. The limit exists because each message is sent to all members of a room.
    /// A message counts as one, plus one for each 64 KiB after inflation. A faster client is
    /// throttled, and closed after [`Deadlines::throttle_timeout`]. `None` means unlimited.
    /// Default: 1,000.
    pub max_publish_rate: Option<u32>,
    /// Whether the publications from all messages of one read are sent to each member in one write.
    /// If false, each is delivered before the client's next message is handled, so that the frames
    /// that the client receives do not depend on how its bytes were split. Default: true.
    pub gather_publications: bool,
}

impl Default for Settings {
    /// The defaults that the fields document.
    fn default() -> Settings {
        Settings {
            limits: SizeLimits::default(),
            #[cfg(feature = "deflate")]
            deflate: Some(Deflate::default()),
            #[cfg(not(feature = "deflate"))]
            deflate: None,
            deadlines: Deadlines::default(),
            slow_consumer: SlowConsumer::default(),
            high_water_mark: 64 << 10,
            linger_size: 1 << 20,
            max_unfinished_size: 1 << 30,
            max_unsent_size: 1 << 30,
            max_message_rate: None,
            max_publish_rate: Some(1_000),
            gather_publications: true,
        }
    }
}

/// The bounds that all connections of a server share. A clone is the same bounds.
#[derive(Clone, Debug)]
pub(crate) struct Bounds {
    congestion: Congestion,
    pub(crate) unfinished: AssemblyBudget,
    pub(crate) unsent: UnsentBudget,
}

impl Bounds {
    pub(crate) fn new(settings: &Settings) -> Bounds {
        Bounds {
            congestion: Congestion::default(),
            unfinished: AssemblyBudget::new(settings.max_unfinished_size),
            unsent: UnsentBudget::new(settings.max_unsent_size),
        }
    }

    /// Bytes held for clients: unfinished messages and unsent data.
    pub(crate) fn held(&self) -> usize {
        self.unfinished.lent() + self.unsent.bytes()
    }
}

/// The bound on the backlog of one receiver of fan-out. Above it, the [`SlowConsumerPolicy`] of
/// the room applies to the receiver. An empty backlog accepts one message of any size.
#[derive(Clone, Copy, Debug)]
pub struct SlowConsumer {
    /// Maximum number of bytes in the backlog. Default: 1 MiB.
    pub max_bytes: usize,
    /// Maximum number of messages in the backlog. Default: 1,024.
    pub max_messages: usize,
}

/// What happens to a room's member whose backlog exceeds [`SlowConsumer`].
///
/// Choose a policy that drops messages only for rooms with numbered messages: a gap in the numbers
/// is the only sign of the loss. Messages that were published together are dropped together.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum SlowConsumerPolicy {
    /// The connections that publish to the room are not read from while the member is over the
    /// bound. If it is then a second behind 1 MiB a second, or exceeds 16 times the bound, the
    /// backlog is dropped and the member closed with 1008 `slow consumer`.
    #[default]
    Close,
    /// The oldest messages are dropped: the member receives the latest ones.
    DropOldest,
    /// New messages are dropped until there is room: the member receives its backlog first.
    DropNewest,
}

impl Default for SlowConsumer {
    /// 1 MiB or 1,024 messages.
    fn default() -> SlowConsumer {
        SlowConsumer {
            max_bytes: 1 << 20,
            max_messages: 1_024,
        }
    }
}
