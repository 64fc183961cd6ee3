//! The WebSocket protocol without I/O (RFC 6455 §5 to §7): bytes to messages and back.
//!
//! This module does no I/O, does not wait and reads no clock. [`Receiver`] removes bytes from the
//! front of a mutable slice, unmasks the bytes in place and returns one borrowed [`Message`] at a
//! time. [`Sender`] encodes messages as frames and holds the state of the closing handshake. The
//! two types are separate, so that a handler can send while its message borrows from the receiver.

#![warn(
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    clippy::indexing_slicing
)]

pub mod close;
pub mod deflate;
pub mod error;
pub mod frame;
pub mod limits;
pub mod mask;
pub mod message;
pub mod receiver;
pub mod sender;
pub mod utf8;

mod assembly;
mod budget;
pub(crate) mod copy;

pub use assembly::AssemblyPool;
pub use budget::AssemblyBudget;
pub(crate) use budget::Loan;
pub use close::{CloseCode, CloseFrame};
pub use deflate::{ContextTakeover, Deflate, DeflateParameters, Deflater, LongCompression};
pub use error::ProtocolError;
pub use frame::{FrameHeader, OpCode};
pub use limits::SizeLimits;
pub use message::Message;
pub use receiver::{Receiver, Role};
pub use sender::{FrameSink, Sender};
