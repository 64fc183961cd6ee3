//! What travels: handshakes, masked frames and the bytes that must come back.

use std::{
    io,
    io::{Error, Read, Write},
    net::{SocketAddr, TcpStream},
};

use clap::ValueEnum;
use fastrand::Rng;

/// The example key of RFC 6455 §1.3, and what a server must make of it.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

const OPCODE_TEXT: u8 = 0x1;
const OPCODE_BINARY: u8 = 0x2;

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Protocol {
    /// The bytes of the masked frames, sent as they are and expected back as they are.
    RawTcp,
    WebSocket {
        path: &'static str,
    },
}

impl Protocol {
    /// A blocking connection with the handshake done.
    pub(crate) fn connect(self, address: SocketAddr) -> io::Result<TcpStream> {
        let mut stream = TcpStream::connect(address)?;
        self.open(&mut stream)?;
        Ok(stream)
    }

    /// The handshake, on a socket that blocks.
    pub(crate) fn open(self, stream: &mut TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let Self::WebSocket { path } = self else {
            return Ok(());
        };
        stream.write_all(&upgrade_request(path))?;
        let mut head = Vec::new();
        let mut chunk = [0; 1_024];
        while !head.ends_with(b"\r\n\r\n") {
            match stream.read(&mut chunk)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                length => head.extend_from_slice(&chunk[..length]),
            }
        }
        check_upgraded(&head)
    }
}

pub(crate) fn upgrade_request(path: &str) -> Vec<u8> {
    format!(
        "GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\n\
         Connection: Upgrade\r\nSec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    .into_bytes()
}

/// Fails unless `head` is the answer to [`upgrade_request`] and nothing behind it.
pub(crate) fn check_upgraded(head: &[u8]) -> io::Result<()> {
    let text = String::from_utf8_lossy(head);
    let ends_here = text
        .find("\r\n\r\n")
        .is_some_and(|end| end + 4 == text.len());
    if text.starts_with("HTTP/1.1 101 ") && text.contains(ACCEPT) && ends_here {
        Ok(())
    } else {
        Err(Error::other(format!("not the handshake's answer: {text}")))
    }
}

#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq, ValueEnum)]
pub(crate) enum Kind {
    /// Random bytes.
    Binary,
    /// Text of printable ASCII.
    TextAscii,
    /// Text of characters of one to four bytes, in equal numbers.
    TextMultibyte,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Binary => "binary",
            Self::TextAscii => "text-ascii",
            Self::TextMultibyte => "text-multibyte",
        }
    }

    fn opcode(self) -> u8 {
        match self {
            Self::Binary => OPCODE_BINARY,
            Self::TextAscii | Self::TextMultibyte => OPCODE_TEXT,
        }
    }

    fn payload(self, size: usize, random: &mut Rng) -> Vec<u8> {
        let mut payload = Vec::with_capacity(size + 4);
        match self {
            Self::Binary => {
                payload.resize(size, 0);
                random.fill(&mut payload);
            }
            Self::TextAscii => payload.resize_with(size, || random.u8(b' '..=b'~')),
            Self::TextMultibyte => {
                let mut bytes = [0; 4];
                while payload.len() < size {
                    let room = size - payload.len();
                    let character = match random.usize(1..=room.min(4)) {
                        1 => random.char(' '..='~'),
                        2 => random.char('\u{80}'..='\u{7FF}'),
                        3 => random.char('\u{800}'..='\u{D7FF}'),
                        _ => random.char('\u{1_0000}'..='\u{10_FFFF}'),
                    };
                    payload.extend_from_slice(character.encode_utf8(&mut bytes).as_bytes());
                }
            }
        }
        payload
    }
}

/// A batch of messages that a client sends at once, and the bytes of a right answer.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub(crate) request: Vec<u8>,
    pub(crate) reply: Vec<u8>,
}

impl Batch {
    /// `depth` messages of `size` bytes, each with its own content and its own mask.
    pub(crate) fn echoed(
        protocol: Protocol,
        kind: Kind,
        size: usize,
        depth: usize,
        random: &mut Rng,
    ) -> Self {
        let mut batch = Self::default();
        for _ in 0..depth {
            let payload = kind.payload(size, random);
            masked_frame(&mut batch.request, kind.opcode(), &payload, random.u32(..));
            if protocol != Protocol::RawTcp {
                plain_frame(&mut batch.reply, kind.opcode(), &payload);
            }
        }
        if protocol == Protocol::RawTcp {
            batch.reply.clone_from(&batch.request);
        }
        batch
    }

    /// Messages to publish, and what each member gets: those that `commands` stand for.
    pub(crate) fn published(commands: &[u8], random: &mut Rng) -> Self {
        let mut batch = Self::default();
        for &command in commands {
            let payload = published_payload(command);
            plain_frame(&mut batch.reply, OPCODE_BINARY, &payload);
            let mask = random.u32(..);
            masked_frame(&mut batch.request, OPCODE_BINARY, &payload, mask);
        }
        batch
    }
}

/// Size of the messages of the fan-out bench.
pub(crate) const PUBLISHED_SIZE: usize = 100;

fn published_payload(command: u8) -> Vec<u8> {
    let mut random = Rng::with_seed(command.into());
    Kind::Binary.payload(PUBLISHED_SIZE, &mut random)
}

/// A client's frame (RFC 6455 §5.2, masked as §5.3 says).
fn masked_frame(out: &mut Vec<u8>, opcode: u8, payload: &[u8], mask: u32) {
    header(out, opcode, payload.len(), 0x80);
    let mask = mask.to_ne_bytes();
    out.extend_from_slice(&mask);
    out.extend(
        payload
            .iter()
            .zip(mask.iter().cycle())
            .map(|(byte, key)| byte ^ key),
    );
}

/// A server's frame.
fn plain_frame(out: &mut Vec<u8>, opcode: u8, payload: &[u8]) {
    header(out, opcode, payload.len(), 0);
    out.extend_from_slice(payload);
}

fn header(out: &mut Vec<u8>, opcode: u8, length: usize, mask_bit: u8) {
    out.push(0x80 | opcode);
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
