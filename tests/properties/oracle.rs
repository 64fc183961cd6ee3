//! tungstenite's codec as an oracle: the same octets give the same messages, and are accepted or
//! rejected alike, but for differences that are named here.

use frameloop::protocol::{Limits, ProtocolError};
use proptest::prelude::*;
use std::io::{self, Read, Write};
use tungstenite::error::{CapacityError, Error};
use tungstenite::protocol::{Role, WebSocket, WebSocketConfig};

use crate::receiver::{Received, frames, receive};

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
        .max_message_size(Some(limits.max_message_size))
        .max_frame_size(Some(limits.max_frame_size));
    let mut socket = WebSocket::from_raw_socket(Scripted(octets), Role::Server, Some(config));
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

/// Why the two may differ on an input; the input is left out then.
fn is_named_difference(
    ours: &(Vec<Received>, Option<ProtocolError>),
    theirs: &Option<Error>,
) -> bool {
    match (ours.1, theirs) {
        // It accepts lengths that are not in their shortest form.
        (Some(ProtocolError::NonMinimalLength), _) => true,
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
        // It calls the registered code 1014 invalid.
        (None, _) => matches!(ours.0.last(), Some(Received::Close(Some((1014, _))))),
        _ => false,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn tungstenite_agrees(octets in frames()) {
        let limits = Limits { max_message_size: 100_000, max_frame_size: 80_000 };
        let ours = receive(&[&octets], limits, false);
        let (messages, error) = tungstenite(&octets, limits);
        if !is_named_difference(&ours, &error) {
            prop_assert_eq!(&ours.0, &messages);
            prop_assert_eq!(ours.1.is_some(), error.is_some(), "{:?} {:?}", ours.1, error);
        }
    }
}
