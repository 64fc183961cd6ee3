//! The PROXY protocol, versions 1 and 2 (HAProxy's proxy-protocol.txt): a load balancer sends the
//! client's address before the client's first byte.

use std::io::{self, Read};
use std::net::SocketAddr;

use proxy_header::{Error, ParseConfig, ProxyHeader};
use tokio::io::Interest;

use super::HttpStream;
use crate::engine::ClientSocket;

/// Maximum bytes of a header, with its additional fields, which are ignored: a proxy may put a
/// client's certificate there. Version 2 allows up to 64 KiB.
const MAX_SIZE: usize = 16 << 10;

/// Bytes to peek beyond the bytes that are known to belong to the header.
const STEP: usize = 1 << 10;

const CONFIG: ParseConfig = ParseConfig {
    include_tlvs: false,
    allow_v1: true,
    allow_v2: true,
};

/// Reads the header from the stream, and no byte after it. `None` if the proxy connects for itself,
/// for example as a health check, or for a client without an address.
///
/// # Errors
/// An error of the stream; `UnexpectedEof` if the stream ends before the end of the header,
/// `InvalidData` if the header is not valid.
pub(super) async fn receive(stream: &mut HttpStream) -> io::Result<Option<SocketAddr>> {
    let mut bytes = Vec::new();
    loop {
        let taken = bytes.len();
        bytes.resize((taken + STEP).min(MAX_SIZE), 0);
        let seen = taken + stream.peek(&mut bytes[taken..]).await?;
        if seen == taken {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        bytes.truncate(seen);
        match ProxyHeader::parse(&bytes, CONFIG) {
            Ok((header, size)) => {
                let client = header.proxied_address().map(|address| address.source);
                bytes.resize(size, 0);
                take(stream, &mut bytes[taken..]).await?;
                return Ok(client);
            }
            // All peeked bytes belong to the header: read them, so that the next peek waits for
            // more.
            Err(Error::BufferTooShort) if seen < MAX_SIZE => {
                take(stream, &mut bytes[taken..]).await?;
            }
            Err(_) => {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    "it sends no header of the PROXY protocol",
                ));
            }
        }
    }
}

/// Reads bytes that have been peeked. They are not a part of the client's head.
async fn take(stream: &mut HttpStream, bytes: &mut [u8]) -> io::Result<()> {
    let read = |socket: &mut ClientSocket| socket.read_exact(bytes);
    stream.when(Interest::READABLE, read).await
}
