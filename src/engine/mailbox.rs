//! Mailboxes: the commands that handlers and other threads queue for a worker. A publication is
//! one command per worker, not one per member.

use std::fmt;
use std::mem;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use super::Settings;
use super::act::Act;
use super::commands::{Command, CommandQueue, FrameSource, Receivers};
use super::disconnect::Disconnect;
use super::members::GroupMembers;
use super::publication::{Compressed, Publication};
use super::slab::ConnectionKey;
use crate::lock::lock;
use crate::protocol::{CloseCode, CloseFrame, Deflate};

/// A worker's queue of commands, in the order of their arrival.
pub(crate) struct Mailbox {
    queue: Mutex<CommandQueue>,
    /// `queue` is not empty.
    filled: AtomicBool,
    /// The worker is awake and checks `filled` before it sleeps.
    attentive: AtomicBool,
    /// Makes the worker check its sockets and commands.
    wake: Wake,
    /// Size of `queue` in bytes: frames plus the commands themselves.
    bytes: AtomicUsize,
    congestion: Congestion,
    /// How messages are compressed; `None` turns compression off.
    deflate: Option<Deflate>,
    /// [`Settings::gather_publications`].
    gathers: bool,
}

pub(super) type Wake = Box<dyn Fn() + Send + Sync>;

/// Total bytes in all mailboxes of a server. Above 64 MiB no worker reads from clients until the
/// commands are carried out. Before that, each publisher of a [full](Mailbox::is_full) mailbox is
/// held alone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Congestion {
    bytes: Arc<AtomicUsize>,
}

impl Congestion {
    const MAX_BYTES: usize = 64 << 20;

    fn is_reached(&self) -> bool {
        self.bytes.load(Ordering::Relaxed) > Self::MAX_BYTES
    }

    /// Whether the mailboxes hold more than twice the bound above which reading stops. Only a task
    /// that sends faster than the workers deliver can cause that.
    fn is_exceeded(&self) -> bool {
        self.bytes.load(Ordering::Relaxed) > 2 * Self::MAX_BYTES
    }
}

impl Mailbox {
    /// Size in bytes from which a worker delivers before it reads again.
    const FULL: usize = 1 << 20;

    pub(super) fn new(wake: Wake, congestion: Congestion, settings: &Settings) -> Mailbox {
        Mailbox {
            queue: Mutex::default(),
            filled: AtomicBool::new(false),
            attentive: AtomicBool::new(true),
            wake,
            bytes: AtomicUsize::new(0),
            congestion,
            deflate: settings.deflate,
            gathers: settings.gather_publications,
        }
    }

    pub(super) fn deflate(&self) -> Option<&Deflate> {
        self.deflate.as_ref()
    }

    /// Notes that the worker is awake: it needs no wake until it calls [`Mailbox::try_sleep`].
    pub(super) fn mark_awake(&self) {
        self.attentive.store(true, Ordering::SeqCst);
    }

    /// Called before the worker sleeps. Returns false if commands have arrived: then the worker
    /// must not sleep.
    pub(super) fn try_sleep(&self) -> bool {
        self.attentive.store(false, Ordering::SeqCst);
        !self.filled.load(Ordering::SeqCst)
    }

    pub(super) fn is_filled(&self) -> bool {
        self.filled.load(Ordering::SeqCst)
    }

    /// Whether the queued commands must be carried out before the next message is handled.
    #[inline]
    pub(super) fn flush_before_next(&self) -> bool {
        !self.gathers && self.is_filled()
    }

    /// Whether the worker should deliver before it reads again, and publishers wait for it.
    pub(super) fn is_full(&self) -> bool {
        self.bytes.load(Ordering::Relaxed) >= Self::FULL
    }

    /// Whether the mailboxes of all workers hold so much that no worker should read.
    pub(super) fn is_congested(&self) -> bool {
        self.congestion.is_reached()
    }

    /// Swaps the queue with `emptied`, the buffers of the last call, which are cleared first.
    pub(super) fn take(&self, emptied: &mut CommandQueue) {
        emptied.clear();
        let mut queue = lock(&self.queue);
        self.filled.store(false, Ordering::SeqCst);
        let bytes = self.bytes.swap(0, Ordering::Relaxed);
        self.congestion.bytes.fetch_sub(bytes, Ordering::Relaxed);
        mem::swap(&mut *queue, emptied);
    }

