//! tokio-tungstenite: echo, and fan-out through a tokio broadcast channel.

use futures_util::{SinkExt, StreamExt};
use tokio::{net::TcpStream, sync::broadcast};
use tokio_tungstenite::{accept_async, tungstenite::Message};

use crate::LoadOutcome;

/// Messages that a member may lag behind; the bench waits for all members after at most 16.
const TOPIC_CAPACITY: usize = 1_024;

pub(crate) type Topic = broadcast::Sender<Message>;

pub(crate) fn topic() -> Topic {
    broadcast::channel(TOPIC_CAPACITY).0
}

pub(crate) async fn echo(stream: TcpStream) -> LoadOutcome {
    let mut socket = accept_async(stream).await?;
    while let Some(message) = socket.next().await {
        let message = message?;
        if message.is_text() || message.is_binary() {
            socket.send(message).await?;
        }
    }
    Ok(())
}

/// Publishes each received message, and sends each published message, including its own.
pub(crate) async fn member(stream: TcpStream, topic: Topic) -> LoadOutcome {
    let mut published = topic.subscribe();
    let (mut sink, mut source) = accept_async(stream).await?.split();
    loop {
        tokio::select! {
            message = published.recv() => sink.send(message?).await?,
            message = source.next() => match message {
                Some(message) => {
                    let message = message?;
                    if message.is_text() || message.is_binary() {
                        topic.send(message)?;
                    }
                }
                None => return Ok(()),
            },
        }
    }
}
