//! sockudo-ws: the echo loop and the handshake of its `examples/simple_echo.rs`.

use ::sockudo_ws::{
    CompressedWebSocketStream, Config, DeflateConfig, Error, Message, WebSocketStream,
    handshake::{build_response, generate_accept_key, parse_request},
};
use bytes::BytesMut;
use futures_util::{Sink, SinkExt, Stream, StreamExt};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::LoadOutcome;

pub(crate) async fn echo(mut stream: TcpStream) -> LoadOutcome {
    accept(&mut stream, None).await?;
    echo_messages(WebSocketStream::server(stream, Config::default())).await
}

/// permessage-deflate at the fastest level, without context takeover.
pub(crate) async fn echo_compressed(mut stream: TcpStream) -> LoadOutcome {
    let policy = DeflateConfig {
        server_no_context_takeover: true,
        client_no_context_takeover: true,
        compression_level: 1,
        ..DeflateConfig::default()
    };
    accept(
        &mut stream,
        Some("permessage-deflate; server_no_context_takeover; client_no_context_takeover"),
    )
    .await?;
    echo_messages(CompressedWebSocketStream::server(
        stream,
        Config::default(),
        policy,
    ))
    .await
}

async fn echo_messages(
    mut socket: impl Stream<Item = Result<Message, Error>> + Sink<Message, Error = Error> + Unpin,
) -> LoadOutcome {
    while let Some(message) = socket.next().await {
        match message? {
            message @ (Message::Text(_) | Message::Binary(_)) => socket.send(message).await?,
            Message::Close(_) => break,
            _ => {}
        }
    }
    Ok(())
}

async fn accept(stream: &mut TcpStream, extensions: Option<&str>) -> LoadOutcome {
    let mut head = BytesMut::with_capacity(4_096);
    loop {
        if stream.read_buf(&mut head).await? == 0 {
            return Err(Error::ConnectionClosed.into());
        }
        if let Some((request, _)) = parse_request(&head)? {
            let response = build_response(&generate_accept_key(request.key), None, extensions);
            return Ok(stream.write_all(&response).await?);
        }
    }
}
