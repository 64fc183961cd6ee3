//! The system calls of a socket.
//!
//! Reads and writes are direct system calls. The C library's functions are cancellation points,
//! with two locked instructions in each call: a tenth of a message's user time.

use std::io::{self, IoSlice, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{RecvFlags, SendFlags};

/// A socket without TLS.
#[derive(Debug)]
pub(super) struct Bare(OwnedFd);

impl From<OwnedFd> for Bare {
    fn from(descriptor: OwnedFd) -> Bare {
        Bare(descriptor)
    }
}

impl AsFd for Bare {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Read for Bare {
    #[inline]
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let (received, _) = rustix::net::recv(&self.0, buffer, RecvFlags::empty())?;
        Ok(received)
    }
}

impl Write for Bare {
    #[inline]
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(rustix::net::send(&self.0, bytes, SendFlags::NOSIGNAL)?)
    }

    #[inline]
    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        Ok(rustix::io::writev(&self.0, slices)?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
