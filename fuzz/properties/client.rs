//! The client's end of the wire in the simplest code: frames in, frames out.

use frameloop::protocol::{CloseFrame, Message};

/// A frame of a client, valid or not.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Frame<'a> {
    pub(crate) first: u8,
    pub(crate) payload: &'a [u8],
    /// `None` leaves the payload unmasked.
    pub(crate) key: Option<[u8; 4]>,
}

impl Frame<'_> {
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mask = if self.key.is_some() { 0x80 } else { 0 };
        let mut bytes = vec![self.first];
        match self.payload.len() {
            length @ 0..=125 => bytes.push(mask | length as u8),
            length @ 126..=0xFFFF => {
                bytes.push(mask | 126);
                bytes.extend((length as u16).to_be_bytes());
            }
            length => {
                bytes.push(mask | 127);
                bytes.extend((length as u64).to_be_bytes());
            }
        }
        let Some(key) = self.key else {
            bytes.extend(self.payload);
            return bytes;
        };
        bytes.extend(key);
        let begin = bytes.len();
        bytes.extend(self.payload);
        // A single loop over two slices, so that the compiler vectorises it.
        let mask = key.repeat(self.payload.len().div_ceil(4));
        for (byte, key) in bytes[begin..].iter_mut().zip(&mask) {
            *byte ^= key;
        }
        bytes
    }
}

/// A frame from the server.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Sent {
    pub(crate) first: u8,
    pub(crate) payload: Vec<u8>,
}

impl Sent {
    pub(crate) fn new(first: u8, payload: &[u8]) -> Sent {
        Sent {
            first,
            payload: payload.to_vec(),
        }
    }

    pub(crate) fn close_code(&self) -> Option<u16> {
        let code = self.payload.first_chunk::<2>()?;
        (self.first == 0x88).then(|| u16::from_be_bytes(*code))
    }
}

/// All frames in the server's output, and whether the output ends inside one.
pub(crate) fn read_frames(mut bytes: &[u8]) -> (Vec<Sent>, bool) {
    let mut frames = Vec::new();
    while let [first, second, rest @ ..] = bytes {
        assert!(second & 0x80 == 0, "a server's frame is masked");
        let (length, rest) = match (second, rest) {
            (126, [a, b, rest @ ..]) => (usize::from(u16::from_be_bytes([*a, *b])), rest),
            (127, [a, b, c, d, e, f, g, h, rest @ ..]) => {
                let length = u64::from_be_bytes([*a, *b, *c, *d, *e, *f, *g, *h]);
                (usize::try_from(length).expect("a length"), rest)
            }
            (126 | 127, _) => return (frames, true),
            (length, rest) => (usize::from(*length), rest),
        };
        let Some((payload, rest)) = rest.split_at_checked(length) else {
            return (frames, true);
        };
        frames.push(Sent::new(*first, payload));
        bytes = rest;
    }
    (frames, !bytes.is_empty())
}

/// A message that owns its data.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Received {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<(u16, String)>),
}

impl Received {
    pub(crate) fn borrow(&self) -> Message<'_> {
        match self {
            Received::Text(text) => Message::Text(text),
            Received::Binary(payload) => Message::Binary(payload),
            Received::Ping(payload) => Message::Ping(payload),
            Received::Pong(payload) => Message::Pong(payload),
            Received::Close(frame) => Message::Close(frame.as_ref().map(|(code, reason)| {
                let code = (*code).into();
                CloseFrame { code, reason }
            })),
        }
    }
}

impl From<Message<'_>> for Received {
    fn from(message: Message<'_>) -> Received {
        match message {
            Message::Text(text) => Received::Text(text.into()),
            Message::Binary(payload) => Received::Binary(payload.into()),
            Message::Ping(payload) => Received::Ping(payload.into()),
            Message::Pong(payload) => Received::Pong(payload.into()),
            Message::Close(frame) => {
                Received::Close(frame.map(|frame| (u16::from(frame.code), frame.reason.to_owned())))
            }
        }
    }
}

/// The codes that a peer may send (RFC 6455 §7.4, and later registrations with IANA).
pub(crate) fn may_travel(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}
