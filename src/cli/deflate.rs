//! The flags of permessage-deflate.

use clap::{Args, ValueEnum};

use super::values::size;
use crate::protocol::{ContextTakeover, Deflate};

#[derive(Args, Debug)]
#[command(next_help_heading = "Compression")]
pub(super) struct DeflateArguments {
    /// Whether messages are compressed (permessage-deflate) for clients that offer it
    #[arg(
        long,
        env = "FRAMELOOP_DEFLATE",
        value_name = "WHETHER",
        default_value = "on"
    )]
    deflate: Switch,

    /// How hard to compress: 1 is fastest, 9 smallest
    #[arg(long, env = "FRAMELOOP_DEFLATE_LEVEL", value_name = "LEVEL",
          value_parser = clap::value_parser!(u8).range(1..=9), default_value = "1")]
    deflate_level: u8,

    /// Smallest message to compress; below it the time costs more than the octets saved
    #[arg(long, env = "FRAMELOOP_DEFLATE_MIN_SIZE", value_name = "SIZE", value_parser = size,
          default_value = "1KiB")]
    deflate_min_size: usize,

    /// Whose messages may refer to earlier ones: smaller messages for more memory, which the window
    /// bounds. With `none` the server tells clients so unasked, and some fail on that
    #[arg(
        long,
        env = "FRAMELOOP_DEFLATE_CONTEXT_TAKEOVER",
        value_name = "WHOSE",
        default_value = "client"
    )]
    deflate_context_takeover: Takeover,

    /// How far back compressed data may refer: 2 to the power of this, in octets
    #[arg(long, env = "FRAMELOOP_DEFLATE_WINDOW_BITS", value_name = "BITS",
          value_parser = clap::value_parser!(u8).range(9..=15), default_value = "15")]
    deflate_window_bits: u8,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Switch {
    Off,
    On,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Takeover {
    None,
    Client,
    Both,
}

impl DeflateArguments {
    pub(super) fn deflate(&self) -> Option<Deflate> {
        match self.deflate {
            Switch::Off => None,
            Switch::On => Some(Deflate {
                level: self.deflate_level,
                min_size: self.deflate_min_size,
                context_takeover: match self.deflate_context_takeover {
                    Takeover::None => ContextTakeover::None,
                    Takeover::Client => ContextTakeover::Client,
                    Takeover::Both => ContextTakeover::Both,
                },
                window_bits: self.deflate_window_bits,
            }),
        }
    }
}
