//! Several broadcasts written together: what each session gets of them, by as few writes as it
//! takes.

use std::collections::HashMap;
use std::future::poll_fn;
use std::mem;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use socketioxide::socket::Sid;
use tokio::task;

use super::{Broadcast, FanOut, Member, requeue};
use crate::socketio::session_stream::{Sent, Session};

/// Writes broadcasts to their members, each session's in their order, and leaves with them the
/// errors of those that go by the engine.
pub(super) async fn write(broadcasts: &mut [Broadcast], fan_out: &FanOut) {
    /// Sessions after which other tasks have their turn.
    const SESSIONS: usize = 256;
    let recipients = Recipients::of(broadcasts);
    let mut together = Together::default();
    let mut refused = vec![Vec::new(); broadcasts.len()];
    for place in 0..recipients.members.len() {
        let (sid, session) = &recipients.members[place];
        let indices = recipients.broadcasts_for(place);
        if together.indices != indices {
            together = Together::of(broadcasts, indices);
        }
        for index in together.refused_by(session, broadcasts, fan_out) {
            refused[*index].push(*sid);
        }
        if place % SESSIONS == SESSIONS - 1 {
            send_by_engine(broadcasts, &mut refused);
            requeue().await;
        }
    }
    send_by_engine(broadcasts, &mut refused);
}

/// Sends by the engine what could not go past it, to all sessions at once.
fn send_by_engine(broadcasts: &mut [Broadcast], refused: &mut [Vec<Sid>]) {
    for (broadcast, refused) in broadcasts.iter_mut().zip(refused) {
        let sent = (broadcast.by_engine)(&mem::take(refused));
        broadcast.errors.extend(sent.err().into_iter().flatten());
    }
}

/// The sessions that broadcasts go to, and which of them go to each.
struct Recipients {
    members: Vec<Member>,
    /// The indices of the broadcasts for the first member, then those for the second, and so on.
    indices: Vec<usize>,
    /// Where in them a member's begin, and after the last one's, where they end.
    begins: Vec<usize>,
}

impl Recipients {
    fn of(broadcasts: &[Broadcast]) -> Recipients {
        let mut members: Vec<Member> = Vec::new();
        let mut places_by_session: HashMap<*const Session, usize> = HashMap::new();
        let mut deliveries = Vec::new();
        let mut counts = Vec::new();
        for (index, broadcast) in broadcasts.iter().enumerate() {
            for (position, (sid, session)) in broadcast.members.iter().enumerate() {
                // Most broadcasts go to the same sessions as the first, in the same order.
                let is_same = |(_, other): &Member| Arc::ptr_eq(other, session);
                let place = if members.get(position).is_some_and(is_same) {
                    position
                } else {
                    *places_by_session
                        .entry(Arc::as_ptr(session))
                        .or_insert_with(|| {
                            members.push((*sid, Arc::clone(session)));
                            counts.push(0);
                            members.len() - 1
                        })
                };
                counts[place] += 1;
                deliveries.push((place, index));
            }
        }
        let mut begins = Vec::with_capacity(counts.len() + 1);
        let mut end = 0;
        for count in &counts {
            begins.push(end);
            end += count;
        }
        begins.push(end);
        let mut next = begins.clone();
        let mut indices = vec![0; deliveries.len()];
        for (place, index) in deliveries {
            indices[next[place]] = index;
            next[place] += 1;
        }
        Recipients {
            members,
            indices,
            begins,
        }
    }

    fn broadcasts_for(&self, place: usize) -> &[usize] {
        &self.indices[self.begins[place]..self.begins[place + 1]]
    }
}

/// Broadcasts that a session gets together.
#[derive(Default)]
struct Together {
    indices: Vec<usize>,
    /// Which of the indices go by one write, and its octets.
    writes: Vec<(Range<usize>, Bytes)>,
}

impl Together {
    fn of(broadcasts: &[Broadcast], indices: &[usize]) -> Together {
        /// A larger write saves nothing.
        const OCTETS: usize = 64 << 10;
        let mut writes = Vec::new();
        let mut begin = 0;
        while begin < indices.len() {
            let mut octets = 0;
            let within = indices[begin..].iter().take_while(|index| {
                let is_first = octets == 0;
                octets += broadcasts[**index].frames.len();
                is_first || octets <= OCTETS
            });
            let range = begin..begin + within.count();
            let frames = match &indices[range.clone()] {
                [only] => broadcasts[*only].frames.clone(),
                several => {
                    let frames = several.iter().map(|index| &*broadcasts[*index].frames);
                    frames.collect::<Vec<&[u8]>>().concat().into()
                }
            };
            begin = range.end;
            writes.push((range, frames));
        }
        Together {
            indices: indices.to_vec(),
            writes,
        }
    }

    /// Writes them to a session, and gives those that it could not be sent: from the first of them
    /// on all, or they would overtake it.
    fn refused_by(
        &self,
        session: &Arc<Session>,
        broadcasts: &[Broadcast],
        fan_out: &FanOut,
    ) -> &[usize] {
        for (range, frames) in &self.writes {
            let first = self.indices[range.start];
            match session.send(frames, broadcasts[first].epoch) {
                Sent::Written => {}
                Sent::Begun => {
                    let session = Arc::clone(session);
                    task::spawn(poll_fn(move |context| session.poll_drain(context)));
                }
                Sent::Refused => {
                    session.settle(fan_out.epoch());
                    return &self.indices[range.start..];
                }
            }
        }
        &[]
    }
}
