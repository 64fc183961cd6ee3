//! What stands for TLS where frameloop is built without it.

use std::io::{self, Read, Write};

use mio::net::TcpStream;

use crate::lab::load::plan::Trust;
use crate::lab::load::target::Target;

#[derive(Clone, Debug)]
pub(in crate::lab::load) enum Connector {}

#[derive(Debug)]
pub(in crate::lab::load) enum Secured {}

impl Connector {
    pub(in crate::lab::load) fn new(_: &Target, _: &Trust) -> io::Result<Connector> {
        Err(io::Error::other("this frameloop is built without TLS"))
    }

    pub(in crate::lab::load) fn secure(&self, _: TcpStream) -> io::Result<Secured> {
        match *self {}
    }
}

impl Secured {
    pub(in crate::lab::load) fn handshake(&mut self) -> io::Result<bool> {
        match *self {}
    }

    pub(in crate::lab::load) fn is_blocked(&self) -> bool {
        match *self {}
    }

    pub(in crate::lab::load) fn socket(&mut self) -> &mut TcpStream {
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
