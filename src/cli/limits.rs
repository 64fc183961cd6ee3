//! The flags that limit the resources of one client and of all clients together.

use clap::Args;

use super::memory;
use super::values::size;

#[derive(Args, Debug)]
#[command(next_help_heading = "Limits")]
pub(super) struct LimitArguments {
    /// Largest message; a larger one gets Close 1009
    ///
    /// Largest message, all fragments together; a larger one gets Close 1009
    #[arg(long, value_name = "SIZE", value_parser = size, default_value = "16MiB")]
    pub(super) max_message_size: usize,

    /// Largest frame; a larger one gets Close 1009
    #[arg(long, value_name = "SIZE", value_parser = size, default_value = "16MiB")]
    pub(super) max_frame_size: usize,

    /// Largest request head; a larger one gets 431
    #[arg(long, value_name = "SIZE", value_parser = size, default_value = "16KiB")]
    pub(super) max_head_size: usize,

    /// Maximum header lines in a request; more get 431
    #[arg(long, value_name = "NUMBER", default_value = "100")]
    pub(super) max_headers: usize,

    /// Maximum connections; more get 503
    ///
    /// Maximum connections, WebSockets and HTTP together; more get 503. At most a quarter of them (at
    /// least 1024) may be without a WebSocket; then the oldest one is closed [default: the limit of
    /// open files minus 64]
    #[arg(long, value_name = "NUMBER")]
    pub(super) max_connections: Option<usize>,

    /// Maximum WebSockets and Socket.IO sessions from one IPv4 address or IPv6 /64; more get 503; 0
    /// means no limit
    #[arg(long, value_name = "NUMBER", default_value = "0")]
    pub(super) max_connections_per_address: usize,

    /// Maximum messages and control frames a second from one client; more get Close 1008; 0 means
    /// no limit
    #[arg(long, value_name = "NUMBER", default_value = "0")]
    pub(super) max_message_rate: u32,

    /// Maximum messages a second from one client to a room, also as one burst; each 64 KiB of a
    /// message counts as one more. A faster client is read more slowly, which loses nothing, and
    /// after 10 s of that it is closed with 1008 'publishing too fast'. The notices of all clients
    /// that leave /ws/{client_id} together have the same rate; 0 means no limit
    #[arg(long, value_name = "NUMBER", default_value = "1000")]
    pub(super) max_publish_rate: u32,

    /// Maximum bytes of room messages that wait for one client. Above that, the room's publishers
    /// wait for it, and a client that is a second behind 1 MiB/s is closed with 1008 'slow consumer'.
    /// It is also the largest message to a room: a larger one gets Close 1009
    #[arg(long, value_name = "SIZE", value_parser = size, default_value = "1MiB")]
    pub(super) max_queue_size: usize,

    /// Maximum room messages that wait for one client; more have the same effect
    #[arg(long, value_name = "NUMBER", default_value = "1024")]
    pub(super) max_queue_messages: usize,

    /// Bytes of room messages that wait for a client before the server stops reading from it
    #[arg(long, value_name = "SIZE", value_parser = size, default_value = "64KiB")]
    pub(super) high_water_mark: usize,

    /// Maximum bytes that all unfinished messages hold together; more get Close 1013 [default: a
    /// quarter of the memory]
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub(super) max_unfinished_size: Option<usize>,

    /// Maximum bytes that wait to be sent to all clients together. When there are more, the clients
    /// with the longest queues are closed: with 1008 if room messages wait for them, otherwise with
    /// 1013 [default: a quarter of the memory]
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub(super) max_unsent_size: Option<usize>,

    /// Bytes to read after the server has ended its side, until the client ends its own
    #[arg(long, value_name = "SIZE", value_parser = size, default_value = "1MiB")]
    pub(super) linger_size: usize,
}

impl LimitArguments {
    pub(super) fn max_unfinished_size(&self) -> usize {
        self.max_unfinished_size
            .unwrap_or_else(quarter_of_the_memory)
    }

    pub(super) fn max_unsent_size(&self) -> usize {
        self.max_unsent_size.unwrap_or_else(quarter_of_the_memory)
    }

    pub(super) fn max_connections_per_address(&self) -> Option<usize> {
        Some(self.max_connections_per_address).filter(|max| *max > 0)
    }
}

/// In whole MiB, which --print-config shows as such.
fn quarter_of_the_memory() -> usize {
    const MIB: usize = 1 << 20;
    (memory::available() / 4 / MIB).max(1) * MIB
}
