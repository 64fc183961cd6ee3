//! Violations of Engine.IO and Socket.IO by clients.

/// A violation of the protocol by a client. Ends the client's session.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct EngineViolation(pub(super) &'static str);
