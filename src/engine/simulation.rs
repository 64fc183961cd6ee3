//! Simulation: connections over any stream, with a manual clock, for tests of handlers and of this
//! engine.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::connection::Connection;
use super::connections::{Connections, Readiness};
use super::deadlines::{Clock, Tick};
use super::driver::Context;
use super::handler::Handler;
use super::slab::ConnectionKey;
use super::socket::Stream;
use super::stats::EndpointIndex;
use super::{Bounds, Settings};
use crate::protocol::{CloseCode, DeflateParameters};

/// A worker without a poller, thread or clock. Only calls of its methods drive the connections, so
/// the same calls always have the same effects.
///
/// ```
/// use std::io::{self, Read, Write};
/// use std::time::Duration;
/// use frameloop::engine::{Settings, Simulation, Stream};
/// use frameloop::{Message, WebSocket};
///
/// /// What the client sent, and what it got.
/// struct Script(&'static [u8], Vec<u8>);
///
/// impl Read for Script {
///     fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
///         self.0.read(buffer) // the client has sent FIN after it
///     }
/// }
///
/// impl Write for Script {
///     fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
///         self.1.write(bytes)
///     }
///     fn flush(&mut self) -> io::Result<()> {
///         Ok(())
///     }
/// }
///
/// impl Stream for Script {
///     fn shutdown_write(&mut self) -> io::Result<()> {
///         assert_eq!(self.1, b"\x81\x02hi");
///         Ok(())
///     }
/// }
///
/// fn echo(socket: &mut WebSocket<'_>, message: Message<'_>) {
///     if message.is_data() {
///         socket.send(message);
///     }
/// }
///
/// let mut simulation = Simulation::new(&Settings::default());
/// let client = Script(b"\x81\x82\0\0\0\0hi", Vec::new());
/// let connection = simulation.open(client, echo, None);
/// while simulation.stream(connection).is_some() {
///     simulation.ready(connection); // it reads the message, and then the FIN
///     simulation.run();
/// }
/// ```
pub struct Simulation<S: Stream> {
    connections: Connections<S>,
    settings: Settings,
    now: Tick,
    tick: Duration,
}

/// One connection of a [`Simulation`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SimulatedConnection(ConnectionKey);

impl<S: Stream> Simulation<S> {
    /// A worker without connections.
    pub fn new(settings: &Settings) -> Simulation<S> {
        let clock = Clock::new(&settings.deadlines);
        let (bounds, wake) = (Bounds::new(settings), Box::new(|| {}));
        let context = Context::new(settings, clock.tick(), &bounds, wake, Arc::new(()));
        Simulation {
            connections: Connections::new(context),
            settings: settings.clone(),
            now: clock.now(),
            tick: clock.tick(),
        }
    }

    /// Opens a connection, as if its opening handshake were done.
    pub fn open(
        &mut self,
        stream: S,
        handler: impl Handler,
        deflate: Option<&DeflateParameters>,
    ) -> SimulatedConnection {
        let connection = Box::new(Connection::new(handler, &self.settings, deflate));
        let endpoint = EndpointIndex::default();
        SimulatedConnection(
            self.connections
                .adopt(stream, connection, endpoint, &[], &mut []),
        )
    }

    /// The stream of a connection. `None` if the connection is over.
    pub fn stream(&mut self, connection: SimulatedConnection) -> Option<&mut S> {
        self.connections.stream(connection.0)
    }

    /// Drives a connection as if its stream had become readable and writable.
    pub fn ready(&mut self, connection: SimulatedConnection) {
        if self.connections.begin_turn() && self.connections.favour(connection.0) {
            let readiness = Readiness {
                is_readable: true,
                has_hung_up: false,
            };
            self.connections.drive_at(connection.0.index, readiness);
        }
    }

    /// Runs turns until no work is left: unfinished reading, and the commands of handlers and
    /// [`Peer`](super::Peer)s.
    pub fn run(&mut self) {
        while self.turn() {}
    }

    /// Runs one turn of the worker. A turn limits the work of each connection. Returns whether work
    /// is left.
    pub fn turn(&mut self) -> bool {
        if self.connections.begin_turn() {
            self.connections.drive_fresh();
            self.connections.drive_ready();
        }
        !self.connections.end_turn()
    }

    /// Advances the clock in steps of a tenth of the shortest deadline (5 ms to 100 ms), checks the
    /// deadlines after each step, and calls [`Simulation::run`].
    pub fn advance(&mut self, time: Duration) {
        let ticks = time.as_nanos().div_ceil(self.tick.as_nanos());
        for _ in 0..ticks {
            self.now = self.now.wrapping_add(1);
            self.connections.sweep(self.now);
            self.run();
        }
    }

    /// Begins the closing handshake with all connections.
    pub fn close_all(&mut self, code: CloseCode) {
        self.connections.context.mailbox.close_all(code);
    }
}

impl<S: Stream> fmt::Debug for Simulation<S> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Simulation")
            .field("now", &(self.tick * self.now))
            .finish_non_exhaustive()
    }
}
