//! Writes responses whose body has no known end, on streams that hyper has given up.

use std::io;

use bytes::Bytes;
use http_body_util::BodyExt;
use http_body_util::channel::Channel;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::Upgraded;
use crate::engine::{Held, UnsentBudget};

/// Writes a body as chunks (RFC 9112 §7.1) until the body ends, the client closes, or the unsent
/// budget is spent. Bound: one chunk at a time, which counts in the unsent budget; the body holds
/// as many chunks as its channel has room for.
///
/// # Errors
/// An error of the stream.
pub(super) async fn write_chunks(
    mut stream: Upgraded,
    mut body: Channel<Bytes>,
    unsent: UnsentBudget,
) -> io::Result<()> {
    let mut input = [0; 1_024];
    loop {
        tokio::select! {
            frame = body.frame() => {
                let Some(Ok(frame)) = frame else {
                    return stream.write_all(b"0\r\n\r\n").await;
                };
                // An empty chunk would end the body.
                if let Some(data) = frame.data_ref().filter(|data| !data.is_empty()) {
                    if unsent.is_spent() {
                        return Ok(());
                    }
                    let _held = Held::new(data.len(), &unsent);
                    let head = format!("{:x}\r\n", data.len());
                    stream.write_all(&[head.as_bytes(), data, b"\r\n"].concat()).await?;
                }
            }
            read = stream.read(&mut input) => if read? == 0 {
                return Ok(());
            },
        }
    }
}
