//! Rows 3, 8, 9 and 10: networks that fail, slow down, split, corrupt and delay.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use crate::checker::{self, Log, Tally};
use crate::client::{self, frame, request};
use crate::load::{self, Load, Shape};
use crate::namespace::Namespace;
use crate::process::{ServerProcess, command_under};
use crate::proxy::{Manner, Proxy};
use crate::report::{Kind, skip};
use crate::{lasting, times, under_load};

/// Forwards data unchanged.
const UNHARMED: Manner = Manner::Split(usize::MAX);

/// A checked load through a bad connection, in addition to the load of every fault.
fn through(address: SocketAddr, shape: Shape, duration: Duration) -> Tally {
    let load = Load::of(shape, address);
    thread::sleep(duration);
    load.finish_clean()
}

#[test]
fn row_8_one_byte_segments_and_coalesced_segments() {
    let mut server = ServerProcess::start(&[]);
    let duration = lasting(Duration::from_secs(60), Duration::from_millis(300));
    let shape = Shape {
        size: 1 << 10,
        echoes: 2,
        subscribers: 1,
        publishers: 1,
        ..Shape::default()
    };
    under_load(
        8,
        "segments of one byte; all coalesced",
        &mut server,
        |server| {
            let split = Manner::Split(1);
            let cut = Proxy::start(server.address, split, split);
            let cut = through(cut.address, shape, duration);
            let merge = Manner::Merge(Duration::from_millis(20));
            let merged = Proxy::start(server.address, merge, merge);
            let shape = Shape { depth: 50, ..shape };
            let merged = through(merged.address, shape, duration);
            format!("one byte each: {}; coalesced: {}", cut, merged)
        },
    );
}

#[test]
fn row_10_delays_bursts_and_stalls() {
    let mut server = ServerProcess::start(&[]);
    let is_long = times(1, 0) == 1;
    let unit = Duration::from_millis(if is_long { 100 } else { 10 });
    let duration = lasting(Duration::from_secs(120), Duration::from_millis(500));
    let shape = Shape {
        size: 2 << 10,
        ..Shape::default()
    };
    under_load(
        10,
        "delay 5 ± 4 units, and stalls of 50",
        &mut server,
        |server| {
            let delay = Manner::Delay {
                mean: unit * 5,
                jitter: unit * 4,
            };
            let slow = Proxy::start(server.address, delay, delay);
            let slow = through(slow.address, shape, duration);
            let stall = Manner::Stall {
                after: 20_000,
                pause: unit * 50,
            };
            let stalling = Proxy::start(server.address, stall, stall);
            let stalling = through(stalling.address, shape, duration);
            format!("unit {unit:?}: delayed: {slow}; stalling: {stalling}")
        },
    );
}

#[test]
fn row_1_reset_of_both_sides_at_every_byte_of_the_answers() {
    let mut server = ServerProcess::start(&[]);
    under_load(
        1,
        "both sides reset at every byte of the answers",
        &mut server,
        |server| {
            let whole = 129 + 2 + 100 + 2;
            for after in 1..whole {
                let proxy = Proxy::start(server.address, UNHARMED, Manner::Reset { after });
                if let Ok(mut socket) = client::open(proxy.address, "/echo") {
                    let message = frame(0x82, &[1; 100]);
                    let _ = socket.get_mut().write_all(&message);
                    let _ = socket.get_mut().write_all(&frame(0x88, b""));
                    let _ = socket.get_mut().read_to_end(&mut Vec::new());
                }
            }
            format!("{} resets", whole - 1)
        },
    );
}

/// A damaged frame is echoed damaged or refused: the checker detects it, and only this client is
/// affected.
#[test]
fn row_1_one_bit_flipped_at_every_byte_of_a_frame() {
    let arguments = ["--close-timeout", "300ms", "--message-timeout", "300ms"];
    let mut server = ServerProcess::start(&arguments);
    under_load(
        1,
        "one bit flipped at every byte of a frame",
        &mut server,
        |server| {
            let bytes = frame(0x82, &checker::payload(9, 0, 64));
            let [mut echoed, mut refused] = [0; 2];
            for byte in 0..bytes.len() {
                let at = request("/echo").len() + byte;
                let proxy = Proxy::start(server.address, Manner::Flip { at }, UNHARMED);
                let mut socket = client::open(proxy.address, "/echo").unwrap();
                socket.get_mut().write_all(&bytes).unwrap();
                let mut log = Log::joining([(9, 0)]);
                match load::receive(&mut socket, &mut log) {
                    Ok(()) => {
                        assert_eq!(log.left().corrupted, 1, "byte {byte}");
                        echoed += 1;
                    }
                    Err(_) => refused += 1,
                }
            }
            assert!(
                echoed >= 64 && refused >= 1,
                "{echoed} echoed, {refused} refused"
            );
            format!("{echoed} echoed damaged, all detected by the checker; {refused} refused")
        },
    );
}

/// A server in a namespace, with one link for the load and one for the fault.
fn server_in(namespace: &Namespace, arguments: &[&str]) -> (ServerProcess, SocketAddr) {
    let wrapper = ["ip", "netns", "exec", namespace.name()];
    let arguments = [&["--listen", "0.0.0.0:0"], arguments].concat();
    let mut server = ServerProcess::spawn(&mut command_under(&wrapper, &arguments));
    let port = server.address.port();
    server.address = SocketAddr::new(namespace.sound.there, port);
    (server, SocketAddr::new(namespace.faulty.there, port))
}

#[test]
fn row_3_clients_that_vanish_without_fin() {
    const WHAT: &str = "clients vanish (their link is taken down)";
    let Some(namespace) = Namespace::new() else {
        return skip(Kind::Fault, 3, WHAT, "ip netns is missing or not permitted");
    };
    let seconds = if times(1, 0) == 1 { 20 } else { 1 };
    let argument = format!("{seconds}s");
    let arguments = ["--ping-interval", &argument, "--ping-timeout", &argument];
    let (mut server, faulty) = server_in(&namespace, &arguments);
    under_load(3, WHAT, &mut server, |server| {
        let before = server.resources();
        let paths = ["/echo", "/broadcast/vanish", "/ws/3"];
        let victims: Vec<_> = (0..3)
            .map(|number| client::open(faulty, paths[number]).unwrap())
            .collect();
        namespace.faulty.set("down");
        let began = Instant::now();
        server.returns_to(before);
        let took = began.elapsed();
        drop(victims);
        assert!(
            took <= Duration::from_secs(2 * seconds + 2 + 10),
            "noticed after {took:?}"
        );
        format!("detected after {took:.1?}, ping interval and timeout {seconds} s")
    });
}

#[test]
fn row_9_a_link_of_64_kbit_and_576_bytes() {
    const WHAT: &str = "64 kbit/s, MTU 576 (tc tbf)";
    let Some(namespace) = Namespace::new() else {
        return skip(Kind::Fault, 9, WHAT, "ip netns is missing or not permitted");
    };
    let (mut server, faulty) = server_in(&namespace, &[]);
    if !namespace.faulty.narrow() {
        return skip(Kind::Fault, 9, WHAT, "tc tbf is missing or not permitted");
    }
    let duration = lasting(Duration::from_secs(60), Duration::from_secs(1));
    under_load(9, WHAT, &mut server, |_| {
        let shape = Shape {
            echoes: 2,
            publishers: 1,
            subscribers: 1,
            depth: 2,
            size: 512,
            pause: Duration::from_millis(100),
        };
        through(faulty, shape, duration)
    });
}
