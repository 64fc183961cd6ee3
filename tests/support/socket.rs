//! A WebSocket client that is not ours: tungstenite over a blocking socket.

#![allow(dead_code, reason = "not every test binary needs all of it")]

use std::io::{Error, ErrorKind, Read, Result, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use tungstenite::protocol::Role;
use tungstenite::{Bytes, Message, WebSocket};

/// How long anything may take before its test fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The request of RFC 6455 §1.3.
pub(crate) fn request(path: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
}

/// Connects and opens a WebSocket.
///
/// # Errors
/// Of the socket, and when the answer is not 101.
pub(crate) fn open(address: SocketAddr, path: &str) -> Result<WebSocket<TcpStream>> {
    let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    open_on(stream, path)
}

/// Opens a WebSocket on a connected stream.
///
/// # Errors
/// Of the socket, and when the answer is not 101.
pub(crate) fn open_on(mut stream: TcpStream, path: &str) -> Result<WebSocket<TcpStream>> {
    stream.write_all(request(path).as_bytes())?;
    let head = receive_head(&mut stream)?;
    if !head.starts_with("HTTP/1.1 101 ") {
        return Err(Error::new(ErrorKind::InvalidData, head));
    }
    Ok(WebSocket::from_raw_socket(stream, Role::Client, None))
}

/// The head of a response, to its empty line, and nothing of what follows.
///
/// # Errors
/// Of the socket, and when it ends before that.
pub(crate) fn receive_head(stream: &mut TcpStream) -> Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}

/// A data message of the type that its sequence tells (see [`crate::checker`]).
pub(crate) fn message(text: bool, payload: Vec<u8>) -> Message {
    if text {
        let text = String::from_utf8(payload).expect("text is UTF-8");
        Message::text(text)
    } else {
        Message::Binary(Bytes::from(payload))
    }
}

/// A frame from a client: its first byte, and its payload masked with the key 01 02 03 04.
pub(crate) fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match payload.len() {
        length @ 0..=125 => frame.push(0x80 | length as u8),
        length @ 126..=0xFFFF => {
            frame.push(0x80 | 126);
            frame.extend((length as u16).to_be_bytes());
        }
        length => {
            frame.push(0x80 | 127);
            frame.extend((length as u64).to_be_bytes());
        }
    }
    frame.extend([1, 2, 3, 4]);
    let masked = payload
        .iter()
        .zip([1, 2, 3, 4].iter().cycle())
        .map(|(byte, key)| byte ^ key);
    frame.extend(masked);
    frame
}
