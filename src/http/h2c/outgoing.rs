//! The body of a response, sent in chunks. A chunk counts as unsent until its bytes are written to
//! the socket.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body_util::channel::Channel;
use http_body_util::{Either, Full};
use hyper::body::{Body, Frame, SizeHint};
use tokio::sync::{OwnedSemaphorePermit, watch};

use crate::engine::UnsentBudget;
use crate::http::body::CountedBytes;

/// Bytes of a body that the HTTP/2 layer holds at a time. It gets the next chunk after the client
/// has accepted this one.
const CHUNK: usize = 16 << 10;

/// A response's body.
pub(super) struct Outgoing {
    source: Either<Full<Bytes>, Channel<Bytes>>,
    /// Bytes of the source that are not in a chunk yet. Bound: one piece of the source's data. It
    /// counts in the unsent budget.
    rest: Bytes,
    /// The unsent budget, which all clients share.
    unsent: UnsentBudget,
    /// Whether a chunk is still unsent.
    in_flight: watch::Sender<bool>,
    /// The place of the request's body, released after the first piece of the response is sent.
    place: Option<OwnedSemaphorePermit>,
    has_begun: bool,
}

impl Outgoing {
    pub(super) fn new(
        source: Either<Full<Bytes>, Channel<Bytes>>,
        unsent: &UnsentBudget,
        in_flight: watch::Sender<bool>,
        place: Option<OwnedSemaphorePermit>,
    ) -> Outgoing {
        Outgoing {
            source,
            rest: Bytes::new(),
            unsent: unsent.clone(),
            in_flight,
            place,
            has_begun: false,
        }
    }

    /// Splits the next chunk off `rest`, which must not be empty.
    fn chunk(&mut self) -> Bytes {
        self.has_begun = true;
        self.in_flight.send_replace(true);
        Bytes::from_owner(Chunk {
            data: self.rest.split_to(CHUNK.min(self.rest.len())),
            in_flight: self.in_flight.clone(),
        })
    }
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let this = self.get_mut();
        if *this.in_flight.borrow() {
            // The calling task waits for the change itself (see `Streams`).
            return Poll::Pending;
        }
        while this.rest.is_empty() {
            if this.has_begun {
                this.place = None;
            }
            let Some(Ok(frame)) = ready!(Pin::new(&mut this.source).poll_frame(context)) else {
                return Poll::Ready(None);
            };
            let data = frame.into_data().unwrap_or_default();
            this.rest = Bytes::from_owner(CountedBytes::new(data, &this.unsent));
        }
        Poll::Ready(Some(Ok(Frame::data(this.chunk()))))
    }

    fn is_end_stream(&self) -> bool {
        // After the first chunk, the end is a separate empty frame, sent after the last chunk:
        // until then the write stall deadline applies.
        !self.has_begun && self.source.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        // hyper calls this once, before the first chunk, for Content-Length.
        self.source.size_hint()
    }
}

/// A part of a piece that is being sent.
struct Chunk {
    data: Bytes,
    in_flight: watch::Sender<bool>,
}

impl AsRef<[u8]> for Chunk {
    fn as_ref(&self) -> &[u8] {
        &self.data
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        self.in_flight.send_replace(false);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::task::Waker;

    use tokio::sync::Semaphore;

    use super::*;

    #[test]
    fn a_body_counts_until_its_last_chunk_has_gone() {
        let unsent = UnsentBudget::new(1_000);
        let places = Arc::new(Semaphore::new(1));
        let mut body = Outgoing::new(
            Either::Left(Full::from(vec![7; CHUNK + 1])),
            &unsent,
            watch::Sender::default(),
            Arc::clone(&places).try_acquire_owned().ok(),
        );
        let context = &mut Context::from_waker(Waker::noop());
        let mut next = || match Pin::new(&mut body).poll_frame(context) {
            Poll::Ready(Some(frame)) => Some(frame.unwrap().into_data().unwrap()),
            Poll::Ready(None) => None,
            Poll::Pending => Some(Bytes::new()),
        };
        let first = next().unwrap();
        assert_eq!((first.len(), unsent.bytes()), (CHUNK, CHUNK + 1));
        assert!(next().unwrap().is_empty(), "one chunk at a time");
        drop(first);
        let last = next().unwrap();
        assert_eq!((last.len(), unsent.bytes()), (1, CHUNK + 1));
        assert_eq!(places.available_permits(), 0);
        drop(last);
        assert_eq!((next(), unsent.bytes()), (None, 0));
        assert_eq!(places.available_permits(), 1);
    }
}
