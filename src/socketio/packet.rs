//! The packets of Socket.IO 5, as WebSocket messages and in the bodies of polling responses.

use std::fmt::Write as _;
use std::str::FromStr;
use std::sync::{Arc, OnceLock};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use serde_json::Value;

use super::errors::{EngineResult, EngineViolation};
use super::value::{Args, json_of};
use crate::engine::{Held, Publication, UnsentBudget};
use crate::protocol::Message;

/// The kind of a packet. The binary kinds announce attachments.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum PacketKind {
    Connect,
    Disconnect,
    Event,
    Ack,
    ConnectError,
}

impl PacketKind {
    /// The kinds by digit. 5 and 6 are the binary kinds.
    const BY_DIGIT: [PacketKind; 7] = {
        use PacketKind::{Ack, Connect, ConnectError, Disconnect, Event};
        [Connect, Disconnect, Event, Ack, ConnectError, Event, Ack]
    };

    /// The difference between the digits of a binary kind and of its plain kind.
    const BINARY: usize = 3;
}

/// A packet without its attachments.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Packet<'a> {
    pub(super) kind: PacketKind,
    /// The number of attachments that follow.
    pub(super) attachments: usize,
    pub(super) namespace: &'a str,
    /// The id that connects an event with its acknowledgement.
    pub(super) id: Option<u64>,
    pub(super) json: &'a str,
}

impl<'a> Packet<'a> {
    pub(super) fn parse(text: &'a str) -> EngineResult<Packet<'a>> {
        Packet::read(text).ok_or(EngineViolation("not a packet of Socket.IO"))
    }

    /// Reads `<kind>[<attachments>-][<namespace>,][<id>][<json>]`.
    fn read(text: &'a str) -> Option<Packet<'a>> {
        let (digit, rest) = text.split_at_checked(1)?;
        let digit: usize = number(digit)?;
        let kind = *PacketKind::BY_DIGIT.get(digit)?;
        let (attachments, rest) = match digit > PacketKind::ConnectError as usize {
            true => {
                let (count, rest) = rest.split_once('-')?;
                (number(count)?, rest)
            }
            false => (0, rest),
        };
        let (namespace, rest) = match rest.starts_with('/') {
            true => rest.split_once(',').unwrap_or((rest, "")),
            false => ("/", rest),
        };
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (id, json) = rest.split_at(digits);
        Some(Packet {
            kind,
            attachments,
            namespace,
            id: match id {
                "" => None,
                id => Some(number(id)?),
            },
            json,
        })
    }
}

/// Parses decimal digits. A sign is an error.
fn number<T: FromStr>(digits: &str) -> Option<T> {
    let is_number = digits.bytes().all(|byte| byte.is_ascii_digit());
    digits.parse().ok().filter(|_| is_number)
}

/// An outgoing packet, encoded once for all sessions: an Engine.IO message and the attachments that
/// follow.
#[derive(Debug)]
pub(super) struct EncodedPacket {
    /// Begins with the digit of the Engine.IO packet type. Empty for a single binary message.
    text: String,
    attachments: Vec<Bytes>,
    /// The packet's bytes in the unsent budget, from its first queue of a polling session on.
    held: OnceLock<Held>,
}

impl EncodedPacket {
    fn new(text: String, attachments: Vec<Bytes>) -> Arc<EncodedPacket> {
        Arc::new(EncodedPacket {
            text,
            attachments,
            held: OnceLock::new(),
        })
    }

    /// A text packet of Engine.IO, including the digit of its type.
    pub(super) fn text(text: impl Into<String>) -> Arc<EncodedPacket> {
        EncodedPacket::new(text.into(), Vec::new())
    }

    /// A binary message of Engine.IO.
    pub(super) fn binary(bytes: Bytes) -> Arc<EncodedPacket> {
        EncodedPacket::new(String::new(), vec![bytes])
    }

    /// A packet of Socket.IO without arguments.
    pub(super) fn plain(kind: PacketKind, namespace: &str, json: &str) -> Arc<EncodedPacket> {
        EncodedPacket::of(kind, namespace, None, (json, Vec::new()))
    }

    /// An event. An event with an id asks for an acknowledgement.
    pub(super) fn event(
        namespace: &str,
        id: Option<u64>,
        name: &str,
        args: &Args,
    ) -> Arc<EncodedPacket> {
        let (values, attachments) = args.numbered();
        let mut json = json_of(&values);
        let separator = if values.is_empty() { "" } else { "," };
        json.insert_str(1, &[&Value::from(name).to_string(), separator].concat());
        EncodedPacket::of(PacketKind::Event, namespace, id, (&json, attachments))
    }

    /// An acknowledgement.
    pub(super) fn ack(namespace: &str, id: u64, args: &Args) -> Arc<EncodedPacket> {
        let (values, attachments) = args.numbered();
        let json = json_of(&values);
        EncodedPacket::of(PacketKind::Ack, namespace, Some(id), (&json, attachments))
    }

    fn of(
        kind: PacketKind,
        namespace: &str,
        id: Option<u64>,
        (json, attachments): (&str, Vec<Bytes>),
    ) -> Arc<EncodedPacket> {
        let mut text = String::with_capacity(json.len() + namespace.len() + 24);
        let kind = kind as usize;
        // Writing to a string cannot fail.
        let _ = match attachments.len() {
            0 => write!(text, "4{kind}"),
            count => write!(text, "4{}{count}-", kind + PacketKind::BINARY),
        };
        if namespace != "/" {
            text.extend([namespace, ","]);
        }
        if let Some(id) = id {
            let _ = write!(text, "{id}");
        }
        text.push_str(json);
        EncodedPacket::new(text, attachments)
    }

    /// The packet as WebSocket messages, with no other message between them.
    pub(super) fn publication(&self) -> Publication<'_> {
        if self.attachments.is_empty() {
            return Publication::new(Message::Text(&self.text));
        }
        Publication::of_several(self.messages())
    }

    pub(super) fn messages(&self) -> impl Iterator<Item = Message<'_>> {
        let text = (!self.text.is_empty()).then_some(Message::Text(&self.text));
        let attachments = self.attachments.iter().map(|bytes| Message::Binary(bytes));
        text.into_iter().chain(attachments)
    }

