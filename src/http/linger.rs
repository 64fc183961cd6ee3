//! Closes a connection whose client may still be sending.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::HttpStream;

/// How many bytes, and for how long, to read after the server's FIN.
#[derive(Clone, Copy, Debug)]
pub(super) struct Linger {
    pub(super) size: usize,
    pub(super) timeout: Duration,
}

/// Sends FIN, then reads and discards input until the client's FIN or a bound is reached: closing
/// with unread input would reset the connection, and the client would lose the response.
pub(super) async fn linger(mut stream: HttpStream, Linger { size, timeout }: Linger) {
    let discard = async {
        stream.shutdown().await?;
        // On the heap: few connections linger, but each has room for this future.
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
    // The result does not matter: the stream is dropped.
    let _ = tokio::time::timeout(timeout, discard).await;
}
