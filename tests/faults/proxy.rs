//! A TCP proxy that delays, splits, cuts or corrupts its traffic.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::net::sockopt::set_socket_linger;

/// The fault of one direction of a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Manner {
    /// Segments of this many bytes.
    Split(usize),
    /// Data is held until none has arrived for this time, then sent in one piece.
    Merge(Duration),
    /// Each piece waits for `mean` ± `jitter`; the order stays the same.
    Delay { mean: Duration, jitter: Duration },
    /// After every `after` bytes the traffic pauses.
    Stall { after: usize, pause: Duration },
    /// After this many bytes both sides are reset.
    Reset { after: usize },
    /// One bit of one byte is inverted.
    Flip { at: usize },
}

/// A running proxy, which stops accepting when dropped.
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    stop: Arc<AtomicBool>,
}

impl Proxy {
    /// A proxy for `target`, with one fault for what clients send and one for what they receive.
    pub(crate) fn start(target: SocketAddr, sent: Manner, received: Manner) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        thread::spawn(move || {
            for client in listener.incoming() {
                if stopped.load(Ordering::SeqCst) {
                    return;
                }
                let (Ok(client), Ok(server)) = (client, TcpStream::connect(target)) else {
                    continue;
                };
                let _ = pass(client, server, sent, received);
            }
        });
        Proxy { address, stop }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
    }
}

fn pass(client: TcpStream, server: TcpStream, sent: Manner, received: Manner) -> io::Result<()> {
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (client_too, server_too) = (client.try_clone()?, server.try_clone()?);
    thread::spawn(move || sent.direct(client, server));
    thread::spawn(move || received.direct(server_too, client_too));
    Ok(())
}

impl Manner {
    /// Forwards one direction until it ends, and then ends it for the other side.
    fn direct(self, mut from: TcpStream, mut to: TcpStream) {
        let mut buffer = vec![0; 64 << 10];
        let mut passed = 0;
        while let Ok(length) = self.take(&mut from, &mut buffer) {
            if length == 0
                || self
                    .give(&mut from, &mut to, &mut buffer[..length], passed)
                    .is_err()
            {
                break;
            }
            passed += length;
        }
        let _ = to.shutdown(Shutdown::Write);
        let _ = from.shutdown(Shutdown::Read);
    }

    fn take(self, from: &mut TcpStream, buffer: &mut [u8]) -> io::Result<usize> {
        let Manner::Merge(quiet) = self else {
            return from.read(buffer);
        };
        let mut length = from.read(buffer)?;
        from.set_read_timeout(Some(quiet))?;
        while length > 0 && length < buffer.len() {
            match from.read(&mut buffer[length..]) {
                Ok(0) | Err(_) => break,
                Ok(more) => length += more,
            }
        }
        from.set_read_timeout(None)?;
        Ok(length)
    }

    fn give(
        self,
        from: &mut TcpStream,
        to: &mut TcpStream,
        bytes: &mut [u8],
        passed: usize,
    ) -> io::Result<()> {
        match self {
            Manner::Merge(_) => {}
            Manner::Split(size) => {
                for segment in bytes.chunks(size) {
                    to.write_all(segment)?;
                }
                return Ok(());
            }
            Manner::Delay { mean, jitter } => {
                let early = mean.saturating_sub(jitter);
                let spread = fastrand::u64(..=2 * jitter.as_micros() as u64);
                let due = Instant::now() + early + Duration::from_micros(spread);
                thread::sleep(due.saturating_duration_since(Instant::now()));
            }
            Manner::Stall { after, pause } => {
                if passed / after != (passed + bytes.len()) / after {
                    thread::sleep(pause);
                }
            }
            Manner::Reset { after } if passed + bytes.len() >= after => {
                to.write_all(&bytes[..after - passed])?;
                for side in [from, to] {
                    set_socket_linger(&*side, Some(Duration::ZERO))?;
                    side.shutdown(Shutdown::Both)?;
                }
                return Err(io::ErrorKind::ConnectionReset.into());
            }
            Manner::Flip { at } => {
                let byte = at.checked_sub(passed).and_then(|at| bytes.get_mut(at));
                if let Some(byte) = byte {
                    *byte ^= 0x10;
                }
            }
            Manner::Reset { .. } => {}
        }
        to.write_all(bytes)
    }
}
