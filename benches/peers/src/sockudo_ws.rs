//! sockudo-ws: the echo loop and the handshake of its `examples/simple_echo.rs`.

use ::sockudo_ws::{
    Config, Error, Message, WebSocketStream,
    handshake::{build_response, generate_accept_key, parse_request},
};
use bytes::BytesMut;
use futures_util::{SinkExt, StreamExt};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::Outcome;

pub(crate) async fn echo(mut stream: TcpStream) -> Outcome {
    accept(&mut stream).await?;
    let mut socket = WebSocketStream::server(stream, Config::default());
    while let Some(message) = socket.next().await {
        match message? {
            message @ (Message::Text(_) | Message::Binary(_)) => socket.send(message).await?,
            Message::Close(_) => break,
            _ => {}
        }
    }
    Ok(())
}

async fn accept(stream: &mut TcpStream) -> Outcome {
    let mut head = BytesMut::with_capacity(4_096);
    loop {
        if stream.read_buf(&mut head).await? == 0 {
            return Err(Error::ConnectionClosed.into());
        }
        if let Some((request, _)) = parse_request(&head)? {
            let response = build_response(&generate_accept_key(request.key), None, None);
            return Ok(stream.write_all(&response).await?);
        }
    }
}
