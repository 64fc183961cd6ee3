//! permessage-deflate (RFC 7692): what a server is willing to do, and what it has agreed on.

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
    /// Octets below which a message is sent as it is. Above, too, a message is, if compressing
    /// does not make it smaller.
    pub min_size: usize,
    /// Let messages refer to the ones before them, in both directions, unless the client
    /// declines: they become smaller, and each connection that uses it keeps the last 4 KiB that
    /// went out and the last 2^`window_bits` octets that came in.
    pub context_takeover: bool,
    /// The base-2 logarithm of how far back compressed data may refer, 9 to 15. Other values
    /// count as the nearest. Clients that cannot be told are believed to use 15.
    pub window_bits: u8,
}

#[cfg(feature = "deflate")]
impl Default for Deflate {
    /// Level 1, from 1 KiB on, no context takeover, a window of 2^15 octets.
    ///
    /// Level 1 takes a third of the time of level 6 and its output is a quarter larger. Below
    /// 1 KiB the time that both ends spend is longer than that of the octets saved on a link of
    /// 1 Gbit/s.
    fn default() -> Deflate {
        Deflate {
            level: 1,
            min_size: 1 << 10,
            context_takeover: false,
            window_bits: DeflateParameters::MAX_WINDOW_BITS,
        }
    }
}

/// What both sides have agreed on (§7.1).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct DeflateParameters {
    /// What the server sends never refers to an earlier message (§7.1.1.1).
    pub server_no_context_takeover: bool,
    /// What the client sends never refers to an earlier message (§7.1.1.2).
    pub client_no_context_takeover: bool,
    /// The server's window has 2 to the power of this octets, 9 to 15 (§7.1.2.1).
    pub server_max_window_bits: u8,
    /// The client's window has at most 2 to the power of this octets, 8 to 15 (§7.1.2.2).
    pub client_max_window_bits: u8,
}

impl DeflateParameters {
    /// The smallest window that a deflater can keep to: zlib's raw deflate cannot do 8.
    pub const MIN_WINDOW_BITS: u8 = 9;
    /// The largest window that there is.
    pub const MAX_WINDOW_BITS: u8 = 15;
}
