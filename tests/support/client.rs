//! A WebSocket client that sends any bytes, valid or not, and checks the replies; and tungstenite,
//! an independent client.

use std::io::{self, Error, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use tungstenite::protocol::Role;
use tungstenite::{Bytes, Message, WebSocket};

/// How long a reply may take before the test fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// How long anything may take under load or a fault before the test fails.
pub(crate) const LONG_PATIENCE: Duration = Duration::from_secs(60);

/// The request of RFC 6455 §1.3.
pub(crate) fn request(path: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
}

/// A frame from a client: its first byte, and its payload masked with the key 01 02 03 04.
pub(crate) fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = header(first, 0x80, payload.len());
    frame.extend([1, 2, 3, 4]);
    let keys = [1, 2, 3, 4].iter().cycle();
    frame.extend(payload.iter().zip(keys).map(|(byte, key)| byte ^ key));
    frame
}

/// A Close frame from a client.
pub(crate) fn close_frame(code: u16, reason: &[u8]) -> Vec<u8> {
    frame(0x88, &[&code.to_be_bytes(), reason].concat())
}

/// A frame from a server: its first byte and its payload.
pub(crate) fn reply(first: u8, payload: &[u8]) -> Vec<u8> {
    [&header(first, 0, payload.len()), payload].concat()
}

fn header(first: u8, mask: u8, length: usize) -> Vec<u8> {
    match length {
        0..=125 => vec![first, mask | length as u8],
        126..=0xFFFF => [&[first, mask | 126][..], &(length as u16).to_be_bytes()].concat(),
        _ => [&[first, mask | 127][..], &(length as u64).to_be_bytes()].concat(),
    }
}

/// Reads the head of a response, up to its empty line.
///
/// # Errors
///
/// Errors of the stream, or its end before the empty line.
pub(crate) fn receive_head(stream: &mut impl Read) -> io::Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).map_err(|error| {
            let after = String::from_utf8_lossy(&head);
            Error::new(error.kind(), format!("{error} after {after:?}"))
        })?;
        head.push(byte[0]);
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}

/// Connects to this address.
///
/// # Errors
///
/// Errors of the socket.
pub(crate) fn connect(address: SocketAddr, patience: Duration) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, patience)?;
    stream.set_read_timeout(Some(patience))?;
    stream.set_write_timeout(Some(patience))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Connects and opens a tungstenite WebSocket.
///
/// # Errors
///
/// Errors of the socket, or a status other than 101.
pub(crate) fn open(address: SocketAddr, path: &str) -> io::Result<WebSocket<TcpStream>> {
    open_on(connect(address, LONG_PATIENCE)?, path)
}

/// Opens a tungstenite WebSocket on a connected stream.
///
/// # Errors
///
/// Errors of the socket, or a status other than 101.
pub(crate) fn open_on<S: Read + Write>(mut stream: S, path: &str) -> io::Result<WebSocket<S>> {
    stream.write_all(request(path).as_bytes())?;
    let head = receive_head(&mut stream)?;
    if !head.starts_with("HTTP/1.1 101 ") {
        return Err(Error::new(ErrorKind::InvalidData, head));
    }
    Ok(WebSocket::from_raw_socket(stream, Role::Client, None))
}

/// A data message. Its sequence determines its type (see [`crate::checker`]).
pub(crate) fn message(text: bool, payload: Vec<u8>) -> Message {
    if text {
        let text = String::from_utf8(payload).expect("text is UTF-8");
        Message::text(text)
    } else {
        Message::Binary(Bytes::from(payload))
    }
}

pub(crate) struct Client<S = TcpStream> {
    pub(crate) stream: S,
}

