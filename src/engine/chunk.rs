//! An entry of a backlog: encoded frames, or a reply that is being compressed.

use super::compression::with_deflater;
use super::unsent::{Held, Kept, SharedFrame, UnsentBudget};
use crate::protocol::LongCompression;

#[derive(Debug)]
pub(super) struct Chunk {
    pub(super) kept: Kept,
    /// Number of fan-out messages; 0 means that the chunk is a reply.
    pub(super) messages: usize,
    /// The chunk is sent when it is compressed.
    long: Option<Box<Long>>,
}

/// A reply that is being compressed. The chunk has the plain frame.
#[derive(Debug)]
struct Long {
    compression: LongCompression,
    /// Counts the compressed part.
    held: Held,
}

impl Chunk {
    pub(super) fn new(kept: Kept, messages: usize) -> Chunk {
        Chunk {
            kept,
            messages,
            long: None,
        }
    }

    /// A reply whose compression has begun. `kept` has its plain frame.
    pub(super) fn long(kept: Kept, compression: LongCompression, budget: &UnsentBudget) -> Chunk {
        let held = Held::new(compression.size(), budget);
        Chunk {
            kept,
            messages: 0,
            long: Some(Box::new(Long { compression, held })),
        }
    }

    /// Whether the chunk must be compressed before it is written.
    pub(super) fn is_compressing(&self) -> bool {
        self.long.is_some()
    }

    /// Compresses a step, if [`Chunk::is_compressing`].
    pub(super) fn compress(&mut self, budget: &UnsentBudget) {
        let Some(Long { compression, held }) = self.long.as_deref_mut() else {
            return;
        };
        let plain = self.kept.rest();
        let is_done = with_deflater(|deflater| compression.step(plain, deflater));
        held.set(compression.size());
        if is_done {
            let mut frame = Vec::new();
            compression.send(&mut frame);
            self.kept = Kept::new(SharedFrame::new(frame), 0, budget);
            self.long = None;
        }
    }

    /// [`Kept::share`], with the compressed part of a long reply.
    pub(super) fn share(&self) -> usize {
        self.kept.share() + self.long.as_ref().map_or(0, |long| long.held.bytes())
    }
}
