//! Mailboxes: the commands that handlers and other threads queue for a worker. A publication is
//! one command per worker, not one per member.

use std::any::Any;
use std::collections::{HashSet, VecDeque};
use std::fmt;
use std::mem;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use super::Settings;
use super::disconnect::Disconnect;
use super::members::{Epoch, GroupMembers};
use super::publication::Publication;
use super::slab::ConnectionKey;
use super::unsent::SharedFrame;
use crate::lock::lock;
use crate::protocol::{CloseCode, CloseFrame, Deflate, Message, sender};

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

type Wake = Box<dyn Fn() + Send + Sync>;

/// Total bytes in all mailboxes of a server. Above 64 MiB no worker reads from clients until the
/// commands are carried out. The bound covers all workers, so that no worker outruns another on the
/// shared machine.
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

/// Commands, and the encoded frames that they send, back to back.
#[derive(Debug, Default)]
pub(super) struct CommandQueue {
    /// Bound: [`Congestion`], in bytes of frames and of commands, shared with all workers. The same
    /// bound holds for `plain` and `compressed`.
    pub(super) commands: VecDeque<Command>,
    pub(super) plain: Frames,
    /// The same messages compressed, if a receiver accepts compression.
    pub(super) compressed: Frames,
    /// Connections with a [`Command::Overrun`] in this queue. Further messages to them are
    /// dropped. Bound: the connections of the worker.
    overrun: HashSet<ConnectionKey>,
    /// The worker has stopped: new commands are dropped.
    is_dead: bool,
}

/// Encoded frames, back to back.
#[derive(Debug, Default)]
pub(super) struct Frames {
    bytes: Vec<u8>,
    /// Bytes already taken for commands that were carried out.
    taken: usize,
}

