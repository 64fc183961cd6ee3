//! The queue of bytes that one connection's socket has not accepted.

use std::collections::VecDeque;
use std::io::{self, IoSlice, Write};
use std::mem;

use super::chunk::Chunk;
use super::delivery::Leeway;
use super::unsent::{ClientShare, Kept, UnsentBudget};
use crate::protocol::LongCompression;

/// Bytes that wait for a socket to become writable, in the order of sending.
///
/// An empty backlog is one null pointer. The backlog distinguishes replies from deliveries: while
/// it holds a reply, nothing is read from the peer; deliveries are bounded and may be dropped.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    queue: Option<Box<Queue>>,
}

#[derive(Debug)]
struct Queue {
    /// Bound: `max_unsent_size`, in bytes of memory, shared with all clients of the server;
    /// deliveries also by [`SlowConsumer`](super::SlowConsumer), for this client alone.
    chunks: VecDeque<Chunk>,
    /// Unwritten bytes of all chunks.
    bytes: usize,
    /// Bytes of memory of all chunks, whole frames included.
    memory: usize,
    messages: usize,
    replies: usize,
    /// The first chunk is partly written. Its rest must be written, or a frame would be cut.
    begun: bool,
    /// Bytes written since [`Backlog::takes_progress`] last returned true.
    progress: usize,
    /// The backlog has been over its bound, and publishers wait for the client whenever it is.
    is_awaited: bool,
    /// Bytes by which the client has fallen behind the rate that publishers wait for.
    debt: usize,
    _client: ClientShare,
}

