//! Publications: messages for many receivers, encoded and compressed once.

use std::cell::OnceCell;
use std::sync::Arc;

use super::compression::with_deflater;
use super::unsent::SharedFrame;
use crate::protocol::{Deflate, Message, sender};

/// A message for several groups: encoded once if it is large, and compressed once if any receiver
/// accepts compression.
#[derive(Debug)]
pub(crate) struct Publication<'a> {
    pub(super) message: Message<'a>,
    /// Number of messages.
    pub(super) messages: usize,
    pub(super) shared: Option<Arc<SharedFrame>>,
    /// Contains `None` if compression does not make the message smaller.
    pub(super) compressed: OnceCell<Option<Arc<SharedFrame>>>,
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

    /// The compressed frame. `None` if it is not asked for, compression is off, or it does not make
    /// the message smaller.
    pub(super) fn compressed_for(
        &self,
        is_asked_for: bool,
        deflate: Option<&Deflate>,
    ) -> Option<&Arc<SharedFrame>> {
        let deflate = deflate.filter(|_| is_asked_for)?;
        let compressed = self.compressed.get_or_init(|| {
            let mut frame = Vec::new();
            with_deflater(|deflater| {
                sender::encode_compressed_message(self.message, deflate, deflater, &mut frame)
            })
            .then(|| SharedFrame::new(frame))
        });
        compressed.as_ref()
    }
}