impl<S: Read + Write> Client<S> {
    /// Opens a WebSocket on a connected stream.
    #[track_caller]
    pub(crate) fn on(stream: S, path: &str) -> Client<S> {
        let mut client = Client { stream };
        client.send(request(path).as_bytes());
        let head = client.receive_head();
        assert!(head.starts_with("HTTP/1.1 101 "), "{path}: {head}");
        client
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// Sends these bytes in two segments that the server reads separately: a Ping precedes the
    /// first, and the second is sent after the Pong.
    #[track_caller]
    pub(crate) fn send_cut(&mut self, bytes: &[u8], cut: usize) {
        let (head, tail) = bytes.split_at(cut);
        self.send(&[&frame(0x89, b"read?"), head].concat());
        self.receives(b"\x8A\x05read?");
        self.send(tail);
    }

    /// Sends a text message.
    pub(crate) fn send_text(&mut self, text: &str) {
        self.send(&frame(0x81, text.as_bytes()));
    }

    /// Reads the head of a response, up to its empty line.
    #[track_caller]
    pub(crate) fn receive_head(&mut self) -> String {
        receive_head(&mut self.stream).unwrap()
    }

    /// The next frame: its first byte and its payload.
    pub(crate) fn receive(&mut self) -> (u8, Vec<u8>) {
        let mut header = [0; 2];
        self.stream.read_exact(&mut header).unwrap();
        assert!(header[1] < 0x80, "the server masked a frame");
        let length = match header[1] {
            126 => {
                let mut length = [0; 2];
                self.stream.read_exact(&mut length).unwrap();
                u64::from(u16::from_be_bytes(length))
            }
            127 => {
                let mut length = [0; 8];
                self.stream.read_exact(&mut length).unwrap();
                u64::from_be_bytes(length)
            }
            length => u64::from(length),
        };
        let mut payload = vec![0; length as usize];
        self.stream.read_exact(&mut payload).unwrap();
        (header[0], payload)
    }

    /// Expects this text message next.
    #[track_caller]
    pub(crate) fn receives_text(&mut self, text: &str) {
        let (first, payload) = self.receive();
        assert_eq!(
            (first, String::from_utf8_lossy(&payload).as_ref()),
            (0x81, text)
        );
    }

    /// Sends a text message and expects its echo.
    #[track_caller]
    pub(crate) fn is_echoed(&mut self) {
        self.send_text("hi");
        self.receives_text("hi");
    }

    /// Expects these bytes next.
    #[track_caller]
    pub(crate) fn receives(&mut self, expected: &[u8]) {
        let mut bytes = vec![0; expected.len()];
        let mut length = 0;
        while length < bytes.len() {
            match self.stream.read(&mut bytes[length..]) {
                Ok(0) => break,
                Ok(more) => length += more,
                Err(error) => panic!("{error} after {:02X?}", &bytes[..length]),
            }
        }
        assert_eq!(&bytes[..length], expected, "{:02X?}", &bytes[..length]);
    }
}

impl Client {
    /// Connects to this address.
    pub(crate) fn at(address: SocketAddr) -> Client {
        let stream = connect(address, PATIENCE).unwrap();
        Client { stream }
    }

    /// Sends FIN.
    pub(crate) fn finish(&mut self) {
        self.stream.shutdown(Shutdown::Write).unwrap();
    }

    /// Expects a Close with this code, then FIN.
    #[track_caller]
    pub(crate) fn closes_with(&mut self, code: u16) {
        let (first, payload) = self.receive();
        assert_eq!(first, 0x88, "{payload:02X?}");
        assert_eq!(
            payload.get(..2),
            Some(&code.to_be_bytes()[..]),
            "{payload:02X?}"
        );
        self.ends();
    }

    /// Expects FIN, without further bytes or RST, and answers with FIN.
    #[track_caller]
    pub(crate) fn ends(&mut self) {
        let mut rest = Vec::new();
        match self.stream.read_to_end(&mut rest) {
            Ok(_) => assert!(rest.is_empty(), "{rest:02X?} before FIN"),
            Err(error) => panic!("{error} instead of FIN, after {rest:02X?}"),
        }
        // The server may have closed the connection already.
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// Expects FIN from a server that still reads. Reading does not reveal a RST right after FIN,
    /// but a write then fails.
    #[track_caller]
    pub(crate) fn ends_while_being_read(&mut self) {
        let mut rest = Vec::new();
        self.stream.read_to_end(&mut rest).unwrap();
        assert!(rest.is_empty(), "{rest:02X?} before FIN");
        self.send(&[0]);
        let error = self.stream.take_error().unwrap();
        assert!(error.is_none(), "{error:?} after FIN");
        self.finish();
    }

    /// Whether nothing arrives for this long.
    pub(crate) fn is_silent_for(&mut self, duration: Duration) -> bool {
        self.stream.set_read_timeout(Some(duration)).unwrap();
        let result = self.stream.peek(&mut [0]);
        self.stream.set_read_timeout(Some(PATIENCE)).unwrap();
        matches!(
            result.map_err(|error: io::Error| error.kind()),
            Err(ErrorKind::WouldBlock | ErrorKind::TimedOut)
        )
    }
}