impl Backlog {
    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_none()
    }

    /// Bytes of memory kept for this connection. A frame shared by several connections counts in
    /// equal parts.
    pub(super) fn share(&self) -> usize {
        let chunks = self.queue.iter().flat_map(|queue| &queue.chunks);
        chunks.map(Chunk::share).sum()
    }

    /// The most that [`Backlog::share`] can be, without a look at each frame.
    pub(super) fn max_share(&self) -> usize {
        self.queue.as_ref().map_or(0, |queue| queue.memory)
    }

    /// Unwritten bytes.
    pub(super) fn bytes(&self) -> usize {
        self.queue.as_ref().map_or(0, |queue| queue.bytes)
    }

    /// Unwritten fan-out messages.
    pub(super) fn messages(&self) -> usize {
        self.queue.as_ref().map_or(0, |queue| queue.messages)
    }

    /// Whether the backlog holds a reply. If it does, nothing is read from the client.
    pub(super) fn has_replies(&self) -> bool {
        self.queue.as_ref().is_some_and(|queue| queue.replies > 0)
    }

    /// Returns true if the backlog is empty, or if 16 KiB have been written since the last time it
    /// returned true. A peer that reads a byte now and then makes no progress, so it cannot keep a
    /// backlog for ever.
    pub(super) fn takes_progress(&mut self) -> bool {
        /// Any link in use carries more than this within any reasonable deadline.
        const ENOUGH: usize = 16 << 10;
        let Some(queue) = &mut self.queue else {
            return true;
        };
        let is_enough = queue.progress >= ENOUGH;
        if is_enough {
            queue.progress = 0;
        }
        is_enough
    }

    /// Notes that publishers wait for the client whenever the backlog is over its bound.
    pub(super) fn mark_awaited(&mut self) {
        if let Some(queue) = &mut self.queue {
            queue.is_awaited = true;
        }
    }

    /// Whether [`Backlog::mark_awaited`] was called since the backlog was last empty.
    pub(super) fn is_awaited(&self) -> bool {
        self.queue.as_ref().is_some_and(|queue| queue.is_awaited)
    }

    /// Adds the bytes `due` in a tick to the client's debt. Returns whether the debt is too large:
    /// more than what waits, or than a second's worth. Two ticks' worth is free, because the clock
    /// is coarse.
    pub(super) fn owes_too_much(&mut self, due: usize) -> bool {
        self.queue.as_mut().is_some_and(|queue| {
            queue.debt += due;
            queue.debt > queue.bytes.min(Leeway::SLOWEST) + 2 * due
        })
    }

    /// Queues `messages` fan-out messages, or a reply if that is 0. `begun` means that the backlog is
    /// empty and that the first bytes continue a partly written frame.
    pub(super) fn push(&mut self, kept: Kept, messages: usize, budget: &UnsentBudget, begun: bool) {
        if !kept.rest().is_empty() {
            let queue = self.push_chunk(Chunk::new(kept, messages), budget);
            queue.begun |= begun;
        }
    }

    /// Queues a reply whose compression has begun. `kept` has its plain frame.
    pub(super) fn push_long(
        &mut self,
        kept: Kept,
        compression: LongCompression,
        budget: &UnsentBudget,
    ) {
        self.push_chunk(Chunk::long(kept, compression, budget), budget);
    }

    fn push_chunk(&mut self, chunk: Chunk, budget: &UnsentBudget) -> &mut Queue {
        let new = || Box::new(Queue::new(budget));
        let queue = self.queue.get_or_insert_with(new);
        queue.bytes += chunk.kept.rest().len();
        queue.memory += chunk.kept.memory();
        queue.messages += chunk.messages;
        queue.replies += usize::from(chunk.messages == 0);
        queue.chunks.push_back(chunk);
        queue
    }

    /// Whether the first chunk must be compressed before more is written.
    pub(super) fn is_compressing(&self) -> bool {
        let first = self.queue.as_ref().and_then(|queue| queue.chunks.front());
        first.is_some_and(Chunk::is_compressing)
    }

    /// Compresses a step of the first chunk, if [`Backlog::is_compressing`].
    pub(super) fn compress(&mut self, budget: &UnsentBudget) {
        let Some(queue) = &mut self.queue else {
            return;
        };
        if let Some(first) = queue.chunks.front_mut() {
            let (bytes, memory) = (first.kept.rest().len(), first.kept.memory());
            first.compress(budget);
            queue.bytes = queue.bytes - bytes + first.kept.rest().len();
            queue.memory = queue.memory - memory + first.kept.memory();
        }
    }

    /// Drops everything except a partly written first chunk. Returns the number of fan-out messages
    /// dropped.
    pub(super) fn drop_unbegun(&mut self) -> usize {
        let Some(queue) = &mut self.queue else {
            return 0;
        };
        let messages = queue.messages;
        queue.chunks.truncate(usize::from(queue.begun));
        let chunks = queue.chunks.iter();
        queue.bytes = chunks.clone().map(|chunk| chunk.kept.rest().len()).sum();
        queue.memory = chunks.clone().map(|chunk| chunk.kept.memory()).sum();
        queue.messages = chunks.clone().map(|chunk| chunk.messages).sum();
        queue.replies = chunks.filter(|chunk| chunk.messages == 0).count();
        let dropped = messages - queue.messages;
        self.free_if_empty();
        dropped
    }

    /// Drops the deliveries that are not partly written. Returns the number of messages dropped.
    pub(super) fn drop_deliveries(&mut self) -> usize {
        self.drop_oldest_beyond(0, 0)
    }

    /// Drops deliveries that are not partly written, the oldest first, until the backlog is within
    /// both bounds. Returns the number of messages dropped.
    pub(super) fn drop_oldest_beyond(&mut self, max_bytes: usize, max_messages: usize) -> usize {
        let Some(queue) = &mut self.queue else {
            return 0;
        };
        let messages = queue.messages;
        let mut is_begun = queue.begun;
        queue.chunks.retain(|chunk| {
            let is_dropped = !mem::take(&mut is_begun)
                && chunk.messages > 0
                && (queue.bytes > max_bytes || queue.messages > max_messages);
            if is_dropped {
                queue.bytes -= chunk.kept.rest().len();
                queue.memory -= chunk.kept.memory();
                queue.messages -= chunk.messages;
            }
            !is_dropped
        });
        let dropped = messages - queue.messages;
        self.free_if_empty();
        dropped
    }

    /// Writes until the socket blocks, the backlog is empty or the first chunk must be compressed.
    /// Returns the number of bytes written.
    ///
    /// # Errors
    /// All errors of the socket except `WouldBlock` and `Interrupted`.
    pub(super) fn write_to(&mut self, stream: &mut (impl Write + ?Sized)) -> io::Result<usize> {
        let mut total = 0;
        while let Some(queue) = &mut self.queue {
            const SLICES: usize = 64;
            let mut slices = [IoSlice::new(&[]); SLICES];
            let mut count = 0;
            let ready = queue
                .chunks
                .iter()
                .take_while(|chunk| !chunk.is_compressing());
            for (slice, chunk) in slices.iter_mut().zip(ready) {
                *slice = IoSlice::new(chunk.kept.rest());
                count += 1;
            }
            if count == 0 {
                break;
            }
            let Some(written) = accepted(stream.write_vectored(&slices[..count]))? else {
                break;
            };
            queue.advance(written);
            total += written;
            self.free_if_empty();
        }
        Ok(total)
    }

    fn free_if_empty(&mut self) {
        if let Some(queue) = &self.queue
            && queue.chunks.is_empty()
        {
            self.queue = None;
        }
    }
}

