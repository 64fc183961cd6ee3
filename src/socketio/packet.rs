//! The packets of Socket.IO 5, and how they travel: as messages of a WebSocket, or joined in a body
//! of polling.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;

use super::value::{Args, write_string};
use crate::engine::Publication;
use crate::protocol::Message;

/// What a packet is. The binary ones announce attachments.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum PacketKind {
    Connect,
    Disconnect,
    Event,
    Ack,
    ConnectError,
}

/// A packet without its attachments.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Packet<'a> {
    pub(super) kind: PacketKind,
    /// How many attachments follow; `None` if the packet's kind has none.
    pub(super) attachments: Option<usize>,
    pub(super) namespace: &'a str,
    /// Which event is, or wants to be, acknowledged.
    pub(super) id: Option<u64>,
    pub(super) json: &'a str,
}

impl<'a> Packet<'a> {
    /// Reads `<kind>[<attachments>-][<namespace>,][<id>][<json>]`.
    pub(super) fn parse(text: &'a str) -> Option<Packet<'a>> {
        let (kind, rest) = text.split_at_checked(1)?;
        let (kind, is_binary) = match kind {
            "0" => (PacketKind::Connect, false),
            "1" => (PacketKind::Disconnect, false),
            "2" => (PacketKind::Event, false),
            "3" => (PacketKind::Ack, false),
            "4" => (PacketKind::ConnectError, false),
            "5" => (PacketKind::Event, true),
            "6" => (PacketKind::Ack, true),
            _ => return None,
        };
        let (attachments, rest) = match is_binary {
            true => {
                let (count, rest) = rest.split_once('-')?;
                (Some(number(count)?), rest)
            }
            false => (None, rest),
        };
        let (namespace, rest) = match rest.starts_with('/') {
            true => rest.split_once(',').unwrap_or((rest, "")),
            false => ("/", rest),
        };
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (id, json) = rest.split_at(digits);
        Some(Packet {
            kind,
            attachments: attachments.map(usize::try_from).transpose().ok()?,
            namespace,
            id: match id {
                "" => None,
                id => Some(number(id)?),
            },
            json,
        })
    }
}

/// Digits and nothing else.
fn number(digits: &str) -> Option<u64> {
    let is_number = digits.bytes().all(|byte| byte.is_ascii_digit());
    digits.parse().ok().filter(|_| is_number)
}

/// A packet on its way to sessions, encoded once for all of them: a message of Engine.IO and the
/// attachments that follow it.
#[derive(Debug)]
pub(super) struct EncodedPacket {
    /// With Engine.IO's own kind in front.
    text: String,
    attachments: Vec<Bytes>,
    /// The message was binary, and stands alone.
    is_binary: bool,
}

impl EncodedPacket {
    /// A packet of Engine.IO: its kind and what follows.
    pub(super) fn text(text: impl Into<String>) -> EncodedPacket {
        EncodedPacket {
            text: text.into(),
            attachments: Vec::new(),
            is_binary: false,
        }
    }

    /// A binary message of Engine.IO.
    pub(super) fn binary(bytes: Bytes) -> EncodedPacket {
        EncodedPacket {
            text: String::new(),
            attachments: vec![bytes],
            is_binary: true,
        }
    }

    /// A packet of Socket.IO without arguments.
    pub(super) fn plain(kind: PacketKind, namespace: &str, json: &str) -> EncodedPacket {
        let mut text = String::with_capacity(4 + namespace.len() + json.len());
        text.push('4');
        text.push(match kind {
            PacketKind::Connect => '0',
            PacketKind::Disconnect => '1',
            PacketKind::Event => '2',
            PacketKind::Ack => '3',
            PacketKind::ConnectError => '4',
        });
        write_namespace(namespace, &mut text);
        text.push_str(json);
        EncodedPacket::text(text)
    }

    /// An event, which is to be acknowledged if it has an id.
    pub(super) fn event(
        namespace: &str,
        id: Option<u64>,
        name: &str,
        args: &Args,
    ) -> EncodedPacket {
        let mut json = String::from("[");
        write_string(name, &mut json);
        EncodedPacket::with_arguments(["2", "5"], namespace, id, json, args)
    }

