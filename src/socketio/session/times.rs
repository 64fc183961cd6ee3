//! The deadlines of a session.

/// The kinds of deadlines. If several have passed, the first kind is handled first.
#[derive(Clone, Copy, Debug)]
pub(super) enum Deadline {
    /// The queue of the client became too large.
    Overrun,
    /// The client must be in a namespace.
    Join,
    /// All attachments of a binary packet must have arrived.
    Attachments,
    /// The client must have answered the Ping.
    Pong,
    /// The next Ping is sent.
    Ping,
    /// The upgrade to a WebSocket must be complete.
    Upgrade,
}

impl Deadline {
    pub(super) const ALL: [Deadline; 6] = {
        use Deadline::{Attachments, Join, Overrun, Ping, Pong, Upgrade};
        [Overrun, Join, Attachments, Pong, Ping, Upgrade]
    };
}
