//! The arguments of an event: any number, of any JSON value or binary.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use serde::de::{Deserialize, Deserializer, Error, SeqAccess, Visitor};
use serde::ser::{Serialize, SerializeMap, SerializeTuple, Serializer};
use serde_json::Number;
use socketioxide::handler::{FromMessageParts, Value as Encoded};
use socketioxide::socket::Socket;

/// All arguments of an event, as a handler takes them: `async |Args(args): Args| ...`. Emitted or
/// sent as an acknowledgement, they are as many arguments again.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Args(pub Vec<Value>);

/// An argument: a JSON value in which there may be binary data.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// `null`
    Null,
    /// `true` or `false`
    Bool(bool),
    /// A number, in the digits that it came in.
    Number(Number),
    /// A string.
    String(String),
    /// Octets, which travel beside the JSON.
    Binary(Bytes),
    /// An array.
    Array(Vec<Value>),
    /// An object, in the order that it came in.
    Object(Vec<(String, Value)>),
}

/// These are no arguments of an event.
#[derive(Debug)]
pub enum InvalidArguments {
    /// They are no JSON array.
    Json(serde_json::Error),
    /// They stand for binary data that did not come.
    Attachment,
    /// They are nested deeper than 64 levels.
    Depth,
}

impl fmt::Display for InvalidArguments {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            InvalidArguments::Json(error) => write!(formatter, "no array of arguments: {error}"),
            InvalidArguments::Attachment => formatter.write_str("no such attachment"),
            InvalidArguments::Depth => formatter.write_str("nested too deeply"),
        }
    }
}

impl std::error::Error for InvalidArguments {}

/// How deep arguments may be nested.
const MAX_DEPTH: usize = 64;

impl Args {
    /// Reads what follows the event's name in `json`, an array.
    pub(super) fn of_event(json: &str, attachments: &[Bytes]) -> Result<Args, InvalidArguments> {
        let array: Vec<serde_json::Value> =
            serde_json::from_str(json).map_err(InvalidArguments::Json)?;
        let arguments = array.into_iter().skip(1);
        let values = arguments.map(|value| Value::from_json(value, attachments, MAX_DEPTH));
        values.collect::<Result<_, _>>().map(Args)
    }
}

impl Value {
    /// The string, if it is one.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Value::String(text) => Some(text),
            _ => None,
        }
    }

    /// The value of an object's member, if it is an object that has one.
    pub fn get(&self, name: &str) -> Option<&Value> {
        match self {
            Value::Object(members) => members
                .iter()
                .find(|(key, _)| key == name)
                .map(|(_, value)| value),
            _ => None,
        }
    }

    fn from_json(
        json: serde_json::Value,
        attachments: &[Bytes],
        depth: usize,
    ) -> Result<Value, InvalidArguments> {
        let deeper = depth.checked_sub(1).ok_or(InvalidArguments::Depth);
        Ok(match json {
            serde_json::Value::Null => Value::Null,
            serde_json::Value::Bool(bool) => Value::Bool(bool),
            serde_json::Value::Number(number) => Value::Number(number),
            serde_json::Value::String(text) => Value::String(text),
            serde_json::Value::Array(items) => {
                let depth = deeper?;
                let items = items.into_iter();
                let values = items.map(|item| Value::from_json(item, attachments, depth));
                Value::Array(values.collect::<Result<_, _>>()?)
            }
            serde_json::Value::Object(members)
                if members.get("_placeholder") == Some(&serde_json::Value::Bool(true)) =>
            {
                let number = members.get("num").and_then(serde_json::Value::as_u64);
                let index = number.and_then(|number| usize::try_from(number).ok());
                let attachment = index.and_then(|index| attachments.get(index));
                Value::Binary(attachment.ok_or(InvalidArguments::Attachment)?.clone())
            }
            serde_json::Value::Object(members) => {
                let depth = deeper?;
                let members = members.into_iter().map(|(name, value)| {
                    Value::from_json(value, attachments, depth).map(|value| (name, value))
                });
                Value::Object(members.collect::<Result<_, _>>()?)
            }
        })
    }
}

