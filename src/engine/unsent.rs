//! What waits to be sent to all clients together: one budget for the server.

use std::any::Any;
use std::ops::Deref;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

/// What may wait to be sent to all clients of a server together. Clones are the same budget.
///
/// Taking never fails: what is to be sent is there already. A worker that finds the budget spent
/// closes connections until it is not (see [`Connections::relieve`](super::connections)).
#[derive(Clone, Debug)]
pub(crate) struct UnsentBudget(Arc<UnsentCounts>);

#[derive(Debug)]
struct UnsentCounts {
    max_bytes: usize,
    bytes: AtomicUsize,
    /// Connections that something waits for.
    clients: AtomicUsize,
}

impl UnsentBudget {
    /// A budget of so many bytes.
    pub(crate) fn new(max_bytes: usize) -> UnsentBudget {
        UnsentBudget(Arc::new(UnsentCounts {
            max_bytes,
            bytes: AtomicUsize::new(0),
            clients: AtomicUsize::new(0),
        }))
    }

    /// Bytes that wait.
    pub(crate) fn bytes(&self) -> usize {
        self.0.bytes.load(Ordering::Relaxed)
    }

    #[inline]
    pub(crate) fn is_spent(&self) -> bool {
        self.bytes() > self.0.max_bytes
    }

    /// Whether so many bytes are more than may be kept for one client for long: a sixteenth.
    pub(super) fn is_much(&self, bytes: usize) -> bool {
        bytes > self.0.max_bytes / 16
    }

    /// Bytes that wait for a client on average, of those that something waits for: for one of them
    /// it is as many or more.
    pub(crate) fn average(&self) -> usize {
        self.bytes() / self.0.clients.load(Ordering::Relaxed).max(1)
    }

    /// Counts one client more that something waits for.
    pub(crate) fn client(&self) -> ClientShare {
        self.0.clients.fetch_add(1, Ordering::Relaxed);
        ClientShare(self.clone())
    }

    fn take(&self, bytes: usize) {
        self.0.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    fn give_back(&self, bytes: usize) {
        self.0.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// A client that something waits for, as long as this is there.
#[derive(Debug)]
pub(crate) struct ClientShare(UnsentBudget);

impl Drop for ClientShare {
    fn drop(&mut self) {
        self.0.0.clients.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Memory in which something is kept for one client alone, given back when dropped.
#[derive(Debug)]
pub(crate) struct Held {
    bytes: usize,
    client: ClientShare,
}

impl Held {
    pub(crate) fn new(bytes: usize, budget: &UnsentBudget) -> Held {
        budget.take(bytes);
        Held {
            bytes,
            client: budget.client(),
        }
    }

    /// So many bytes are kept now.
    #[allow(dead_code, reason = "what calls it is optional")]
    pub(crate) fn set(&mut self, bytes: usize) {
        let before = std::mem::replace(&mut self.bytes, bytes);
        self.client.0.take(bytes);
        self.client.0.give_back(before);
    }

    /// So many were kept when that was last said.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.client.0.give_back(self.bytes);
    }
}

/// Memory in which something is kept for several clients, given back when dropped.
#[derive(Debug)]
pub(crate) struct HeldForAll {
    bytes: usize,
    budget: UnsentBudget,
}

#[allow(dead_code, reason = "Socket.IO is optional")]
impl HeldForAll {
    pub(crate) fn new(bytes: usize, budget: &UnsentBudget) -> HeldForAll {
        budget.take(bytes);
        HeldForAll {
            bytes,
            budget: budget.clone(),
        }
    }
}

impl Drop for HeldForAll {
    fn drop(&mut self) {
        self.budget.give_back(self.bytes);
    }
}

/// Encoded frames that one client or many wait for.
#[derive(Debug)]
pub(crate) struct SharedFrame {
    bytes: Vec<u8>,
    /// Clients that it is kept for. The first takes its bytes from the budget, the last gives them
    /// back.
    holders: AtomicUsize,
    /// Dropped when nobody waits for the frames any more.
    ticket: OnceLock<Arc<dyn Any + Send + Sync>>,
}

impl SharedFrame {
    pub(crate) fn new(bytes: Vec<u8>) -> Arc<SharedFrame> {
        Arc::new(SharedFrame {
            bytes,
            holders: AtomicUsize::new(0),
            ticket: OnceLock::new(),
        })
    }

    /// Has `ticket` held as long as anybody waits for the frames. There is one at most.
    pub(super) fn attach(&self, ticket: Arc<dyn Any + Send + Sync>) {
        let _ = self.ticket.set(ticket);
    }

    /// The memory that it takes, where that is to be counted.
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

/// A shared frame that is kept for one client, and how much of it has gone.
#[derive(Debug)]
pub(super) struct Kept {
    shared_frame: Arc<SharedFrame>,
    gone: usize,
    budget: UnsentBudget,
}

impl Kept {
    /// What it costs to keep a shared frame, beside its bytes: so that a great many small ones are not
    /// free.
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

    /// What has not gone yet.
    pub(super) fn rest(&self) -> &[u8] {
        self.shared_frame.bytes.get(self.gone..).unwrap_or_default()
    }

    /// So many bytes more have gone.
    pub(super) fn advance(&mut self, bytes: usize) {
        self.gone += bytes;
    }

    /// Bytes that are kept for this client alone: of a shared frame its part. What has gone of a
    /// frame counts until all has, as its memory is held so long.
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
        assert_eq!(budget.bytes(), 0, "nobody keeps it");
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
