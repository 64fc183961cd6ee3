//! The limit: servers without WebSocket, with the same sockets and bytes.
//!
//! One thread, one edge-triggered epoll, and one buffer for all connections. An echo is one
//! `read` and one `write` of the same bytes. A fan-out is one `write` for each member.

use std::{
    io,
    io::{ErrorKind, Read, Write},
};

use mio::{
    Events, Interest, Poll, Token,
    event::Event,
    net::{TcpListener, TcpStream},
};


const LISTENER: Token = Token(usize::MAX);
/// Length of a masked frame of the fan-out bench, in bytes.
const PUBLISHED_FRAME: usize = 2 + 4 + 100;
const BUFFER_SIZE: usize = 256 * 1_024;

/// Echoes all bytes. Runs forever.
pub(crate) fn echo() -> io::Result<()> {
    Server::bind()?.run(Server::echo)
}

/// Sends the messages of each connection to all connections. Runs forever.
pub(crate) fn fanout() -> io::Result<()> {
    Server::bind()?.run(Server::publish)
}

struct Server {
    poll: Poll,
    listener: TcpListener,
    connections: Vec<Option<Connection>>,
    /// Indexes of empty places in `connections`.
    vacant: Vec<usize>,
    buffer: Vec<u8>,
}

struct Connection {
    stream: TcpStream,
    /// Bytes that the socket did not accept. While there are any, nothing is read.
    unsent: Vec<u8>,
}

impl Server {
    fn bind() -> io::Result<Self> {
        let mut listener = TcpListener::bind(([127, 0, 0, 1], 0).into())?;
        let poll = Poll::new()?;
        poll.registry()
            .register(&mut listener, LISTENER, Interest::READABLE)?;
        println!("listening on http://{}", listener.local_addr()?);
        Ok(Self {
            poll,
            listener,
            connections: Vec::new(),
            vacant: Vec::new(),
            buffer: vec![0; BUFFER_SIZE],
        })
    }

    /// Calls `serve` for each event of a connection. Drops the connection if `serve` fails.
    fn run(&mut self, serve: impl Fn(&mut Self, &Event) -> io::Result<()>) -> io::Result<()> {
        let mut events = Events::with_capacity(1_024);
        loop {
            self.poll.poll(&mut events, None)?;
            for event in &events {
                if event.token() == LISTENER {
                    self.accept()?;
                } else if serve(self, event).is_err() {
                    self.connections[event.token().0] = None;
                    self.vacant.push(event.token().0);
                }
            }
        }
    }

    fn accept(&mut self) -> io::Result<()> {
        loop {
            let mut stream = match self.listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            };
            stream.set_nodelay(true)?;
            let place = self.vacant.pop().unwrap_or_else(|| {
                self.connections.push(None);
                self.connections.len() - 1
            });
            let both = Interest::READABLE | Interest::WRITABLE;
            self.poll
                .registry()
                .register(&mut stream, Token(place), both)?;
            self.connections[place] = Some(Connection {
                stream,
                unsent: Vec::new(),
            });
        }
    }

    /// Echoes the available bytes.
    ///
    /// A read that does not fill the buffer has emptied the socket. The next byte causes a new
    /// event, so a second `read` is not needed. Only the end of the stream causes no new event.
    fn echo(&mut self, event: &Event) -> io::Result<()> {
        let Some(connection) = &mut self.connections[event.token().0] else {
            return Ok(());
        };
        if !connection.flush()? {
            return Ok(());
        }
        loop {
            let length = match connection.stream.read(&mut self.buffer) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(length) => length,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            };
            let emptied = length < self.buffer.len() && !event.is_read_closed();
            if !connection.send(&self.buffer[..length])? || emptied {
                return Ok(());
            }
        }
    }

    /// Writes each received frame to every connection, with one write per connection.
    fn publish(&mut self, event: &Event) -> io::Result<()> {
        let Some(publisher) = &mut self.connections[event.token().0] else {
            return Ok(());
        };
        let length = match publisher.stream.read(&mut self.buffer) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(length) => length,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        };
        for frame in self.buffer[..length].chunks(PUBLISHED_FRAME) {
            for member in self.connections.iter_mut().flatten() {
                // Publishers wait for all members, so the socket has room. An error causes an
                // event of the member's own connection.
                let _ = member.stream.write(frame);
            }
        }
        Ok(())
    }
}

impl Connection {
    /// Returns whether all of `bytes` were written. Otherwise the rest is stored in `unsent`.
    fn send(&mut self, bytes: &[u8]) -> io::Result<bool> {
        let sent = accepted(self.stream.write(bytes))?;
        self.unsent.extend_from_slice(&bytes[sent..]);
        Ok(sent == bytes.len())
    }

    /// Writes the bytes of `unsent`. Returns whether all were written.
    fn flush(&mut self) -> io::Result<bool> {
        if !self.unsent.is_empty() {
            let sent = accepted(self.stream.write(&self.unsent))?;
            self.unsent.drain(..sent);
        }
        Ok(self.unsent.is_empty())
    }
}

/// The number of bytes that the socket accepted; 0 if it is full.
fn accepted(written: io::Result<usize>) -> io::Result<usize> {
    match written {
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(0),
        other => other,
    }
}
