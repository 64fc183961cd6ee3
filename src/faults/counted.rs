//! A connection with faults in the server's counts.

use std::sync::Arc;

use tokio::time::Instant;

use crate::engine::{ConnectionRecord, Disconnect, EndpointIndex, Flow, PeerAddress, Tally};
use crate::http::{Account, Upgraded};
use crate::protocol::AssemblyBudget;

/// Counted in when it is made, and out when it is dropped, so also if it is cut.
pub(super) struct Counted {
    account: Arc<dyn Account>,
    number: u64,
    endpoint: EndpointIndex,
    peer: PeerAddress,
    begun: Instant,
    received: Flow,
    sent: Flow,
    /// Octets that wait, as they were last told.
    backlog: usize,
    /// How it ended; until that is known, by the end of the server.
    pub(super) why: Disconnect,
}

impl Counted {
    pub(super) fn new(stream: &Upgraded, endpoint: EndpointIndex) -> Counted {
        let account = stream.account();
        Counted {
            number: account.opened(endpoint),
            endpoint,
            peer: stream.peer(),
            begun: Instant::now(),
            received: Flow::default(),
            sent: Flow::default(),
            backlog: 0,
            why: Disconnect::CutAtShutdown,
            account,
        }
    }

    /// What all unfinished messages may hold together.
    pub(super) fn budget(&self) -> AssemblyBudget {
        self.account.budget()
    }

    /// Tells what has passed since it was last told, and how many octets wait.
    pub(super) fn tell(&mut self, tally: &Tally, backlog: usize) {
        if *tally != Tally::default() {
            self.received += tally.received.data;
            self.sent += tally.sent.data;
            self.account.tallied(tally);
        }
        if backlog != self.backlog {
            self.account.backlogged(self.backlog, backlog);
            self.backlog = backlog;
        }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.tell(&Tally::default(), 0);
        self.account.closed(&ConnectionRecord {
            number: self.number,
            endpoint: self.endpoint,
            peer: self.peer,
            duration: self.begun.elapsed(),
            received: self.received,
            sent: self.sent,
            why: &self.why,
        });
    }
}
