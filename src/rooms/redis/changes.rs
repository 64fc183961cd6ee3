//! The rooms opened and closed since Redis was last told.

use std::collections::HashMap;
use std::sync::Arc;

/// How a room receives messages from Redis.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Registration {
    /// This process subscribes to a channel, the room's address.
    Channel,
    /// This process is a member of a group of `RedisChannelLayer`, the room's address. The number is
    /// that of the member's name, and new each time that the room opens.
    Member(u64),
}

/// What Redis must be told, by the address of the room. A group that was closed and opened again is
/// in both maps, a channel in neither. Bound: the number of memberships here, now and when Redis was
/// last told.
#[derive(Debug, Default)]
pub(super) struct Changes {
    pub(super) opened: HashMap<Arc<str>, Registration>,
    pub(super) closed: HashMap<Arc<str>, Registration>,
}

impl Changes {
    pub(super) fn is_empty(&self) -> bool {
        self.opened.is_empty() && self.closed.is_empty()
    }

    pub(super) fn opened(&mut self, address: &Arc<str>, registration: Registration) {
        if self.closed.get(address) == Some(&registration) {
            self.closed.remove(address);
        } else {
            self.opened.insert(Arc::clone(address), registration);
        }
    }

    pub(super) fn closed(&mut self, address: Arc<str>, registration: Registration) {
        if self.opened.remove(&address).is_none() {
            self.closed.insert(address, registration);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;
    use crate::rooms::redis::{DjangoLayer, Format, Redis};
    use crate::rooms::{Room, Rooms};

    /// Attack 77: the relay takes the changes as they are, and walks over no room under the lock for
    /// which the workers wait.
    #[test]
    fn attack_77_many_rooms_left_at_once_are_taken_in_one_step() {
        const ROOMS: usize = 8_000;
        let url = "redis://127.0.0.1:1/0";
        let mut longest = Duration::ZERO;
        for (layer, again) in [(DjangoLayer::PubSub, 0), (DjangoLayer::Core, 1)] {
            let (redis, relay) = Redis::new(url, layer).unwrap();
            let format = Format::Groups {
                prefix: "test_",
                event: |_| None,
                text: |_| None,
            };
            let rooms = redis.join(&Rooms::default(), format);
            let rooms = rooms.layer.unwrap();
            let open = |number: usize| {
                rooms.opened(&Arc::new(Room {
                    name: number.to_string().into(),
                    groups: Default::default(),
                }));
            };
            let close = |number: usize| rooms.closed(&number.to_string());
            let taken = || {
                let began = Instant::now();
                let (changes, _) = relay.work();
                let counts = (changes.opened.len(), changes.closed.len());
                (counts, began.elapsed())
            };
            (0..ROOMS).for_each(open);
            assert_eq!(taken().0, (ROOMS, 0));
            (0..ROOMS).for_each(close);
            let (counts, time) = taken();
            assert_eq!(counts, (0, ROOMS));
            // A room that opens and closes in between leaves nothing behind.
            (0..ROOMS).for_each(|number| (open(number), close(number)).1);
            assert_eq!(taken().0, (0, 0));
            open(0);
            assert_eq!(taken().0, (1, 0));
            // A channel that closes and opens stays subscribed; a group gets a new member.
            (close(0), open(0), close(0), open(0));
            assert_eq!(taken().0, (again, again));
            (open(1), close(0));
            assert_eq!(taken().0, (1, 1));
            longest = longest.max(time);
        }
        println!(
            "reliability: attack 77 | {ROOMS} rooms over Redis left at once: changes that the relay \
             takes under the lock in one step | {ROOMS} | {ROOMS}, in at most {longest:.1?}"
        );
    }
}
