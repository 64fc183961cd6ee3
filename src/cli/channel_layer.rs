//! The flags of rooms that several processes share.

use clap::{Args, ValueEnum};

use crate::rooms::redis::{DjangoLayer, Redis};

#[derive(Args, Debug)]
#[command(next_help_heading = "Rooms of several processes")]
pub(super) struct ChannelLayerArguments {
    /// What joins the rooms of /broadcast, /ws/{client_id} and /ws/chat/{room_name}/ with the rooms
    /// of other processes
    #[arg(long, value_name = "LAYER", value_enum, default_value = "memory")]
    channel_layer: ChannelLayerKind,

    /// The Redis of --channel-layer (version 6 or later): redis://USER:PASSWORD@HOST:PORT/DB, or
    /// rediss:// for TLS
    #[arg(long, value_name = "URL", default_value = "redis://127.0.0.1:6379/0")]
    redis_url: String,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum ChannelLayerKind {
    /// Nothing: each process has its own rooms
    Memory,
    /// Redis; the chat rooms also work with Django Channels' RedisPubSubChannelLayer
    RedisPubsub,
    /// Redis; the chat rooms also work with Django Channels' RedisChannelLayer
    RedisCore,
}

impl ChannelLayerArguments {
    /// The configured Redis, which runs as a task of this runtime, or an error message.
    pub(super) fn redis(&self) -> Result<Option<Redis>, String> {
        let django = match self.channel_layer {
            ChannelLayerKind::Memory => return Ok(None),
            ChannelLayerKind::RedisPubsub => DjangoLayer::PubSub,
            ChannelLayerKind::RedisCore => DjangoLayer::Core,
        };
        let (redis, relay) = Redis::new(&self.redis_url, django).map_err(|error| {
            format!("--redis-url (FRAMELOOP_REDIS_URL): {error}; use redis://127.0.0.1:6379/0")
        })?;
        tokio::spawn(relay.run());
        Ok(Some(redis))
    }
}
