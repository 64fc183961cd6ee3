//! The flags for how long each step may take.

use std::time::Duration;

use clap::Args;

use super::values::duration;
use crate::engine::Deadlines;

#[derive(Args, Debug)]
#[command(next_help_heading = "Deadlines")]
pub(super) struct DeadlineArguments {
    /// Time for a request head, from the connection or its first byte
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "10s")]
    pub(super) handshake_timeout: Duration,

    /// From a response to the next request on the connection. It must be longer than a proxy in front
    /// keeps idle connections (nginx and cloud load balancers: 60 s)
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "75s")]
    pub(super) keep_alive_timeout: Duration,

    /// Silence of a client until the server sends a Ping
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "20s")]
    pub(super) ping_interval: Duration,

    /// Silence after a Ping until Close 1008 'ping timeout'
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "20s")]
    pub(super) ping_timeout: Duration,

    /// From a message's first byte to its last; a slower message gets Close 1008
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "60s")]
    pub(super) message_timeout: Duration,

    /// From one data message to the next; a longer silence gets a Close
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "0")]
    pub(super) idle_timeout: Duration,

    /// How long a client may read nothing, or next to nothing, of what waits for it; then the
    /// connection is reset
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "30s")]
    pub(super) write_timeout: Duration,

    /// From the server's Close to the client's answer
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "10s")]
    pub(super) close_timeout: Duration,

    /// Time to read after the server has ended its side, until the client ends its own
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "2s")]
    pub(super) linger: Duration,

    /// How long clients have to answer the Close when the server stops
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "10s")]
    pub(super) drain_timeout: Duration,
}

impl DeadlineArguments {
    /// The deadlines of a WebSocket.
    pub(super) fn deadlines(&self) -> Deadlines {
        Deadlines {
            ping_interval: self.ping_interval,
            ping_timeout: self.ping_timeout,
            message: self.message_timeout,
            idle: Some(self.idle_timeout).filter(|idle| !idle.is_zero()),
            write_stall: self.write_timeout,
            close: self.close_timeout,
            throttle_timeout: Deadlines::default().throttle_timeout,
            linger: self.linger,
        }
    }
}
