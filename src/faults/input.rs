//! What has been read of a client with faults, and not looked at yet.

use std::io;
use std::ops::Range;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, ReadBuf};

use crate::http::Upgraded;

/// A buffer of 16 KiB.
pub(super) struct Input {
    buffer: Vec<u8>,
    unread: Range<usize>,
}

impl Default for Input {
    fn default() -> Input {
        Input {
            buffer: vec![0; 16 << 10],
            unread: 0..0,
        }
    }
}

impl Input {
    pub(super) fn is_empty(&self) -> bool {
        self.unread.is_empty()
    }

    pub(super) fn unread(&mut self) -> &mut [u8] {
        &mut self.buffer[self.unread.clone()]
    }

    /// All has been looked at but for the last so many octets.
    pub(super) fn read_until(&mut self, left: usize) {
        self.unread.start = self.unread.end - left;
    }

    /// Reads, when nothing is left; says how much there is now, which at the client's end is nothing.
    pub(super) fn poll_fill(
        &mut self,
        stream: &mut Upgraded,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        let mut buffer = ReadBuf::new(&mut self.buffer);
        match ready!(Pin::new(stream).poll_read(context, &mut buffer)) {
            // TLS that ends without a goodbye.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {}
            read => read?,
        }
        self.unread = 0..buffer.filled().len();
        Poll::Ready(Ok(self.unread.len()))
    }
}
