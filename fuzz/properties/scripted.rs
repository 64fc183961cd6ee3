//! A stream of which the test controls both ends.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::rc::Rc;

use arbitrary::Arbitrary;
use frameloop::engine::Stream;

/// The wire between a test and a connection. Clones share the same wire.
#[derive(Clone, Debug, Default)]
pub(crate) struct Scripted(Rc<RefCell<Wire>>);

#[derive(Debug, Default)]
pub(crate) struct Wire {
    /// Bytes that the client has sent and the server has not read.
    pub(crate) incoming: VecDeque<u8>,
    /// The client has sent FIN after these bytes.
    pub(crate) has_ended: bool,
    /// Bytes that the server has written.
    pub(crate) outgoing: Vec<u8>,
    /// The server has sent FIN.
    pub(crate) is_shut: bool,
    /// Writes block.
    pub(crate) is_stalled: bool,
    /// The results of the next reads and writes; after these they succeed in full.
    pub(crate) reads: VecDeque<Step>,
    pub(crate) writes: VecDeque<Step>,
    /// The stream has been dropped.
    pub(crate) is_dropped: bool,
}

/// The result of a read or write.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub(crate) enum Step {
    /// At most this many bytes, plus one.
    AtMost(u8),
    /// Any number of bytes.
    All,
    WouldBlock,
    Interrupted,
    Broken,
}

impl Scripted {
    pub(crate) fn wire(&self) -> std::cell::RefMut<'_, Wire> {
        self.0.borrow_mut()
    }

    /// The server's end of the wire.
    pub(crate) fn server(&self) -> ServerEnd {
        ServerEnd(self.clone())
    }
}

/// The stream that the connection owns.
#[derive(Debug)]
pub(crate) struct ServerEnd(Scripted);

impl Drop for ServerEnd {
    fn drop(&mut self) {
        self.0.wire().is_dropped = true;
    }
}

impl Step {
    fn allowance(step: Option<Step>) -> io::Result<usize> {
        match step {
            Some(Step::AtMost(bytes)) => Ok(usize::from(bytes) + 1),
            Some(Step::All) | None => Ok(usize::MAX),
            Some(Step::WouldBlock) => Err(io::ErrorKind::WouldBlock.into()),
            Some(Step::Interrupted) => Err(io::ErrorKind::Interrupted.into()),
            Some(Step::Broken) => Err(io::ErrorKind::ConnectionReset.into()),
        }
    }
}

impl Read for ServerEnd {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut wire = self.0.wire();
        let step = wire.reads.pop_front();
        let allowance = Step::allowance(step)?.min(buffer.len());
        match wire.incoming.read(&mut buffer[..allowance]) {
            Ok(0) if !wire.has_ended => Err(io::ErrorKind::WouldBlock.into()),
            result => result,
        }
    }
}

impl Write for ServerEnd {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut wire = self.0.wire();
        assert!(!wire.is_shut, "written after FIN");
        if wire.is_stalled {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let step = wire.writes.pop_front();
        let length = Step::allowance(step)?.min(bytes.len());
        wire.outgoing.extend_from_slice(&bytes[..length]);
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Stream for ServerEnd {
    fn shutdown_write(&mut self) -> io::Result<()> {
        self.0.wire().is_shut = true;
        Ok(())
    }
}
