//! How large a frame and a message may be.

/// The sizes that a [`Receiver`](super::Receiver) accepts. Both bounds are inclusive.
///
/// They count payload bytes as the application sees them: the sum over all fragments of a
/// message, headers left out.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SizeLimits {
    /// Bytes of one message, its fragments together. A larger one fails with 1009.
    pub max_message_size: usize,
    /// Bytes of one frame's payload. A larger one fails with 1009.
    pub max_frame_size: usize,
}

impl SizeLimits {
    /// How many empty fragments may follow one another inside a message. They carry nothing, so
    /// without this bound a peer could keep a core busy for ever below every limit of size.
    pub const MAX_EMPTY_FRAGMENTS: u16 = 1_024;
}

impl Default for SizeLimits {
    /// 16 MiB for each: what the Autobahn suite sends at most.
    fn default() -> SizeLimits {
        SizeLimits {
            max_message_size: 16 << 20,
            max_frame_size: 16 << 20,
        }
    }
}
