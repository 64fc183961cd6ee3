use std::time::Instant;

use super::*;

/// Attack 77: the relay takes the changes in one step. It visits no room while it has the lock that
/// workers wait for.
#[test]
fn attack_77_many_rooms_left_at_once_are_taken_in_one_step() {
    const ROOMS: usize = 8_000;
    let (redis, relay) = Redis::new("redis://127.0.0.1:1/0", DjangoLayer::PubSub).unwrap();
    let rooms = redis.join(&Rooms::default(), Format::Own("test"));
    let rooms = rooms.layer.unwrap();
    let change = |number: usize, is_open| {
        let room = Room {
            name: number.to_string().into(),
            groups: Mutex::default(),
        };
        rooms.changed(&Arc::new(room), is_open);
    };
    let (open, close) = (
        |number| change(number, true),
        |number| change(number, false),
    );
    // The rooms that have opened and closed.
    let taken = || {
        let (changes, _) = relay.work();
        let opened = changes.values().filter(|is_open| **is_open).count();
        (opened, changes.len() - opened)
    };
    (0..ROOMS).for_each(open);
    assert_eq!(taken(), (ROOMS, 0));
    (0..ROOMS).for_each(close);
    let began = Instant::now();
    let (changes, _) = relay.work();
    let time = began.elapsed();
    assert_eq!(changes.len(), ROOMS);
    assert!(changes.values().all(|is_open| !is_open));
    // A room that opens and closes in between leaves nothing behind.
    (0..ROOMS).for_each(|number| {
        open(number);
        close(number);
    });
    assert_eq!(taken(), (0, 0));
    open(0);
    assert_eq!(taken(), (1, 0));
    // A room that closes and opens stays registered.
    close(0);
    open(0);
    assert_eq!(taken(), (0, 0));
    open(1);
    close(0);
    assert_eq!(taken(), (1, 1));
    println!(
        "reliability: attack 77 | {ROOMS} rooms over Redis left at once: changes that the relay \
         takes under the lock in one step | {ROOMS} | {}, in {time:.1?}",
        changes.len()
    );
}