impl Queue {
    fn new(budget: &UnsentBudget) -> Queue {
        Queue {
            chunks: VecDeque::new(),
            bytes: 0,
            memory: 0,
            messages: 0,
            replies: 0,
            begun: false,
            progress: 0,
            is_awaited: false,
            debt: 0,
            _client: budget.client(),
        }
    }

    fn advance(&mut self, mut written: usize) {
        self.bytes -= written;
        self.progress += written;
        self.debt = self.debt.saturating_sub(written);
        while let Some(first) = self.chunks.front_mut() {
            let before = first.kept.rest().len();
            if written < before {
                self.begun |= written > 0;
                first.kept.advance(written);
                let messages = messages_left(first.messages, before - written, before);
                self.messages -= first.messages - messages;
                first.messages = messages;
                return;
            }
            written -= before;
            self.messages -= first.messages;
            self.replies -= usize::from(first.messages == 0);
            self.begun = false;
            self.memory -= first.kept.memory();
            self.chunks.pop_front();
        }
    }
}

/// Returns the number of bytes that a socket has accepted, 0 if the write was interrupted. `None` if
/// the socket is full.
///
/// # Errors
/// All errors of the socket except `WouldBlock` and `Interrupted`.
#[inline]
pub(super) fn accepted(result: io::Result<usize>) -> io::Result<Option<usize>> {
    match result {
        Ok(0) => Err(io::ErrorKind::WriteZero.into()),
        Ok(written) => Ok(Some(written)),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(Some(0)),
        Err(error) => Err(error),
    }
}

