//! Control frames of a connection: the server's, and the answers to them.

use std::io::{self, ErrorKind, Write};

use super::ring::put_frame;
use super::tally::Counts;
use crate::protocol::{CloseFrame, OpCode, ProtocolError};

/// The answers to control frames, and the server's Close frame.
#[derive(Debug, Default)]
pub(super) struct Controls {
    /// Pong and Close frames that have not been written.
    unwritten: Vec<u8>,
    pub(super) closed: Option<Closed>,
}

/// A received Close frame, and whether no data followed it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Closed {
    pub(super) code: Result<u16, ProtocolError>,
    pub(super) is_last: bool,
}

impl Controls {
    #[inline]
    pub(super) fn is_written(&self) -> bool {
        self.unwritten.is_empty()
    }

    /// Writes until nothing is left or the socket is full.
    pub(super) fn write(&mut self, to: &mut impl Write) -> io::Result<()> {
        while !self.unwritten.is_empty() {
            match to.write(&self.unwritten) {
                Ok(written) => drop(self.unwritten.drain(..written)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Whether the server has sent a Close frame before the current frame.
    #[inline]
    pub(super) fn is_after_close(&mut self) -> bool {
        match &mut self.closed {
            None => false,
            Some(closed) => {
                closed.is_last = false;
                true
            }
        }
    }

    /// Handles a control frame, and queues the answer.
    pub(super) fn handle(&mut self, opcode: OpCode, payload: &[u8], counts: &mut Counts) {
        if self.is_after_close() {
            return;
        }
        match opcode {
            OpCode::Ping => {
                counts.pings += 1;
                self.put(OpCode::Pong, payload);
            }
            OpCode::Close => {
                let frame = CloseFrame::decode(payload);
                self.closed = Some(Closed {
                    code: frame.map(|frame| frame.map_or(1005, |frame| frame.code.into())),
                    is_last: true,
                });
                self.put(OpCode::Close, payload.get(..2).unwrap_or_default());
            }
            _ => {}
        }
    }

    /// Queues a masked control frame.
    pub(super) fn put(&mut self, opcode: OpCode, payload: &[u8]) {
        let key = fastrand::u32(..).to_ne_bytes();
        put_frame(&mut self.unwritten, (true, false, opcode), key, payload);
    }
}
