//! The commands that a worker carries out, and the frames that they send.

use std::any::Any;
use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use super::act::Act;
use super::members::{Epoch, GroupMembers};
use super::publication::{Compressed, LongFrame, Publication};
use super::slab::ConnectionKey;
use super::turn::Turn;
use super::unsent::SharedFrame;
use crate::protocol::{CloseCode, Message, sender};

/// Commands, and the encoded frames that they send, back to back.
#[derive(Debug, Default)]
pub(super) struct CommandQueue {
    /// Bound: [`Congestion`](super::mailbox::Congestion), in bytes of frames and of commands,
    /// shared with all workers. The same bound holds for `plain` and `compressed`.
    pub(super) commands: VecDeque<Command>,
    pub(super) plain: Frames,
    /// The same messages compressed, if a receiver accepts compression.
    pub(super) compressed: Frames,
    /// Connections with a command in this queue that ends them as slow consumers, because the
    /// mailboxes are full. Further messages to them are dropped. Bound: the connections of the
    /// worker.
    pub(super) overrun: HashSet<ConnectionKey>,
    /// The worker has stopped: new commands are dropped.
    pub(super) is_dead: bool,
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

impl CommandQueue {
    /// Queues a command. Returns its size in bytes.
    pub(super) fn push(&mut self, mut command: Command) -> usize {
        let frames = command.frames().map_or(0, |frames| frames.size());
        self.commands.push_back(command);
        size_of::<Command>() + frames
    }

    /// Queues a message for all members. Returns its size in bytes. Consecutive messages for the
    /// same members become one command, so that a burst costs one write per member.
    pub(super) fn deliver(
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

    pub(super) fn clear(&mut self) {
        self.commands.clear();
        self.plain.clear();
        self.compressed.clear();
        self.overrun.clear();
    }

    pub(super) fn shrink(&mut self) {
        const KEPT: usize = 256 << 10;
        self.plain.bytes.shrink_to(KEPT);
        self.compressed.bytes.shrink_to(KEPT);
        self.commands.shrink_to(KEPT / size_of::<Command>());
        self.overrun.shrink_to(0);
    }
}

impl FrameSource {
    pub(super) fn shared(plain: &Arc<SharedFrame>, compressed: Option<&Compressed>) -> FrameSource {
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
    pub(super) fn size(&self) -> usize {
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
    pub(super) fn encode(&mut self, message: Message<'_>) -> usize {
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