/// Estimates how many of `messages` messages, `total` bytes long, the last `rest` bytes contain: in
/// proportion, rounded up.
pub(super) fn messages_left(messages: usize, rest: usize, total: usize) -> usize {
    (messages * rest).div_ceil(total.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::unsent::SharedFrame;

    /// A backlog and its budget.
    struct Tested(Backlog, UnsentBudget);

    impl Tested {
        fn new() -> Tested {
            Tested(Backlog::default(), UnsentBudget::new(usize::MAX))
        }

        fn reply(&mut self, bytes: &[u8]) {
            let kept = Kept::new(SharedFrame::new(bytes.to_vec()), 0, &self.1);
            self.0.push(kept, 0, &self.1, false);
        }

        fn delivery(&mut self, bytes: &[u8], messages: usize) {
            let kept = Kept::new(SharedFrame::new(bytes.to_vec()), 0, &self.1);
            self.0.push(kept, messages, &self.1, false);
        }
    }

    /// A writer that accepts `room` bytes, then blocks.
    struct Narrow {
        taken: Vec<u8>,
        room: usize,
    }

    impl Write for Narrow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if self.room == 0 {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            let written = bytes.len().min(self.room);
            self.room -= written;
            self.taken.extend_from_slice(&bytes[..written]);
            Ok(written)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn everything_goes_in_order_however_narrow_the_socket() {
        for room in 1..12 {
            let mut tested = Tested::new();
            tested.reply(b"abc");
            tested.delivery(b"defg", 2);
            tested.reply(b"hij");
            let mut socket = Narrow {
                taken: Vec::new(),
                room: 0,
            };
            while !tested.0.is_empty() {
                socket.room = room;
                tested.0.write_to(&mut socket).unwrap();
            }
            assert_eq!(socket.taken, b"abcdefghij");
        }
    }

    #[test]
    fn a_byte_now_and_then_is_no_progress() {
        let mut tested = Tested::new();
        tested.reply(&vec![0; 20_000]);
        let mut socket = Narrow {
            taken: Vec::new(),
            room: 0,
        };
        let mut take = |room| {
            socket.room = room;
            tested.0.write_to(&mut socket).unwrap();
            tested.0.takes_progress()
        };
        assert_eq!(
            [1, 16_382, 1, 3_615].map(&mut take),
            [false, false, true, false]
        );
        assert!(take(1), "all is taken");
    }

    #[test]
    fn messages_that_have_gone_do_not_count() {
        let mut tested = Tested::new();
        tested.delivery(&vec![0; 1_000], 100);
        let mut socket = Narrow {
            taken: Vec::new(),
            room: 985,
        };
        tested.0.write_to(&mut socket).unwrap();
        assert_eq!((tested.0.bytes(), tested.0.messages()), (15, 2));
    }

    #[test]
    fn the_oldest_are_dropped_until_the_rest_is_within_the_bounds() {
        for (max_bytes, max_messages, dropped, expected) in [
            (10, 10, 0, &b"aabbrccdd"[..]),
            (8, 10, 1, b"aarccdd"),
            (10, 3, 1, b"aarccdd"),
            (6, 10, 2, b"aardd"),
            (0, 0, 3, b"aar"),
        ] {
            let mut tested = Tested::new();
            tested.delivery(b"aaa", 1);
            tested.delivery(b"bb", 1);
            tested.reply(b"r");
            tested.delivery(b"cc", 1);
            tested.delivery(b"dd", 1);
            let mut socket = Narrow {
                taken: Vec::new(),
                room: 1,
            };
            tested.0.write_to(&mut socket).unwrap();
            let bounds = (max_bytes, max_messages);
            assert_eq!(
                tested.0.drop_oldest_beyond(max_bytes, max_messages),
                dropped,
                "{bounds:?}"
            );
            socket.room = 100;
            tested.0.write_to(&mut socket).unwrap();
            assert_eq!(&socket.taken[1..], expected, "{bounds:?}");
        }
    }

    #[test]
    fn deliveries_are_dropped_unless_they_have_begun_to_go() {
        let mut tested = Tested::new();
        tested.delivery(b"abc", 1);
        tested.delivery(b"def", 1);
        tested.reply(b"r");
        let mut socket = Narrow {
            taken: Vec::new(),
            room: 1,
        };
        tested.0.write_to(&mut socket).unwrap();
        tested.0.drop_deliveries();
        assert_eq!((tested.0.bytes(), tested.0.messages()), (3, 1));
        socket.room = 9;
        tested.0.write_to(&mut socket).unwrap();
        assert_eq!(socket.taken, b"abcr");
        assert!(tested.0.is_empty());
    }

    #[test]
    fn all_but_the_frame_under_way_is_dropped_and_given_back() {
        for room in [0, 1] {
            let mut tested = Tested::new();
            tested.delivery(b"abc", 1);
            tested.reply(b"def");
            tested.delivery(b"ghi", 1);
            let mut socket = Narrow {
                taken: Vec::new(),
                room,
            };
            tested.0.write_to(&mut socket).unwrap();
            tested.0.drop_unbegun();
            let Tested(backlog, budget) = &tested;
            let expected = [(0, 0, false), (2, 1, false)][room];
            let left = (backlog.bytes(), backlog.messages(), backlog.has_replies());
            assert_eq!(left, expected);
            assert_eq!(budget.bytes(), backlog.share());
            assert_eq!(backlog.is_empty(), room == 0);
        }
    }
}
