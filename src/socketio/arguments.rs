//! The arguments of an event: any number, of any JSON value or binary.

use std::fmt;
use std::mem;
use std::sync::Arc;

use bytes::Bytes;
use serde::de::{Deserialize, DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde::ser::{Serialize, SerializeMap, SerializeTuple, Serializer};
use serde_json::Number;
use socketioxide::handler::{FromMessageParts, Value as Encoded};
use socketioxide::socket::Socket;

use super::sessions::SessionPlace;

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
    /// They are no JSON array, are nested deeper than 64 levels, are more than 100,000 values, or
    /// name an attachment that did not come or was named before.
    Json(serde_json::Error),
    /// An attachment came that they do not name.
    Attachment,
}

impl fmt::Display for InvalidArguments {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            InvalidArguments::Json(error) => write!(formatter, "no array of arguments: {error}"),
            InvalidArguments::Attachment => formatter.write_str("an attachment is not named"),
        }
    }
}

impl std::error::Error for InvalidArguments {}

/// How deep arguments may be nested.
const MAX_DEPTH: usize = 64;

/// How many values an event may have, at every depth together: each costs much more memory than the
/// two bytes that it may be written in.
const MAX_VALUES: usize = 100_000;

impl Args {
    /// Reads what follows the event's name in `json`, an array. Each attachment must be named once:
    /// an event that names one again and again would be as large as it is long.
    pub(crate) fn of_event(json: &str, attachments: &[Bytes]) -> Result<Args, InvalidArguments> {
        let mut reader = Reader {
            attachments: attachments.iter().cloned().map(Some).collect(),
            depth: MAX_DEPTH + 1, // the array itself
            values: MAX_VALUES,
        };
        let mut json = serde_json::Deserializer::from_str(json);
        let array = reader.deserialize(&mut json);
        let array = array.and_then(|array| json.end().map(|()| array));
        match array.map_err(InvalidArguments::Json)? {
            _ if reader.attachments.iter().any(Option::is_some) => {
                Err(InvalidArguments::Attachment)
            }
            Value::Array(items) => Ok(Args(items.into_iter().skip(1).collect())),
            _ => Err(InvalidArguments::Json(Error::custom("no array"))),
        }
    }
}

/// Reads values within bounds, those that stand for attachments among them.
struct Reader {
    /// Those that have not been named yet.
    attachments: Vec<Option<Bytes>>,
    /// How much deeper values may be nested.
    depth: usize,
    /// How many values there may still be.
    values: usize,
}

impl Reader {
    fn deeper<T, E: Error>(
        &mut self,
        read: impl FnOnce(&mut Reader) -> Result<T, E>,
    ) -> Result<T, E> {
        let deeper = self.depth.checked_sub(1);
        let depth = mem::replace(
            &mut self.depth,
            deeper.ok_or_else(|| E::custom("nested too deeply"))?,
        );
        let value = read(self);
        self.depth = depth;
        value
    }

    /// The attachment that an object stands for, if it stands for one.
    fn attachment<E: Error>(&mut self, members: &[(String, Value)]) -> Result<Option<Bytes>, E> {
        let member = |name| members.iter().rfind(|(key, _)| key == name);
        if !matches!(member("_placeholder"), Some((_, Value::Bool(true)))) {
            return Ok(None);
        }
        let index = match member("num") {
            Some((_, Value::Number(number))) => number.as_u64(),
            _ => None,
        };
        let index = index.and_then(|index| usize::try_from(index).ok());
        let attachment = index.and_then(|index| self.attachments.get_mut(index)?.take());
        let attachment = attachment.ok_or_else(|| E::custom("no such attachment"));
        attachment.map(Some)
    }
}

impl<'de> DeserializeSeed<'de> for &mut Reader {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        let left = self.values.checked_sub(1);
        self.values = left.ok_or_else(|| D::Error::custom("too many values"))?;
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for &mut Reader {
    type Value = Value;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, bool: bool) -> Result<Value, E> {
        Ok(Value::Bool(bool))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Value, E> {
        Ok(Value::Number(number.into()))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Value, E> {
        Ok(Value::Number(number.into()))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::String(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        self.deeper(|reader| {
            let mut values = Vec::new();
            while let Some(value) = items.next_element_seed(&mut *reader)? {
                values.push(value);
            }
            Ok(Value::Array(values))
        })
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        /// The name that serde_json gives to the digits of a number that is no integer.
        const DIGITS: &str = "$serde_json::private::Number";
        self.deeper(|reader| {
            let mut values = Vec::new();
            while let Some(name) = members.next_key::<String>()? {
                if values.is_empty() && name == DIGITS {
                    let digits = members.next_value::<String>()?;
                    return digits.parse().map(Value::Number).map_err(A::Error::custom);
                }
                values.push((name, members.next_value_seed(&mut *reader)?));
            }
            let attachment = reader.attachment(&values)?;
            Ok(attachment.map_or(Value::Object(values), Value::Binary))
        })
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
                .rfind(|(key, _)| key == name)
                .map(|(_, value)| value),
            _ => None,
        }
    }
}

impl<A: socketioxide::adapter::Adapter> FromMessageParts<A> for Args {
    type Error = InvalidArguments;

    /// The session of an event that breaks the rules ends.
    fn from_message_parts(
        socket: &Arc<Socket<A>>,
        encoded: &mut Encoded,
        _: &Option<i64>,
    ) -> Result<Args, InvalidArguments> {
        let args = match encoded {
            Encoded::Str(json, attachments) => {
                let attachments = attachments.get_or_insert_default().make_contiguous();
                Args::of_event(json, attachments)
            }
            // Only of another parser than ours.
            Encoded::Bytes(_) => Err(InvalidArguments::Attachment),
        };
        if args.is_err() {
            SessionPlace::end_of(socket);
        }
        args
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
                let mut reader = Reader {
                    attachments: Vec::new(),
                    depth: MAX_DEPTH,
                    values: MAX_VALUES,
                };
                let mut values = Vec::new();
                while let Some(value) = items.next_element_seed(&mut reader)? {
                    values.push(value);
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
        let none = |json| Args::of_event(json, &[]).unwrap().0;
        assert!(none(r#"["e"]"#).is_empty());
        assert!(none("[]").is_empty());
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
            // Attack 57: an attachment is named once.
            r#"["e"]"#,
            r#"["e",{"_placeholder":true,"num":0},{"_placeholder":true,"num":0}]"#,
        ] {
            assert!(read(json).is_err(), "{json}");
        }
    }

    /// Attack 47: JSON is nested 64 deep at most.
    #[test]
    fn arguments_are_nested_64_deep_at_most() {
        let nested = |depth| format!(r#"["e",{}{}]"#, "[".repeat(depth), "]".repeat(depth));
        let read = |json: &str| Args::of_event(json, &[]);
        assert!(read(&nested(64)).is_ok());
        for depth in [65, 100, 1_000, 300_000] {
            assert!(read(&nested(depth)).is_err(), "{depth}");
        }
    }

    /// Attack 61.
    #[test]
    fn an_event_has_100_000_values_at_most() {
        // The array and the name are two of them.
        let many = |count| format!(r#"["e"{}]"#, ",[]".repeat(count));
        assert!(Args::of_event(&many(99_998), &[]).is_ok());
        assert!(Args::of_event(&many(99_999), &[]).is_err());
    }
}
