//! tungstenite's codec as an oracle: the same octets give the same messages, and are accepted or
//! rejected alike, but for differences that are named here.

use std::io::{self, Read, Write};

use frameloop::protocol::{Limits, ProtocolError, Receiver, Role};
use tungstenite::error::{CapacityError, Error};
use tungstenite::protocol::{WebSocket, WebSocketConfig};

use super::client::Received;
use super::receiver::{self, Outcome};

pub(crate) fn check(octets: &[u8]) {
    const LIMITS: Limits = Limits {
        max_message_size: 1_000,
        max_frame_size: 800,
    };
    compare(octets, LIMITS);
}

/// Both read these octets, as a server that accepts these sizes.
pub(crate) fn compare(octets: &[u8], limits: Limits) {
    let ours = receiver::receive(Receiver::new(Role::Server, limits), &[octets], false);
    let (messages, error) = tungstenite(octets, limits);
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

/// Octets to read, and nowhere to write.
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
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        Ok(octets.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What tungstenite makes of the octets.
fn tungstenite(octets: &[u8], limits: Limits) -> (Vec<Received>, Option<Error>) {
    let config = WebSocketConfig::default()
        .read_buffer_size(4 << 10)
        .max_message_size(Some(limits.max_message_size))
        .max_frame_size(Some(limits.max_frame_size));
    let role = tungstenite::protocol::Role::Server;
    let mut socket = WebSocket::from_raw_socket(Scripted(octets), role, Some(config));
    let mut messages = Vec::new();
    loop {
        match socket.read() {
            Ok(tungstenite::Message::Text(text)) => messages.push(Received::Text(text.to_string())),
            Ok(tungstenite::Message::Binary(payload)) => {
                messages.push(Received::Binary(payload.to_vec()));
            }
            Ok(tungstenite::Message::Ping(payload)) => {
                messages.push(Received::Ping(payload.to_vec()));
            }
            Ok(tungstenite::Message::Pong(payload)) => {
                messages.push(Received::Pong(payload.to_vec()));
            }
            Ok(tungstenite::Message::Close(frame)) => {
                messages.push(Received::Close(
                    frame.map(|frame| (u16::from(frame.code), frame.reason.to_string())),
                ));
                return (messages, None);
            }
            Ok(tungstenite::Message::Frame(_)) => unreachable!("only ever sent"),
            Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                return (messages, None);
            }
            Err(error) => return (messages, Some(error)),
        }
    }
}
