//! Publications: messages for many receivers, encoded and compressed once.

use std::cell::OnceCell;
use std::sync::{Arc, OnceLock};

use super::compression::with_deflater;
use super::turn::{self, Turn};
use super::unsent::SharedFrame;
use crate::protocol::{Deflate, LongCompression, Message, sender};

/// A message for several groups: encoded once if it is large, and compressed once if any receiver
/// accepts compression.
#[derive(Debug)]
pub(crate) struct Publication<'a> {
    pub(super) message: Message<'a>,
    /// Number of messages.
    pub(super) messages: usize,
    pub(super) shared: Option<Arc<SharedFrame>>,
    /// Contains `None` if compression does not make the message smaller.
    pub(super) compressed: OnceCell<Option<Compressed>>,
}

/// The compressed form of a publication.
#[derive(Clone, Debug)]
pub(super) enum Compressed {
    Whole(Arc<SharedFrame>),
    /// The publisher has begun; the workers that deliver the message continue in steps.
    Begun(Arc<BegunCompression>),
}

/// A long message whose first step is compressed.
#[derive(Debug)]
pub(super) struct BegunCompression {
    begun: LongCompression,
    /// The result of the first worker that is done.
    done: OnceLock<Arc<SharedFrame>>,
}

/// A long message that a worker compresses before it is delivered.
#[derive(Debug)]
pub(super) struct LongFrame {
    pub(super) plain: Arc<SharedFrame>,
    shared: Arc<BegunCompression>,
    /// This worker's copy. Workers do not wait for each other.
    compression: LongCompression,
}

impl LongFrame {
    pub(super) fn new(plain: &Arc<SharedFrame>, shared: &Arc<BegunCompression>) -> LongFrame {
        LongFrame {
            plain: Arc::clone(plain),
            shared: Arc::clone(shared),
            compression: shared.begun.clone(),
        }
    }

    /// Compresses until the turn is over. Returns the compressed frame when it is complete.
    pub(super) fn compress(&mut self, turn: &mut Turn) -> Option<Arc<SharedFrame>> {
        while self.shared.done.get().is_none() {
            if turn.is_over() {
                return None;
            }
            if with_deflater(|deflater| self.compression.step(&self.plain, deflater)) {
                self.shared.done.get_or_init(|| {
                    let mut frame = Vec::new();
                    self.compression.send(&mut frame);
                    SharedFrame::new(frame)
                });
            }
            turn.charge_work(turn::take_charged());
        }
        self.shared.done.get().cloned()
    }

    /// Size in bytes.
    pub(super) fn size(&self) -> usize {
        self.plain.len() + self.compression.size()
    }
}

impl Compressed {
    /// The frame of a message that is not long.
    pub(super) fn whole(&self) -> Option<&Arc<SharedFrame>> {
        match self {
            Compressed::Whole(frame) => Some(frame),
            Compressed::Begun(_) => None,
        }
    }
}

impl<'a> Publication<'a> {
    /// Payload size in bytes from which one shared frame is cheaper than a copy for each worker.
    const SHARED: usize = 16 << 10;

    pub(crate) fn new(message: Message<'a>) -> Publication<'a> {
        let large = message
            .frame()
            .is_some_and(|(_, payload)| payload.len() >= Self::SHARED);
        Publication {
            message,
            messages: 1,
            shared: large.then(|| {
                let mut frame = Vec::new();
                sender::encode_message(message, &mut frame);
                SharedFrame::new(frame)
            }),
            compressed: OnceCell::new(),
        }
    }

    /// Approximate number of bytes sent to each member.
    pub(super) fn size(&self) -> usize {
        match &self.shared {
            Some(frame) => frame.len(),
            None => self.message.size(),
        }
    }

    /// The compressed form. `None` if it is not asked for, compression is off, or it does not make
    /// the message smaller.
    pub(super) fn compressed_for(
        &self,
        is_asked_for: bool,
        deflate: Option<&Deflate>,
    ) -> Option<&Compressed> {
        let deflate = deflate.filter(|_| is_asked_for)?;
        let compress = || {
            with_deflater(|deflater| {
                if self.message.size() > LongCompression::STEP {
                    let begun = LongCompression::of_shared(self.message, deflate, deflater)?;
                    let done = OnceLock::new();
                    let begun = BegunCompression { begun, done };
                    return Some(Compressed::Begun(Arc::new(begun)));
                }
                let mut frame = Vec::new();
                sender::encode_compressed_message(self.message, deflate, deflater, &mut frame)
                    .then(|| Compressed::Whole(SharedFrame::new(frame)))
            })
        };
        self.compressed.get_or_init(compress).as_ref()
    }
}
