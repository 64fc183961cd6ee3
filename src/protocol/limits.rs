//! The maximum sizes of a frame and of a message.

/// The sizes that a [`Receiver`](super::Receiver) accepts. Both bounds are inclusive.
///
/// Both limits count payload bytes as the application sees them, without headers. The size of a
/// message is the sum over all its fragments.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SizeLimits {
    /// Maximum size of a message in bytes, all fragments together. Default: 16 MiB. A larger
    /// message fails with 1009.
    pub max_message_size: usize,
    /// Maximum payload of a frame in bytes. A larger frame fails with 1009. Default: 16 MiB.
    pub max_frame_size: usize,
}

impl SizeLimits {
    /// Maximum number of consecutive empty fragments in a message. Empty fragments count towards no
    /// size limit, so without this bound a peer could keep a core busy forever.
    pub const MAX_EMPTY_FRAGMENTS: u16 = 1_024;
}

impl Default for SizeLimits {
    /// 16 MiB for both limits: the largest message of the Autobahn test suite.
    fn default() -> SizeLimits {
        SizeLimits {
            max_message_size: 16 << 20,
            max_frame_size: 16 << 20,
        }
    }
}
