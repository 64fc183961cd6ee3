//! Mailboxes: the commands that handlers and other threads queue for a worker. A publication is
//! one command per worker, not one per member.

use std::any::Any;
use std::collections::{HashSet, VecDeque};
use std::fmt;
use std::mem;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use super::Settings;
use super::act::Act;
use super::disconnect::Disconnect;
use super::members::{Epoch, GroupMembers};
use super::publication::{Compressed, LongFrame, Publication};
use super::slab::ConnectionKey;
use super::turn::Turn;
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

/// Commands, and the encoded frames that they send, back to back.
#[derive(Debug, Default)]
pub(super) struct CommandQueue {
    /// Bound: [`Congestion`], in bytes of frames and of commands, shared with all workers. The same
    /// bound holds for `plain` and `compressed`.
    pub(super) commands: VecDeque<Command>,
    pub(super) plain: Frames,
    /// The same messages compressed, if a receiver accepts compression.
    pub(super) compressed: Frames,
    /// Connections with a command in this queue that ends them as slow consumers, because the
    /// mailboxes are full. Further messages to them are dropped. Bound: the connections of the
    /// worker.
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

/// What a worker is asked to do.
#[derive(Debug)]
pub(super) enum Command {
    /// Send frames.
    Send {
        to: Receivers,
        frames: FrameSource,
        messages: usize,
    },
    /// Do something else to one connection.
    Act(ConnectionKey, Act),
    /// Begin the closing handshake with all connections.
    CloseAll(CloseCode),
    /// Drop a publisher's ticket when no member of the group is behind: all commands queued before
    /// it have been carried out.
    Release {
        members: Arc<GroupMembers>,
        ticket: Arc<dyn Any + Send + Sync>,
    },
}

/// The connections that receive frames.
#[derive(Debug)]
pub(super) enum Receivers {
    /// The members of a group that joined before `epoch`.
    Members {
        group: Arc<GroupMembers>,
        epoch: Epoch,
        /// The place of the next member: members before it have received the frames.
        from: u32,
    },
    One {
        key: ConnectionKey,
        /// The frames fit if the backlog is within its bound, regardless of their own size.
        is_lenient: bool,
    },
}

/// The place of a command's frames.
#[derive(Debug)]
pub(super) enum FrameSource {
    /// The next `length` bytes of `plain`. If `compressed_length` is not 0, receivers that accept
    /// compression get the next `compressed_length` bytes of `compressed` instead.
    Queued {
        length: usize,
        compressed_length: usize,
    },
    /// Shared frames: large ones, and those of which a part of a group has received its share.
    Shared {
        plain: Arc<SharedFrame>,
        compressed: Option<Arc<SharedFrame>>,
    },
    /// A frame that must be compressed first.
    Long(Box<LongFrame>),
}

impl Command {
    /// The frames that the command sends.
    pub(super) fn frames(&mut self) -> Option<&mut FrameSource> {
        match self {
            Command::Send { frames, .. } => Some(frames),
            Command::Act(..) | Command::CloseAll(_) | Command::Release { .. } => None,
        }
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

impl CommandQueue {
    /// Queues a command. Returns its size in bytes.
    fn push(&mut self, mut command: Command) -> usize {
        let frames = command.frames().map_or(0, |frames| frames.size());
        self.commands.push_back(command);
        size_of::<Command>() + frames
    }

    /// Queues a message for all members. Returns its size in bytes. Consecutive messages for the
    /// same members become one command, so that a burst costs one write per member.
    fn deliver(
        &mut self,
        members: &Arc<GroupMembers>,
        publication: &Publication<'_>,
        compressed: Option<&Compressed>,
    ) -> usize {
        let frames = match &publication.shared {
            Some(plain) => FrameSource::shared(plain, compressed),
            None => {
                let compressed = compressed.and_then(Compressed::whole);
                if let Some(size) = self.extend(members, publication.message, compressed) {
                    return size;
                }
                FrameSource::Queued {
                    length: self.plain.encode(publication.message),
                    compressed_length: compressed.map_or(0, |frame| self.compressed.append(frame)),
                }
            }
        };
        self.push(Command::Send {
            to: Receivers::Members {
                group: Arc::clone(members),
                epoch: members.epoch(),
                from: 0,
            },
            frames,
            messages: publication.messages,
        })
    }

    /// Adds a message to the last command, if that is for the same members. Returns the size of the
    /// message in bytes.
    fn extend(
        &mut self,
        members: &Arc<GroupMembers>,
        message: Message<'_>,
        compressed: Option<&Arc<SharedFrame>>,
    ) -> Option<usize> {
        const COALESCED: usize = 64 << 10;
        let Some(Command::Send {
            to: Receivers::Members { group, epoch, .. },
            frames:
                FrameSource::Queued {
                    length,
                    compressed_length,
                },
            messages,
        }) = self.commands.back_mut()
        else {
            return None;
        };
        let is_same = Arc::ptr_eq(group, members) && *epoch == members.epoch();
        let fits = *length < COALESCED && (*compressed_length > 0 || compressed.is_none());
        if !is_same || !fits {
            return None;
        }
        let encoded = self.plain.encode(message);
        *length += encoded;
        *messages += 1;
        if *compressed_length > 0 {
            *compressed_length += match compressed {
                Some(frame) => self.compressed.append(frame),
                None => self.compressed.encode(message),
            };
        }
        Some(encoded + compressed.map_or(0, |frame| frame.len()))
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

impl FrameSource {
    fn shared(plain: &Arc<SharedFrame>, compressed: Option<&Compressed>) -> FrameSource {
        if let Some(Compressed::Begun(begun)) = compressed {
            return FrameSource::Long(Box::new(LongFrame::new(plain, begun)));
        }
        FrameSource::Shared {
            plain: Arc::clone(plain),
            compressed: compressed.and_then(Compressed::whole).cloned(),
        }
    }

    /// Compresses a long frame until the turn is over. Returns whether the frames are ready.
    pub(super) fn compress(&mut self, turn: &mut Turn) -> bool {
        let FrameSource::Long(long) = self else {
            return true;
        };
        let Some(compressed) = long.compress(turn) else {
            return false;
        };
        *self = FrameSource::Shared {
            plain: Arc::clone(&long.plain),
            compressed: Some(compressed),
        };
        true
    }

    /// Size of the frames in bytes.
    fn size(&self) -> usize {
        match self {
            FrameSource::Queued {
                length,
                compressed_length,
            } => length + compressed_length,
            FrameSource::Shared { plain, compressed } => {
                plain.len() + compressed.as_ref().map_or(0, |frame| frame.len())
            }
            FrameSource::Long(long) => long.size(),
        }
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

#[cfg(all(test, feature = "deflate"))]
mod tests {
    use super::*;
    use crate::engine::slab::Slab;

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