    /// Counts the packet in the budget, once for all queues, until the last queue drops the packet.
    pub(super) fn count_in(&self, unsent: &UnsentBudget) {
        self.held.get_or_init(|| Held::for_all(self.size(), unsent));
    }

    /// The packet's approximate number of bytes in the body of a polling response.
    pub(super) fn size(&self) -> usize {
        let attachments = self.attachments.iter();
        let attachments = attachments.map(|bytes| 2 + bytes.len().div_ceil(3) * 4);
        self.text.len() + attachments.sum::<usize>()
    }

    /// Appends the packet to the body of a polling response.
    pub(super) fn append_to(&self, body: &mut String) {
        for message in self.messages() {
            if !body.is_empty() {
                body.push(SEPARATOR);
            }
            match message {
                Message::Binary(bytes) => {
                    body.push('b');
                    BASE64.encode_string(bytes, body);
                }
                _ => body.push_str(&self.text),
            }
        }
    }
}

/// Separates the packets in a body (Engine.IO 4).
pub(super) const SEPARATOR: char = '\x1e';

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_are_read_part_by_part() {
        let parts = |text| {
            Packet::read(text).map(|packet| {
                let Packet { kind, .. } = packet;
                (
                    kind,
                    packet.attachments,
                    packet.namespace,
                    packet.id,
                    packet.json,
                )
            })
        };
        for (text, expected) in [
            ("0", Some((PacketKind::Connect, 0, "/", None, ""))),
            ("0/ns", Some((PacketKind::Connect, 0, "/ns", None, ""))),
            ("0/ns,{}", Some((PacketKind::Connect, 0, "/ns", None, "{}"))),
            ("1", Some((PacketKind::Disconnect, 0, "/", None, ""))),
            ("212[1]", Some((PacketKind::Event, 0, "/", Some(12), "[1]"))),
            (
                "2/a,7[1]",
                Some((PacketKind::Event, 0, "/a", Some(7), "[1]")),
            ),
            (
                "52-/a,7[]",
                Some((PacketKind::Event, 2, "/a", Some(7), "[]")),
            ),
            ("61-0[]", Some((PacketKind::Ack, 1, "/", Some(0), "[]"))),
            ("", None),
            ("7", None),
            ("é", None),
            ("5-[]", None),
            ("5+1-[]", None),
            ("5[]", None),
            ("599999999999999999999999-[]", None),
            ("299999999999999999999999[]", None),
        ] {
            assert_eq!(parts(text), expected, "{text}");
        }
    }

    #[test]
    fn packets_are_written_as_clients_read_them() {
        let body = |packet: Arc<EncodedPacket>| {
            let mut body = String::new();
            packet.append_to(&mut body);
            assert!((body.len()..body.len() + 2).contains(&packet.size()));
            body
        };
        let bytes = Bytes::from_static(b"\x01\x02\x03");
        for (packet, expected) in [
            (EncodedPacket::plain(PacketKind::Connect, "/", "{}"), "40{}"),
            (
                EncodedPacket::plain(PacketKind::Disconnect, "/n", ""),
                "41/n,",
            ),
            (
                EncodedPacket::event("/", None, "e", &Args::default()),
                r#"42["e"]"#,
            ),
            (
                EncodedPacket::event("/n", Some(3), "e", &"x".into()),
                r#"42/n,3["e","x"]"#,
            ),
            (
                EncodedPacket::ack("/", 7, &bytes.clone().into()),
                "461-7[{\"_placeholder\":true,\"num\":0}]\x1ebAQID",
            ),
            (EncodedPacket::ack("/", 7, &Args::default()), "437[]"),
            (EncodedPacket::binary(bytes), "bAQID"),
        ] {
            assert_eq!(body(packet), expected);
        }
    }
}