    /// Sends messages to one connection: compressed, if the connection `compresses` and that makes
    /// them smaller. For `is_lenient` see [`Receivers::One`].
    pub(super) fn send(
        &self,
        to: ConnectionKey,
        compresses: bool,
        publication: &Publication<'_>,
        is_lenient: bool,
    ) {
        let is_exceeded = self.congestion.is_exceeded();
        let compressed = publication.compressed_for(compresses && !is_exceeded, self.deflate());
        self.put(|queue| {
            if queue.overrun.contains(&to) {
                return 0;
            }
            if is_exceeded {
                queue.overrun.insert(to);
                let (why, frame) = (Disconnect::SlowConsumer, Disconnect::OVERRUN);
                return queue.push(Command::Act(to, Act::End { why, frame }));
            }
            let frames = match (&publication.shared, compressed) {
                (Some(plain), _) => FrameSource::shared(plain, compressed),
                (None, Some(Compressed::Whole(frame))) => FrameSource::shared(frame, None),
                (None, _) => FrameSource::Queued {
                    length: queue.plain.encode(publication.message),
                    compressed_length: 0,
                },
            };
            queue.push(Command::Send {
                to: Receivers::One {
                    key: to,
                    is_lenient,
                },
                frames,
                messages: publication.messages,
            })
        });
    }

    /// Sends a message to all members. Returns whether the caller must wake the worker.
    pub(super) fn deliver(
        &self,
        members: &Arc<GroupMembers>,
        publication: &Publication<'_>,
    ) -> bool {
        let compressed = publication.compressed_for(members.any_compresses(), self.deflate());
        self.put_quietly(|queue| queue.deliver(members, publication, compressed))
    }

    /// Drives a connection again whose handler was busy or has a timer.
    pub(super) fn wake_connection(&self, to: ConnectionKey) {
        self.command(Command::Act(to, Act::Wake));
    }

    /// Begins the closing handshake with one connection.
    pub(super) fn close(&self, to: ConnectionKey, frame: Option<CloseFrame<'_>>) {
        let frame = frame.map(|frame| (frame.code, frame.reason.into()));
        self.command(Command::Act(to, Act::Close(frame)));
    }

    /// Begins the closing handshake with every connection of this worker.
    pub(crate) fn close_all(&self, code: CloseCode) {
        self.command(Command::CloseAll(code));
    }

    /// Queues a command without frames.
    pub(super) fn command(&self, command: Command) {
        self.put(|queue| queue.push(command));
    }

    /// Runs `write`, which queues commands and returns their size in bytes. Wakes the worker if it
    /// sleeps.
    fn put(&self, write: impl FnOnce(&mut CommandQueue) -> usize) {
        if self.put_quietly(write) {
            self.wake();
        }
    }

    /// Like [`Mailbox::put`], but returns whether the caller must wake the worker.
    fn put_quietly(&self, write: impl FnOnce(&mut CommandQueue) -> usize) -> bool {
        let mut queue = lock(&self.queue);
        if queue.is_dead {
            return false;
        }
        let bytes = write(&mut queue);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.congestion.bytes.fetch_add(bytes, Ordering::Relaxed);
        drop(queue);
        self.filled.store(true, Ordering::SeqCst);
        !self.attentive.swap(true, Ordering::SeqCst)
    }

    /// Frees the memory of a past burst. `emptied` are the worker's buffers for the next
    /// [`Mailbox::take`].
    pub(super) fn shrink(&self, emptied: &mut CommandQueue) {
        emptied.shrink();
        lock(&self.queue).shrink();
    }

    /// Called when the worker stops: drops the queued commands and all later ones.
    pub(super) fn stop(&self) {
        let mut queue = CommandQueue::default();
        self.take(&mut queue);
        lock(&self.queue).is_dead = true;
    }

    /// Makes the worker check its sockets and commands.
    pub(super) fn wake(&self) {
        (self.wake)();
    }
}

impl fmt::Debug for Mailbox {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Mailbox")
            .field("bytes", &self.bytes)
            .finish_non_exhaustive()
    }
}

#[cfg(all(test, feature = "deflate"))]
mod tests {
    use super::*;
    use crate::engine::slab::Slab;
    use crate::protocol::Message;

    #[test]
    fn both_encodings_of_a_publication_count() {
        let congestion = Congestion::default();
        let mailbox = Mailbox::new(Box::new(|| {}), congestion.clone(), &Settings::default());
        let text = "x".repeat(20_000);
        let publication = Publication::new(Message::Text(&text));
        mailbox.send(Slab::default().insert(()), true, &publication, true);
        let plain = publication.shared.as_ref().unwrap();
        let compressed = publication.compressed_for(true, mailbox.deflate());
        let compressed = compressed.and_then(Compressed::whole);
        let frames = [plain.len(), compressed.unwrap().len()];
        let expected = frames.iter().sum::<usize>() + size_of::<Command>();
        assert_eq!(mailbox.bytes.load(Ordering::Relaxed), expected);
        assert_eq!(congestion.bytes.load(Ordering::Relaxed), expected);
    }
}
