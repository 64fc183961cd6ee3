//! The rooms that are registered with Redis.

use std::collections::HashMap;
use std::sync::Arc;

/// A room that is registered with Redis.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Known {
    /// The room's channel or key on Redis.
    pub(super) address: Arc<str>,
    /// Whether the room is a group of `RedisChannelLayer`, not a channel.
    pub(super) is_group: bool,
    /// The number of this process's member name in the group.
    pub(super) member: u64,
}

/// All registered rooms, by address. Bound: the number of rooms with members here.
#[derive(Debug, Default)]
pub(super) struct KnownRooms(HashMap<Arc<str>, Known>);

/// Changes to send to Redis. A room that was closed and opened again is in both lists.
#[derive(Debug, Default)]
pub(super) struct Changes {
    pub(super) opened: Vec<Known>,
    pub(super) closed: Vec<Known>,
}

impl KnownRooms {
    /// Maximum rooms looked up under one lock.
    const AT_ONCE: usize = 256;

    /// Updates the rooms at the addresses `changed` and returns the changes. `look_up` returns the
    /// present state of a few rooms, in the order of the addresses. It holds the lock, so the
    /// workers wait for a few rooms only, not for all.
    pub(super) fn update(
        &mut self,
        changed: impl IntoIterator<Item = Arc<str>>,
        look_up: impl Fn(&[Arc<str>]) -> Vec<Option<Known>>,
    ) -> Changes {
        let changed: Vec<_> = changed.into_iter().collect();
        let mut changes = Changes::default();
        for some in changed.chunks(Self::AT_ONCE) {
            for (address, now) in some.iter().zip(look_up(some)) {
                if self.0.get(address) == now.as_ref() {
                    continue;
                }
                let before = match &now {
                    Some(now) => self.0.insert(Arc::clone(address), now.clone()),
                    None => self.0.remove(address),
                };
                changes.closed.extend(before);
                changes.opened.extend(now);
            }
        }
        changes
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Known> {
        self.0.values()
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::time::{Duration, Instant};

    use super::*;
    use crate::rooms::Rooms;
    use crate::rooms::channel_layer::ChannelLayer;
    use crate::rooms::redis::{DjangoLayer, Format, Redis, SharedRooms};

    /// Attack 77: the relay looks up a bounded number of rooms under the lock for which the workers
    /// wait.
    #[test]
    fn attack_77_many_rooms_left_at_once_are_looked_up_a_few_under_the_lock() {
        const ROOMS: usize = 8_000;
        let (redis, relay) = Redis::new("redis://127.0.0.1:1/0", DjangoLayer::PubSub).unwrap();
        let rooms = SharedRooms {
            shared: redis.0,
            rooms: Rooms::default(),
            format: Format::Own("test"),
        };
        let names: Vec<Arc<str>> = (0..ROOMS).map(|n| n.to_string().into()).collect();
        let mut known = KnownRooms::default();
        let (walked, most) = (Cell::new(0), Cell::new(0));
        let longest = Cell::new(Duration::ZERO);
        let mut update = || {
            known.update(relay.work().0, |some| {
                let began = Instant::now();
                let found = relay.look_up(some);
                longest.set(longest.get().max(began.elapsed()));
                most.set(most.get().max(some.len()));
                walked.set(walked.get() + some.len());
                found
            })
        };
        names.iter().for_each(|name| rooms.opened(name));
        let changes = update();
        assert_eq!((changes.opened.len(), changes.closed.len()), (ROOMS, 0));
        names.iter().for_each(|name| rooms.closed(name));
        let changes = update();
        assert_eq!((changes.opened.len(), changes.closed.len()), (0, ROOMS));
        // A member that joins and leaves in between changes nothing; one that leaves and joins changes two things.
        rooms.opened(&names[0]);
        assert_eq!(update().opened.len(), 1);
        rooms.closed(&names[0]);
        rooms.opened(&names[0]);
        rooms.opened(&names[1]);
        rooms.closed(&names[1]);
        let changes = update();
        assert_eq!((changes.opened.len(), changes.closed.len()), (1, 1));

        assert_eq!(walked.get(), 2 * ROOMS + 3, "each change once");
        assert!(most.get() <= 256, "{} under the lock", most.get());
        println!(
            "reliability: attack 77 | {ROOMS} rooms over Redis left at once: rooms walked under \
             the lock at a time | <= 256 | {}, at most {:.1?}",
            most.get(),
            longest.get()
        );
    }
}
