//! Echo and broadcast load in the background of a fault. Every message is checked.

use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tungstenite::{Error, Message, WebSocket};

use super::checker::{self, Log, Tally};
use super::client::{self, LONG_PATIENCE};

/// The amount of load.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) echoes: u32,
    pub(crate) publishers: u32,
    pub(crate) subscribers: u32,
    /// Messages that an echo client sends before it reads.
    pub(crate) depth: u64,
    /// The size of the largest usual message.
    pub(crate) size: usize,
    /// The pause between two rounds of a client.
    pub(crate) pause: Duration,
}

impl Default for Shape {
    fn default() -> Shape {
        Shape {
            echoes: 3,
            publishers: 2,
            subscribers: 3,
            depth: 4,
            size: 4 << 10,
            pause: Duration::from_millis(2),
        }
    }
}

/// Clients that send until they are told to stop.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    room: Arc<Room>,
    echoes: Vec<JoinHandle<Tally>>,
    publishers: Vec<JoinHandle<Log>>,
    subscribers: Vec<JoinHandle<Log>>,
}

/// The publishers of a room: the number of messages that each has begun to send, and the number of
/// publishers that are not finished.
#[derive(Debug)]
pub(crate) struct Room {
    begun: Vec<AtomicU64>,
    publishing: AtomicU64,
}

impl Room {
    pub(crate) fn of(publishers: u32) -> Arc<Room> {
        Arc::new(Room {
            begun: (0..publishers).map(|_| AtomicU64::new(0)).collect(),
            publishing: AtomicU64::new(publishers.into()),
        })
    }

    pub(crate) fn begun(&self) -> Vec<(u32, u64)> {
        let begun = self.begun.iter().map(|begun| begun.load(Ordering::SeqCst));
        (0..).zip(begun).collect()
    }

    pub(crate) fn sent(&self) -> u64 {
        self.begun().iter().map(|(_, begun)| begun).sum()
    }

    fn has_ended(&self) -> bool {
        self.publishing.load(Ordering::SeqCst) == 0
    }
}

impl Load {
    /// Starts the usual load.
    pub(crate) fn start(address: SocketAddr) -> Load {
        Load::of(Shape::default(), address)
    }

    /// Starts a load of another shape, in its own room.
    pub(crate) fn of(shape: Shape, address: SocketAddr) -> Load {
        static ROOMS: AtomicU64 = AtomicU64::new(0);
        let topic = format!("/broadcast/load{}", ROOMS.fetch_add(1, Ordering::Relaxed));
        let stop = Arc::new(AtomicBool::new(false));
        let room = Room::of(shape.publishers);
        // All clients are connected before the first message.
        let echoes: Vec<_> = (0..shape.echoes).map(|_| open(address, "/echo")).collect();
        let members: Vec<_> = (0..shape.publishers + shape.subscribers)
            .map(|_| open(address, &topic))
            .collect();
        let echoes = (0..)
            .zip(echoes)
            .map(|(number, socket)| {
                let stop = Arc::clone(&stop);
                thread::spawn(move || echo(socket, number, shape, &stop))
            })
            .collect();
        let mut publishers = Vec::new();
        let mut subscribers = Vec::new();
        for (number, socket) in (0..).zip(members) {
            let room = Arc::clone(&room);
            if number < shape.publishers {
                let stop = Arc::clone(&stop);
                publishers.push(thread::spawn(move || {
                    publish(socket, number, shape, &room, &stop)
                }));
            } else {
                subscribers.push(thread::spawn(move || {
                    subscribe(socket, shape.publishers, &room)
                }));
            }
        }
        Load {
            stop,
            room,
            echoes,
            publishers,
            subscribers,
        }
    }

    /// Lets all clients finish one more round. Returns the counts.
    pub(crate) fn finish(self) -> Tally {
        self.stop.store(true, Ordering::SeqCst);
        let echoed: Tally = self.echoes.into_iter().map(joined).sum();
        let members = self.publishers.into_iter().chain(self.subscribers);
        let logs: Vec<Log> = members.map(joined).collect();
        echoed + self.room.verdict(&logs)
    }

    /// [`Load::finish`], and asserts that nothing was lost.
    #[track_caller]
    pub(crate) fn finish_clean(self) -> Tally {
        let tally = self.finish();
        tally.assert_clean();
        tally
    }
}

impl Room {
    /// The result for members that stayed to the end.
    pub(crate) fn verdict(&self, logs: &[Log]) -> Tally {
        let members: Tally = logs.iter().map(|log| log.stayed(self.begun())).sum();
        let disordered: u64 = logs.iter().map(|log| logs[0].disordered(log)).sum();
        Tally {
            sent: self.sent(),
            reordered: members.reordered + disordered,
            ..members
        }
    }
}

