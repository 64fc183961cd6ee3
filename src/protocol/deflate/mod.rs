//! Permessage-deflate (RFC 7692): settings, agreed parameters, and what a connection keeps.

#[cfg(feature = "deflate")]
mod codec;
#[cfg(not(feature = "deflate"))]
#[path = "no_codec.rs"]
mod codec;
mod history;
mod inflaters;

#[cfg(test)]
#[cfg(feature = "deflate")]
mod tests;

pub use codec::Deflater;
use history::History;
use inflaters::Ticket;
pub(super) use inflaters::{Inflaters, MessageInflater};

use super::{AssemblyBudget, ProtocolError};

/// What a server does about compression.
///
/// A server keeps no compressor and no decompressor for a connection, only one for each of its
/// threads: what context takeover needs is the end of the text that has gone before, and that is
/// all that is kept of it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Deflate {
    /// How hard to compress, 1 (fastest) to 9 (smallest). Other values count as the nearest.
    pub level: u8,
    /// Bytes below which a message is sent as it is. Above, too, a message is, if compressing
    /// does not make it smaller.
    pub min_size: usize,
    /// Which messages may refer to the ones before them.
    pub context_takeover: ContextTakeover,
    /// The base-2 logarithm of how far back compressed data may refer, 9 to 15. Other values
    /// count as the nearest. Clients that cannot be told are believed to use 15.
    pub window_bits: u8,
}

/// Which messages of a connection may refer to the ones before them (RFC 7692 §7.1.1), unless the
/// client declines. What they refer to has to be kept.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum ContextTakeover {
    /// None, and the server says so to clients that have not asked for it: some clients, such as
    /// Netty's, fail on that. A connection keeps nothing.
    None,
    /// Those of the client. The server adds nothing to what the client asked for, and every client
    /// takes that. A connection keeps as much as was inflated so far, 2^`window_bits` bytes at
    /// most, in the [`AssemblyBudget`] of the server.
    Client,
    /// Those of both sides. They become smaller; a connection also keeps the last 4 KiB that the
    /// server has sent.
    Both,
}

impl Deflate {
    /// Bytes above which a message is sent as it is: 256 KiB. Compressing them takes 1 to 2 ms, and
    /// the worker's other connections wait so long.
    pub const MAX_SIZE: usize = 256 << 10;
}

#[cfg(feature = "deflate")]
impl Default for Deflate {
    /// Level 1, from 1 KiB on, context takeover for what clients send, a window of 2^15 bytes.
    ///
    /// Level 1 takes a third of the time of level 6 and its output is a quarter larger. Below
    /// 1 KiB the time that both ends spend is longer than that of the bytes saved on a link of
    /// 1 Gbit/s.
    fn default() -> Deflate {
        Deflate {
            level: 1,
            min_size: 1 << 10,
            context_takeover: ContextTakeover::Client,
            window_bits: DeflateParameters::MAX_WINDOW_BITS,
        }
    }
}

/// What both sides have agreed on (§7.1).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct DeflateParameters {
    /// What the server sends never refers to an earlier message (§7.1.1.1), whether it has said so
    /// or not.
    pub server_no_context_takeover: bool,
    /// What the client sends never refers to an earlier message (§7.1.1.2).
    pub client_no_context_takeover: bool,
    /// The server's window has 2 to the power of this bytes, 9 to 15 (§7.1.2.1).
    pub server_max_window_bits: u8,
    /// The client's window has at most 2 to the power of this bytes, 8 to 15 (§7.1.2.2).
    pub client_max_window_bits: u8,
}

impl DeflateParameters {
    /// The smallest window that a deflater can keep to: zlib's raw deflate cannot do 8.
    pub const MIN_WINDOW_BITS: u8 = 9;
    /// The largest window that there is.
    pub const MAX_WINDOW_BITS: u8 = 15;
}

/// The data does not inflate.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct InvalidData;

/// One direction of a connection that compresses.
#[derive(Debug)]
pub(super) struct TakeoverContext {
    /// The base-2 logarithm of the window.
    window_bits: u8,
    /// The end of the text that went compressed so far.
    history: History,
    /// The inflater that holds the same text, if it has been kept.
    ticket: Option<Ticket>,
}

impl TakeoverContext {
    /// Bytes of a window above which a copy takes long.
    const LARGE: usize = 4 << 10;

    /// Bytes that our messages refer back to at most. More costs more than it saves: a deflater
    /// has to read all of it for every message.
    const SENT: usize = 4 << 10;

    /// Of what the server sends.
    pub(super) fn of_server(parameters: &DeflateParameters) -> TakeoverContext {
        let window_bits = parameters.server_max_window_bits;
        let kept = window(window_bits).min(Self::SENT);
        TakeoverContext::new(window_bits, kept, parameters.server_no_context_takeover)
    }

    /// Of what the client sends.
    pub(super) fn of_client(parameters: &DeflateParameters) -> TakeoverContext {
        let window_bits = parameters.client_max_window_bits;
        let kept = window(window_bits);
        TakeoverContext::new(window_bits, kept, parameters.client_no_context_takeover)
    }

    /// Of a message that stands alone.
    pub(super) fn none(window_bits: u8) -> TakeoverContext {
        TakeoverContext::new(window_bits, 0, true)
    }

    fn new(window_bits: u8, kept: usize, no_context_takeover: bool) -> TakeoverContext {
        TakeoverContext {
            window_bits,
            history: History::new(if no_context_takeover { 0 } else { kept }),
            ticket: None,
        }
    }

    /// Whether copying the window takes long, and an inflater that is kept would hold the same: it
    /// always has the largest window.
    fn has_large_window(&self) -> bool {
        self.window_bits == DeflateParameters::MAX_WINDOW_BITS && self.history.len() > Self::LARGE
    }

    /// A message of this text has gone, compressed.
    pub(super) fn remember(&mut self, text: &[u8]) {
        self.history.push(text);
    }

    /// [`TakeoverContext::remember`], where what is kept counts towards a budget.
    ///
    /// # Errors
    /// [`ProtocolError::BudgetExceeded`]
    pub(super) fn remember_within(
        &mut self,
        text: &[u8],
        budget: &AssemblyBudget,
    ) -> Result<(), ProtocolError> {
        self.history.lend(text.len(), budget)?;
        self.history.push(text);
        Ok(())
    }

    /// A message has gone, compressed, of which the text is not known here.
    pub(super) fn forget(&mut self) {
        self.history.clear();
    }

    /// Whether the other side's window holds all that a message of `length` bytes, compressed
    /// without context in a window of `window_bits`, may refer to.
    pub(super) fn holds(&self, window_bits: u8, length: usize) -> bool {
        self.window_bits >= window_bits || length <= window(self.window_bits)
    }
}

/// Bytes of a window.
fn window(bits: u8) -> usize {
    1 << bits.min(DeflateParameters::MAX_WINDOW_BITS)
}
