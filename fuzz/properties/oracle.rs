//! tungstenite's codec as an oracle: the same bytes give the same messages, and are accepted or
//! rejected alike, but for differences that are named here; and what we send for them, whole or in
//! fragments, it reads back.

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

/// Both read these bytes, as a server that accepts these sizes.
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
        // They part at a named place, and agree on what was before it.
        let common = ours.messages.len().min(messages.len());
        let common = match ours.messages.last() {
            Some(Received::Close(_)) => common.min(ours.messages.len() - 1),
            _ => common,
        };
        assert_eq!(ours.messages[..common], messages[..common]);
    }
    ours
}

/// What came is sent back, and said of an error; tungstenite reads the same.
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
    // Long payloads are copied in another way.
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
    // What comes too late is not sent (RFC 6455 §5.5.1).
    let length = bytes.len();
    if !sender.is_open() {
        assert!(sender.is_closed() || sender.is_close_sent());
        sender.send_fragmented(Message::Text("more"), 1, &mut bytes);
        sender.close(None, &mut bytes);
        assert_eq!(bytes.len(), length);
    }
    // It calls the registered code 1014 invalid.
    if !matches!(expected.last(), Some(Received::Close(Some((1014, _))))) {
        let limits = SizeLimits::default();
        let role = tungstenite::protocol::Role::Client;
        let (messages, error) = tungstenite(&bytes, limits, role);
        assert!(error.is_none(), "{error:?}");
        assert_eq!(messages, expected);
    }
}

/// Why the two may differ on an input.
fn is_named_difference(ours: &Outcome, theirs: &Option<Error>) -> bool {
    match (ours.error, theirs) {
        // It accepts lengths that are not in their shortest form, also of control frames, whose
        // shortest form is the only one.
        (Some(ProtocolError::NonMinimalLength | ProtocolError::OversizedControlFrame), _) => true,
        // It calls a length with its top bit set too long.
        (
            Some(ProtocolError::LengthMsbSet),
            Some(Error::Capacity(CapacityError::MessageTooLong { .. })),
        ) => true,
        // It sees some faults of the header only when the payload has come, or, of a payload, only
        // when the message is whole; and the input ends before that.
        (Some(_), None) => true,
        // It answers a Close code that may not travel with a Close of its own, as if it had come.
        (Some(ProtocolError::InvalidCloseCode), _) => true,
        // It knows no bound of empty fragments.
        (Some(ProtocolError::EmptyFragments), _) => true,
        // It calls the registered code 1014 invalid.
        (None, _) => matches!(ours.messages.last(), Some(Received::Close(Some((1014, _))))),
        _ => false,
    }
}

/// Bytes to read, and nowhere to write.
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

/// What tungstenite makes of the bytes.
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
        tungstenite::Message::Frame(_) => unreachable!("only ever sent"),
    }
}
