use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

/// A layer that checks that no lock is held in `wake`, and records its calls.
#[derive(Debug, Default)]
struct Looking {
    rooms: Rooms,
    told: Mutex<Vec<String>>,
}

impl ChannelLayer for Looking {
    fn changed(&self, room: &Arc<Room>, is_open: bool) {
        let change = if is_open { "opened" } else { "closed" };
        lock(&self.told).push(format!("{change} {}", room.name));
    }

    fn wake(&self) {
        for shard in &self.rooms.register.shards {
            assert!(shard.try_write().is_ok(), "a lock is held");
        }
        lock(&self.told).push(String::from("wake"));
    }

    fn publish(&self, _: &str, _: Message<'_>) {}
}

#[test]
fn no_lock_of_the_rooms_is_held_while_their_layer_is_woken() {
    let rooms = Rooms::default();
    let layer = Arc::new(Looking {
        rooms: rooms.clone(),
        told: Mutex::default(),
    });
    let joined = Rooms {
        layer: Some(Arc::clone(&layer) as Arc<dyn ChannelLayer>),
        ..rooms
    };
    let peer = Peer::of_sleeper(|| {});
    let first = joined.join("a", &peer);
    let second = joined.join("a", &peer);
    assert_eq!(joined.members("a"), 2);
    drop(first);
    drop(second);
    assert_eq!(joined.members("a"), 0);
    let told = lock(&layer.told);
    assert_eq!(*told, ["opened a", "wake", "closed a", "wake"]);
}

#[test]
fn no_lock_of_a_room_is_held_while_a_worker_is_woken() {
    let rooms = Rooms::default();
    let seen = rooms.clone();
    let woken = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&woken);
    let peer = Peer::of_sleeper(move || {
        count.fetch_add(1, Ordering::Relaxed);
        let room = seen.room("a");
        assert!(room.is_some_and(|room| room.groups.try_lock().is_ok()));
        for shard in &seen.register.shards {
            assert!(shard.try_write().is_ok(), "a lock is held");
        }
    });
    let _membership = rooms.join("a", &peer);
    rooms.publish("a", Message::Text("wake up"));
    rooms.publish("a", Message::Text("it is awake by now"));
    assert_eq!(woken.load(Ordering::Relaxed), 1);
}
