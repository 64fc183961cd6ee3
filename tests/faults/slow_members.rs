//! Row 5 again, in rooms that drop messages instead of members: a member that does not read sees a
//! gap and stays; the others see neither.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use frameloop::engine::SlowConsumerPolicy;
use frameloop::metrics::Metrics;
use frameloop::{CloseCode, Handler, Membership, Message, Rooms, Router};
use rustix::net::sockopt::set_socket_recv_buffer_size;
use tungstenite::{Error, WebSocket};

use crate::checker::{self, Log, Tally};
use crate::load;

use crate::client::{self, LONG_PATIENCE};
use crate::server::TestServer;
use crate::tell;

/// A member of a room whose publishers number their messages.
struct Member(Rooms, Option<Membership>);

impl Handler for Member {
    fn open(&mut self, socket: &mut frameloop::WebSocket<'_>) {
        match self.0.join("numbered", &socket.peer()) {
            Ok(membership) => self.1 = Some(membership),
            Err(error) => socket.close(CloseCode::Policy, error.reason()),
        }
    }

    fn message(&mut self, _: &mut frameloop::WebSocket<'_>, message: Message<'_>) {
        if let Some(membership) = &self.1 {
            membership.publish(message);
        }
    }
}

/// Publishes messages and reads each before the next. Returns the time of each.
fn publish(
    socket: &mut WebSocket<TcpStream>,
    log: &mut Log,
    sequences: std::ops::Range<u64>,
) -> Vec<Duration> {
    sequences
        .map(|sequence| {
            let payload = checker::payload(9, sequence, 30_000);
            let began = Instant::now();
            let message = client::message(checker::is_text(sequence), payload);
            socket.send(message).unwrap();
            load::receive(socket, log).unwrap();
            began.elapsed()
        })
        .collect()
}

fn p99(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() * 99 / 100]
}

#[test]
fn row_5_members_that_stop_reading_lose_the_oldest_or_the_newest_and_go_on() {
    const BEFORE: u64 = 100;
    const MESSAGES: u64 = 500;
    const SLOW: usize = 3;
    for (policy, name) in [
        (SlowConsumerPolicy::DropOldest, "oldest"),
        (SlowConsumerPolicy::DropNewest, "newest"),
    ] {
        let end = Arc::new(AtomicU64::new(u64::MAX));
        let metrics = Metrics::new();
        let rooms = Rooms::with_policy(policy);
        let router = Router::new().websocket("/", move |_| Member(rooms.clone(), None));
        let server =
            TestServer::plainly_serving(router, |server| server.with_metrics(metrics.clone()));
        let address = server.address;

        let mut publisher = client::open(address, "/").unwrap();
        let mut own = Log::joining([(9, 0)]);
        let quick = {
            let socket = client::open(address, "/").unwrap();
            let end = Arc::clone(&end);
            thread::spawn(move || read_until_end(socket, &end))
        };
        let before = publish(&mut publisher, &mut own, 0..BEFORE);
        let mut slow = [(); SLOW].map(|()| Slow::join(address, BEFORE));
        let meanwhile = publish(&mut publisher, &mut own, BEFORE..MESSAGES);

        // Each slow member reads its queue, and after that misses nothing.
        let mut next = MESSAGES;
        let mut have_caught_up = false;
        while !have_caught_up {
            publish(&mut publisher, &mut own, next..next + 1);
            have_caught_up = slow.iter_mut().all(|slow| slow.catches_up(next));
            next += 1;
        }
        end.store(next, Ordering::SeqCst);
        publish(&mut publisher, &mut own, next..next + 1);
        let mut lost = 0;
        for slow in &slow {
            let tally = slow.log.stayed([(9, next)]);
            let faults = (tally.duplicated, tally.reordered, tally.corrupted);
            assert_eq!(faults, (0, 0, 0), "{name}: {tally}");
            assert_eq!(tally.received + tally.lost, next - BEFORE, "{name}");
            assert!(tally.lost > 0, "{name}: no message was dropped");
            // Only a member that loses the oldest messages still gets the latest.
            let loses_oldest = policy == SlowConsumerPolicy::DropOldest;
            assert_eq!(slow.log.has(9, MESSAGES - 1), loses_oldest, "{name}");
            lost += tally.lost;
        }
        let others = own.stayed([(9, next + 1)]) + quick.join().unwrap();
        assert_eq!((others.lost, others.duplicated), (0, 0), "{others}");
        tells(&metrics, &format!("frameloop_fanout_dropped_total {lost}"));
        tells(&metrics, "frameloop_slow_consumers_total 0");
        tell(
            5,
            &format!("members stop reading, then resume, in rooms that drop the {name}"),
            format_args!(
                "{lost} of {} dropped and counted, 0 duplicated, reordered, corrupted; others: lost \
                 {}; p99 of the publisher's own copy {:.1?} before, {:.1?} meanwhile",
                (next - BEFORE) * SLOW as u64,
                others.lost,
                p99(before),
                p99(meanwhile)
            ),
        );
        server.shutdown.cut();
        server.stopped().unwrap();
    }
}

/// A member that reads all the time, until the message with this number has arrived.
fn read_until_end(mut socket: WebSocket<TcpStream>, end: &AtomicU64) -> Tally {
    let mut log = Log::joining([(9, 0)]);
    while !log.has(9, end.load(Ordering::SeqCst)) {
        load::receive(&mut socket, &mut log).unwrap();
    }
    log.stayed([(9, end.load(Ordering::SeqCst) + 1)])
}

/// A member that reads only on request.
struct Slow {
    socket: WebSocket<TcpStream>,
    log: Log,
}

impl Slow {
    /// Joins after this many messages have been published.
    fn join(address: SocketAddr, due: u64) -> Slow {
        let socket = client::open(address, "/").unwrap();
        set_socket_recv_buffer_size(socket.get_ref(), 64 << 10).unwrap();
        Slow {
            socket,
            log: Log::joining([(9, due)]),
        }
    }

    /// Reads the queue. Returns whether the message with this number was in it.
    fn catches_up(&mut self, sequence: u64) -> bool {
        let silence = Some(Duration::from_millis(300));
        self.socket.get_ref().set_read_timeout(silence).unwrap();
        while !self.log.has(9, sequence) {
            match load::receive(&mut self.socket, &mut self.log) {
                Ok(()) => {}
                Err(Error::Io(error)) if error.kind() == ErrorKind::WouldBlock => return false,
                Err(error) => panic!("{error}"),
            }
        }
        true
    }
}

fn tells(metrics: &Metrics, line: &str) {
    let began = Instant::now();
    while !metrics.encode().lines().any(|told| told == line) {
        assert!(
            began.elapsed() < LONG_PATIENCE,
            "no {line:?} in\n{}",
            metrics.encode()
        );
        thread::yield_now();
    }
}
