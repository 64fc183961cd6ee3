//! Several connections of two workers in one room, with interleaved operations: every member
//! receives all messages from its join to its leave or its close, and all in the same order.

use std::cell::RefCell;
use std::rc::Rc;

use arbitrary::{Arbitrary, Unstructured};
use frameloop::engine::{SimulatedConnection, Simulation};
use frameloop::protocol::{CloseCode, CloseFrame};
use frameloop::{Handler, Membership, Message, Rooms, WebSocket};

use super::client::{Frame, Sent, read_frames};
use super::connection::settings;
use super::scripted::{Scripted, ServerEnd};

#[derive(Arbitrary, Debug)]
enum Operation {
    Join {
        worker: bool,
    },
    /// A member publishes messages of this length.
    Publish {
        member: u8,
        count: u8,
        length: u16,
    },
    /// A member sends Close.
    Close {
        member: u8,
    },
    /// A member sends FIN.
    Fin {
        member: u8,
    },
    /// A member violates the protocol.
    Fail {
        member: u8,
    },
    /// A member asks its handler to close, at once or after all messages that are due.
    Dismiss {
        member: u8,
        at_once: bool,
    },
    /// A member stops reading, or resumes.
    Stall {
        member: u8,
        is_stalled: bool,
    },
    /// A worker takes a turn.
    Run {
        worker: bool,
    },
    Wait,
}

/// All published messages, in the room's order.
type Log = Rc<RefCell<Vec<Vec<u8>>>>;

struct Chat {
    rooms: Rooms,
    log: Log,
    stay: Rc<RefCell<Stay>>,
    membership: Option<Membership>,
}

/// The length of the log when a member joined, and when its handler closed.
#[derive(Clone, Copy, Default)]
struct Stay {
    joined_at: usize,
    dismissed: Option<Dismissed>,
}

#[derive(Clone, Copy)]
enum Dismissed {
    AtOnce,
    /// The messages that were in the log by then come before the Close.
    Behind(usize),
}

impl Handler for Chat {
    fn open(&mut self, socket: &mut WebSocket<'_>) {
        self.membership = self.rooms.join("room", &socket.peer()).ok();
        self.stay.borrow_mut().joined_at = self.log.borrow().len();
    }

    fn message(&mut self, socket: &mut WebSocket<'_>, message: Message<'_>) {
        let dismissed = &mut self.stay.borrow_mut().dismissed;
        match (message, &self.membership) {
            (Message::Binary(payload), Some(membership)) => {
                self.log.borrow_mut().push(payload.to_vec());
                membership.publish(message);
            }
            (Message::Text("at once"), _) => {
                socket.close(CloseCode::Normal, "");
                *dismissed = Some(Dismissed::AtOnce);
            }
            (Message::Text(_), _) => {
                let code = CloseCode::Normal;
                socket.peer().close(CloseFrame { code, reason: "" });
                dismissed.get_or_insert(Dismissed::Behind(self.log.borrow().len()));
            }
            _ => {}
        }
    }
}

struct Member {
    worker: usize,
    connection: SimulatedConnection,
    scripted: Scripted,
    stay: Rc<RefCell<Stay>>,
    published: u32,
    /// The member has closed or violated the protocol: what it receives afterwards is not checked.
    has_left: bool,
}

struct Session {
    rooms: Rooms,
    log: Log,
    workers: [Simulation<ServerEnd>; 2],
    members: Vec<Member>,
}

pub(crate) fn check(input: &[u8]) {
    let Ok(operations) = Vec::<Operation>::arbitrary_take_rest(Unstructured::new(input)) else {
        return;
    };
    let mut settings = settings();
    settings.limits.max_message_size = 2_000;
    settings.limits.max_frame_size = 2_000;
    settings.slow_consumer.max_bytes = 8_000;
    settings.slow_consumer.max_messages = 32;
    let gathering = Simulation::new(&settings);
    settings.gather_publications = false;
    let mut session = Session {
        rooms: Rooms::default(),
        log: Log::default(),
        workers: [gathering, Simulation::new(&settings)],
        members: Vec::new(),
    };
    for operation in operations.iter().take(40) {
        session.perform(operation);
    }
    session.end();
}

impl Session {
    fn perform(&mut self, operation: &Operation) {
        match *operation {
            Operation::Join { worker } if self.members.len() < 8 => self.join(usize::from(worker)),
            Operation::Join { .. } => {}
            Operation::Publish {
                member,
                count,
                length,
            } => self.publish(member, count % 40, usize::from(length % 1_000)),
            Operation::Close { member } => self.leave(member, b"\x88\x80\0\0\0\0"),
            Operation::Fail { member } => self.leave(member, b"\x83\x80\0\0\0\0"),
            Operation::Dismiss { member, at_once } => self.dismiss(member, at_once),
            Operation::Fin { member } => {
                self.leave(member, b"");
                if let Some(member) = self.member(member) {
                    member.scripted.wire().has_ended = true;
                    self.ready_all();
                }
            }
            Operation::Stall { member, is_stalled } => {
                if let Some(member) = self.member(member) {
                    member.scripted.wire().is_stalled = is_stalled;
                }
            }
            Operation::Run { worker } => self.workers[usize::from(worker)].run(),
            Operation::Wait => {
                for worker in &mut self.workers {
                    worker.advance(std::time::Duration::from_millis(100));
                }
            }
        }
    }

    fn member(&mut self, index: u8) -> Option<&mut Member> {
        let count = self.members.len().max(1);
        self.members.get_mut(usize::from(index) % count)
    }