fn joined<T>(thread: JoinHandle<T>) -> T {
    thread.join().expect("a client of the load does not panic")
}

fn open(address: SocketAddr, path: &str) -> WebSocket<TcpStream> {
    client::open(address, path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The size of a message: most are small, some fill several segments and some a read buffer.
pub(crate) fn size(sequence: u64, usual: usize) -> usize {
    let mut random = fastrand::Rng::with_seed(sequence);
    match sequence % 100 {
        7 => usual * 50,
        number if number % 10 == 3 => random.usize(..=usual),
        _ => random.usize(..=usual / 16),
    }
}

fn send(socket: &mut WebSocket<TcpStream>, publisher: u32, sequence: u64, usual: usize) -> bool {
    let payload = checker::payload(publisher, sequence, size(sequence, usual));
    let message = client::message(checker::is_text(sequence), payload);
    socket.write(message).is_ok()
}

/// Records the next data message. Returns whether there was one.
pub(crate) fn receive(socket: &mut WebSocket<TcpStream>, log: &mut Log) -> Result<(), Error> {
    loop {
        match socket.read() {
            Ok(Message::Text(text)) => log.record(true, text.as_bytes()),
            Ok(Message::Binary(bytes)) => log.record(false, &bytes),
            Ok(Message::Ping(_)) => {
                socket.flush()?;
                continue;
            }
            Ok(_) => continue,
            // A freeze interrupts a wait with a timeout.
            Err(Error::Io(error)) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        }
        return Ok(());
    }
}

pub(crate) fn echo(
    mut socket: WebSocket<TcpStream>,
    publisher: u32,
    shape: Shape,
    stop: &AtomicBool,
) -> Tally {
    let mut log = Log::joining([(publisher, 0)]);
    let mut sent = 0;
    loop {
        let last = stop.load(Ordering::SeqCst);
        let mut whole = true;
        for _ in 0..shape.depth {
            whole &= send(&mut socket, publisher, sent, shape.size);
            sent += 1;
        }
        whole &= socket.flush().is_ok();
        for _ in 0..shape.depth {
            whole = whole && receive(&mut socket, &mut log).is_ok();
        }
        if last || !whole {
            break;
        }
        thread::sleep(shape.pause);
    }
    Tally {
        sent,
        ..log.stayed([(publisher, sent)])
    }
}

/// Publishes messages, and waits for each to arrive at its publisher.
pub(crate) fn publish(
    mut socket: WebSocket<TcpStream>,
    publisher: u32,
    shape: Shape,
    room: &Room,
    stop: &AtomicBool,
) -> Log {
    let mut log = Log::joining(room.begun());
    loop {
        let last = stop.load(Ordering::SeqCst);
        let sequence = room.begun[publisher as usize].fetch_add(1, Ordering::SeqCst);
        let mut whole = send(&mut socket, publisher, sequence, shape.size);
        whole &= socket.flush().is_ok();
        while whole && !log.has_all([(publisher, sequence + 1)]) {
            whole &= receive(&mut socket, &mut log).is_ok();
        }
        if last || !whole {
            break;
        }
        thread::sleep(shape.pause);
    }
    room.publishing.fetch_sub(1, Ordering::SeqCst);
    stay(&mut socket, &mut log, room, &AtomicBool::new(false));
    log
}

fn subscribe(mut socket: WebSocket<TcpStream>, publishers: u32, room: &Room) -> Log {
    let mut log = Log::joining((0..publishers).map(|publisher| (publisher, 0)));
    stay(&mut socket, &mut log, room, &AtomicBool::new(false));
    log
}

/// Receives until the member must leave, or until all messages of the room's publishers have
/// arrived.
pub(crate) fn stay(
    socket: &mut WebSocket<TcpStream>,
    log: &mut Log,
    room: &Room,
    leave: &AtomicBool,
) {
    // A short wait, to check the state of the room in between.
    let _ = socket
        .get_ref()
        .set_read_timeout(Some(Duration::from_millis(50)));
    let mut since = Instant::now();
    while !leave.load(Ordering::SeqCst) {
        match receive(socket, log) {
            Ok(()) => since = Instant::now(),
            Err(Error::Io(error)) if error.kind() == std::io::ErrorKind::WouldBlock => {
                if room.has_ended()
                    && (log.has_all(room.begun()) || since.elapsed() > LONG_PATIENCE)
                {
                    return;
                }
            }
            Err(_) => return,
        }
    }
}
