//! The unsent budget: memory for the unsent data of all clients of a server.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The memory for unsent data of all clients of a server. A clone is the same budget.
///
/// Taking from the budget never fails, because the data already exists. A worker that finds the
/// budget spent closes connections until the budget suffices (see
/// [`Connections::relieve`](super::connections)).
#[derive(Clone, Debug)]
pub(crate) struct UnsentBudget(Arc<UnsentCounts>);

#[derive(Debug)]
struct UnsentCounts {
    max_bytes: usize,
    bytes: AtomicUsize,
    /// Number of clients with unsent data.
    clients: AtomicUsize,
}

impl UnsentBudget {
    /// A budget of `max_bytes` bytes.
    pub(crate) fn new(max_bytes: usize) -> UnsentBudget {
        UnsentBudget(Arc::new(UnsentCounts {
            max_bytes,
            bytes: AtomicUsize::new(0),
            clients: AtomicUsize::new(0),
        }))
    }

    /// Bytes taken.
    pub(crate) fn bytes(&self) -> usize {
        self.0.bytes.load(Ordering::Relaxed)
    }

    #[inline]
    pub(crate) fn is_spent(&self) -> bool {
        self.bytes() > self.0.max_bytes
    }

    /// Whether `bytes` more leave half of the budget free.
    pub(super) fn has_room(&self, bytes: usize) -> bool {
        self.bytes().saturating_add(bytes) <= self.0.max_bytes / 2
    }

    /// Whether `bytes` is more than one client may hold for long: a sixteenth of the budget.
    pub(super) fn is_much(&self, bytes: usize) -> bool {
        bytes > self.0.max_bytes / 16
    }

    /// Average number of bytes per client with unsent data. At least one client holds that many or
    /// more.
    pub(crate) fn average(&self) -> usize {
        self.bytes() / self.0.clients.load(Ordering::Relaxed).max(1)
    }

    /// Counts one more client with unsent data.
    pub(crate) fn client(&self) -> ClientShare {
        self.0.clients.fetch_add(1, Ordering::Relaxed);
        ClientShare(self.clone())
    }

    pub(super) fn take(&self, bytes: usize) {
        self.0.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn give_back(&self, bytes: usize) {
        self.0.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// Counts as one client with unsent data until it is dropped.
#[derive(Debug)]
pub(crate) struct ClientShare(UnsentBudget);

impl Drop for ClientShare {
    fn drop(&mut self) {
        self.0.0.clients.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Memory taken from the budget. Dropping this value gives it back.
#[derive(Debug)]
pub(crate) struct Held {
    pub(super) bytes: usize,
    pub(super) budget: UnsentBudget,
    /// `None`: the memory is for several clients, which count by themselves.
    pub(super) _client: Option<ClientShare>,
}

impl Held {
    /// Takes memory for one client.
    pub(crate) fn new(bytes: usize, budget: &UnsentBudget) -> Held {
        budget.take(bytes);
        Held {
            bytes,
            budget: budget.clone(),
            _client: Some(budget.client()),
        }
    }

    /// Sets the number of bytes taken.
    pub(crate) fn set(&mut self, bytes: usize) {
        let before = std::mem::replace(&mut self.bytes, bytes);
        self.budget.take(bytes);
        self.budget.give_back(before);
    }

    /// Bytes taken.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.budget.give_back(self.bytes);
    }
}

/// Encoded frames that one or more clients wait for.
#[derive(Debug)]
pub(crate) struct SharedFrame {
    bytes: Vec<u8>,
    /// Number of clients that wait for the frames. The first takes the memory from the budget, the
    /// last gives it back.
    holders: AtomicUsize,
}

impl SharedFrame {
    pub(crate) fn new(bytes: Vec<u8>) -> Arc<SharedFrame> {
        Arc::new(SharedFrame {
            bytes,
            holders: AtomicUsize::new(0),
        })
    }

    /// Size of the memory in bytes if `counts`, otherwise 0.
    fn size_if(&self, counts: bool) -> usize {
        match counts {
            true => self.bytes.capacity(),
            false => 0,
        }
    }
}

impl Deref for SharedFrame {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

/// A shared frame in the backlog of one client, and the number of bytes already written.
#[derive(Debug)]
pub(super) struct Kept {
    shared_frame: Arc<SharedFrame>,
    gone: usize,
    budget: UnsentBudget,
}

impl Kept {
    /// Bytes counted for each entry of a backlog in addition to the frame, so that many small
    /// frames are not free.
    const BYTES: usize = 64;

    pub(super) fn new(shared_frame: Arc<SharedFrame>, gone: usize, budget: &UnsentBudget) -> Kept {
        let is_first = shared_frame.holders.fetch_add(1, Ordering::AcqRel) == 0;
        budget.take(Self::BYTES + shared_frame.size_if(is_first));
        Kept {
            shared_frame,
            gone,
            budget: budget.clone(),
        }
    }

    /// The unwritten bytes.
    pub(super) fn rest(&self) -> &[u8] {
        self.shared_frame.bytes.get(self.gone..).unwrap_or_default()
    }

    /// Notes that `bytes` more bytes have been written.
    pub(super) fn advance(&mut self, bytes: usize) {
        self.gone += bytes;
    }

    /// Bytes of memory of the whole frame and of this entry.
    pub(super) fn memory(&self) -> usize {
        Self::BYTES + self.shared_frame.bytes.capacity()
    }

    /// Bytes of memory that count for this client: an equal part of the shared frame. Written bytes
    /// count too, because the memory is held until the whole frame has been written.
    pub(super) fn share(&self) -> usize {
        let holders = self.shared_frame.holders.load(Ordering::Relaxed).max(1);
        Self::BYTES + self.shared_frame.bytes.capacity() / holders
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        let is_last = self.shared_frame.holders.fetch_sub(1, Ordering::AcqRel) == 1;
        self.budget
            .give_back(Self::BYTES + self.shared_frame.size_if(is_last));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shared_frame_counts_once_and_is_divided_among_its_holders() {
        let budget = UnsentBudget::new(1_000);
        let shared_frame = SharedFrame::new(vec![0; 1_200]);
        assert_eq!(budget.bytes(), 0, "no client keeps it");
        let first = Kept::new(Arc::clone(&shared_frame), 0, &budget);
        assert!(budget.is_spent());
        assert_eq!(first.share(), Kept::BYTES + 1_200);
        let second = Kept::new(shared_frame, 200, &budget);
        assert_eq!(budget.bytes(), 2 * Kept::BYTES + 1_200);
        assert_eq!((first.share(), second.share()), (664, 664));
        assert_eq!(second.rest().len(), 1_000);
        drop(first);
        assert_eq!(budget.bytes(), Kept::BYTES + 1_200);
        drop(second);
        assert_eq!(budget.bytes(), 0);
    }

    #[test]
    fn the_average_is_of_those_that_something_waits_for() {
        let budget = UnsentBudget::new(1_000);
        let clients = [budget.client(), budget.client()];
        let _kept = Kept::new(SharedFrame::new(vec![0; 936]), 0, &budget);
        assert_eq!(budget.average(), 500);
        drop(clients);
        assert_eq!(budget.average(), 1_000);
    }
}
