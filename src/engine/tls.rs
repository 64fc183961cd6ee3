//! TLS on a socket (RFC 8446), as the frame loop drives it.

use std::io::{self, IoSlice, Read, Write};

use rustls::ServerConnection;

use super::socket::Bare;

/// A TLS session whose handshake is done.
///
/// What is written to it becomes records, of which it keeps what the socket does not take: at most
/// 64 KiB, and nothing more is accepted until they are gone.
#[derive(Debug)]
pub(super) struct TlsSession {
    /// Bound: 64 KiB of records that the socket has not taken, for this client alone.
    session: ServerConnection,
    /// close_notify is among what was written: nothing may follow it (RFC 8446 §6.1).
    has_ended: bool,
}

impl TlsSession {
    pub(super) fn new(session: ServerConnection) -> TlsSession {
        TlsSession {
            session,
            has_ended: false,
        }
    }

    /// Whether there are records that the socket has not taken.
    pub(super) fn has_unsent(&self) -> bool {
        self.session.wants_write()
    }

    /// Sends close_notify. `WouldBlock` until the socket has taken it and what was before it.
    pub(super) fn send_goodbye(&mut self, socket: &mut Bare) -> io::Result<()> {
        if !self.has_ended {
            self.session.send_close_notify();
            self.has_ended = true;
        }
        self.flush(socket)
    }

    /// Fills the buffer as far as what has come reaches: less than that says that the socket is
    /// empty, and will tell when it is not.
    pub(super) fn read(&mut self, socket: &mut Bare, buffer: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        while let Some(space) = buffer.get_mut(filled..).filter(|space| !space.is_empty()) {
            let more = match self.session.reader().read(space) {
                // close_notify.
                Ok(0) => break,
                Ok(bytes) => {
                    filled += bytes;
                    continue;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.receive(socket),
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

    pub(super) fn write(&mut self, socket: &mut Bare, bytes: &[u8]) -> io::Result<usize> {
        self.accept(socket, |writer| writer.write(bytes))
    }

    pub(super) fn write_vectored(
        &mut self,
        socket: &mut Bare,
        slices: &[IoSlice<'_>],
    ) -> io::Result<usize> {
        self.accept(socket, |writer| writer.write_vectored(slices))
    }

    /// Hands all records to the socket.
    pub(super) fn flush(&mut self, socket: &mut Bare) -> io::Result<()> {
        while self.session.wants_write() {
            if self.session.write_tls(socket)? == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
        }
        Ok(())
    }

    /// Has records accepted by `write`, as many as there is room for.
    fn accept(
        &mut self,
        socket: &mut Bare,
        write: impl FnOnce(&mut rustls::Writer<'_>) -> io::Result<usize>,
    ) -> io::Result<usize> {
        self.flush(socket)?;
        let accepted = write(&mut self.session.writer())?;
        match self.flush(socket) {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
            _ => Ok(accepted),
        }
    }

    /// Reads records from the socket. Says whether something came: FIN does, too.
    fn receive(&mut self, socket: &mut Bare) -> io::Result<usize> {
        let bytes = self.session.read_tls(socket)?;
        if let Err(error) = self.session.process_new_packets() {
            // The alert that says why; whether it arrives makes no difference.
            let _ = self.flush(socket);
            return Err(io::Error::new(io::ErrorKind::InvalidData, error));
        }
        Ok(bytes)
    }
}
