//! RFC 6455 §5 to §7, bytes in, messages out, and back.
//!
//! Nothing here does I/O, waits, or knows a clock. [`Receiver`] takes bytes off the front of a
//! mutable slice, unmasks them in place and hands out one borrowed [`Message`] at a time;
//! [`Sender`] turns messages into frames and holds the states of the closing handshake. They are
//! two halves, so that a message can borrow the one while its handler writes with the other.

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
pub use deflate::{ContextTakeover, Deflate, DeflateParameters, Deflater};
pub use error::ProtocolError;
pub use frame::{FrameHeader, OpCode};
pub use limits::SizeLimits;
pub use message::Message;
pub use receiver::{Receiver, Role};
pub use sender::{FrameSink, Sender};
