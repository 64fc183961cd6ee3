//! Carries out the commands of the mailbox.

use std::cell::OnceCell;
use std::mem;
use std::sync::Arc;

use super::{Connections, Entry};
use crate::engine::SlowConsumerPolicy;
use crate::engine::delivery::{Delivery, Encoded};
use crate::engine::disconnect::Disconnect;
use crate::engine::driver::Progress;
use crate::engine::mailbox::{Command, CommandQueue};
use crate::engine::members::{Epoch, GroupMembers};
use crate::engine::slab::ConnectionKey;
use crate::engine::socket::Stream;
use crate::engine::turn::Turn;
use crate::engine::unsent::SharedFrame;
use crate::protocol::{CloseCode, CloseFrame};

impl<S: Stream> Connections<S> {
    /// Carries out the commands of the mailbox, and the commands that follow from them, for one
    /// turn. The rest, even for a part of a group, waits for the next turn. The sockets are polled
    /// in between: otherwise a slow worker would make a fast member seem slow.
    pub(super) fn deliver(&mut self) {
        if self.queue.commands.is_empty() && !self.context.mailbox.is_filled() {
            return;
        }
        let mut queue = mem::take(&mut self.queue);
        let mut turn = Turn::new();
        while !turn.is_over() {
            match queue.commands.pop_front() {
                Some(command) => self.carry_out(command, &mut queue, &mut turn),
                None if self.context.mailbox.is_filled() => self.context.mailbox.take(&mut queue),
                None => break,
            }
        }
        self.is_crowded |= turn.is_over();
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
            Command::Deliver {
                members,
                epoch,
                length,
                compressed_length,
                messages,
            } => {
                let shared_frames = [const { OnceCell::new() }; 2];
                let plain = Encoded::new(queue.plain.take(length), &shared_frames[0]);
                let compressed = queue.compressed.take(compressed_length);
                let compressed =
                    (compressed_length > 0).then_some(Encoded::new(compressed, &shared_frames[1]));
                let delivery = Delivery::new(plain, compressed, messages, members.policy());
                let rest = self.deliver_to(members, epoch, 0, &delivery, turn);
                queue.put_back(rest);
            }
            Command::DeliverShared {
                members,
                epoch,
                frame,
                compressed,
                messages,
                from,
            } => with_shared(frame, compressed, |plain, compressed| {
                let delivery = Delivery::new(plain, compressed, messages, members.policy());
                let rest = self.deliver_to(members, epoch, from, &delivery, turn);
                queue.put_back(rest);
            }),
            command => self.carry_out_for_one(command, queue, turn),
        }
    }

    /// Carries out a command that is not a delivery to a group.
    fn carry_out_for_one(&mut self, command: Command, queue: &mut CommandQueue, turn: &mut Turn) {
        match command {
            Command::Send {
                to,
                length,
                is_compressed,
            } => {
                let frames = match is_compressed {
                    true => &mut queue.compressed,
                    false => &mut queue.plain,
                };
                let shared_frame = OnceCell::new();
                let frame = Encoded::new(frames.take(length), &shared_frame);
                let compressed = is_compressed.then_some(frame);
                let delivery = Delivery::new(frame, compressed, 1, SlowConsumerPolicy::Close);
                self.send(to, &delivery, turn);
            }
            Command::SendShared {
                to,
                frames,
                compressed,
                messages,
            } => with_shared(frames, compressed, |plain, compressed| {
                let policy = SlowConsumerPolicy::Close;
                let mut delivery = Delivery::new(plain, compressed, messages, policy);
                delivery.is_lenient = true;
                self.send(to, &delivery, turn);
            }),
            Command::Resume { to } => {
                self.drive_stream(to);
                turn.charge_work(self.context.turn.used());
            }
            Command::Wake { to } => {
                self.context.begin_turn();
                self.wake(to);
                turn.charge_work(self.context.turn.used());
            }
            command => {
                turn.charge_command();
                self.obey(command);
            }
        }
    }

    /// Carries out a command without encoded frames.
    fn obey(&mut self, command: Command) {
        match command {
            Command::Overrun { to } => self.end_with(to, Disconnect::SlowConsumer, Disconnect::OVERRUN),
            Command::End { to, why, frame } => self.end_with(to, why, frame),
            Command::Close { to, frame } => {
                let frame = frame.as_ref().map(|(code, reason)| CloseFrame {
                    code: *code,
                    reason,
                });
                self.close(to, frame);
            }
            Command::CloseAll { code } => self.close_all(code),
            Command::Drop(_)
            // Carried out by the callers.
            | Command::Resume { .. }
            | Command::Wake { .. }
            | Command::Deliver { .. }
            | Command::DeliverShared { .. }
            | Command::Send { .. }
            | Command::SendShared { .. } => {}
        }
    }

    fn send(&mut self, to: ConnectionKey, delivery: &Delivery<'_>, turn: &mut Turn) {
        turn.charge_delivery(delivery.plain.bytes().len());
        self.drive(to, |connection, stream, context| {
            connection.deliver(delivery, stream, context)
        });
    }

    /// Delivers to the members of a group, beginning at the place `from`, until the turn is over.
    /// Returns the command for the members that are left, `None` if all are done.
    fn deliver_to(
        &mut self,
        group: Arc<GroupMembers>,
        epoch: Epoch,
        from: u32,
        delivery: &Delivery<'_>,
        turn: &mut Turn,
    ) -> Option<Command> {
        // A connection leaves its groups when it is dropped: this group must not be locked then.
        let mut over = Vec::new();
        let mut rest = None;
        let length = delivery.plain.bytes().len();
        let members = group.lock();
        for (place, member) in members.iter_from(from) {
            if turn.is_over() {
                rest = Some(place);
                break;
            }
            let entry = self.entries.get_mut(member.key);
            let Some(entry) = entry.filter(|_| member.gets(epoch)) else {
                continue;
            };
            let Entry {
                stream, connection, ..
            } = entry;
            turn.charge_delivery(length);
            match connection.deliver(delivery, stream, &mut self.context) {
                Progress::Over(why) => over.push((member.key, why)),
                Progress::Waiting => entry.next_check = self.context.now.wrapping_add(1),
                Progress::MoreToRead if !entry.is_ready => {
                    entry.is_ready = true;
                    self.ready.push_back(member.key);
                }
                Progress::MoreToRead | Progress::Idle => {}
            }
        }
        drop(members);
        for (member, why) in over {
            self.end(member, &why);
        }
        self.relieve();
        rest.map(|from| Command::DeliverShared {
            members: group,
            epoch,
            frame: Arc::clone(delivery.plain.share()),
            compressed: delivery.compressed.map(|frames| Arc::clone(frames.share())),
            messages: delivery.messages,
            from,
        })
    }

    fn end_with(&mut self, key: ConnectionKey, why: Disconnect, frame: (CloseCode, &'static str)) {
        self.drive(key, |connection, stream, context| {
            connection.end(why, frame, stream, context)
        });
    }

    fn close(&mut self, key: ConnectionKey, frame: Option<CloseFrame<'_>>) {
        self.drive(key, |connection, stream, context| {
            connection.close(frame, stream, context)
        });
    }

    fn close_all(&mut self, code: CloseCode) {
        for index in 0..self.entries.places() {
            if let Some((key, _)) = self.entries.at_mut(index) {
                self.close(key, Some(CloseFrame { code, reason: "" }));
            }
        }
    }
}

/// Runs `act` with shared frames.
fn with_shared(
    plain: Arc<SharedFrame>,
    compressed: Option<Arc<SharedFrame>>,
    act: impl FnOnce(Encoded<'_>, Option<Encoded<'_>>),
) {
    let plain = OnceCell::from(plain);
    let compressed = compressed.map(OnceCell::from);
    act(Encoded::of(&plain), compressed.as_ref().map(Encoded::of));
}
