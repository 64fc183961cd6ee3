//! The end of a connection whose client may still be sending.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::HttpStream;

/// How long, and how much, is read on after our FIN.
#[derive(Clone, Copy, Debug)]
pub(super) struct Linger {
    pub(super) size: usize,
    pub(super) timeout: Duration,
}

/// Sends FIN and reads on until the client's, for a while: closing with unread input would reset
/// the connection, and the client would lose the response.
pub(super) async fn linger(mut stream: HttpStream, Linger { size, timeout }: Linger) {
    let discard = async {
        stream.shutdown().await?;
        // Not in the future, which every connection has: few linger.
        let mut scratch = vec![0; 4 << 10];
        let mut discarded = 0;
        while discarded < size {
            match stream.read(&mut scratch).await? {
                0 => break,
                bytes => discarded += bytes,
            }
        }
        Ok::<(), std::io::Error>(())
    };
    // Whether it ended well makes no difference: the stream is dropped.
    let _ = tokio::time::timeout(timeout, discard).await;
}