impl<A: socketioxide::adapter::Adapter> FromMessageParts<A> for Args {
    type Error = InvalidArguments;

    fn from_message_parts(
        _: &Arc<Socket<A>>,
        encoded: &mut Encoded,
        _: &Option<i64>,
    ) -> Result<Args, InvalidArguments> {
        match encoded {
            Encoded::Str(json, attachments) => {
                let attachments = attachments.get_or_insert_default().make_contiguous();
                Args::of_event(json, attachments)
            }
            // Only of another parser than ours.
            Encoded::Bytes(_) => Err(InvalidArguments::Attachment),
        }
    }
}

impl Serialize for Args {
    /// A tuple is what socketioxide takes for several arguments.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut tuple = serializer.serialize_tuple(self.0.len())?;
        for value in &self.0 {
            tuple.serialize_element(value)?;
        }
        tuple.end()
    }
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Value::Null => serializer.serialize_unit(),
            Value::Bool(bool) => serializer.serialize_bool(*bool),
            Value::Number(number) => number.serialize(serializer),
            Value::String(text) => serializer.serialize_str(text),
            Value::Binary(octets) => serializer.serialize_bytes(octets),
            Value::Array(items) => serializer.collect_seq(items),
            Value::Object(members) => {
                let mut map = serializer.serialize_map(Some(members.len()))?;
                for (name, value) in members {
                    map.serialize_entry(name, value)?;
                }
                map.end()
            }
        }
    }
}

impl<'de> Deserialize<'de> for Args {
    /// Reads all arguments of an acknowledgement, which may not have binary data.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Args, D::Error> {
        struct Arguments;

        impl<'de> Visitor<'de> for Arguments {
            type Value = Args;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("arguments")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Args, A::Error> {
                let mut values = Vec::new();
                while let Some(json) = items.next_element()? {
                    let value = Value::from_json(json, &[], MAX_DEPTH);
                    values.push(value.map_err(A::Error::custom)?);
                }
                Ok(Args(values))
            }
        }

        // A tuple is what socketioxide takes for several arguments.
        deserializer.deserialize_tuple(1, Arguments)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<Args, InvalidArguments> {
        Args::of_event(json, &[Bytes::from_static(b"\x01\x02")])
    }

    #[test]
    fn arguments_are_all_but_the_name() {
        let args = read(r#"["e",null,true,1.50,"x",[{"b":1,"a":{"_placeholder":true,"num":0}}]]"#);
        let Args(args) = args.unwrap();
        assert_eq!(args.len(), 5);
        assert_eq!(args[0], Value::Null);
        assert_eq!(args[3].as_str(), Some("x"));
        let Value::Array(items) = &args[4] else {
            panic!("{args:?}");
        };
        let octets = Bytes::from_static(b"\x01\x02");
        assert_eq!(items[0].get("a"), Some(&Value::Binary(octets)));
        assert!(read(r#"["e"]"#).unwrap().0.is_empty());
        assert!(read("[]").unwrap().0.is_empty());
    }

    #[test]
    fn what_is_no_array_of_arguments_is_refused() {
        for json in [
            "",
            "{}",
            "7",
            r#"["e""#,
            r#"["e",{"_placeholder":true,"num":1}]"#,
            r#"["e",{"_placeholder":true,"num":-1}]"#,
            r#"["e",{"_placeholder":true,"num":"constructor"}]"#,
            r#"["e",{"_placeholder":true}]"#,
        ] {
            assert!(read(json).is_err(), "{json}");
        }
    }

    /// Attack 47: JSON is nested 64 deep at most.
    #[test]
    fn arguments_are_nested_64_deep_at_most() {
        let nested = |depth| format!(r#"["e",{}{}]"#, "[".repeat(depth), "]".repeat(depth));
        assert!(read(&nested(64)).is_ok());
        for depth in [65, 100, 1_000, 300_000] {
            assert!(read(&nested(depth)).is_err(), "{depth}");
        }
    }
}
