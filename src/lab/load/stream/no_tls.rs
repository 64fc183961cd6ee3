//! Replaces the TLS module in a build without TLS.

use std::io::{self, Read, Write};

use super::LoadSocket;
use crate::lab::load::plan::Trust;
use crate::lab::load::target::Target;

#[derive(Clone, Debug)]
pub(crate) enum Connector {}

#[derive(Debug)]
pub(crate) enum Secured {}

impl Connector {
    pub(crate) fn new(_: &Target, _: &Trust) -> io::Result<Connector> {
        Err(io::Error::other("this frameloop is built without TLS"))
    }

    pub(crate) fn secure(&self, _: LoadSocket) -> io::Result<Secured> {
        match *self {}
    }
}

impl Secured {
    pub(crate) fn handshake(&mut self) -> io::Result<bool> {
        match *self {}
    }

    pub(crate) fn is_blocked(&self) -> bool {
        match *self {}
    }

    pub(crate) fn socket(&self) -> &LoadSocket {
        match *self {}
    }
}

impl Read for Secured {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        match *self {}
    }
}

impl Write for Secured {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        match *self {}
    }

    fn flush(&mut self) -> io::Result<()> {
        match *self {}
    }
}
