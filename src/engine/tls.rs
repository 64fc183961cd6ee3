//! TLS on a socket (RFC 8446), as the frame loop drives it.

use std::io::{self, IoSlice, Read, Write};

use rustls::ServerConnection;

use super::bare::Bare;

/// A TLS session after its handshake.
///
/// The session encrypts written bytes into records, and keeps records that the socket does not
/// accept: at most 64 KiB. It accepts no more bytes until those records have been sent.
#[derive(Debug)]
pub(super) struct TlsSession {
    /// Bound: 64 KiB of records that the socket has not taken, for this client alone.
    session: ServerConnection,
    /// close_notify has been written: nothing may follow it (RFC 8446 §6.1).
    has_ended: bool,
}

impl TlsSession {
    pub(super) fn new(session: ServerConnection) -> TlsSession {
        TlsSession {
            session,
            has_ended: false,
        }
    }

    /// Whether the session holds records that the socket has not taken.
    pub(super) fn has_unsent(&self) -> bool {
        self.session.wants_write()
    }

    /// Appends all decrypted bytes to `input`.
    pub(super) fn take_decrypted(&mut self, input: &mut Vec<u8>) -> io::Result<()> {
        match self.session.reader().read_to_end(input) {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
            _ => Ok(()),
        }
    }

    /// Sends close_notify. Returns `WouldBlock` until the socket has taken it and all earlier
    /// records.
    pub(super) fn send_goodbye(&mut self, socket: &mut Bare) -> io::Result<()> {
        if !self.has_ended {
            self.session.send_close_notify();
            self.has_ended = true;
        }
        self.flush(socket)
    }

    /// Reads until the buffer is full or the socket is empty. A partly filled buffer means that the
    /// socket is empty and that the poller reports new input.
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
                // FIN without close_notify: truncation is harmless, because a WebSocket ends with
                // a Close (RFC 6455 §7).
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => break,
                Err(error) => Err(error),
            };
            match more {
                Ok(_) => {}
                // The next read returns the error again.
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

    /// Writes all records to the socket.
    pub(super) fn flush(&mut self, socket: &mut Bare) -> io::Result<()> {
        while self.session.wants_write() {
            if self.session.write_tls(socket)? == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
        }
        Ok(())
    }

    /// Sends the old records, then calls `write` with a writer for new bytes, and sends the new
    /// records.
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

    /// Reads and decrypts records from the socket. Returns the number of bytes read; 0 is a FIN.
    fn receive(&mut self, socket: &mut Bare) -> io::Result<usize> {
        let bytes = self.session.read_tls(socket)?;
        if let Err(error) = self.session.process_new_packets() {
            // Sends the alert with the reason; a failure to send it does not matter.
            let _ = self.flush(socket);
            return Err(io::Error::new(io::ErrorKind::InvalidData, error));
        }
        Ok(bytes)
    }
}
