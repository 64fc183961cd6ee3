//! The flags of Socket.IO and of the Redis that it shares with other processes.

use clap::Args;

use crate::engine::Settings;
use crate::socketio::{Bus, CHANNEL, SocketIoSettings};

#[derive(Args, Debug)]
#[command(next_help_heading = "Socket.IO")]
pub(super) struct SocketIoArguments {
    /// Redis that Flask-SocketIO's processes share (their message_queue), redis://HOST:PORT/DB.
    /// Broadcasts, rooms and external emitters then reach the clients of all [default: none]
    #[arg(long, value_name = "URL")]
    socketio_redis: Option<String>,

    /// The channel on that Redis; python-socketio without Flask uses `socketio`
    #[arg(long, value_name = "NAME", default_value = CHANNEL)]
    socketio_channel: String,

    /// Maximum sessions; more get 503
    #[arg(long, value_name = "NUMBER", default_value = "65536")]
    socketio_max_sessions: usize,

    /// Compress Socket.IO's WebSockets for clients that offer it, with the settings of --deflate
    #[arg(long)]
    socketio_deflate: bool,
}

impl SocketIoArguments {
    /// Returns the settings of Socket.IO, or an error message. The bus runs as a task of this runtime.
    pub(super) fn settings(&self, server: &Settings) -> Result<SocketIoSettings, String> {
        let bus = match &self.socketio_redis {
            Some(url) => {
                let (bus, relay) = Bus::new(url, &self.socketio_channel).map_err(|error| {
                    format!("--socketio-redis (FRAMELOOP_SOCKETIO_REDIS): {error}; use redis://127.0.0.1:6379/0")
                })?;
                tokio::spawn(relay.run());
                Some(bus)
            }
            None => None,
        };
        Ok(SocketIoSettings {
            max_sessions: self.socketio_max_sessions,
            compression: self.socketio_deflate,
            max_queue_size: server.slow_consumer.max_bytes,
            attachment_timeout: server.deadlines.message,
            max_message_rate: server.max_message_rate,
            max_publish_rate: server.max_publish_rate,
            bus,
            ..SocketIoSettings::default()
        })
    }
}
