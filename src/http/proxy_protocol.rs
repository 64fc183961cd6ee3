//! The PROXY protocol, versions 1 and 2 (HAProxy's proxy-protocol.txt): how a load balancer tells
//! whom it speaks for, ahead of all that the client says.

use std::io;
use std::net::SocketAddr;

use proxy_header::{Error, ParseConfig, ProxyHeader};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

/// Bytes of a header, its additional fields included, which are passed over: a proxy may put a
/// client's certificate there. Version 2 could claim 64 KiB.
const MAX_SIZE: usize = 16 << 10;

/// Bytes that are looked at beyond those known to belong to the header.
const STEP: usize = 1 << 10;

const CONFIG: ParseConfig = ParseConfig {
    include_tlvs: false,
    allow_v1: true,
    allow_v2: true,
};

/// Takes the header off the stream, and nothing of what follows. `None` if the proxy speaks for
/// itself, to see whether the server is there, or for a client without an address.
///
/// # Errors
/// Of the socket; `UnexpectedEof` when it ends before, `InvalidData` when the header is not valid.
pub(super) async fn receive(stream: &mut TcpStream) -> io::Result<Option<SocketAddr>> {
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
                stream.read_exact(&mut vec![0; size - taken]).await?;
                return Ok(client);
            }
            // All of it belongs to the header: the next peek waits for more.
            Err(Error::BufferTooShort) if seen < MAX_SIZE => {
                stream.read_exact(&mut bytes[taken..]).await?;
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
