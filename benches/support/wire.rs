//! Prepared requests and expected replies, for clients that do not parse messages: the bare loop
//! and the exchanges of the `instructions` bench.

use std::{
    io,
    io::{Error, Read, Write},
    net::{SocketAddr, TcpStream},
};

use fastrand::Rng;

/// The example key of RFC 6455 §1.3, and the matching Sec-WebSocket-Accept value.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// Size of the messages of the fan-out bench, in bytes.
pub(crate) const PUBLISHED_SIZE: usize = 100;

/// Connects a blocking socket and completes the opening handshake.
pub(crate) fn connect(address: SocketAddr, path: &str) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect(address)?;
    ask(&mut stream, path)?;
    match answer(&mut stream)?.is_empty() {
        true => Ok(stream),
        false => Err(Error::other("the server speaks first")),
    }
}

/// Sends the request of the opening handshake.
pub(crate) fn ask(stream: &mut TcpStream, path: &str) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\n\
         Connection: Upgrade\r\nSec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: 13\r\n\r\n"
    );
    stream.write_all(request.as_bytes())
}

/// Waits for the answer to [`ask`], and returns the bytes received after it.
pub(crate) fn answer(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    let mut chunk = [0; 1_024];
    let end = loop {
        match stream.read(&mut chunk)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            length => head.extend_from_slice(&chunk[..length]),
        }
        if let Some(end) = head.windows(4).position(|window| window == b"\r\n\r\n") {
            break end + 4;
        }
    };
    let early = head.split_off(end);
    let text = String::from_utf8_lossy(&head);
    match text.starts_with("HTTP/1.1 101 ") && text.contains(ACCEPT) {
        true => Ok(early),
        false => Err(Error::other(format!("not the handshake's answer: {text}"))),
    }
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Kind {
    /// Random bytes.
    Binary,
    /// Text of printable ASCII.
    Text,
}

/// Messages that a client sends in one write, and the bytes of the correct reply.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub(crate) request: Vec<u8>,
    pub(crate) reply: Vec<u8>,
}

impl Batch {
    /// `depth` messages of `size` bytes, each with its own content and its own mask.
    pub(crate) fn new(kind: Kind, size: usize, depth: usize, random: &mut Rng) -> Self {
        let mut batch = Self::default();
        for _ in 0..depth {
            let (first, payload): (u8, Vec<u8>) = match kind {
                Kind::Binary => (0x82, (0..size).map(|_| random.u8(..)).collect()),
                Kind::Text => (0x81, (0..size).map(|_| random.u8(b' '..=b'~')).collect()),
            };
            header(&mut batch.reply, first, size, 0);
            batch.reply.extend_from_slice(&payload);
            // A client's frame is masked (RFC 6455 §5.3).
            let mask = random.u32(..).to_ne_bytes();
            header(&mut batch.request, first, size, 0x80);
            batch.request.extend_from_slice(&mask);
            let masked = payload.iter().zip(mask.iter().cycle());
            batch.request.extend(masked.map(|(byte, key)| byte ^ key));
        }
        batch
    }
}

fn header(out: &mut Vec<u8>, first: u8, length: usize, mask_bit: u8) {
    out.push(first);
    match length {
        0..126 => out.push(mask_bit | length as u8),
        126..0x1_0000 => {
            out.push(mask_bit | 126);
            out.extend_from_slice(&(length as u16).to_be_bytes());
        }
        _ => {
            out.push(mask_bit | 127);
            out.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
}
