//! A TCP socket with TLS on it (RFC 8446), as the frame loop drives it.

use std::io::{self, IoSlice, Read, Write};
use std::net::Shutdown;

use mio::net::TcpStream;
use rustls::ServerConnection;

/// A TLS connection whose handshake is done.
///
/// What is written to it becomes records, of which it keeps what the socket does not take: at most
/// 64 KiB, and nothing more is accepted until they are gone.
#[derive(Debug)]
pub struct TlsSocket {
    stream: TcpStream,
    /// Bound: 64 KiB of records that the socket has not taken, for this client alone.
    session: ServerConnection,
    /// close_notify is among what was written: nothing may follow it (RFC 8446 §6.1).
    has_ended: bool,
}

impl TlsSocket {
    /// Takes over a connection. What its session has read and decrypted must have been taken from
    /// it: the poller does not tell of that.
    pub fn new(stream: TcpStream, session: ServerConnection) -> TlsSocket {
        TlsSocket {
            stream,
            session,
            has_ended: false,
        }
    }

    pub(super) fn stream_mut(&mut self) -> &mut TcpStream {
        &mut self.stream
    }

    /// Whether there are records that the socket has not taken.
    pub(super) fn has_unsent(&self) -> bool {
        self.session.wants_write()
    }

    /// Sends close_notify and FIN. `WouldBlock` until the socket has taken what was before them.
    pub(super) fn shutdown_write(&mut self) -> io::Result<()> {
        if !self.has_ended {
            self.session.send_close_notify();
            self.has_ended = true;
        }
        self.flush()?;
        self.stream.shutdown(Shutdown::Write)
    }

    /// Has records accepted by `write`, as many as there is room for.
    fn accept(
        &mut self,
        write: impl FnOnce(&mut rustls::Writer<'_>) -> io::Result<usize>,
    ) -> io::Result<usize> {
        self.flush()?;
        let accepted = write(&mut self.session.writer())?;
        match self.flush() {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
            _ => Ok(accepted),
        }
    }

    /// Reads records from the socket. Says whether something came: FIN does, too.
    fn receive(&mut self) -> io::Result<usize> {
        let octets = self.session.read_tls(&mut self.stream)?;
        if let Err(error) = self.session.process_new_packets() {
            // The alert that says why; whether it arrives makes no difference.
            let _ = self.flush();
            return Err(io::Error::new(io::ErrorKind::InvalidData, error));
        }
        Ok(octets)
    }
}

impl Read for TlsSocket {
    /// Fills the buffer as far as what has come reaches: less than that says that the socket is
    /// empty, and will tell when it is not.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        while let Some(space) = buffer.get_mut(filled..).filter(|space| !space.is_empty()) {
            let more = match self.session.reader().read(space) {
                // close_notify.
                Ok(0) => break,
                Ok(octets) => {
                    filled += octets;
                    continue;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.receive(),
                // FIN without close_notify: RFC 6455 has an end of its own, which says the same.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => break,
                Err(error) => Err(error),
            };
            match more {
                Ok(_) => {}
                // It has its say at the next read, too.
                Err(_) if filled > 0 => break,
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }
}

impl Write for TlsSocket {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        self.accept(|writer| writer.write(octets))
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.accept(|writer| writer.write_vectored(slices))
    }

    /// Hands all records to the socket.
    fn flush(&mut self) -> io::Result<()> {
        while self.session.wants_write() {
            if self.session.write_tls(&mut self.stream)? == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
        }
        Ok(())
    }
}