    /// An acknowledgement.
    pub(super) fn ack(namespace: &str, id: u64, args: &Args) -> EncodedPacket {
        EncodedPacket::with_arguments(["3", "6"], namespace, Some(id), "[".into(), args)
    }

    fn with_arguments(
        [plain, binary]: [&str; 2],
        namespace: &str,
        id: Option<u64>,
        mut json: String,
        args: &Args,
    ) -> EncodedPacket {
        let mut attachments = Vec::new();
        for value in &args.0 {
            json.push_str(if json.len() > 1 { "," } else { "" });
            value.write(&mut json, &mut attachments);
        }
        let mut text = String::with_capacity(json.len() + namespace.len() + 24);
        text.push('4');
        match attachments.len() {
            0 => text.push_str(plain),
            count => text.extend([binary, &count.to_string(), "-"]),
        }
        write_namespace(namespace, &mut text);
        if let Some(id) = id {
            text.push_str(&id.to_string());
        }
        text.push_str(&json);
        text.push(']');
        EncodedPacket {
            text,
            attachments,
            is_binary: false,
        }
    }

    /// The messages of a WebSocket: nothing comes in between them.
    pub(super) fn publication(&self) -> Publication<'_> {
        if self.attachments.is_empty() {
            return Publication::new(Message::Text(&self.text));
        }
        Publication::of_several(self.messages())
    }

    pub(super) fn messages(&self) -> impl Iterator<Item = Message<'_>> {
        let text = (!self.is_binary).then_some(Message::Text(&self.text));
        let attachments = self.attachments.iter().map(|bytes| Message::Binary(bytes));
        text.into_iter().chain(attachments)
    }

    /// Bytes that it takes in a body of polling, about.
    pub(super) fn size(&self) -> usize {
        let attachments = self.attachments.iter();
        let attachments = attachments.map(|bytes| 2 + bytes.len().div_ceil(3) * 4);
        self.text.len() + attachments.sum::<usize>()
    }

    /// Appends it to a body of polling.
    pub(super) fn append_to(&self, body: &mut String) {
        let separate = |body: &mut String| {
            if !body.is_empty() {
                body.push(SEPARATOR);
            }
        };
        if !self.is_binary {
            separate(body);
            body.push_str(&self.text);
        }
        for bytes in &self.attachments {
            separate(body);
            body.push('b');
            BASE64.encode_string(bytes, body);
        }
    }
}

/// What separates the packets in a body of polling (Engine.IO 4).
pub(super) const SEPARATOR: char = '\x1e';

fn write_namespace(namespace: &str, text: &mut String) {
    if namespace != "/" {
        text.extend([namespace, ","]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_are_read_part_by_part() {
        let parts = |text| {
            Packet::parse(text).map(|packet| {
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
            ("0", Some((PacketKind::Connect, None, "/", None, ""))),
            ("0/ns", Some((PacketKind::Connect, None, "/ns", None, ""))),
            (
                "0/ns,{}",
                Some((PacketKind::Connect, None, "/ns", None, "{}")),
            ),
            ("1", Some((PacketKind::Disconnect, None, "/", None, ""))),
            (
                "212[1]",
                Some((PacketKind::Event, None, "/", Some(12), "[1]")),
            ),
            (
                "2/a,7[1]",
                Some((PacketKind::Event, None, "/a", Some(7), "[1]")),
            ),
            (
                "52-/a,7[]",
                Some((PacketKind::Event, Some(2), "/a", Some(7), "[]")),
            ),
            (
                "61-0[]",
                Some((PacketKind::Ack, Some(1), "/", Some(0), "[]")),
            ),
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
        let body = |packet: EncodedPacket| {
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
                EncodedPacket::event("/", None, "e", &Args(Vec::new())),
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
            (EncodedPacket::ack("/", 7, &Args(Vec::new())), "437[]"),
            (EncodedPacket::binary(bytes), "bAQID"),
        ] {
            assert_eq!(body(packet), expected);
        }
    }
}
