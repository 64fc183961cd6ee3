//! The flags of permessage-deflate.

use clap::{ArgAction, Args};

use super::values::{one_of, size};
use crate::protocol::{ContextTakeover, Deflate};

#[derive(Args, Debug)]
#[command(next_help_heading = "Compression")]
pub(super) struct DeflateArguments {
    /// Compress messages (permessage-deflate, RFC 7692) for clients that offer it
    #[arg(long, value_name = "WHETHER", action = ArgAction::Set, default_value = "on",
          value_parser = one_of([("off", false, ""), ("on", true, "")]))]
    deflate: bool,

    /// Effort: 1 is the fastest, 9 gives the smallest messages
    #[arg(long, value_name = "LEVEL", value_parser = clap::value_parser!(u8).range(1..=9),
          default_value = "1")]
    deflate_level: u8,

    /// Smallest message to compress; a smaller one is sent as it is
    #[arg(long, value_name = "SIZE", value_parser = size, default_value = "1KiB")]
    deflate_min_size: usize,

    /// Whose messages may reuse data of earlier ones. This makes messages smaller and costs time and
    /// memory, which the window bounds. `none` keeps no window, but some clients (Netty's) fail on
    /// its answer
    #[arg(long, value_name = "WHOSE", default_value = "client", value_parser = one_of([
        ("none", ContextTakeover::None, ""),
        ("client", ContextTakeover::Client, ""),
        ("both", ContextTakeover::Both, ""),
    ]))]
    deflate_context_takeover: ContextTakeover,

    /// How far back the reused data may be: 2 to the power of this, in bytes
    #[arg(long, value_name = "BITS", value_parser = clap::value_parser!(u8).range(9..=15),
          default_value = "15")]
    deflate_window_bits: u8,
}

impl DeflateArguments {
    pub(super) fn deflate(&self) -> Option<Deflate> {
        self.deflate.then_some(Deflate {
            level: self.deflate_level,
            min_size: self.deflate_min_size,
            context_takeover: self.deflate_context_takeover,
            window_bits: self.deflate_window_bits,
        })
    }
}
