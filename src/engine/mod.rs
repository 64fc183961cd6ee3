//! The frame loop, which owns the sockets.
//!
//! A worker thread has one frame loop. Connections are entries in it, not tasks: a readable
//! event costs one `read` into the thread's buffer, every frame in it is handled, and all answers
//! leave in one `write`. What a [`Handler`] must do for that is be synchronous and quick; work
//! that waits takes a [`Peer`] along and spawns.

mod backlog;
mod compression;
mod connection;
mod connections;
mod deadlines;
mod delivery;
mod disconnect;
mod driver;
mod fan_out;
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
mod write_batch;

pub(crate) use connection::Connection;
pub use deadlines::Deadlines;
pub use disconnect::{Disconnect, Timeout, Unanswered};
pub(crate) use driver::ConnectionDriver;
pub(crate) use frame_loop::FrameLoopHandle;
pub(crate) use group::{Group, Sleeper};
pub use handler::{Handler, WebSocket};
pub(crate) use members::GroupPlace;
pub use peer::Peer;
pub(crate) use peer::PeerId;
pub(crate) use publication::Publication;
#[cfg(feature = "cli")]
pub(crate) use raw::Demand;
pub(crate) use raw::RawHandler;
pub use simulation::{SimulatedConnection, Simulation};
pub use socket::{ClientSocket, PeerAddress, Stream};
pub(crate) use stats::{ConnectionRecord, EndpointIndex, Observer, WorkerStats};

use crate::protocol::{AssemblyBudget, Deflate, SizeLimits};
use mailbox::Congestion;
#[cfg(feature = "socketio")]
pub(crate) use unsent::HeldForAll;
pub(crate) use unsent::{Held, UnsentBudget};

/// What holds for every connection of a server.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How large frames and messages may be.
    pub limits: SizeLimits,
    /// How messages are compressed if the client can do it; `None` if never.
    pub deflate: Option<Deflate>,
    /// How long anything may take.
    pub deadlines: Deadlines,
    /// When a receiver of fan-out is too slow.
    pub slow_consumer: SlowConsumer,
    /// Bytes of fan-out that may wait for a client before nothing more is read from it. While a
    /// reply waits, nothing is read at all.
    pub high_water_mark: usize,
    /// Bytes that are read on after our FIN, at most; to a client that was sending a message too
    /// big, that message's limit is added.
    pub linger_size: usize,
    /// Bytes that all unfinished messages of a server may hold together; a client that adds to them
    /// beyond that is closed with 1013.
    pub max_unfinished_size: usize,
    /// Bytes of memory in which all that waits to be sent to the clients of a server may be kept
    /// together; what several wait for counts once. Beyond it those are closed for which the most
    /// waits, until it holds again: members of rooms with 1008 `slow consumer`, others with 1013.
    pub max_unsent_size: usize,
    /// Messages and control frames a second that a client may send, and at once after a second of
    /// silence; beyond them it is closed with 1008. `None` means unlimited.
    pub max_message_rate: Option<u32>,
    /// Data messages a second that a client may send to an endpoint which publishes them (see
    /// [`Endpoint::publishing`](crate::http::Endpoint::publishing)), and at once after a second of
    /// silence: a few bytes from one become many to all members of a room. A message counts as one
    /// and one more for each 64 KiB, inflated. Beyond them it is not
    /// read from for a while, and closed after [`Deadlines::throttle_timeout`]. `None` means unlimited.
    pub max_publish_rate: Option<u32>,
    /// Whether what the messages of one read publish goes to each member in one write. Otherwise
    /// each is delivered before the client's next one is handled: what comes back to it then
    /// depends in no way on how its bytes were cut.
    pub gather_publications: bool,
}

impl Default for Settings {
    /// SizeLimits, compression, deadlines and bounds of their own; 64 KiB; 1 MiB; twice 1 GiB; 1,000
    /// messages published a second, and no other limit of rate; publications are gathered.
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

/// What all connections of a server keep to together. Clones are the same bounds.
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

    /// Bytes that are held for clients, of what is received and of what waits to be sent.
    pub(crate) fn held(&self) -> usize {
        self.unfinished.lent() + self.unsent.bytes()
    }
}

/// The bound on what waits for one receiver of fan-out. Beyond it the receiver meets the
/// [`SlowConsumerPolicy`] of the room; the other receivers notice nothing. A
/// single message is let through whatever its size.
#[derive(Clone, Copy, Debug)]
pub struct SlowConsumer {
    /// Bytes that may wait.
    pub max_bytes: usize,
    /// Messages that may wait.
    pub max_messages: usize,
}

/// What becomes of a member of a room for which more is to wait than [`SlowConsumer`] allows.
///
/// To drop messages is for rooms whose messages are numbered, so that a member sees the gap:
/// nothing else tells it. Messages that were published together are dropped together.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum SlowConsumerPolicy {
    /// The queue is dropped and the member closed with 1008 `slow consumer`.
    #[default]
    Close,
    /// What has waited longest is dropped: the member goes on with the latest messages.
    DropOldest,
    /// What comes is dropped until there is room: the member first gets all that waits.
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
