//! Permessage-deflate (RFC 7692): settings, negotiated parameters, and the state of a connection.

#[cfg(feature = "deflate")]
mod codec;
#[cfg(not(feature = "deflate"))]
#[path = "no_codec.rs"]
mod codec;
mod history;
mod inflaters;
mod long;

#[cfg(test)]
#[cfg(feature = "deflate")]
mod tests;

pub use codec::Deflater;
use history::History;
use inflaters::Ticket;
pub(super) use inflaters::{Inflaters, MessageInflater};
pub use long::LongCompression;

use super::{AssemblyBudget, ProtocolError};

/// The compression settings of a server.
///
/// Compressors and decompressors belong to the server's threads, not to its connections. For
/// context takeover, a connection keeps only the last bytes of the earlier text.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Deflate {
    /// Compression level from 1 (fastest, the default) to 9 (smallest). Other values count as the
    /// nearest.
    pub level: u8,
    /// Minimum size in bytes of a message to compress. Smaller messages are sent uncompressed, and
    /// so are messages that compression does not make smaller; of a message above 64 KiB, the first
    /// 64 KiB count. Default: 1 KiB.
    pub min_size: usize,
    /// The messages that may refer to earlier messages. Default: [`ContextTakeover::Client`].
    pub context_takeover: ContextTakeover,
    /// The base-2 logarithm of the window, from 9 to 15 (the default): compressed data may refer
    /// back this far. Other values count as the nearest. A client that does not let the server
    /// limit its window is assumed to use the largest, 2^15 bytes.
    pub window_bits: u8,
}

/// The messages of a connection that may refer to earlier messages (RFC 7692 §7.1.1), unless the
/// client declines. The connection must keep the earlier text.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum ContextTakeover {
    /// No messages. The server also says so to clients that did not ask for it: some clients, such
    /// as Netty's, then fail. A connection keeps no text.
    None,
    /// Messages from the client. The server's answer adds no parameter that the client did not ask
    /// for, and every client accepts that answer. A connection keeps the text inflated so far, at
    /// most 2^`window_bits` bytes, counted in the [`AssemblyBudget`] of the server.
    Client,
    /// Messages from both sides. Messages from the server become smaller; a connection also keeps
    /// the last 4 KiB that the server sent.
    Both,
}

impl Deflate {
    /// Maximum size in bytes of a message to compress: 1 MiB. Larger messages are sent
    /// uncompressed.
    pub const MAX_SIZE: usize = 1 << 20;
}

#[cfg(feature = "deflate")]
impl Default for Deflate {
    /// Level 1, messages of at least 1 KiB, context takeover for messages from clients, a window of
    /// 2^15 bytes.
    ///
    /// Level 1 takes a third of the time of level 6, and its output is a quarter larger. For
    /// messages below 1 KiB, both ends together spend more time on compression than a link of 1
    /// Gbit/s needs for the saved bytes.
    fn default() -> Deflate {
        Deflate {
            level: 1,
            min_size: 1 << 10,
            context_takeover: ContextTakeover::Client,
            window_bits: DeflateParameters::MAX_WINDOW_BITS,
        }
    }
}

/// The parameters that both sides agreed on (§7.1).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct DeflateParameters {
    /// Whether the server's messages never refer to earlier messages (§7.1.1.1), even if the
    /// server's answer does not say so.
    pub server_no_context_takeover: bool,
    /// Whether the client's messages never refer to earlier messages (§7.1.1.2).
    pub client_no_context_takeover: bool,
    /// The base-2 logarithm of the server's window in bytes, 9 to 15 (§7.1.2.1).
    pub server_max_window_bits: u8,
    /// The base-2 logarithm of the client's maximum window in bytes, 8 to 15 (§7.1.2.2).
    pub client_max_window_bits: u8,
}

impl DeflateParameters {
    /// The smallest window of a deflater: zlib's raw deflate does not support 8 bits.
    pub const MIN_WINDOW_BITS: u8 = 9;
    /// The largest window of permessage-deflate.
    pub const MAX_WINDOW_BITS: u8 = 15;
}

/// The compressed data is invalid.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct InvalidData;

/// The context of one direction of a connection with compression.
#[derive(Debug)]
pub(super) struct TakeoverContext {
    /// The base-2 logarithm of the window.
    window_bits: u8,
    /// The last bytes of the text that was sent compressed.
    history: History,
    /// The kept inflater that holds the same text; `None` if no inflater was kept.
    ticket: Option<Ticket>,
}

impl TakeoverContext {
    /// Size in bytes above which copying a window takes long.
    const LARGE: usize = 4 << 10;

    /// Maximum number of earlier bytes that the server's messages refer to. A larger number costs
    /// more than it saves: a deflater reads the whole history for every message.
    const SENT: usize = 4 << 10;

    /// The context of the server's messages.
    pub(super) fn of_server(parameters: &DeflateParameters) -> TakeoverContext {
        let window_bits = parameters.server_max_window_bits;
        let kept = window(window_bits).min(Self::SENT);
        TakeoverContext::new(window_bits, kept, parameters.server_no_context_takeover)
    }

    /// The context of the client's messages.
    pub(super) fn of_client(parameters: &DeflateParameters) -> TakeoverContext {
        let window_bits = parameters.client_max_window_bits;
        let kept = window(window_bits);
        TakeoverContext::new(window_bits, kept, parameters.client_no_context_takeover)
    }

    /// The context of a message that refers to no earlier message.
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

    /// Whether copying the window takes long and a kept inflater would hold the same window. An
    /// inflater always has the largest window.
    fn has_large_window(&self) -> bool {
        self.window_bits == DeflateParameters::MAX_WINDOW_BITS && self.history.len() > Self::LARGE
    }

    /// Appends the text of a message that was sent compressed.
    pub(super) fn remember(&mut self, text: &[u8]) {
        self.history.push(text);
    }

    /// [`TakeoverContext::remember`], with the stored text counted in `budget`.
    ///
    /// # Errors
    /// [`ProtocolError::BudgetExceeded`] if the budget has no room for the text.
    pub(super) fn remember_within(
        &mut self,
        text: &[u8],
        budget: &AssemblyBudget,
    ) -> Result<(), ProtocolError> {
        self.history.lend(text.len(), budget)?;
        self.history.push(text);
        Ok(())
    }

    /// Clears the history after a compressed message whose text is not known here.
    pub(super) fn forget(&mut self) {
        self.history.clear();
    }

    /// Whether the window of the other side suffices for a message of `length` bytes that was
    /// compressed without context in a window of `window_bits`.
    pub(super) fn holds(&self, window_bits: u8, length: usize) -> bool {
        self.window_bits >= window_bits || length <= window(self.window_bits)
    }
}

/// The last four bytes of the empty stored block that ends every message. They are not sent
/// (§7.2.1).
const TAIL: [u8; 4] = [0x00, 0x00, 0xFF, 0xFF];

impl Deflater {
    /// Returns the payload of a compressed message (§7.2.1); `None` if it would not be smaller.
    pub(super) fn deflate(
        &mut self,
        payload: &[u8],
        level: u8,
        context: &TakeoverContext,
    ) -> Option<&[u8]> {
        let earlier = context.history.parts().concat(); // at most 4 KiB
        let blocks = self.blocks(payload, level, context.window_bits, &earlier);
        let compressed = blocks.strip_suffix(&TAIL)?;
        (compressed.len() < payload.len()).then_some(compressed)
    }
}

/// Size of a window in bytes.
fn window(bits: u8) -> usize {
    1 << bits.min(DeflateParameters::MAX_WINDOW_BITS)
}