    fn join(&mut self, worker: usize) {
        let scripted = Scripted::default();
        let stay = Rc::default();
        let chat = Chat {
            rooms: self.rooms.clone(),
            log: Rc::clone(&self.log),
            stay: Rc::clone(&stay),
            membership: None,
        };
        let connection = self.workers[worker].open(scripted.server(), chat, None);
        self.members.push(Member {
            worker,
            connection,
            scripted,
            stay,
            published: 0,
            has_left: false,
        });
    }

    fn publish(&mut self, index: u8, count: u8, length: usize) {
        let number = usize::from(index) % self.members.len().max(1);
        let Some(member) = self.member(index) else {
            return;
        };
        if member.has_left {
            return;
        }
        for _ in 0..count {
            let mut payload = format!("{number}:{}:", member.published).into_bytes();
            payload.resize(payload.len() + length, b'x');
            member.published += 1;
            let frame = Frame {
                first: 0x82,
                payload: &payload,
                key: Some([1, 2, 3, 4]),
            };
            member.scripted.wire().incoming.extend(frame.bytes());
        }
        let (worker, connection) = (member.worker, member.connection);
        self.workers[worker].ready(connection);
    }

    fn dismiss(&mut self, index: u8, at_once: bool) {
        let Some(member) = self.member(index).filter(|member| !member.has_left) else {
            return;
        };
        let frame = Frame {
            first: 0x81,
            payload: if at_once { b"at once" } else { b"behind" },
            key: Some([1, 2, 3, 4]),
        };
        member.scripted.wire().incoming.extend(frame.bytes());
        let (worker, connection) = (member.worker, member.connection);
        self.workers[worker].ready(connection);
    }

    fn leave(&mut self, index: u8, frame: &[u8]) {
        let Some(member) = self.member(index) else {
            return;
        };
        member.has_left = true;
        member.scripted.wire().incoming.extend(frame);
        let (worker, connection) = (member.worker, member.connection);
        self.workers[worker].ready(connection);
    }

    fn ready_all(&mut self) {
        for member in &self.members {
            self.workers[member.worker].ready(member.connection);
        }
    }

    /// All members read everything; then the logs are compared.
    fn end(mut self) {
        for _ in 0..3 {
            for member in &self.members {
                member.scripted.wire().is_stalled = false;
            }
            self.ready_all();
            // One worker delivers the messages that the other publishes.
            for _ in 0..2 {
                self.workers.iter_mut().for_each(Simulation::run);
            }
        }
        let log = self.log.borrow();
        let (mut expected, mut members) = (vec![0; self.members.len()], 0);
        for entry in log.iter() {
            let mut numbers = entry.split(|byte| *byte == b':');
            let mut number = || {
                let digits = numbers
                    .next()
                    .and_then(|digits| std::str::from_utf8(digits).ok());
                digits
                    .and_then(|digits| digits.parse::<usize>().ok())
                    .expect("a number")
            };
            let (publisher, sequence) = (number(), number());
            assert_eq!(sequence, expected[publisher], "a publisher's order");
            expected[publisher] += 1;
        }
        for member in &mut self.members {
            let is_open = self.workers[member.worker]
                .stream(member.connection)
                .is_some();
            members += usize::from(is_open && !member.scripted.wire().is_shut);
            member.check(&log, is_open);
        }
        assert!(self.rooms.members("room") <= self.members.len());
        assert!(self.rooms.members("room") >= members);
        drop(log);
        drop(self.workers);
        assert_eq!(
            self.rooms.members("room"),
            0,
            "a member outlived its worker"
        );
        for member in &self.members {
            assert!(member.scripted.wire().is_dropped);
        }
        assert_eq!(Rc::strong_count(&self.log), 1);
    }
}

impl Member {
    fn check(&self, log: &[Vec<u8>], is_open: bool) {
        let wire = self.scripted.wire();
        let (frames, is_partial) = read_frames(&wire.outgoing);
        let (close, messages) = match frames.split_last() {
            Some((last, messages)) if last.first == 0x88 => (Some(last), messages),
            _ => (None, &*frames),
        };
        let messages: Vec<&Sent> = messages
            .iter()
            .filter(|frame| frame.first != 0x89)
            .collect();
        let mut next = 0;
        let mut places = Vec::new();
        for message in &messages {
            let place =
                place(&log[next..], message).expect("a published message, once and in order");
            places.push(next + place);
            next += place + 1;
        }
        let Stay {
            joined_at,
            dismissed,
        } = *self.stay.borrow();
        // A message in transit at the join may arrive, too.
        let begin = places
            .first()
            .map_or(joined_at, |first| joined_at.min(*first));
        let end = begin + places.len();
        let is_run = places.iter().copied().eq(begin..end);
        // Messages that wait for a leaving member are dropped.
        assert!(is_run || self.has_left, "a gap");
        match close.map(|close| close.close_code()) {
            _ if self.has_left => {}
            None if is_open => {
                assert!(dismissed.is_none() && !is_partial);
                assert_eq!(end, log.len(), "a member missed messages");
            }
            Some(Some(1000)) => match dismissed.expect("only its handler closes a member") {
                Dismissed::AtOnce => {}
                Dismissed::Behind(owed) => {
                    assert!(end >= owed, "closed before the messages that were due")
                }
            },
            // The only other reason to close a member that behaves correctly: a slow consumer.
            Some(code) => assert_eq!(code, Some(1008)),
            None => {}
        }
    }
}

/// The place of a message in the room's order.
fn place(log: &[Vec<u8>], message: &Sent) -> Option<usize> {
    assert_eq!(message.first, 0x82);
    log.iter()
        .position(|published| *published == message.payload)
}
