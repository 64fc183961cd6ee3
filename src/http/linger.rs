//! Closes a connection whose client may still be sending.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{HttpShared, HttpStream};

/// Sends FIN, then reads and discards input until the client's FIN or a bound is reached: closing
/// with unread input would reset the connection, and the client would lose the response. Bound:
/// `linger_size`, in bytes read and discarded, and `Deadlines::linger`.
pub(super) async fn linger(mut stream: HttpStream, shared: &HttpShared) {
    let discard = async {
        stream.shutdown().await?;
        // On the heap: few connections linger, but each has room for this future.
        let mut scratch = vec![0; 4 << 10];
        let mut discarded = 0;
        while discarded < shared.settings.linger_size {
            match stream.read(&mut scratch).await? {
                0 => break,
                bytes => discarded += bytes,
            }
        }
        Ok::<(), std::io::Error>(())
    };
    // The result does not matter: the stream is dropped.
    let _ = tokio::time::timeout(shared.settings.deadlines.linger, discard).await;
}
