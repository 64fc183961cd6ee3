//! tungstenite's codec as an oracle: for the same bytes it gives the same messages and the same
//! verdict, except for the differences named here; and it reads back what we send, whole or in
//! fragments.

use std::io::{self, Read, Write};

use frameloop::protocol::{Message, ProtocolError, Receiver, SizeLimits};
use frameloop::protocol::{Role, Sender};
use tungstenite::error::{CapacityError, Error};
use tungstenite::protocol::{WebSocket, WebSocketConfig};

use super::client::Received;
use super::receiver::{self, Outcome};

pub(crate) fn check(bytes: &[u8]) {
    const LIMITS: SizeLimits = SizeLimits {
        max_message_size: 1_000,
        max_frame_size: 800,
    };
    let ours = compare(bytes, LIMITS);
    check_sender(&ours, 1 + bytes.len() % 100);
}

/// Both read these bytes as a server with these size limits.
pub(crate) fn compare(bytes: &[u8], limits: SizeLimits) -> Outcome {
    let ours = receiver::receive(Receiver::new(Role::Server, limits), &[bytes], false);
    let (messages, error) = tungstenite(bytes, limits, tungstenite::protocol::Role::Server);
    if !is_named_difference(&ours, &error) {
        assert_eq!(ours.messages, messages);
        assert_eq!(
            ours.error.is_some(),
            error.is_some(),
            "{:?} {error:?}",
            ours.error
        );
    } else {
        // The two differ for a known reason, but agree on everything before that point.
        let common = ours.messages.len().min(messages.len());
        let common = match ours.messages.last() {
            Some(Received::Close(_)) => common.min(ours.messages.len() - 1),
            _ => common,
        };
        assert_eq!(ours.messages[..common], messages[..common]);
    }
    ours
}

/// Sends the received messages, and a Close for an error; tungstenite reads the same messages.
fn check_sender(ours: &Outcome, max_fragment_size: usize) {
    let (mut sender, mut bytes) = (Sender::default(), Vec::new());
    let mut expected = ours.messages.clone();
    for message in &ours.messages {
        assert!(sender.is_open() && sender.close_code_sent().is_none());
        let message = message.borrow();
        assert_eq!(received(message.into()), Received::from(message));
        match message {
            Message::Close(frame) => {
                let line = frame.map(|frame| frame.to_string()).unwrap_or_default();
                assert!(!line.contains(char::is_control), "{line}");
                sender.send(message, &mut bytes);
                assert_eq!(sender.close_code_sent(), frame.map(|frame| frame.code));
            }
            _ => sender.send_fragmented(message, max_fragment_size, &mut bytes),
        }
    }
    // Long payloads take another copying path.
    if sender.is_open() && max_fragment_size.is_multiple_of(16) {
        let long = Message::Binary(&[7; 5_000]);
        sender.send(long, &mut bytes);
        expected.push(Received::from(long));
    }
    if let Some(error) = ours.error {
        sender.fail(error, &mut bytes);
        assert!(sender.is_closed());
        let close = (u16::from(error.close_code()), error.to_string());
        expected.push(Received::Close(Some(close)));
    }
    // Nothing is sent after a Close (RFC 6455 §5.5.1).
    let length = bytes.len();
    if !sender.is_open() {
        assert!(sender.is_closed() || sender.is_close_sent());
        sender.send_fragmented(Message::Text("more"), 1, &mut bytes);
        sender.close(None, &mut bytes);
        assert_eq!(bytes.len(), length);
    }
    // tungstenite treats the registered code 1014 as invalid.
    if !matches!(expected.last(), Some(Received::Close(Some((1014, _))))) {
        let limits = SizeLimits::default();
        let role = tungstenite::protocol::Role::Client;
        let (messages, error) = tungstenite(&bytes, limits, role);
        assert!(error.is_none(), "{error:?}");
        assert_eq!(messages, expected);
    }
}

/// Whether the two may differ on an input.
fn is_named_difference(ours: &Outcome, theirs: &Option<Error>) -> bool {
    match (ours.error, theirs) {
        // tungstenite accepts lengths that are not minimal, for control frames, too.
        (Some(ProtocolError::NonMinimalLength | ProtocolError::OversizedControlFrame), _) => true,
        // tungstenite reports a length with its top bit set as too long.
        (
            Some(ProtocolError::LengthMsbSet),
            Some(Error::Capacity(CapacityError::MessageTooLong { .. })),
        ) => true,
        // tungstenite detects some header errors only with the payload, and some payload errors
        // only at the end of the message. The input ends before that.
        (Some(_), None) => true,
        // tungstenite answers an invalid Close code with its own Close.
        (Some(ProtocolError::InvalidCloseCode), _) => true,
        // tungstenite does not limit empty fragments.
        (Some(ProtocolError::EmptyFragments), _) => true,
        // tungstenite treats the registered code 1014 as invalid.
        (None, _) => matches!(ours.messages.last(), Some(Received::Close(Some((1014, _))))),
        _ => false,
    }
}

/// A stream with input only.
struct Scripted<'a>(&'a [u8]);

impl Read for Scripted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.0.read(buffer) {
            Ok(0) => Err(io::ErrorKind::WouldBlock.into()),
            result => result,
        }
    }
}

impl Write for Scripted<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// tungstenite's messages for these bytes.
fn tungstenite(
    bytes: &[u8],
    limits: SizeLimits,
    role: tungstenite::protocol::Role,
) -> (Vec<Received>, Option<Error>) {
    let config = WebSocketConfig::default()
        .read_buffer_size(4 << 10)
        .max_message_size(Some(limits.max_message_size))
        .max_frame_size(Some(limits.max_frame_size));
    let mut socket = WebSocket::from_raw_socket(Scripted(bytes), role, Some(config));
    let mut messages = Vec::new();
    loop {
        match socket.read() {
            Ok(message) => {
                let is_last = message.is_close();
                messages.push(received(message));
                if is_last {
                    return (messages, None);
                }
            }
            Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                return (messages, None);
            }
            Err(error) => return (messages, Some(error)),
        }
    }
}

fn received(message: tungstenite::Message) -> Received {
    match message {
        tungstenite::Message::Text(text) => Received::Text(text.to_string()),
        tungstenite::Message::Binary(payload) => Received::Binary(payload.to_vec()),
        tungstenite::Message::Ping(payload) => Received::Ping(payload.to_vec()),
        tungstenite::Message::Pong(payload) => Received::Pong(payload.to_vec()),
        tungstenite::Message::Close(frame) => {
            Received::Close(frame.map(|frame| (u16::from(frame.code), frame.reason.to_string())))
        }
        tungstenite::Message::Frame(_) => unreachable!("never received"),
    }
}