#[derive(Debug)]
pub(super) enum Command {
    /// Send the next `length` bytes of `plain` to every member. If `compressed_length` is not 0,
    /// members that accept compression receive the next `compressed_length` bytes of `compressed`.
    Deliver {
        members: Arc<GroupMembers>,
        epoch: Epoch,
        length: usize,
        compressed_length: usize,
        messages: usize,
    },
    /// Send a large, shared frame to every member.
    DeliverShared {
        members: Arc<GroupMembers>,
        epoch: Epoch,
        frame: Arc<SharedFrame>,
        compressed: Option<Arc<SharedFrame>>,
        messages: usize,
        /// The place of the next member: members before it have received the frame.
        from: u32,
    },
    /// Drop this value: all commands queued before it have been carried out.
    Drop(#[allow(dead_code, reason = "to drop it is all")] Arc<dyn Any + Send + Sync>),
    /// Send the next `length` bytes of `plain` or `compressed` to one connection.
    Send {
        to: ConnectionKey,
        length: usize,
        is_compressed: bool,
    },
    /// Send a large frame, or several frames, to one connection.
    SendShared {
        to: ConnectionKey,
        frames: Arc<SharedFrame>,
        compressed: Option<Arc<SharedFrame>>,
        messages: usize,
    },
    /// Close a connection as a slow consumer, because the mailboxes are full.
    Overrun { to: ConnectionKey },
    /// Drive a connection again whose handler was busy.
    Resume { to: ConnectionKey },
    /// End a connection with this Close.
    End {
        to: ConnectionKey,
        why: Disconnect,
        frame: (CloseCode, &'static str),
    },
    /// Begin the closing handshake with one connection.
    Close {
        to: ConnectionKey,
        frame: Option<(CloseCode, Box<str>)>,
    },
    /// Wake the handler of one connection.
    #[cfg_attr(not(feature = "cli"), allow(dead_code, reason = "faults have timers"))]
    Wake { to: ConnectionKey },
    /// Begin the closing handshake with all connections.
    CloseAll { code: CloseCode },
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

    /// Whether the worker should deliver before it reads again.
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

    /// Sends a message to one connection. If the connection `compresses`, the message is compressed
    /// if that makes it smaller.
    pub(super) fn send(&self, to: ConnectionKey, compresses: bool, message: Message<'_>) {
        let is_exceeded = self.congestion.is_exceeded();
        let publication = Publication::new(message);
        let compressed = publication.compressed_for(compresses && !is_exceeded, self.deflate());
        self.put(|queue| {
            if queue.overrun.contains(&to) {
                return 0;
            }
            if is_exceeded {
                queue.overrun.insert(to);
                queue.commands.push_back(Command::Overrun { to });
                return 0;
            }
            let is_compressed = compressed.is_some();
            let length = match compressed {
                Some(frame) => queue.compressed.append(frame),
                None => queue.plain.encode(message),
            };
            queue.commands.push_back(Command::Send {
                to,
                length,
                is_compressed,
            });
            length
        });
    }

    #[allow(dead_code, reason = "Socket.IO is optional")]
    pub(super) fn publish(
        &self,
        to: ConnectionKey,
        compresses: bool,
        publication: &Publication<'_>,
    ) {
        let shared = publication.shared.as_ref();
        let Some(frames) = shared.filter(|_| !self.congestion.is_exceeded()) else {
            return self.send(to, compresses, publication.message);
        };
        let compressed = publication.compressed_for(compresses, self.deflate());
        self.put(|queue| {
            queue.commands.push_back(Command::SendShared {
                to,
                frames: Arc::clone(frames),
                compressed: compressed.cloned(),
                messages: publication.messages,
            });
            frames.len() + compressed.map_or(0, |shared_frame| shared_frame.len())
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

    /// Drops `value` after the commands queued so far have been carried out.
    pub(super) fn drop_in_turn(&self, value: Arc<dyn Any + Send + Sync>) {
        self.put(|queue| {
            queue.commands.push_back(Command::Drop(value));
            0
        });
    }

    pub(super) fn resume(&self, to: ConnectionKey) {
        self.put(|queue| {
            queue.commands.push_back(Command::Resume { to });
            0
        });
    }

    #[allow(dead_code, reason = "Socket.IO is optional")]
    pub(super) fn end(&self, to: ConnectionKey, why: Disconnect, frame: (CloseCode, &'static str)) {
        self.put(|queue| {
            queue.commands.push_back(Command::End { to, why, frame });
            0
        });
    }

    pub(super) fn close(&self, to: ConnectionKey, frame: Option<CloseFrame<'_>>) {
        let frame = frame.map(|frame| (frame.code, frame.reason.into()));
        self.put(|queue| {
            queue.commands.push_back(Command::Close { to, frame });
            0
        });
    }

    #[cfg(feature = "cli")]
    pub(super) fn wake_handler(&self, to: ConnectionKey) {
        self.put(|queue| {
            queue.commands.push_back(Command::Wake { to });
            0
        });
    }

    /// Begins the closing handshake with every connection of this worker.
    pub(crate) fn close_all(&self, code: CloseCode) {
        self.put(|queue| {
            queue.commands.push_back(Command::CloseAll { code });
            0
        });
    }

    /// Runs `write`, which queues commands and returns the size of their frames in bytes. Wakes the
    /// worker if it sleeps.
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
        let commands = queue.commands.len();
        let frames = write(&mut queue);
        let commands = queue.commands.len() - commands;
        let bytes = frames + commands * size_of::<Command>();
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

impl CommandQueue {
    /// Queues a message for all members. Returns its size in bytes. Consecutive messages for the
    /// same members become one command, so that a burst costs one write per member.
    fn deliver(
        &mut self,
        members: &Arc<GroupMembers>,
        publication: &Publication<'_>,
        compressed: Option<&Arc<SharedFrame>>,
    ) -> usize {
        const COALESCED: usize = 64 << 10;
        let now = members.epoch();
        let compressed_size = compressed.map_or(0, |frame| frame.len());
        if let Some(frame) = &publication.shared {
            self.commands.push_back(Command::DeliverShared {
                members: Arc::clone(members),
                epoch: now,
                frame: Arc::clone(frame),
                compressed: compressed.cloned(),
                messages: publication.messages,
                from: 0,
            });
            return frame.len() + compressed_size;
        }
        let encoded = self.plain.encode(publication.message);
        match self.commands.back_mut() {
            Some(Command::Deliver {
                members: others,
                epoch,
                length,
                compressed_length,
                messages,
            }) if Arc::ptr_eq(others, members)
                && *epoch == now
                && *length < COALESCED
                && (*compressed_length > 0 || compressed.is_none()) =>
            {
                *length += encoded;
                *messages += 1;
                if *compressed_length > 0 {
                    *compressed_length += match compressed {
                        Some(frame) => self.compressed.append(frame),
                        None => self.compressed.encode(publication.message),
                    };
                }
            }
            _ => self.commands.push_back(Command::Deliver {
                members: Arc::clone(members),
                epoch: now,
                length: encoded,
                compressed_length: compressed.map_or(0, |frame| self.compressed.append(frame)),
                messages: 1,
            }),
        }
        encoded + compressed_size
    }

    /// Puts back the unfinished rest of a command, as the next command.
    pub(super) fn put_back(&mut self, rest: Option<Command>) {
        if let Some(rest) = rest {
            self.commands.push_front(rest);
        }
    }

    fn clear(&mut self) {
        self.commands.clear();
        self.plain.clear();
        self.compressed.clear();
        self.overrun.clear();
    }

    fn shrink(&mut self) {
        const KEPT: usize = 256 << 10;
        self.plain.bytes.shrink_to(KEPT);
        self.compressed.bytes.shrink_to(KEPT);
        self.commands.shrink_to(KEPT / size_of::<Command>());
        self.overrun.shrink_to(0);
    }
}

impl Frames {
    /// Returns the next `length` bytes.
    pub(super) fn take(&mut self, length: usize) -> &[u8] {
        let start = self.taken;
        self.taken += length;
        self.bytes.get(start..self.taken).unwrap_or_default()
    }

    /// Appends the frame of a message. Returns its length.
    fn encode(&mut self, message: Message<'_>) -> usize {
        let before = self.bytes.len();
        sender::encode_message(message, &mut self.bytes);
        self.bytes.len() - before
    }

    /// Appends a frame. Returns its length.
    fn append(&mut self, frame: &[u8]) -> usize {
        self.bytes.extend_from_slice(frame);
        frame.len()
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.taken = 0;
    }
}
