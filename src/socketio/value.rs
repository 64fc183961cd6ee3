//! The arguments of an event: any number, of any JSON value or binary.

use std::fmt;

use bytes::Bytes;
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Number, Value as Json};

/// All arguments of an event, or of its acknowledgement.
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
    /// Bytes, which travel beside the JSON.
    Binary(Bytes),
    /// An array.
    Array(Vec<Value>),
    /// An object, in the order that it came in.
    Object(Vec<(String, Value)>),
}

/// Why a text is not the arguments of an event.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum InvalidArguments {
    /// It is not JSON, or not an array.
    Json,
    /// The attachments are not each named exactly once.
    Attachment,
    /// It has more than [`MAX_VALUES`].
    TooManyValues,
    /// It is nested deeper than [`MAX_DEPTH`].
    Depth,
}

impl InvalidArguments {
    /// What to say in a Close frame.
    pub(super) fn reason(self) -> &'static str {
        match self {
            InvalidArguments::Json => "not an array of arguments",
            InvalidArguments::Attachment => "not each attachment once",
            InvalidArguments::TooManyValues => "too many values",
            InvalidArguments::Depth => "nested too deeply",
        }
    }
}

/// Values in all arguments of one packet together.
const MAX_VALUES: usize = 100_000;

/// How deep arguments may be nested.
const MAX_DEPTH: usize = 64;

impl Args {
    /// Reads a JSON array in which each of the attachments is named exactly once.
    pub(super) fn parse(json: &str, attachments: Vec<Bytes>) -> Result<Args, InvalidArguments> {
        let mut reader = Reader {
            attachments: attachments.into_iter().map(Some).collect(),
            values: 0,
            depth: 0,
            fault: InvalidArguments::Json,
        };
        let mut deserializer = serde_json::Deserializer::from_str(json);
        let value = reader.deserialize(&mut deserializer);
        let value = value.and_then(|value| deserializer.end().map(|()| value));
        match value {
            Ok(Value::Array(values)) if reader.attachments.iter().all(Option::is_none) => {
                Ok(Args(values))
            }
            Ok(Value::Array(_)) => Err(InvalidArguments::Attachment),
            _ => Err(reader.fault),
        }
    }
}

/// Reads values, and stops at the first that is beyond a bound.
struct Reader {
    /// Each is taken by the placeholder that names it.
    attachments: Vec<Option<Bytes>>,
    values: usize,
    depth: usize,
    /// What is wrong if reading stops.
    fault: InvalidArguments,
}

impl Reader {
    fn fail<E: Error>(&mut self, fault: InvalidArguments) -> E {
        self.fault = fault;
        E::custom(fault.reason())
    }

    /// Reads what is inside an array or object.
    fn inside<T, E: Error>(
        &mut self,
        read: impl FnOnce(&mut Reader) -> Result<T, E>,
    ) -> Result<T, E> {
        if self.depth > MAX_DEPTH {
            return Err(self.fail(InvalidArguments::Depth));
        }
        self.depth += 1;
        let inside = read(self);
        self.depth -= 1;
        inside
    }

    /// The attachment that an object stands for, if it stands for one.
    fn attachment<E: Error>(&mut self, object: &Value) -> Result<Option<Bytes>, E> {
        if object.get("_placeholder") != Some(&Value::Bool(true)) {
            return Ok(None);
        }
        let index = match object.get("num") {
            Some(Value::Number(number)) => number.as_u64().and_then(|index| index.try_into().ok()),
            _ => None,
        };
        let place = index.and_then(|index: usize| self.attachments.get_mut(index));
        match place.and_then(Option::take) {
            Some(bytes) => Ok(Some(bytes)),
            None => Err(self.fail(InvalidArguments::Attachment)),
        }
    }
}

