//! What only Socket.IO needs of the engine.

use std::cell::OnceCell;

use super::act::Act;
use super::commands::Command;
use super::disconnect::Disconnect;
use super::group::Groups;
pub(crate) use super::group::Sleeper;
use super::peer::Peer;
use super::publication::Publication;
use super::turn::take_charged;
pub(crate) use super::turn::{Turn, charge};
use super::unsent::{Held, SharedFrame, UnsentBudget};
use super::web_socket::WebSocket;
use crate::protocol::{CloseCode, Message, sender};

impl Peer {
    /// Ends the connection with a Close, without a wait for the answer, as a passed deadline does.
    pub(crate) fn end(&self, why: Disconnect, code: CloseCode, reason: &'static str) {
        let frame = (code, reason);
        let act = Act::End { why, frame };
        self.mailbox.command(Command::Act(self.key, act));
    }

    /// Sends messages that are already encoded. The same bound as in [`Peer::send`] applies, except
    /// that a backlog within the bound accepts a message of any size: a long answer does not close
    /// the connection.
    pub(crate) fn publish(&self, publication: &Publication<'_>) {
        self.mailbox
            .send(self.key, self.compresses, publication, true);
    }
}

impl WebSocket<'_> {
    /// Makes the event's next message wait for the next turn, if the handler has [charged](charge)
    /// so much that this turn is over.
    pub(crate) fn heed_charges(&mut self) {
        self.batch.may_stop = true;
    }
}

impl Turn {
    /// Charges what this thread's handlers were charged since the last call. If that ends the turn,
    /// the other tasks of the thread run, and a new turn begins. For tasks outside the frame loop.
    pub(crate) async fn share(&mut self) {
        self.charge_work(take_charged());
        if self.is_over() {
            tokio::task::yield_now().await;
            *self = Turn::new();
        }
    }
}

impl Groups {
    /// Whether the mailbox of any worker is full, so that a publishing task should yield.
    pub(crate) fn is_full(&self) -> bool {
        self.0.iter().any(|group| group.mailbox.is_full())
    }
}

impl<'a> Publication<'a> {
    /// Several messages that stay consecutive on the wire. They are never compressed.
    pub(crate) fn of_several<'m>(messages: impl Iterator<Item = Message<'m>>) -> Publication<'a> {
        let mut frames = Vec::new();
        let mut count = 0;
        for message in messages {
            sender::encode_message(message, &mut frames);
            count += 1;
        }
        Publication {
            message: Message::Binary(&[]),
            messages: count,
            shared: Some(SharedFrame::new(frames)),
            compressed: OnceCell::from(None),
        }
    }
}

impl Held {
    /// Takes memory for several clients.
    pub(crate) fn for_all(bytes: usize, budget: &UnsentBudget) -> Held {
        budget.take(bytes);
        Held {
            bytes,
            budget: budget.clone(),
            _client: None,
        }
    }
}
