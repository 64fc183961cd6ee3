//! A topic whose members join and leave.

use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tungstenite::WebSocket;
use tungstenite::protocol::CloseFrame;
use tungstenite::protocol::frame::coding::CloseCode;

use crate::checker::{Log, Tally};
use crate::client::{self, LONG_PATIENCE};
use crate::load::{self, Room, Shape};
use crate::process::ServerProcess;
use crate::report::{Kind, figure};
use crate::soak;
use crate::trend::Trend;

const TOPIC: &str = "/broadcast/soak";
const MEMBERS: usize = 100;

/// A member that reads until it is told to leave, and then closes.
struct Member {
    leave: Arc<AtomicBool>,
    thread: JoinHandle<Log>,
}

impl Member {
    fn join(address: SocketAddr, room: &Arc<Room>) -> Member {
        let socket = client::open(address, TOPIC).unwrap();
        // A client is a member once it has the 101: it must receive all messages sent from then on.
        let log = Log::joining(room.begun());
        let leave = Arc::new(AtomicBool::new(false));
        let thread = {
            let (leave, room) = (Arc::clone(&leave), Arc::clone(room));
            thread::spawn(move || Member::read(socket, log, &room, &leave))
        };
        Member { leave, thread }
    }

    fn read(
        mut socket: WebSocket<TcpStream>,
        mut log: Log,
        room: &Room,
        leave: &AtomicBool,
    ) -> Log {
        load::stay(&mut socket, &mut log, room, leave);
        if leave.load(Ordering::SeqCst) {
            let frame = CloseFrame {
                code: CloseCode::Normal,
                reason: "".into(),
            };
            socket.close(Some(frame)).unwrap();
            socket
                .get_ref()
                .set_read_timeout(Some(LONG_PATIENCE))
                .unwrap();
            while load::receive(&mut socket, &mut log).is_ok() {}
        }
        log
    }
}

#[test]
fn broadcast_with_churning_members() {
    // 5 % of the members a minute; a few in a short run, too.
    let between_leaves = match soak::duration() {
        Some(_) => Duration::from_secs(60) / (MEMBERS as u32 / 20),
        None => Duration::from_millis(50),
    };
    let shape = Shape {
        publishers: 4,
        pause: Duration::from_millis(100),
        size: 2 << 10,
        ..Shape::default()
    };
    let server = ServerProcess::start(&[]);
    let room = Room::of(shape.publishers);
    let stop = Arc::new(AtomicBool::new(false));
    let mut members: Vec<Member> = (0..MEMBERS)
        .map(|_| Member::join(server.address, &room))
        .collect();
    let publishers: Vec<_> = (0..shape.publishers)
        .map(|number| {
            let socket = client::open(server.address, TOPIC).unwrap();
            let (room, stop) = (Arc::clone(&room), Arc::clone(&stop));
            thread::spawn(move || load::publish(socket, number, shape, &room, &stop))
        })
        .collect();

    let before = server.resources();
    let mut left = Tally::default();
    let mut leavers = 0;
    let mut leave_at = Instant::now() + between_leaves;
    let trend = Trend::watch(&server, || {
        while leave_at <= Instant::now() {
            leave_at += between_leaves;
            let index = leavers % MEMBERS;
            members[index].leave.store(true, Ordering::SeqCst);
            let next = Member::join(server.address, &room);
            let member = std::mem::replace(&mut members[index], next);
            left = left + member.thread.join().unwrap().left();
            leavers += 1;
        }
        // Samples are taken when the server has finished with all members that left.
        server.returns_to(before);
    });
    stop.store(true, Ordering::SeqCst);
    let members = members.into_iter().map(|member| member.thread);
    let logs: Vec<Log> = publishers
        .into_iter()
        .chain(members)
        .map(|thread| thread.join().unwrap())
        .collect();
    let tally = room.verdict(&logs) + left;
    figure(
        Kind::Soak,
        3,
        format_args!("broadcast, 4 publishers, {MEMBERS} members, 5 % of them replaced per minute"),
        "0 lost, duplicated, reordered, corrupted",
        format_args!("{tally}; {leavers} members replaced"),
    );
    tally.assert_clean();
    trend.is_level(3, "broadcast");
}