impl<'de> DeserializeSeed<'de> for &mut Reader {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        self.values += 1;
        // The array of arguments itself is none of them.
        if self.values > 1 + MAX_VALUES {
            return Err(self.fail(InvalidArguments::TooManyValues));
        }
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for &mut Reader {
    type Value = Value;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a value")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: Error>(self, bool: bool) -> Result<Value, E> {
        Ok(Value::Bool(bool))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Value, E> {
        Ok(number.into())
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Value, E> {
        Ok(number.into())
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Value, E> {
        Ok(text.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        self.inside(|reader| {
            let mut values = Vec::new();
            while let Some(value) = items.next_element_seed(&mut *reader)? {
                values.push(value);
            }
            Ok(Value::Array(values))
        })
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        /// How serde_json hands a number over in its digits, as an object of one member.
        const NUMBER: &str = "$serde_json::private::Number";
        let mut name = members.next_key::<String>()?;
        if name.as_deref() == Some(NUMBER) {
            let digits = members.next_value::<String>()?;
            return digits.parse().map(Value::Number).map_err(A::Error::custom);
        }
        let object = self.inside(|reader| {
            let mut values = Vec::new();
            while let Some(known) = name.take() {
                values.push((known, members.next_value_seed(&mut *reader)?));
                name = members.next_key()?;
            }
            Ok(Value::Object(values))
        })?;
        let attachment = self.attachment(&object)?;
        Ok(attachment.map_or(object, Value::Binary))
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

    /// The value of an object's member, the last of that name, if it is an object that has one.
    pub fn get(&self, name: &str) -> Option<&Value> {
        match self {
            Value::Object(members) => members
                .iter()
                .rfind(|(key, _)| key == name)
                .map(|(_, value)| value),
            _ => None,
        }
    }

    /// Appends the value as JSON. Binary data goes to the attachments, and a placeholder instead.
    pub(super) fn write(&self, json: &mut String, attachments: &mut Vec<Bytes>) {
        match self {
            Value::Null => json.push_str("null"),
            Value::Bool(true) => json.push_str("true"),
            Value::Bool(false) => json.push_str("false"),
            Value::Number(number) => json.push_str(number.as_str()),
            Value::String(text) => write_string(text, json),
            Value::Binary(bytes) => {
                let index = attachments.len().to_string();
                json.extend([r#"{"_placeholder":true,"num":"#, &index, "}"]);
                attachments.push(bytes.clone());
            }
            Value::Array(items) => {
                json.push('[');
                for (index, item) in items.iter().enumerate() {
                    json.push_str(if index > 0 { "," } else { "" });
                    item.write(json, attachments);
                }
                json.push(']');
            }
            Value::Object(members) => {
                json.push('{');
                for (index, (name, value)) in members.iter().enumerate() {
                    json.push_str(if index > 0 { "," } else { "" });
                    write_string(name, json);
                    json.push(':');
                    value.write(json, attachments);
                }
                json.push('}');
            }
        }
    }
}

/// Appends a JSON string.
pub(super) fn write_string(text: &str, json: &mut String) {
    use std::fmt::Write as _;
    // Neither a string nor what it is appended to can fail.
    let _ = match text
        .bytes()
        .any(|byte| matches!(byte, b'"' | b'\\' | 0..0x20))
    {
        true => write!(json, "{}", Json::from(text)),
        false => write!(json, "\"{text}\""),
    };
}

impl From<Json> for Value {
    /// Every object is one, whatever it looks like.
    fn from(json: Json) -> Value {
        match json {
            Json::Null => Value::Null,
            Json::Bool(bool) => Value::Bool(bool),
            Json::Number(number) => Value::Number(number),
            Json::String(text) => Value::String(text),
            Json::Array(items) => Value::Array(items.into_iter().map(Value::from).collect()),
            Json::Object(members) => Value::Object(
                members
                    .into_iter()
                    .map(|(name, value)| (name, value.into()))
                    .collect(),
            ),
        }
    }
}

/// Values that are one argument.
macro_rules! argument {
    ($($type:ty: $value:ident => $made:expr;)+) => {$(
        impl From<$type> for Value {
            fn from($value: $type) -> Value {
                $made
            }
        }

        impl From<$type> for Args {
            fn from(value: $type) -> Args {
                Args(vec![value.into()])
            }
        }
    )+};
}

argument! {
    &str: text => Value::String(text.to_owned());
    String: text => Value::String(text);
    Bytes: bytes => Value::Binary(bytes);
    bool: bool => Value::Bool(bool);
    i64: number => Value::Number(number.into());
    u64: number => Value::Number(number.into());
}

impl From<Value> for Args {
    fn from(value: Value) -> Args {
        Args(vec![value])
    }
}

impl From<Json> for Args {
    fn from(value: Json) -> Args {
        Args(vec![value.into()])
    }
}

impl From<Vec<Value>> for Args {
    fn from(values: Vec<Value>) -> Args {
        Args(values)
    }
}

impl<const N: usize> From<[Value; N]> for Args {
    fn from(values: [Value; N]) -> Args {
        Args(values.into())
    }
}

impl fmt::Display for Args {
    /// The arguments as JSON, with placeholders for binary data.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut json = String::new();
        Value::Array(self.0.clone()).write(&mut json, &mut Vec::new());
        formatter.write_str(&json)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACEHOLDER: &str = r#"{"_placeholder":true,"num":0}"#;

    fn read(json: &str) -> Result<Args, InvalidArguments> {
        Args::parse(json, vec![Bytes::from_static(b"\x01\x02")])
    }

    #[test]
    fn arguments_come_back_as_they_were() {
        for json in [
            format!(r#"["e",null,true,1.50,"x",[{{"b":1,"a":{PLACEHOLDER}}}]]"#),
            format!(r#"[{PLACEHOLDER},"\"\\\n\u0001é😀",{{}},[],-7,1e+400]"#),
        ] {
            let args = read(&json).unwrap();
            assert_eq!(args.to_string(), json);
        }
        assert_eq!(Args::parse("[]", Vec::new()), Ok(Args(Vec::new())));
    }

    #[test]
    fn what_is_not_an_array_of_arguments_is_refused() {
        for json in ["", "{}", "7", r#"["e""#, "[]1"] {
            assert_eq!(read(json), Err(InvalidArguments::Json), "{json}");
        }
    }

    /// Attack 57.
    #[test]
    fn each_attachment_is_named_exactly_once() {
        for json in [
            r#"["e"]"#.to_owned(),
            format!(r#"["e",{PLACEHOLDER},{PLACEHOLDER}]"#),
            r#"["e",{"_placeholder":true,"num":1}]"#.into(),
            r#"["e",{"_placeholder":true,"num":-1}]"#.into(),
            r#"["e",{"_placeholder":true,"num":"constructor"}]"#.into(),
            r#"["e",{"_placeholder":true}]"#.into(),
        ] {
            assert_eq!(read(&json), Err(InvalidArguments::Attachment), "{json}");
        }
    }

    /// Attacks 47 and 61.
    #[test]
    fn arguments_are_bounded_in_depth_and_number() {
        let nested = |depth| format!(r#"["e",{}{}]"#, "[".repeat(depth), "]".repeat(depth));
        let parse = |json: &str| Args::parse(json, Vec::new());
        assert!(parse(&nested(64)).is_ok());
        assert_eq!(parse(&nested(65)), Err(InvalidArguments::Depth));
        for depth in [130, 300_000] {
            assert!(parse(&nested(depth)).is_err(), "{depth}");
        }
        let many = |number: usize| format!(r#"["e",[{}1]]"#, "1,".repeat(number - 1));
        assert!(parse(&many(99_998)).is_ok());
        assert_eq!(parse(&many(99_999)), Err(InvalidArguments::TooManyValues));
    }
}
