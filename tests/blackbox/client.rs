//! A client that sends what it is told to, right or wrong, and says what comes back.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use crate::server::TestServer;

/// How long a reply may take before its test fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// The request of RFC 6455 §1.3.
pub(crate) fn request(path: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
}

/// A frame from a client: its first byte, and its payload masked with the key 01 02 03 04.
pub(crate) fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match payload.len() {
        length @ 0..=125 => frame.push(0x80 | length as u8),
        length @ 126..=0xFFFF => {
            frame.push(0x80 | 126);
            frame.extend((length as u16).to_be_bytes());
        }
        length => {
            frame.push(0x80 | 127);
            frame.extend((length as u64).to_be_bytes());
        }
    }
    frame.extend([1, 2, 3, 4]);
    frame.extend(
        payload
            .iter()
            .enumerate()
            .map(|(index, byte)| byte ^ (index % 4 + 1) as u8),
    );
    frame
}

/// A Close frame from a client.
pub(crate) fn close_frame(code: u16, reason: &[u8]) -> Vec<u8> {
    frame(0x88, &[&code.to_be_bytes(), reason].concat())
}

/// A frame from a server: its first byte and its payload.
pub(crate) fn reply(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match payload.len() {
        length @ 0..=125 => frame.push(length as u8),
        length @ 126..=0xFFFF => {
            frame.push(126);
            frame.extend((length as u16).to_be_bytes());
        }
        length => {
            frame.push(127);
            frame.extend((length as u64).to_be_bytes());
        }
    }
    frame.extend(payload);
    frame
}

pub(crate) struct Client {
    pub(crate) stream: TcpStream,
}

impl Client {
    /// Connects and says nothing.
    pub(crate) fn connect(server: &TestServer) -> Client {
        Client::at(server.address)
    }

    /// Connects to that address and says nothing.
    pub(crate) fn at(address: SocketAddr) -> Client {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Client { stream }
    }

    /// Connects and opens a WebSocket.
    pub(crate) fn open(server: &TestServer, path: &str) -> Client {
        let mut client = Client::connect(server);
        client.send(request(path).as_bytes());
        let head = client.receive_head();
        assert!(head.starts_with("HTTP/1.1 101 "), "{path}: {head}");
        client
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// Sends these bytes in two segments that the server reads one after the other: a Ping goes
    /// ahead in the first, and the second follows its Pong, which is taken here.
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

    /// Sends FIN.
    pub(crate) fn finish(&mut self) {
        self.stream.shutdown(Shutdown::Write).unwrap();
    }

    /// The head of a response, to its empty line, and nothing of what follows.
    pub(crate) fn receive_head(&mut self) -> String {
        let mut head = Vec::new();
        let mut seen = [0; 1_024];
        while !head.ends_with(b"\r\n\r\n") {
            // Byte by byte, but not with a system call each.
            let length = self.stream.peek(&mut seen).unwrap_or_else(|error| {
                panic!("{error} after {:?}", String::from_utf8_lossy(&head))
            });
            let before = head.len();
            for byte in &seen[..length] {
                head.push(*byte);
                if head.ends_with(b"\r\n\r\n") {
                    break;
                }
            }
            let taken = head.len() - before;
            assert_ne!(taken, 0, "FIN after {:?}", String::from_utf8_lossy(&head));
            self.stream.read_exact(&mut seen[..taken]).unwrap();
        }
        String::from_utf8(head).unwrap()
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

    /// The next message must be this text.
    #[track_caller]
    pub(crate) fn receives_text(&mut self, text: &str) {
        let (first, payload) = self.receive();
        assert_eq!(
            (first, String::from_utf8_lossy(&payload).as_ref()),
            (0x81, text)
        );
    }

    /// The next bytes must be these.
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

    /// Next must come a Close with this code, then FIN.
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

    /// Next must come FIN, not RST and no byte more; it is answered with FIN.
    #[track_caller]
    pub(crate) fn ends(&mut self) {
        let mut rest = Vec::new();
        match self.stream.read_to_end(&mut rest) {
            Ok(_) => assert!(rest.is_empty(), "{rest:02X?} before FIN"),
            Err(error) => panic!("{error} instead of FIN, after {rest:02X?}"),
        }
        // The server may be done with the connection already.
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// Next must come FIN, and the server must still be reading. A RST right after FIN cannot be
    /// told by reading, but what is sent then fails.
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

    /// Whether nothing comes for this long.
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
