//! A connection that occupies much of a memory budget for long, so that other connections find it
//! exhausted. The test sets the clock.

use std::cell::RefCell;
use std::io::{self, Read, Write};
use std::rc::Rc;
use std::time::Duration;

use frameloop::engine::{Deadlines, Settings, Simulation, Stream};
use frameloop::{Message, WebSocket};

use crate::client::frame;
use crate::report::{Kind, figure};

#[derive(Clone, Default)]
struct Script(Rc<RefCell<Client>>);

#[derive(Default)]
struct Client {
    /// Bytes from the client that the server has not read.
    sends: Vec<u8>,
    /// Bytes that the client has received.
    got: Vec<u8>,
    /// How many more bytes the client accepts.
    room: usize,
}

impl Read for Script {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut state = self.0.borrow_mut();
        let bytes = buffer.len().min(state.sends.len());
        if bytes == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        buffer[..bytes].copy_from_slice(&state.sends[..bytes]);
        state.sends.drain(..bytes);
        Ok(bytes)
    }
}

impl Write for Script {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut state = self.0.borrow_mut();
        let taken = bytes.len().min(state.room);
        if taken == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        state.room -= taken;
        state.got.extend_from_slice(&bytes[..taken]);
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Stream for Script {
    fn shutdown_write(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn echo(socket: &mut WebSocket<'_>, message: Message<'_>) {
    if message.is_data() {
        socket.send(message);
    }
}

/// Attack 66: the first connection keeps an unfinished message, the second an echo that it reads at
/// 20,000 bytes a second. No other deadline applies to them.
#[test]
fn attack_66_a_connection_keeps_a_sixteenth_of_a_budget_for_at_most_a_minute() {
    const SIZE: usize = 4 << 20;
    let settings = Settings {
        max_unfinished_size: 16 << 20,
        max_unsent_size: 16 << 20,
        deadlines: Deadlines {
            ping_interval: Duration::ZERO,
            message: Duration::ZERO,
            ..Deadlines::default()
        },
        ..Settings::default()
    };
    let message = frame(0x82, &vec![7; SIZE]);
    let mut lasted = Vec::new();
    for (sent, took) in [(SIZE / 2, 20_000), (message.len(), 20_000)] {
        let script = Script::default();
        script.0.borrow_mut().sends = message[..sent].to_vec();
        let mut simulation = Simulation::new(&settings);
        let connection = simulation.open(script.clone(), echo, None);
        simulation.ready(connection);
        simulation.run();
        let mut seconds = 0;
        while !script.0.borrow().got.ends_with(if sent < SIZE {
            b"no memory for unfinished messages"
        } else {
            b"no memory for what waits to be sent"
        }) {
            assert!(seconds < 600, "the memory is never freed");
            if seconds < 70 {
                script.0.borrow_mut().room = took;
            } else {
                script.0.borrow_mut().room = SIZE;
            }
            simulation.ready(connection);
            simulation.run();
            simulation.advance(Duration::from_secs(1));
            seconds += 1;
        }
        lasted.push(seconds);
    }
    figure(
        Kind::Attack,
        66,
        "a quarter of a budget kept by an unfinished message; by an echo that is read slowly: Close",
        "1013 after 60 s; 1013 by then",
        format_args!(
            "1013 after {} s; 1013 read after {} s",
            lasted[0], lasted[1]
        ),
    );
    assert!((60..=62).contains(&lasted[0]), "{lasted:?}");
    assert!((70..=72).contains(&lasted[1]), "{lasted:?}");
}

/// A connection may keep less than a sixteenth as long as its deadlines allow.
#[test]
fn a_connection_may_keep_less_than_a_sixteenth_of_a_budget() {
    let settings = Settings {
        max_unfinished_size: 16 << 20,
        deadlines: Deadlines {
            ping_interval: Duration::ZERO,
            message: Duration::ZERO,
            ..Deadlines::default()
        },
        ..Settings::default()
    };
    let message = frame(0x82, &[7; 500_000]);
    let script = Script::default();
    script.0.borrow_mut().sends = message[..400_000].to_vec();
    script.0.borrow_mut().room = usize::MAX;
    let mut simulation = Simulation::new(&settings);
    let connection = simulation.open(script.clone(), echo, None);
    simulation.ready(connection);
    simulation.run();
    simulation.advance(Duration::from_secs(300));
    script.0.borrow_mut().sends = message[400_000..].to_vec();
    simulation.ready(connection);
    simulation.run();
    assert_eq!(script.0.borrow().got.len(), 10 + 500_000);
}
