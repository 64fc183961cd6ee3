//! Sockets without TLS: the feature `tls` is off.

use std::io::{self, IoSlice};

use super::bare::Bare;

/// Has no values.
#[derive(Debug)]
pub(super) enum TlsSession {}

impl TlsSession {
    pub(super) fn has_unsent(&self) -> bool {
        match *self {}
    }

    pub(super) fn take_decrypted(&mut self, _: &mut Vec<u8>) -> io::Result<()> {
        match *self {}
    }

    pub(super) fn send_goodbye(&mut self, _: &mut Bare) -> io::Result<()> {
        match *self {}
    }

    pub(super) fn read(&mut self, _: &mut Bare, _: &mut [u8]) -> io::Result<usize> {
        match *self {}
    }

    pub(super) fn write(&mut self, _: &mut Bare, _: &[u8]) -> io::Result<usize> {
        match *self {}
    }

    pub(super) fn write_vectored(&mut self, _: &mut Bare, _: &[IoSlice<'_>]) -> io::Result<usize> {
        match *self {}
    }

    pub(super) fn flush(&mut self, _: &mut Bare) -> io::Result<()> {
        match *self {}
    }
}
