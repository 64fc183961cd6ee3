//! Carries out the commands of the mailbox.

use std::cell::OnceCell;
use std::mem;
use std::sync::Arc;

use super::{Connections, Entry};
use crate::engine::SlowConsumerPolicy;
use crate::engine::act::Act;
use crate::engine::commands::{Command, CommandQueue, FrameSource, Receivers};
use crate::engine::delivery::{Delivery, Encoded, Leeway};
use crate::engine::driver::Progress;
use crate::engine::members::GroupMembers;
use crate::engine::slab::ConnectionKey;
use crate::engine::socket::Stream;
use crate::engine::turn::Turn;
use crate::protocol::CloseCode;

impl<S: Stream> Connections<S> {
    /// Carries out the commands of the mailbox, and the commands that follow from them, for one
    /// turn. The rest, even for a part of a group, waits for the next turn. The sockets are polled
    /// in between: otherwise a slow worker would make a fast member seem slow.
    #[inline]
    pub(super) fn deliver(&mut self) {
        self.release_caught_up();
        // Most turns have no commands, and moving the queue costs as much as a small message.
        if self.has_commands() {
            self.deliver_commands();
        }
    }

    #[inline(never)]
    fn deliver_commands(&mut self) {
        let mut queue = mem::take(&mut self.queue);
        let mut turn = Turn::new();
        while !turn.is_over() {
            match queue.commands.pop_front() {
                Some(mut command) => {
                    let frames = command.frames();
                    match frames.is_none_or(|frames| frames.compress(&mut turn)) {
                        true => self.carry_out(command, &mut queue, &mut turn),
                        false => queue.put_back(Some(command)),
                    }
                }
                None if self.context.mailbox.is_filled() => self.context.mailbox.take(&mut queue),
                None => break,
            }
        }
        self.work += turn.used();
        self.queue = queue;
    }

    /// [`Connections::deliver`], outside a turn. Wakes the worker for a turn if work is left.
    pub(super) fn deliver_and_wake(&mut self) {
        self.deliver();
        if !self.queue.commands.is_empty() || !self.ready.is_empty() {
            self.context.mailbox.wake();
        }
    }

    fn carry_out(&mut self, command: Command, queue: &mut CommandQueue, turn: &mut Turn) {
        match command {
            Command::Send {
                to,
                frames,
                messages,
            } => {
                let (policy, leeway) = match &to {
                    Receivers::Members { group, .. } => {
                        (group.policy(), Leeway::of(group.policy()))
                    }
                    Receivers::One {
                        is_lenient: true, ..
                    } => (SlowConsumerPolicy::Close, Leeway::Once),
                    Receivers::One { .. } => (SlowConsumerPolicy::Close, Leeway::None),
                };
                let rest = with_delivery(frames, messages, policy, leeway, queue, |delivery| {
                    self.send(to, delivery, turn)
                });
                queue.put_back(rest);
            }
            Command::Act(to, act) => self.perform(to, act, turn),
            Command::CloseAll(code) => self.close_all(code),
            Command::Release { members, ticket } => {
                turn.charge_frames(1, 0);
                self.release(&members, ticket);
            }
        }
    }

    fn perform(&mut self, key: ConnectionKey, act: Act, turn: &mut Turn) {
        turn.charge_frames(1, 0);
        self.context.begin_turn(Turn::SHARE);
        self.act(key, act);
        self.drive_to_end(key);
        turn.charge_work(self.context.turn.used());
    }

    /// Delivers to one connection, or to the members of a group until the turn is over. Returns the
    /// command for the members that are left, `None` if all are done.
    fn send(&mut self, to: Receivers, delivery: &Delivery<'_>, turn: &mut Turn) -> Option<Command> {
        let length = delivery.plain.bytes().len();
        let (group, epoch, from) = match to {
            Receivers::Members { group, epoch, from } => (group, epoch, from),
            Receivers::One { key, .. } => {
                turn.charge_deliveries(1, length);
                self.drive(key, |connection, stream, context| {
                    connection.deliver(delivery, stream, context)
                });
                return None;
            }
        };
        // A connection leaves its groups when it is dropped: this group must not be locked then.
        let mut others = Vec::new();
        let mut rest = None;
        let allowed = turn.deliveries(length);
        let mut left = allowed;
        let members = group.lock();
        for (place, member) in members.iter_from(from) {
            if left == 0 {
                rest = Some(place);
                break;
            }
            if let Some(entry) = self.entries.get_mut(member.key)
                && member.gets(epoch)
            {
                left -= 1;
                let Entry {
                    stream, connection, ..
                } = entry;
                let progress = connection.deliver(delivery, stream, &mut self.context);
                if progress != Progress::Idle {
                    others.push((member.key, progress));
                }
            }
        }
        drop(members);
        turn.charge_deliveries(allowed - left, length);
        if !others.is_empty() {
            self.follow_up(&group, from > 0, delivery, others);
        }
        rest.map(|from| Command::Send {
            to: Receivers::Members { group, epoch, from },
            frames: FrameSource::Shared {
                plain: Arc::clone(delivery.plain.share()),
                compressed: delivery.compressed.map(|frames| Arc::clone(frames.share())),
            },
            messages: delivery.messages,
        })
    }

    /// Acts on the progress of the members that a delivery does not leave idle.
    fn follow_up(
        &mut self,
        group: &Arc<GroupMembers>,
        continues: bool,
        delivery: &Delivery<'_>,
        others: Vec<(ConnectionKey, Progress)>,
    ) {
        let mut behind = Vec::new();
        for (key, progress) in others {
            self.proceed(key, progress);
            if delivery.leeway == Leeway::Awaited && self.is_awaited(key) {
                behind.push(key);
            }
        }
        if !behind.is_empty() {
            self.hold(group, continues, behind);
        }
        self.relieve();
    }

    fn close_all(&mut self, code: CloseCode) {
        for index in 0..self.entries.places() {
            if let Some((key, _)) = self.entries.at_mut(index) {
                self.act(key, Act::Close(Some((code, Box::default()))));
            }
        }
    }
}

/// Runs `act` with the delivery of a command's frames.
fn with_delivery<T>(
    frames: FrameSource,
    messages: usize,
    policy: SlowConsumerPolicy,
    leeway: Leeway,
    queue: &mut CommandQueue,
    act: impl FnOnce(&Delivery<'_>) -> T,
) -> T {
    let mut shared = [const { OnceCell::new() }; 2];
    let [plain, compressed] = match frames {
        FrameSource::Queued {
            length,
            compressed_length,
        } => [
            Encoded::new(queue.plain.take(length), &shared[0]),
            Encoded::new(queue.compressed.take(compressed_length), &shared[1]),
        ],
        // The caller has compressed long frames. Any other is sent plain.
        FrameSource::Long(long) => {
            shared[0] = OnceCell::from(long.plain);
            [Encoded::of(&shared[0]), Encoded::of(&shared[1])]
        }
        FrameSource::Shared { plain, compressed } => {
            shared = [
                OnceCell::from(plain),
                compressed.map(OnceCell::from).unwrap_or_default(),
            ];
            [Encoded::of(&shared[0]), Encoded::of(&shared[1])]
        }
    };
    act(&Delivery {
        plain,
        compressed: Some(compressed).filter(|frames| !frames.bytes().is_empty()),
        messages,
        policy,
        leeway,
    })
}
