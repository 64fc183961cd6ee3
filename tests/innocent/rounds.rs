//! What an attacker does in a round, by raw bytes.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use flate2::{Compress, Compression, FlushCompress};

use crate::client::{self, LONG_PATIENCE, connect, receive_head, request};

pub(crate) fn get(path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").into_bytes()
}

pub(crate) fn open(address: SocketAddr, path: &str) -> io::Result<TcpStream> {
    client::open(address, path)?.get_ref().try_clone()
}

/// Opens a WebSocket with permessage-deflate.
pub(crate) fn compressing(address: SocketAddr) -> io::Result<TcpStream> {
    let mut stream = connect(address, LONG_PATIENCE)?;
    let offer = "\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n";
    stream.write_all(request("/echo").replace("\r\n\r\n", offer).as_bytes())?;
    receive_head(&mut stream).map(|_| stream)
}

/// Reads to the end.
pub(crate) fn rest(mut stream: TcpStream) -> io::Result<()> {
    io::copy(&mut stream, &mut io::sink()).map(drop)
}

/// Sends bytes that the server answers with a Close, and reads to the end.
pub(crate) fn closes(address: SocketAddr, path: &str, bytes: &[u8]) -> io::Result<()> {
    let mut stream = open(address, path)?;
    stream.write_all(bytes)?;
    rest(stream)
}

/// Sends a request and FIN, and reads to the end.
pub(crate) fn asks(address: SocketAddr, bytes: &[u8]) -> io::Result<()> {
    let mut stream = connect(address, LONG_PATIENCE)?;
    stream.write_all(bytes)?;
    stream.shutdown(Shutdown::Write)?;
    rest(stream)
}

/// Sends bytes on 100 WebSockets, and keeps them until the time is over.
pub(crate) fn held(
    address: SocketAddr,
    path: &str,
    bytes: &[u8],
    is_over: &AtomicBool,
) -> io::Result<()> {
    let mut streams = Vec::new();
    while streams.len() < 100 && !is_over.load(Ordering::Relaxed) {
        let mut stream = open(address, path)?;
        stream.write_all(bytes)?;
        streams.push(stream);
    }
    while !is_over.load(Ordering::Relaxed) {
        thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

/// Sends `first` once and `again` until the time is over.
pub(crate) fn flood_socket(
    address: SocketAddr,
    path: &str,
    first: &[u8],
    again: &[u8],
    is_over: &AtomicBool,
) -> io::Result<()> {
    let mut stream = open(address, path)?;
    stream.write_all(first)?;
    flood(stream, &again.repeat((16 << 10) / again.len() + 1), is_over)
}

/// Sends `bytes` repeatedly, and reads all answers.
pub(crate) fn flood(mut stream: TcpStream, bytes: &[u8], is_over: &AtomicBool) -> io::Result<()> {
    let mut answers = stream.try_clone()?;
    thread::scope(|scope| {
        scope.spawn(move || io::copy(&mut answers, &mut io::sink()));
        let mut flooding = || {
            while !is_over.load(Ordering::Relaxed) {
                stream.write_all(bytes)?;
            }
            Ok(())
        };
        let ended = flooding();
        let _ = stream.shutdown(Shutdown::Both);
        ended
    })
}

pub(crate) fn silent_connections(address: SocketAddr, is_over: &AtomicBool) -> io::Result<()> {
    kept(500, is_over, || TcpStream::connect(address))
}

/// Opens connections until the time is over, and keeps the last `most` of them.
pub(crate) fn kept(
    most: usize,
    is_over: &AtomicBool,
    opened: impl Fn() -> io::Result<TcpStream>,
) -> io::Result<()> {
    let mut streams = VecDeque::new();
    while !is_over.load(Ordering::Relaxed) {
        streams.push_back(opened()?);
        if streams.len() > most {
            streams.pop_front();
        }
    }
    Ok(())
}

/// Sends bytes on 100 WebSockets, and waits until the server has ended them.
pub(crate) fn left_alone(address: SocketAddr, path: &str, bytes: &[u8]) -> io::Result<()> {
    let opened = (0..100).map(|_| {
        let mut stream = open(address, path)?;
        stream.write_all(bytes)?;
        Ok(stream)
    });
    let streams: Vec<TcpStream> = opened.collect::<io::Result<_>>()?;
    streams.into_iter().try_for_each(rest)
}

/// 250 clients join a room each, and leave at once.
pub(crate) fn rooms_left_at_once(address: SocketAddr, is_over: &AtomicBool) -> io::Result<()> {
    let mut members = Vec::new();
    for number in 0..250 {
        if is_over.load(Ordering::Relaxed) {
            break;
        }
        let room = thread::current().name().unwrap_or_default().to_owned();
        members.push(client::open(
            address,
            &format!("/broadcast/{room}-{number}"),
        )?);
    }
    Ok(())
}

/// The payload of a compressed message.
pub(crate) fn deflated(bytes: &[u8]) -> Vec<u8> {
    let mut payload = Vec::with_capacity(bytes.len() + 1_024);
    Compress::new(Compression::best(), false)
        .compress_vec(bytes, &mut payload, FlushCompress::Sync)
        .unwrap();
    payload.truncate(payload.len() - 4);
    payload
}
